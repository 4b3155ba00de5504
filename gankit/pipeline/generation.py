"""Samples and reconstructions as files. Imports no torch."""

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
from gankit.pipeline.inputs import Job, collect
from gankit.pipeline.items import Progress
from gankit.pipeline.output import prepare, remove_stale, write_whole
from gankit.pipeline.paths import exists
from gankit.pipeline.sample_grid import SampleGrid
from gankit.pipeline.sampler import Sampler

RECORD = "samples.json"
_NAME = re.compile(r"\d{6,}\.[a-z]+")
_MOST = 10_000_000
_WRITERS = 4  # threads; they mostly wait for the disk
_PAIRS = 8  # originals with their reconstructions in a row of the sample grid


@dataclass(frozen=True)
class Samples:
    """Which samples.

    Attributes:
        n: samples, or paths.
        seed: see :meth:`Sampler.sample`.
        class_: one for all, or ``None`` for all in turn.
        truncation: see :func:`gankit.models.sampling.latent`.
        steps: ``None``, or images in a path.
    """

    n: int
    seed: int = 0
    class_: int | None = None
    truncation: float | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Where:
    """Where the images go.

    Attributes:
        output: folder, made where it is missing.
        format: of the files, a name of ``gankit.images.FORMATS``.
        overwrite: do again what is there; else it is skipped.
        grid: file of a sample grid with all of them, or ``None``. It is replaced where it is there.
    """

    output: Path
    format: str = "png"
    overwrite: bool = False
    grid: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    done: int
    skipped: int
    failed: int
    seconds: float


Watch = Callable[[Progress], None]
Tell = Callable[[ImageError], None]


def write_samples(sampler: Sampler, samples: Samples, where: Where, progress: Watch, failed: Tell) -> Outcome:
    """Write samples as ``000000.png``, ``000001.png``, …, and what they are samples of as ``samples.json``.

    Args:
        sampler: the model and its engine.
        samples: which.
        where: where to.
        progress: called now and then.
        failed: called with the image that cannot be written.

    Raises:
        UsageError: wrong arguments; or the folder has samples of another model, seed, class, truncation or path.
        OutputError: the output cannot be written; what was written before is whole.
        BackendError, CheckpointError, ParityError: no engine.
    """
    if samples.n < 1:
        raise UsageError(f"the number of samples must be at least 1, not {samples.n}")
    extension = _extension(where)
    count = samples.n * (samples.steps or 1)
    if count > _MOST:
        raise UsageError(f"{count:,} images are too many for a folder: {_MOST:,} at most")
    steps = samples.steps
    stream = partial(sampler.stream, seed=samples.seed, classes=samples.class_, truncation=samples.truncation)
    stream(range(count), steps=steps)  # tells what is wrong, and makes nothing
    columns = steps or (sampler.facts.classes if samples.class_ is None else None) or None
    sample_grid = _sample_grid(sampler, count, columns) if where.grid else None
    names = [f"{index:06d}{extension}" for index in range(count)]
    _claim(sampler, samples, where, names)
    there = set() if where.overwrite else _there(where.output)
    todo = {index for index, name in enumerate(names) if name not in there}
    wanted = range(count) if where.grid else sorted(todo)
    if not wanted:
        return Outcome(0, count, 0, 0.0)
    sampler.start()  # before the folder is touched; no part of the run's time
    _prepare(where, {where.output})
    write_whole(where.output / RECORD, _record(sampler, samples))
    run = _Run(len(todo), progress, failed)
    for batch in _batches(stream(wanted, steps=steps), sampler.batch):
        run.write([(where.output / names[index], image) for index, image in batch if index in todo])
        for index, image in batch if sample_grid else ():
            sample_grid.place(index, image)  # type: ignore[union-attr]
    _finish(sample_grid, where)
    return Outcome(run.done, count - len(todo), run.failures, run.seconds)


def write_reconstructions(sampler: Sampler, folder: Path, where: Where, progress: Watch, failed: Tell) -> Outcome:
    """Write an autoencoder's reconstruction of each image in a folder, under the image's name.

    Args:
        sampler: a model with an encoder, and its engine.
        folder: of images of the model's size: they are never resized. Colour becomes gray for a gray model.
        where: where to; on the sample grid each image has its reconstruction at its right.
        progress: called now and then.
        failed: called with each image that fails; the others go on.

    Raises:
        UsageError, OutputError, BackendError, CheckpointError, ParityError: as :func:`write_samples`.
    """
    _extension(where)
    found = collect([folder], where.output, format=where.format)
    todo = [job for job in found.jobs if where.overwrite or where.grid or not exists(job.target)]
    sampler.encoding()
    skip = {job.target for job in found.jobs if not where.overwrite and exists(job.target)}
    sample_grid = _sample_grid(sampler, 2 * len(todo), 2 * _PAIRS) if where.grid else None
    if not todo:
        return Outcome(0, len(found.jobs), 0, 0.0)
    sampler.start()
    _prepare(where, {job.target.parent for job in todo})
    run = _Run(len(todo) - len(skip) if where.grid else len(todo), progress, failed)
    for error in found.unreadable:
        run.fail(error)
    placed = 0
    for start in range(0, len(todo), sampler.batch):
        read = list(_read(todo[start : start + sampler.batch], sampler, run))
        if not read:
            continue
        results = sampler.reconstruct(np.stack([image for _, image in read]))
        pairs = [(job.target, result) for (job, _), result in zip(read, results, strict=True)]
        run.write([(target, result) for target, result in pairs if target not in skip])
        for (_, image), result in zip(read, results, strict=True) if sample_grid else ():
            sample_grid.place(placed, image)  # type: ignore[union-attr]
            sample_grid.place(placed + 1, result)  # type: ignore[union-attr]
            placed += 2
    _finish(sample_grid, where)
    return Outcome(run.done, len(skip), run.failures, run.seconds)


