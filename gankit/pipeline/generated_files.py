"""The files that samples and reconstructions are written to. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePath
from time import perf_counter
from typing import Protocol

import numpy as np

from gankit.errors import ImageError, UsageError
from gankit.pipeline.folder_claims import FolderClaims
from gankit.pipeline.items import Progress
from gankit.pipeline.journal import State, state_of
from gankit.pipeline.output import prepare, remove_stale, write_whole
from gankit.pipeline.paths import exists
from gankit.pipeline.sample_grid import SampleGrid
from gankit.pipeline.sampler import Sampler

_WRITERS = 4  # threads; they mostly wait for the disk


class FileClaims(Protocol):
    """Claims of a run on files. May be used from several threads."""

    def take(self, target: Path) -> bool:
        """Claim a file. Return whether this run has the claim now. Raises OutputError if it must not be written."""

    def release(self, target: Path) -> None:
        """Give up the claim on a file that is made or has failed, if this run has it."""

    def give_up(self) -> None:
        """Give up all claims of the run."""

    def close(self) -> None:
        """Give up all claims of the run, unless other processes keep it."""


class ImageFolder(Protocol):
    """A folder for generated images, on a disk or in a store. May be used from several threads, and pickled."""

    def place(self, name: str) -> Path:
        """Return the path of a file, or a path whose text is its URL."""

    def names(self) -> set[str]:
        """Return the names of the files in it; none if it does not exist."""

    def read(self, name: str) -> bytes | None:
        """Return the content of a file: ``None`` if there is none, and nothing if it cannot be read."""

    def states(self, names: Iterable[str]) -> Mapping[str, Hashable]:
        """Return the states of those of some files that exist. A file that is written again has another state."""

    def claims(self, run: str, *, member: bool = False) -> FileClaims:
        """Return claims on files, by which runs share the work.

        Args:
            run: name of the run.
            member: whether they are those of a process that works for a run, which other processes keep.
        """

    def prepare(self, option: str = "--output") -> None:
        """Create it, and check that it can be written. Raises OutputError, which names the option, if not."""

    def write_text(self, name: str, text: str) -> None:
        """Write a text file, whole or not at all. Raises OutputError if it cannot be written."""

    def write_image(self, name: str, image: np.ndarray) -> None:
        """Write an image, (H, W, C) uint8, whole or not at all.

        Raises ImageError if this file cannot be written, and OutputError if none can.
        """


@dataclass(frozen=True)
class LocalFolder:
    """A folder on a disk.

    Attributes:
        path: its path.
    """

    path: Path

    def place(self, name: str) -> Path:
        """Return the path of a file."""
        return self.path / name

    def names(self) -> set[str]:
        """Return the names in the folder, without broken links; none if it does not exist."""
        try:
            return {entry.name for entry in os.scandir(self.path) if exists(entry.path)}
        except OSError:  # reported when the folder is created
            return set()

    def read(self, name: str) -> bytes | None:
        """Return the content of a file: ``None`` if there is none, and nothing if it cannot be read."""
        try:
            return self.place(name).read_bytes()
        except OSError:
            return b"" if exists(self.place(name)) else None

    def states(self, names: Iterable[str]) -> dict[str, State]:
        """Return the states of those of some files that exist."""
        return {name: state for name in names if (state := state_of(self.place(name))) is not None}

    def claims(self, run: str, *, member: bool = False) -> FolderClaims:
        """Return the claims of this process, which the operating system tells from those of others."""
        return FolderClaims((self.path,))

    def prepare(self, option: str = "--output") -> None:
        """Create the folder, and remove what killed runs left in it. Raises OutputError if it cannot be written."""
        prepare(self.path, option)
        remove_stale(self.path)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file, whole or not at all. Raises OutputError if it cannot be written."""
        write_whole(self.place(name), text)

    def write_image(self, name: str, image: np.ndarray) -> None:
        """Write an image, (H, W, C) uint8, whole or not at all. Raises ImageError or OutputError if it cannot."""
        from gankit.images import encode, from_array

        encode(from_array(image), self.place(name))


