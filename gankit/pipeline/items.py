"""The data that the threads of a run exchange: images, progress and batching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gankit.errors import GankitError
from gankit.pipeline.report import ImageReport
from gankit.pipeline.targets import Job

if TYPE_CHECKING:
    from collections.abc import Hashable

    from gankit.images import DecodedImage


@dataclass(frozen=True)
class Batching:
    """How several decoded images share one call of the engine.

    Attributes:
        key: returns the key that images must share to run in one call, and the largest number of images in a call.
        work: processes several images. If one of them causes an error, each is processed alone.
        largest: the largest number that ``key`` returns.
        submit: starts what ``work`` does and returns a function that waits for the result, or ``None`` for images that
            need more than one call.
        depth: largest number of calls that are submitted at a time; with 1, ``submit`` is not used.
        wait: seconds to wait for images that fill up a call.
    """

    key: Callable[[DecodedImage], tuple[Hashable, int]]
    work: Callable[[Sequence[DecodedImage]], list[DecodedImage]]
    largest: int
    submit: Callable[[Sequence[DecodedImage]], Callable[[], list[DecodedImage]] | None] | None = None
    depth: int = 1
    wait: float = 0.0


@dataclass(frozen=True)
class Progress:
    """The state of a run.

    Attributes:
        total: number of images to process, without the skipped ones.
        done: number of images written.
        failed: number of images that failed.
        output_mp: megapixels written.
        seconds: seconds since the run began.
        current: the image in the engine.
        fraction: fraction of that image that is done, 0 to 1.
        waited_to_decode: seconds in which the engine had nothing to do because no image was decoded.
        waited_to_encode: seconds in which it could not go on, or had ended, because images were still encoded.
        done_mp: megapixels of the sources that are done, with the part of the image in the engine.
        total_mp: megapixels of all sources, as far as they are known; 0 if nobody counts them.
    """

    total: int
    done: int = 0
    failed: int = 0
    output_mp: float = 0.0
    seconds: float = 0.0
    current: Path | None = None
    fraction: float = 0.0
    waited_to_decode: float = 0.0
    waited_to_encode: float = 0.0
    done_mp: float = 0.0
    total_mp: float = 0.0

    @property
    def part(self) -> float:
        """The part of the run that is done, 0 to 1, by megapixels if they are counted, or else by images."""
        if self.total_mp:
            return min(1.0, self.done_mp / self.total_mp)
        # Slightly less than 1, because an image counts as done only once it is written.
        return min(1.0, (self.done + self.failed + 0.99 * self.fraction) / self.total) if self.total else 1.0

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the seconds that the run still takes, at its speed so far; ``None`` before anything is done."""
        return self.seconds * (1 - self.part) / self.part if self.part and self.seconds else None


@dataclass
class Item:
    """An image in the pipeline, with its memory and times so far."""

    index: int
    job: Job
    image: DecodedImage
    cost: int
    decode_seconds: float
    input_size: tuple[int, int]
    engine_seconds: float = 0.0
    notes: tuple[str, ...] = ()


def size(image: DecodedImage) -> tuple[int, int]:
    """Return the width and height in pixels."""
    height, width = image.pixels.shape[:2]
    return width, height


def error_message(job: Job, error: Exception) -> str:
    """Return one line that names an image and what went wrong with it."""
    if isinstance(error, MemoryError) and not isinstance(error, GankitError):
        reason = "too large for the memory of this machine; close other programs, or process parts of the image"
        return f"{job.source}: {reason}"
    if isinstance(error, OSError):
        return f"{job.source}: {error.strerror or error}"
    text = " ".join(str(error).split())
    return text if str(job.source) in text else f"{job.source}: {text}"


def failure(job: Job, message: str, item: Item | None, **seconds: float) -> ImageReport:
    """Return the report of an image that failed.

    Args:
        job: its job.
        message: what went wrong.
        item: what is known of it; ``None`` if it could not be read.
        seconds: ``decode_seconds``, ``engine_seconds`` or ``encode_seconds`` of the step that failed.
    """
    report = ImageReport(job.source, job.target, "failed", error=message)
    if item is not None:
        report = replace(
            report,
            input_size=item.input_size,
            notes=item.notes,
            decode_seconds=item.decode_seconds,
            engine_seconds=item.engine_seconds,
        )
    return replace(report, **seconds)  # type: ignore[arg-type]


def success(item: Item, encode_seconds: float, lost: Sequence[str]) -> ImageReport:
    """Return the report of an image that was written.

    Args:
        item: the image, which is now the result.
        encode_seconds: time in the encoder.
        lost: a sentence for each part that the file does not hold.
    """
    return ImageReport(
        item.job.source,
        item.job.target,
        "done",
        input_size=item.input_size,
        output_size=size(item.image),
        decode_seconds=item.decode_seconds,
        engine_seconds=item.engine_seconds,
        encode_seconds=encode_seconds,
        notes=(*item.notes, *lost),
    )
