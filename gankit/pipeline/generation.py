"""Write samples to files. Imports no torch."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gankit.errors import UsageError
from gankit.pipeline.generated_files import (
    Destination,
    FailureCallback,
    ImageWriter,
    Outcome,
    ProgressCallback,
    extension_of,
    finish_grid,
    new_grid,
    prepare_folders,
)
from gankit.pipeline.output import write_whole
from gankit.pipeline.paths import exists
from gankit.pipeline.sampler import Sampler

RECORD = "samples.json"
_NAME = re.compile(r"\d{6,}\.[a-z]+")
_MOST = 10_000_000


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
    extension = extension_of(destination)
    count = request.n * (request.steps or 1)
    if count > _MOST:
        raise UsageError(f"{count:,} images are too many for one folder; the limit is {_MOST:,}")
    steps = request.steps
    stream = partial(sampler.stream, seed=request.seed, classes=request.class_, truncation=request.truncation)
    stream(range(count), steps=steps)  # checks the arguments and makes no image
    columns = steps or (sampler.facts.classes if request.class_ is None else None) or None
    sample_grid = new_grid(sampler, count, columns) if destination.grid else None
    names = [f"{index:06d}{extension}" for index in range(count)]
    _claim(sampler, request, destination, names)
    there = set() if destination.overwrite else _there(destination.output)
    todo = {index for index, name in enumerate(names) if name not in there}
    wanted = range(count) if destination.grid else sorted(todo)
    if not wanted:
        return Outcome(0, count, 0, 0.0)
    sampler.start()  # before anything is written; not counted in the time of the run
    prepare_folders(destination, {destination.output})
    write_whole(destination.output / RECORD, _record(sampler, request))
    writer = ImageWriter(len(todo), progress, failed)
    for batch in _batches(stream(wanted, steps=steps), sampler.batch):
        writer.write([(destination.output / names[index], image) for index, image in batch if index in todo])
        for index, image in batch if sample_grid else ():
            sample_grid.place(index, image)  # type: ignore[union-attr]
    finish_grid(sample_grid, destination)
    return Outcome(writer.done, count - len(todo), writer.failures, writer.seconds)


def _batches(stream: Iterator[tuple[int, np.ndarray]], size: int) -> Iterator[list[tuple[int, np.ndarray]]]:
    batch: list[tuple[int, np.ndarray]] = []
    for item in stream:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _there(folder: Path) -> set[str]:
    """Return the names in a folder, without broken links; none if the folder does not exist."""
    try:
        return {entry.name for entry in os.scandir(folder) if exists(entry.path)}
    except OSError:  # reported when the folder is created
        return set()


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
