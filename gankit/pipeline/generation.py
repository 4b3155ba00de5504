"""Write samples to files. Imports no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import numpy as np

from gankit.errors import ImageError, UsageError
from gankit.pipeline.generated_files import (
    Destination,
    FailureCallback,
    ImageFolder,
    ImageWriter,
    Outcome,
    ProgressCallback,
    UsedEngine,
    extension_of,
    finish_grid,
    new_grid,
    prepare_folders,
    used_engine,
    write_images,
)
from gankit.pipeline.sample_claims import SampleClaims
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


@dataclass(frozen=True)
class Part:
    """Samples that are made in one call of an engine, so that they do not depend on who makes them.

    Attributes:
        indices: their numbers.
        written: the numbers of those that are written to files.
        returned: whether the images are returned, too.
    """

    indices: Sequence[int]
    written: frozenset[int]
    returned: bool = False


@dataclass(frozen=True)
class MadePart:
    """What became of a part.

    Attributes:
        part: the part.
        reasons: why a file could not be written, by the number of the sample.
        images: the images by number, if they are returned.
        engine: the engine that made them.
        elsewhere: the numbers of those that another run has written since this one began.
        left: the numbers of those that another run is about to write.
    """

    part: Part
    reasons: Mapping[int, str] = field(default_factory=dict)
    images: Mapping[int, np.ndarray] = field(default_factory=dict)
    engine: UsedEngine | None = None
    elsewhere: frozenset[int] = frozenset()
    left: frozenset[int] = frozenset()


Execute = Callable[[Sequence[Part], SampleClaims, str], Iterator[MadePart]]
"""Makes parts, wherever, and writes them to the folder of the claims with an extension."""


def write_samples(
    sampler: Sampler,
    request: SampleRequest,
    destination: Destination,
    progress: ProgressCallback,
    failed: FailureCallback,
    *,
    execute: Execute | None = None,
) -> Outcome:
    """Write samples as ``000000.png``, ``000001.png``, …, and describe them in ``samples.json``.

    Args:
        sampler: the model and its engine.
        request: the samples to write.
        destination: where to write them.
        progress: called with the state of the run after each image.
        failed: called with the error of each image that cannot be written.
        execute: makes the samples; ``None`` makes them in this process.

    Returns:
        The number of images that were written, skipped and failed, and the engine of the first of them.

    Raises:
        UsageError: If an argument is wrong, or the folder holds samples of another model, seed, class, truncation or
            path.
        OutputError: If the output cannot be written. Files written before are complete.
        BackendError, CheckpointError, ParityError: If no engine can run the model.
    """
    if request.n < 1:
        raise UsageError(f"the number of samples must be at least 1, not {request.n}")
    extension, output = extension_of(destination), destination.output
    count = request.n * (request.steps or 1)
    if count > _MOST:
        raise UsageError(f"{count:,} images are too many for one folder; the limit is {_MOST:,}")
    stream_of(sampler, request)(range(count))  # checks the arguments and makes no image
    columns = request.steps or (sampler.facts.classes if request.class_ is None else None) or None
    sample_grid = new_grid(sampler, count, columns) if destination.grid else None
    names = [_name(index, extension) for index in range(count)]
    present = output.names()
    _claim(sampler, request, destination, present.difference(names))
    there = set() if destination.overwrite else present
    todo = frozenset(index for index, name in enumerate(names) if name not in there)
    replaced = output.states([names[index] for index in sorted(todo) if names[index] in present])
    wanted = range(count) if destination.grid else sorted(todo)
    if not wanted:
        return Outcome(0, count, 0, 0.0)
    parts = list(_parts(wanted, todo, sampler.batch, returned=sample_grid is not None))
    if execute is None:
        sampler.start()  # before anything is written; not counted in the time of the run
    prepare_folders(destination)
    writer = ImageWriter(output, len(todo), progress, failed)
    engine: UsedEngine | None = None
    with SampleClaims(output, replaced) as claims:
        with claims.alone(RECORD):  # another run may have begun since
            _claim(sampler, request, destination, output.names().difference(names))
            output.write_text(RECORD, _record(sampler, request))
        left: list[Part] = []
        while parts:
            if execute is None:
                made = _here(sampler, request, writer, claims, parts, extension)
            else:
                made = execute(parts, claims, extension)
            for each in made:
                engine = engine or each.engine
                if execute is not None:
                    _count(each, writer, output, extension)
                writer.leave(len(each.elsewhere))
                for index, image in each.images.items() if sample_grid else ():
                    sample_grid.place(index, image)  # type: ignore[union-attr]
                if each.left:
                    left.append(replace(each.part, written=each.left, returned=False))
            parts, left = _after_others(sampler, writer, claims, left, extension)
    finish_grid(sample_grid, destination)
    skipped = count - len(todo) + writer.left
    return Outcome(writer.done, skipped, writer.failures, writer.seconds, engine)


def stream_of(sampler: Sampler, request: SampleRequest) -> Callable[[Sequence[int]], Iterator[tuple[int, np.ndarray]]]:
    """Return what makes the samples of some numbers. It raises UsageError if an argument is wrong."""
    return partial(
        sampler.stream, seed=request.seed, classes=request.class_, truncation=request.truncation, steps=request.steps
    )


def make_part(
    sampler: Sampler,
    request: SampleRequest,
    claims: SampleClaims,
    extension: str,
    part: Part,
    write: Callable[[Sequence[tuple[str, np.ndarray]]], Mapping[str, str]],
) -> MadePart:
    """Make a part, and write its files, except those that another run makes.

    Args:
        sampler: the model and its engine.
        request: what the part is a part of.
        claims: the claims of this process, which are given up as files are written.
        extension: extension of the files.
        part: the part.
        write: writes images with their names, and returns why those failed that could not be written.

    Raises:
        OutputError: If the folder cannot be written.
        BackendError, CheckpointError, ParityError: If no engine can run the model.
    """
    numbers = {_name(index, extension): index for index in part.indices}
    turns = claims.take(name for name, index in numbers.items() if index in part.written)
    images: dict[int, np.ndarray] = {}
    reasons: Mapping[str, str] = {}
    if turns.own or part.returned:
        images = dict(stream_of(sampler, request)(part.indices))
        reasons = write([(name, images[index]) for name, index in numbers.items() if name in turns.own])
    return MadePart(
        part,
        {numbers[name]: reason for name, reason in reasons.items()},
        images if part.returned else {},
        used_engine(sampler),
        frozenset(numbers[name] for name in turns.made),
        frozenset(numbers[name] for name in turns.others),
    )


def write_part(claims: SampleClaims, files: Sequence[tuple[str, np.ndarray]]) -> dict[str, str]:
    """Write images with their names, and return why those failed that could not be written.

    Raises:
        OutputError: If the folder cannot be written.
    """
    ended = write_images(claims.folder, files, claims.releasing)
    return {name: error.reason for name, error in ended if error is not None}


def _here(
    sampler: Sampler,
    request: SampleRequest,
    writer: ImageWriter,
    claims: SampleClaims,
    parts: Sequence[Part],
    extension: str,
) -> Iterator[MadePart]:
    """Make parts in this process, and count each file as soon as it is written."""

    def write(files: Sequence[tuple[str, np.ndarray]]) -> dict[str, str]:
        writer.write(files, claims.releasing)
        return {}

    for part in parts:
        yield make_part(sampler, request, claims, extension, part, write)


def _after_others(
    sampler: Sampler, writer: ImageWriter, claims: SampleClaims, left: Sequence[Part], extension: str
) -> tuple[list[Part], list[Part]]:
    """Wait for samples that other runs have claimed. Return what they have left undone, and what to wait for still."""
    count = sum(len(part.written) for part in left)
    if count and sampler.notify is not None:
        samples = "a sample that another run is" if count == 1 else f"{count} samples that other runs are"
        sampler.notify(f"waiting for {samples} making")
    while left:
        names = {_name(index, extension): index for part in left for index in part.written}
        turns = claims.wait(names)
        writer.leave(len(turns.made))
        free = _of(left, {names[name] for name in turns.own})
        left = _of(left, {names[name] for name in turns.others})
        if free:
            return free, list(left)
    return [], []


def _of(parts: Sequence[Part], numbers: set[int]) -> list[Part]:
    """Return the parts with those files only that have certain numbers."""
    return [replace(part, written=some) for part in parts if (some := part.written.intersection(numbers))]


def _count(made: MadePart, writer: ImageWriter, output: ImageFolder, extension: str) -> None:
    """Count the files of a part that another process has made."""
    for index in sorted(made.part.written - made.elsewhere - made.left):
        name = _name(index, extension)
        if (reason := made.reasons.get(index)) is None:
            writer.add(name)
        else:
            writer.fail(ImageError(output.place(name), reason))


def _name(index: int, extension: str) -> str:
    return f"{index:06d}{extension}"


def _parts(wanted: Sequence[int], todo: frozenset[int], size: int, *, returned: bool) -> Iterator[Part]:
    for start in range(0, len(wanted), size):
        indices = tuple(wanted[start : start + size])
        yield Part(indices, todo.intersection(indices), returned)


def _record(sampler: Sampler, request: SampleRequest) -> str:
    """Describe the samples as JSON, without their number, so that a later run can add more."""
    made_of = {"model": sampler.facts.name, "sha256": sampler.loaded.sha256, **asdict(request)}
    made_of["class"] = made_of.pop("class_")
    del made_of["n"]
    return json.dumps(made_of, indent=2) + "\n"


def _claim(sampler: Sampler, request: SampleRequest, destination: Destination, others: set[str]) -> None:
    """Refuse to mix different samples in one folder, where a later run would take one kind for the other.

    Args:
        sampler: the model.
        request: the samples.
        destination: where they go.
        others: names in the folder that this run does not write.
    """
    content = destination.output.read(RECORD)
    if content is None:
        return
    try:
        before = json.loads(content.decode("utf-8"))
    except ValueError:
        before = None
    now = json.loads(_record(sampler, request))
    if before == now:
        return
    differ = [key for key in now if not isinstance(before, dict) or before.get(key) != now[key]]
    folder = destination.output.place("")
    has = f"{folder}: contains samples of another {differ[0] if differ else 'kind'} (see {RECORD})"
    if not destination.overwrite:
        raise UsageError(f"{has}; use another --output, or --overwrite")
    if left := {name for name in others if _NAME.fullmatch(name)}:
        raise UsageError(f"{has}, and {len(left)} of them would remain; use another --output, or delete them")
