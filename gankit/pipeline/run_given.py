"""Run the images that a user gives to a pipeline from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gankit.backends.base import EngineMemoryError, tensor_of
from gankit.errors import GankitError, NotFiniteError, UsageError
from gankit.images import DecodedImage
from gankit.pipeline.given import Given, given

if TYPE_CHECKING:
    from gankit.pipeline.engines import Engines

_TOO_LARGE = (
    "the image and its result need more memory than is free; close other programs, or process parts of the image"
)


def run_given(engines: Engines, values: Sequence[Any], *, listed: bool) -> list[Any]:
    """Run images, and return the result of each in the kind in which it was given.

    Args:
        engines: the engines of a pipeline.
        values: what :func:`gankit.pipeline.given.given` takes.
        listed: whether the user gave a list, so that errors number its items.

    Raises:
        UsageError, ImageError: If one of the values is no image. Nothing has run by then.
        NotFiniteError, EngineMemoryError: If one of the images fails.
    """
    facts = engines.loaded().facts
    items: list[Given] = []
    for number, value in enumerate(values):
        try:
            items.append(given(value, facts))
        except UsageError as error:
            raise UsageError(f"image {number} of the list: {error}") if listed else error from None
        for note in (note for image in items[-1].images for note in image.notes) if engines.notify else ():
            engines.notify(f"{value}: {note}" if isinstance(value, str | Path) else note)  # type: ignore[misc]
    made = iter(run_each(engines, [image for item in items for image in item.images]))
    results: list[Any] = []
    for item in items:
        if item.batch is None:
            results.append(item.back([next(made) for _ in item.images], facts))
            continue
        batch = item.batch
        if batch.shape[0]:
            batch = tensor_of(engines.exact().batched(batch.numpy()))
        results.append(item.batch_back(batch, facts))
    return results


def run_each(engines: Engines, images: Sequence[DecodedImage]) -> list[DecodedImage]:
    """Run any images. Those of one size and kind that follow each other share calls of the engine.

    Args:
        engines: the engines of a pipeline.
        images: the images.

    Raises:
        NotFiniteError, EngineMemoryError: If one of the images fails.
    """
    results: list[DecodedImage] = []
    while len(results) < len(images):
        rest = images[len(results) :]
        key, most = engines.batch_key(rest[0])
        group = [rest[0]]
        for image in rest[1:most]:
            if engines.batch_key(image)[0] != key:
                break
            group.append(image)
        try:
            made = engines.images(group) if len(group) > 1 else [engines.image(group[0])]
        except (NotFiniteError, MemoryError) as error:
            if len(group) == 1:
                raise error if isinstance(error, GankitError) else EngineMemoryError(_TOO_LARGE) from error
            made = [run_each(engines, [image])[0] for image in group]  # one may need fp32, or smaller tiles
        for result in made:
            engines.made_by(result)  # nobody writes it to a journal
        results += made
    return results
