"""The files that samples and reconstructions are written to. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from gankit.errors import ImageError, UsageError
from gankit.pipeline.items import Progress
from gankit.pipeline.output import prepare, remove_stale
from gankit.pipeline.sample_grid import SampleGrid
from gankit.pipeline.sampler import Sampler

_WRITERS = 4  # threads; they mostly wait for the disk


@dataclass(frozen=True)
class Destination:
    """Where the images are written.

    Attributes:
        output: folder for the images. It is created if it is missing.
        format: file format, a key of ``gankit.images.FORMATS``.
        overwrite: whether to replace existing results, which are skipped otherwise.
        grid: file for a sample grid of all images, or ``None``. An existing file is replaced.
    """

    output: Path
    format: str = "png"
    overwrite: bool = False
    grid: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """How many images a run wrote, skipped and failed to write, and how long it took."""

    done: int
    skipped: int
    failed: int
    seconds: float


ProgressCallback = Callable[[Progress], None]
FailureCallback = Callable[[ImageError], None]


class ImageWriter:
    """Writes images, several at a time, and counts them.

    Args:
        total: number of images to write.
        progress: called with the state of the run after each image.
        failed: called with the error of each image that cannot be written.
        around: returns the context in which a file is written.
    """

    def __init__(
        self,
        total: int,
        progress: ProgressCallback,
        failed: FailureCallback,
        around: Callable[[Path], AbstractContextManager[None]] = lambda path: nullcontext(),
    ) -> None:
        self._total, self._progress, self._failed, self._around = total, progress, failed, around
        self._began = perf_counter()
        self.done = self.failures = 0

    @property
    def seconds(self) -> float:
        """Seconds since the writer was made."""
        return perf_counter() - self._began

    def write(self, images: list[tuple[Path, np.ndarray]]) -> None:
        """Write a batch of images. However it ends, no file is left incomplete."""
        from gankit.images import encode, from_array

        def one(item: tuple[Path, np.ndarray]) -> tuple[Path, ImageError | None]:
            try:
                with self._around(item[0]):
                    encode(from_array(item[1]), item[0])
            except ImageError as error:
                return item[0], error
            return item[0], None

        with ThreadPoolExecutor(_WRITERS) as pool:
            for path, error in pool.map(one, images):
                if error is not None:
                    self.fail(error)
                    continue
                self.done += 1
                state = Progress(self._total, self.done, self.failures, 0.0, self.seconds, path)
                self._progress(state)

    def fail(self, error: ImageError) -> None:
        """Count and report an image that failed."""
        self.failures += 1
        self._failed(error)


def extension_of(destination: Destination) -> str:
    """Return the file extension of the images. Raises UsageError if a format is unknown."""
    from gankit.images import FORMATS

    known = ", ".join(sorted(FORMATS))
    if destination.format.lower() not in FORMATS:
        raise UsageError(f"unknown format '{destination.format}'; choose from {known}")
    if destination.grid is not None and destination.grid.suffix.lower() not in {*FORMATS.values(), ".tif"}:
        reason = f"unknown format '{destination.grid.suffix}' of the sample grid; choose from {known}"
        raise UsageError(f"{destination.grid}: {reason}")
    return FORMATS[destination.format.lower()]


def new_grid(sampler: Sampler, count: int, columns: int | None) -> SampleGrid:
    """Return an empty sample grid for ``count`` images. Raises UsageError if it would be too large."""
    from gankit.images import MAX_PIXELS

    sample_grid = SampleGrid(count, sampler.facts.output_size or (0, 0), sampler.facts.channels, columns)
    height, width = sample_grid.shape
    if height * width > MAX_PIXELS:
        raise UsageError(
            f"a sample grid of {count} images has {height * width / 1e6:.0f} MP; reduce -n, or omit --grid"
        )
    return sample_grid


def prepare_folders(destination: Destination, folders: set[Path]) -> None:
    """Create the folders that are written to, and check that they can be. Raises OutputError if not."""
    for folder in {destination.output, *folders}:
        prepare(folder)
        remove_stale(folder)
    if destination.grid is not None:
        prepare(destination.grid.parent, "--grid")


def finish_grid(sample_grid: SampleGrid | None, destination: Destination) -> None:
    """Write the sample grid, if there is one. Raises OutputError if it cannot be written."""
    from gankit.images import encode, from_array

    if sample_grid is not None and destination.grid is not None:
        encode(from_array(sample_grid.pixels), destination.grid)