@dataclass(frozen=True)
class Destination:
    """Where the images are written.

    Attributes:
        output: folder for the images. It is created if it is missing.
        format: file format, a key of ``gankit.images.FORMATS``.
        overwrite: whether to replace existing results, which are skipped otherwise.
        grid: folder and name of a sample grid of all images, or ``None``. An existing file is replaced.
    """

    output: ImageFolder
    format: str = "png"
    overwrite: bool = False
    grid: tuple[ImageFolder, str] | None = None


@dataclass(frozen=True)
class UsedEngine:
    """The engine that made the images, and its PSNR against the fp32 images in dB."""

    backend: str
    precision: str
    device: str
    parity_db: float


@dataclass(frozen=True)
class Outcome:
    """How many images a run wrote, skipped and failed to write, how long it took, and with which engine."""

    done: int
    skipped: int
    failed: int
    seconds: float
    engine: UsedEngine | None = None


ProgressCallback = Callable[[Progress], None]
FailureCallback = Callable[[ImageError], None]


def write_images(
    folder: ImageFolder,
    images: Sequence[tuple[str, np.ndarray]],
    around: Callable[[str], AbstractContextManager[None]] = lambda name: nullcontext(),
) -> Iterator[tuple[str, ImageError | None]]:
    """Write images, several at a time. However it ends, no file is left incomplete.

    Args:
        folder: where to write them.
        images: the name of each, and its pixels as (H, W, C) uint8.
        around: returns the context in which a file is written.

    Yields:
        Each name, and the error if the file cannot be written.
    """

    def one(item: tuple[str, np.ndarray]) -> tuple[str, ImageError | None]:
        try:
            with around(item[0]):
                folder.write_image(*item)
        except ImageError as error:
            return item[0], error
        return item[0], None

    with ThreadPoolExecutor(_WRITERS) as pool:
        yield from pool.map(one, images)


class ImageWriter:
    """Writes images and counts them.

    Args:
        folder: where to write them.
        total: number of images to write.
        progress: called with the state of the run after each image.
        failed: called with the error of each image that cannot be written.
    """

    def __init__(self, folder: ImageFolder, total: int, progress: ProgressCallback, failed: FailureCallback) -> None:
        self._folder = folder
        self._total, self._progress, self._failed = total, progress, failed
        self._began = perf_counter()
        self.done = self.failures = self.left = 0

    @property
    def seconds(self) -> float:
        """Seconds since the writer was made."""
        return perf_counter() - self._began

    def write(
        self,
        images: Sequence[tuple[str, np.ndarray]],
        around: Callable[[str], AbstractContextManager[None]] = lambda name: nullcontext(),
    ) -> None:
        """Write a batch of images, each with its name in the folder, in the context that ``around`` returns for it."""
        for name, error in write_images(self._folder, images, around):
            if error is None:
                self.add(name)
            else:
                self.fail(error)

    def add(self, name: str) -> None:
        """Count and report an image that was written."""
        self.done += 1
        self._progress(Progress(self._total, self.done, self.failures, 0.0, self.seconds, self._folder.place(name)))

    def leave(self, count: int) -> None:
        """Take images out of the total, because another run has made them."""
        self._total -= count
        self.left += count

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
    if destination.grid is not None:
        folder, name = destination.grid
        suffix = PurePath(name).suffix
        if suffix.lower() not in {*FORMATS.values(), ".tif"}:
            raise UsageError(f"{folder.place(name)}: unknown format '{suffix}' of the sample grid; choose from {known}")
    return FORMATS[destination.format.lower()]


def used_engine(sampler: Sampler) -> UsedEngine | None:
    """Return the engine of a sampler; ``None`` if it has made no image."""
    if sampler.parity is None:
        return None
    engine = sampler.start()
    return UsedEngine(engine.backend, str(engine.precision), str(engine.device), sampler.parity.psnr)


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


def prepare_folders(destination: Destination) -> None:
    """Create the folders that are written to, and check that they can be. Raises OutputError if not."""
    destination.output.prepare()
    if destination.grid is not None:
        destination.grid[0].prepare("--grid")


def finish_grid(sample_grid: SampleGrid | None, destination: Destination) -> None:
    """Write the sample grid, if there is one. Raises OutputError if it cannot be written."""
    if sample_grid is not None and destination.grid is not None:
        folder, name = destination.grid
        folder.write_image(name, sample_grid.pixels)
