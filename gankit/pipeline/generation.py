"""Write samples and reconstructions to files. Imports no torch."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

from gankit.errors import ImageError, UsageError
from gankit.pipeline.inputs import collect
from gankit.pipeline.items import Progress
from gankit.pipeline.output import prepare, remove_stale, write_whole
from gankit.pipeline.paths import exists
from gankit.pipeline.sample_grid import SampleGrid
from gankit.pipeline.sampler import Sampler
from gankit.pipeline.targets import Job

RECORD = "samples.json"
_NAME = re.compile(r"\d{6,}\.[a-z]+")
_MOST = 10_000_000
_WRITERS = 4  # threads; they mostly wait for the disk
_PAIRS = 8  # originals with their reconstructions in a row of the sample grid


@dataclass(frozen=True)
class SampleRequest:
    """The samples to write.

    Attributes:
        n: number of samples, or of paths.
        seed: see :meth:`Sampler.sample`.
        class_: class of all samples; ``None`` uses every class in turn.
        truncation: see :func:`gankit.models.sampling.latent`.
        steps: number of images in a path; ``None`` writes single samples.
    """

    n: int
    seed: int = 0
    class_: int | None = None
    truncation: float | None = None
    steps: int | None = None


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


def write_samples(
    sampler: Sampler,
    request: SampleRequest,
    destination: Destination,
    progress: ProgressCallback,
    failed: FailureCallback,
) -> Outcome:
    """Write samples as ``000000.png``, ``000001.png``, …, and describe them in ``samples.json``.

    Args:
        sampler: the model and its engine.
        request: the samples to write.
        destination: where to write them.
        progress: called with the state of the run after each image.
        failed: called with the error of each image that cannot be written.

    Returns:
        The number of images that were written, skipped and failed.

    Raises:
        UsageError: If an argument is wrong, or the folder holds samples of another model, seed, class, truncation or
            path.
        OutputError: If the output cannot be written. Files written before are complete.
        BackendError, CheckpointError, ParityError: If no engine can run the model.
    """
    if request.n < 1:
        raise UsageError(f"the number of samples must be at least 1, not {request.n}")
    extension = _extension(destination)
    count = request.n * (request.steps or 1)
    if count > _MOST:
        raise UsageError(f"{count:,} images are too many for one folder; the limit is {_MOST:,}")
    steps = request.steps
    stream = partial(sampler.stream, seed=request.seed, classes=request.class_, truncation=request.truncation)
    stream(range(count), steps=steps)  # checks the arguments and makes no image
    columns = steps or (sampler.facts.classes if request.class_ is None else None) or None
    sample_grid = _sample_grid(sampler, count, columns) if destination.grid else None
    names = [f"{index:06d}{extension}" for index in range(count)]
    _claim(sampler, request, destination, names)
    there = set() if destination.overwrite else _there(destination.output)
    todo = {index for index, name in enumerate(names) if name not in there}
    wanted = range(count) if destination.grid else sorted(todo)
    if not wanted:
        return Outcome(0, count, 0, 0.0)
    sampler.start()  # before anything is written; not counted in the time of the run
    _prepare(destination, {destination.output})
    write_whole(destination.output / RECORD, _record(sampler, request))
    writer = _Writer(len(todo), progress, failed)
    for batch in _batches(stream(wanted, steps=steps), sampler.batch):
        writer.write([(destination.output / names[index], image) for index, image in batch if index in todo])
        for index, image in batch if sample_grid else ():
            sample_grid.place(index, image)  # type: ignore[union-attr]
    _finish(sample_grid, destination)
    return Outcome(writer.done, count - len(todo), writer.failures, writer.seconds)


def write_reconstructions(
    sampler: Sampler, folder: Path, destination: Destination, progress: ProgressCallback, failed: FailureCallback
) -> Outcome:
    """Write an autoencoder's reconstruction of each image in a folder, under the name of the image.

    Args:
        sampler: a model with an encoder, and its engine.
        folder: folder of images of the model's size; they are not resized. A gray model gets the luma of colour images.
        destination: where to write them. In the sample grid, each image is followed by its reconstruction.
        progress: called with the state of the run after each image.
        failed: called with the error of each image that fails. The run continues with the others.

    Returns:
        The number of images that were written, skipped and failed.

    Raises:
        UsageError, OutputError, BackendError, CheckpointError, ParityError: See :func:`write_samples`.
    """
    _extension(destination)
    found = collect([folder], destination.output, format=destination.format)
    todo = [job for job in found.jobs if destination.overwrite or destination.grid or not exists(job.target)]
    sampler.encoding()
    skip = {job.target for job in found.jobs if not destination.overwrite and exists(job.target)}
    sample_grid = _sample_grid(sampler, 2 * len(todo), 2 * _PAIRS) if destination.grid else None
    if not todo:
        return Outcome(0, len(found.jobs), 0, 0.0)
    sampler.start()
    _prepare(destination, {job.target.parent for job in todo})
    writer = _Writer(len(todo) - len(skip) if destination.grid else len(todo), progress, failed)
    for error in found.unreadable:
        writer.fail(error)
    placed = 0
    for start in range(0, len(todo), sampler.batch):
        read = list(_read(todo[start : start + sampler.batch], sampler, writer))
        if not read:
            continue
        results = sampler.reconstruct(np.stack([image for _, image in read]))
        pairs = [(job.target, result) for (job, _), result in zip(read, results, strict=True)]
        writer.write([(target, result) for target, result in pairs if target not in skip])
        for (_, image), result in zip(read, results, strict=True) if sample_grid else ():
            sample_grid.place(placed, image)  # type: ignore[union-attr]
            sample_grid.place(placed + 1, result)  # type: ignore[union-attr]
            placed += 2
    _finish(sample_grid, destination)
    return Outcome(writer.done, len(skip), writer.failures, writer.seconds)


class _Writer:
    """Writes images, several at a time, and counts them."""

    def __init__(self, total: int, progress: ProgressCallback, failed: FailureCallback) -> None:
        self._total, self._progress, self._failed = total, progress, failed
        self._began = perf_counter()
        self.done = self.failures = 0

    @property
    def seconds(self) -> float:
        return perf_counter() - self._began

    def write(self, images: list[tuple[Path, np.ndarray]]) -> None:
        """Write a batch of images. However it ends, no file is left incomplete."""
        from gankit.images import encode, from_array

        def one(item: tuple[Path, np.ndarray]) -> tuple[Path, ImageError | None]:
            try:
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
        self.failures += 1
        self._failed(error)


def _batches(stream: Iterator[tuple[int, np.ndarray]], size: int) -> Iterator[list[tuple[int, np.ndarray]]]:
    batch: list[tuple[int, np.ndarray]] = []
    for item in stream:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _read(jobs: list[Job], sampler: Sampler, writer: _Writer) -> Iterator[tuple[Job, np.ndarray]]:
    """Read the images of the model's size as (H, W, C) uint8, and report the others as failed."""
    from gankit.images import decode

    height, width = sampler.facts.output_size or (0, 0)
    for job in jobs:
        try:
            image = decode(job.source).to_8bit()
        except ImageError as error:
            writer.fail(error)
            continue
        have = image.pixels.shape[:2]
        if have != (height, width):
            reason = f"is {have[1]}×{have[0]}, but '{sampler.facts.name}' takes {width}×{height}; resize it first"
            writer.fail(ImageError(job.source, reason))
            continue
        yield job, _gray(image.pixels, image.gray) if sampler.facts.channels == 1 else image.pixels