class _Run:
    """Writes images, several at once, and counts them."""

    def __init__(self, total: int, progress: Watch, failed: Tell) -> None:
        self._total, self._progress, self._failed = total, progress, failed
        self._began = perf_counter()
        self.done = self.failures = 0

    @property
    def seconds(self) -> float:
        return perf_counter() - self._began

    def write(self, images: list[tuple[Path, np.ndarray]]) -> None:
        """Write a batch; whatever ends it, the files that are begun are whole when it returns."""
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


def _read(jobs: list[Job], sampler: Sampler, run: _Run) -> Iterator[tuple[Job, np.ndarray]]:
    """The images that fit, (H, W, C) uint8; the others fail."""
    from gankit.images import decode

    height, width = sampler.facts.output_size or (0, 0)
    for job in jobs:
        try:
            image = decode(job.source).to_8bit()
        except ImageError as error:
            run.fail(error)
            continue
        have = image.pixels.shape[:2]
        if have != (height, width):
            reason = f"is {have[1]}×{have[0]}, and '{sampler.facts.name}' takes {width}×{height}: resize it first"
            run.fail(ImageError(job.source, reason))
            continue
        yield job, _gray(image.pixels, image.gray) if sampler.facts.channels == 1 else image.pixels


def _gray(pixels: np.ndarray, gray: bool) -> np.ndarray:
    """(H, W, 3) -> (H, W, 1): the luma of a colour image, the channel of a gray one."""
    from gankit.images import luma

    return pixels[..., :1] if gray else luma(pixels)[..., None]


def _there(folder: Path) -> set[str]:
    """Names in a folder, less those of broken links; none where it is not there."""
    try:
        return {entry.name for entry in os.scandir(folder) if exists(entry.path)}
    except OSError:  # reported when it is made
        return set()


def _extension(where: Where) -> str:
    """Of the images, where both formats are known."""
    from gankit.images import FORMATS

    known = ", ".join(sorted(FORMATS))
    if where.format.lower() not in FORMATS:
        raise UsageError(f"unknown format '{where.format}': known are {known}")
    if where.grid is not None and where.grid.suffix.lower() not in {*FORMATS.values(), ".tif"}:
        raise UsageError(f"{where.grid}: unknown format '{where.grid.suffix}' of the sample grid: known are {known}")
    return FORMATS[where.format.lower()]


def _sample_grid(sampler: Sampler, count: int, columns: int | None) -> SampleGrid:
    from gankit.images import MAX_PIXELS

    sample_grid = SampleGrid(count, sampler.facts.output_size or (0, 0), sampler.facts.channels, columns)
    height, width = sample_grid.shape
    if height * width > MAX_PIXELS:
        raise UsageError(
            f"a sample grid of {count} images has {height * width / 1e6:.0f} MP: ask for fewer, or for none"
        )
    return sample_grid


def _prepare(where: Where, folders: set[Path]) -> None:
    for folder in {where.output, *folders}:
        prepare(folder)
        remove_stale(folder)
    if where.grid is not None:
        prepare(where.grid.parent, "--grid")


def _finish(sample_grid: SampleGrid | None, where: Where) -> None:
    from gankit.images import encode, from_array

    if sample_grid is not None and where.grid is not None:
        encode(from_array(sample_grid.pixels), where.grid)


def _record(sampler: Sampler, samples: Samples) -> str:
    """What the images of a folder are samples of; not how many, so that more can be added."""
    made_of = {"model": sampler.facts.name, "sha256": sampler.loaded.sha256, **asdict(samples)}
    made_of["class"] = made_of.pop("class_")
    del made_of["n"]
    return json.dumps(made_of, indent=2) + "\n"


def _claim(sampler: Sampler, samples: Samples, where: Where, names: list[str]) -> None:
    """Refuse to mix samples of different things in one folder, where a later run would take one for the other."""
    path = where.output / RECORD
    if not exists(path):
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    now = json.loads(_record(sampler, samples))
    if before == now:
        return
    others = [key for key in now if not isinstance(before, dict) or before.get(key) != now[key]]
    has = f"{where.output}: has samples of another {others[0] if others else 'kind'} (see {RECORD})"
    if not where.overwrite:
        raise UsageError(f"{has}: give another --output, or --overwrite")
    if left := {name for name in _there(where.output) if _NAME.fullmatch(name)}.difference(names):
        raise UsageError(f"{has}, and {len(left)} of them would stay: give another --output, or delete them")
