"""What goes through the threads of a run: images on their way, what is reported of them, how several share a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gankit.errors import GankitError
from gankit.pipeline.inputs import Job

if TYPE_CHECKING:
    from collections.abc import Hashable

    from gankit.images import DecodedImage


@dataclass(frozen=True)
class Batching:
    """Images that the engine takes in one call, where several alike are there already.

    Attributes:
        key: what images that share a call have in common, and how many of them one call takes at most.
        work: does them. Where it fails with an error of one image, each is done alone.
        largest: the largest number that ``key`` gives.
    """

    key: Callable[[DecodedImage], tuple[Hashable, int]]
    work: Callable[[Sequence[DecodedImage]], list[DecodedImage]]
    largest: int


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Attributes:
        total: images to do, without the skipped ones.
        done: images written.
        failed: images given up.
        output_mp: million pixels written.
        seconds: since the run began.
        current: the image in the engine.
        fraction: the part of it that is done, 0 to 1.
    """

    total: int
    done: int = 0
    failed: int = 0
    output_mp: float = 0.0
    seconds: float = 0.0
    current: Path | None = None
    fraction: float = 0.0


@dataclass
class Item:
    """An image on its way, and what it has cost so far."""

    index: int
    job: Job
    image: DecodedImage
    cost: int
    decode_seconds: float
    input_size: tuple[int, int]
    engine_seconds: float = 0.0


def size(image: DecodedImage) -> tuple[int, int]:
    """Width and height."""
    height, width = image.pixels.shape[:2]
    return width, height


def error_message(job: Job, error: Exception) -> str:
    """What went wrong with an image, in one line that names it."""
    if isinstance(error, MemoryError) and not isinstance(error, GankitError):
        reason = "too large for the memory of this machine: close other programs, or upscale parts of it"
        return f"{job.source}: {reason}"
    if isinstance(error, OSError):
        return f"{job.source}: {error.strerror or error}"
    text = " ".join(str(error).split())
    return text if str(job.source) in text else f"{job.source}: {text}"