def _gray(pixels: np.ndarray, gray: bool) -> np.ndarray:
    """Convert (H, W, 3) to (H, W, 1): the luma of a colour image, or the first channel of a gray one."""
    from gankit.images import luma

    return pixels[..., :1] if gray else luma(pixels)[..., None]


def _there(folder: Path) -> set[str]:
    """Return the names in a folder, without broken links; none if the folder does not exist."""
    try:
        return {entry.name for entry in os.scandir(folder) if exists(entry.path)}
    except OSError:  # reported when the folder is created
        return set()


def _extension(destination: Destination) -> str:
    """Return the file extension of the images. Raises UsageError if a format is unknown."""
    from gankit.images import FORMATS

    known = ", ".join(sorted(FORMATS))
    if destination.format.lower() not in FORMATS:
        raise UsageError(f"unknown format '{destination.format}'; choose from {known}")
    if destination.grid is not None and destination.grid.suffix.lower() not in {*FORMATS.values(), ".tif"}:
        reason = f"unknown format '{destination.grid.suffix}' of the sample grid; choose from {known}"
        raise UsageError(f"{destination.grid}: {reason}")
    return FORMATS[destination.format.lower()]


def _sample_grid(sampler: Sampler, count: int, columns: int | None) -> SampleGrid:
    from gankit.images import MAX_PIXELS

    sample_grid = SampleGrid(count, sampler.facts.output_size or (0, 0), sampler.facts.channels, columns)
    height, width = sample_grid.shape
    if height * width > MAX_PIXELS:
        raise UsageError(
            f"a sample grid of {count} images has {height * width / 1e6:.0f} MP; reduce -n, or omit --grid"
        )
    return sample_grid


def _prepare(destination: Destination, folders: set[Path]) -> None:
    for folder in {destination.output, *folders}:
        prepare(folder)
        remove_stale(folder)
    if destination.grid is not None:
        prepare(destination.grid.parent, "--grid")


def _finish(sample_grid: SampleGrid | None, destination: Destination) -> None:
    from gankit.images import encode, from_array

    if sample_grid is not None and destination.grid is not None:
        encode(from_array(sample_grid.pixels), destination.grid)


def _record(sampler: Sampler, request: SampleRequest) -> str:
    """Describe the samples as JSON, without their number, so that a later run can add more."""
    made_of = {"model": sampler.facts.name, "sha256": sampler.loaded.sha256, **asdict(request)}
    made_of["class"] = made_of.pop("class_")
    del made_of["n"]
    return json.dumps(made_of, indent=2) + "\n"


def _claim(sampler: Sampler, request: SampleRequest, destination: Destination, names: list[str]) -> None:
    """Refuse to mix different samples in one folder, where a later run would take one kind for the other."""
    path = destination.output / RECORD
    if not exists(path):
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    now = json.loads(_record(sampler, request))
    if before == now:
        return
    others = [key for key in now if not isinstance(before, dict) or before.get(key) != now[key]]
    has = f"{destination.output}: contains samples of another {others[0] if others else 'kind'} (see {RECORD})"
    if not destination.overwrite:
        raise UsageError(f"{has}; use another --output, or --overwrite")
    if left := {name for name in _there(destination.output) if _NAME.fullmatch(name)}.difference(names):
        raise UsageError(f"{has}, and {len(left)} of them would remain; use another --output, or delete them")
