"""Write the reconstructions of an autoencoder to files. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gankit.errors import ImageError, UsageError
from gankit.memory import available_memory
from gankit.pipeline.generated_files import (
    Destination,
    FailureCallback,
    ImageWriter,
    LocalFolder,
    Outcome,
    ProgressCallback,
    extension_of,
    finish_grid,
    new_grid,
    prepare_folders,
    used_engine,
)
from gankit.pipeline.inputs import collect
from gankit.pipeline.journal import plain_json
from gankit.pipeline.notices import notices
from gankit.pipeline.ready import made_by
from gankit.pipeline.resume import Resume
from gankit.pipeline.sampler import Sampler
from gankit.pipeline.targets import Job

_PAIRS = 8  # originals with their reconstructions in a row of the sample grid


def write_reconstructions(
    sampler: Sampler, folder: Path, destination: Destination, progress: ProgressCallback, failed: FailureCallback
) -> Outcome:
    """Write an autoencoder's reconstruction of each image in a folder, under the name of the image.

    As with :meth:`gankit.Upscaler.run`, a journal tells which results are up to date, and which are made again because
    the image, the model or an option changed.

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
    extension_of(destination)
    if not isinstance(destination.output, LocalFolder):
        raise UsageError(
            f"{destination.output.place('')}: --reconstruct writes to local folders only; use another --output"
        )
    output = destination.output.path
    found = collect([folder], output, format=destination.format)
    sampler.encoding()
    options = {**sampler.engine.of_results(), "model": plain_json(sampler.facts.options)}
    resume = Resume(lambda: sampler.loaded.sha256, lambda target: options, [output])
    decisions = resume.decide(found.jobs, overwrite=destination.overwrite)
    resume.confirm(decisions)
    for line in notices(found, decisions) if sampler.notify else ():
        sampler.notify(line)  # type: ignore[misc]
    skip = {each.job.target for each in decisions if not each.run}
    todo = [job for job in found.jobs if destination.grid or job.target not in skip]
    sample_grid = new_grid(sampler, 2 * len(todo), 2 * _PAIRS) if destination.grid else None
    if not todo:
        return Outcome(0, len(found.jobs), 0, 0.0)
    made = made_by(sampler.start(), sampler.engine)
    prepare_folders(destination)
    for each in {job.target.parent for job in todo}:
        LocalFolder(each).prepare()
    jobs = {job.target.relative_to(output).as_posix(): job for job in todo}
    names = {job.target: name for name, job in jobs.items()}
    writer = ImageWriter(destination.output, len(found.jobs) - len(skip), progress, failed)
    noted = partial(_noted, resume, jobs, made)
    for error in found.unreadable:
        writer.fail(error)
    placed = 0
    for start in range(0, len(todo), sampler.batch):
        read = list(_read(todo[start : start + sampler.batch], sampler, writer, resume))
        if not read:
            continue
        results = sampler.reconstruct(np.stack([image for _, image in read]))
        pairs = [(job.target, result) for (job, _), result in zip(read, results, strict=True)]
        writer.write([(names[target], result) for target, result in pairs if target not in skip], noted)
        for (_, image), result in zip(read, results, strict=True) if sample_grid else ():
            sample_grid.place(placed, image)  # type: ignore[union-attr]
            sample_grid.place(placed + 1, result)  # type: ignore[union-attr]
            placed += 2
    finish_grid(sample_grid, destination)
    return Outcome(writer.done, len(skip), writer.failures, writer.seconds, used_engine(sampler))


@contextmanager
def _noted(resume: Resume, jobs: Mapping[str, Job], made: Mapping[str, Any], name: str) -> Iterator[None]:
    """Write to the journal before and after a result is written."""
    resume.begin(jobs[name], made)
    yield
    resume.finish(jobs[name], made)


def _read(jobs: list[Job], sampler: Sampler, writer: ImageWriter, resume: Resume) -> Iterator[tuple[Job, np.ndarray]]:
    """Read the images of the model's size as (H, W, C) uint8, and report the others as failed."""
    from gankit.images import decode

    height, width = sampler.facts.output_size or (0, 0)
    for job in jobs:
        try:
            resume.before_reading(job.source)
            image = decode(job.source, max_bytes=available_memory(sampler.engine.max_memory)).to_8bit()
            resume.after_reading(job.source)
            for note in image.notes if sampler.notify else ():
                sampler.notify(f"{job.source}: {note}")  # type: ignore[misc]
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
