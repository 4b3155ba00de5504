"""Which images share a call of the engine, and calls that are started before the previous ones are complete.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from gankit.errors import ImageError, NotFiniteError
from gankit.pipeline.flow import Channel
from gankit.pipeline.items import Batching, Item

if TYPE_CHECKING:
    from gankit.images import DecodedImage

IMAGE_ERRORS = (ImageError, NotFiniteError, MemoryError)  # errors of one image; the run continues with the others


@dataclass
class SubmittedCall:
    """A call of the engine that was started.

    Attributes:
        items: its images.
        finish: waits for the results.
        seconds: seconds that it took to start the call.
    """

    items: list[Item]
    finish: Callable[[], list[DecodedImage]]
    seconds: float


def filled_call(first: Item, decoded: Channel[Item], batching: Batching | None) -> list[Item]:
    """Return an image with those that can share its call; wait a little for more of them if that is worth it.

    Args:
        first: the image.
        decoded: the images that follow it.
        batching: which images share a call; ``None`` runs one image at a time.
    """
    items = [first]
    if batching is None:
        return items
    key, largest = batching.key(first.image)
    until = perf_counter() + batching.wait
    while len(items) < largest:
        left = max(0.0, until - perf_counter()) if batching.wait else 0.0
        item = decoded.take(lambda item: batching.key(item.image)[0] == key, left)
        if item is None:
            break
        items.append(item)
    return items


def submitted_call(items: list[Item], batching: Batching | None) -> SubmittedCall | None:
    """Start a call of the engine; return ``None`` if the images must be processed at once.

    Args:
        items: images with the same key.
        batching: how to start the call.
    """
    if batching is None or batching.submit is None or batching.depth <= 1:
        return None
    began = perf_counter()
    try:
        finish = batching.submit([item.image for item in items])
    except IMAGE_ERRORS:
        return None  # processing each alone shows which one failed
    return None if finish is None else SubmittedCall(items, finish, perf_counter() - began)
