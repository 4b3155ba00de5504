"""Clips whose source or result is a URL: a temporary file on this machine stands for each. Imports no torch."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from gankit.errors import OutputError
from gankit.pipeline.folder_claims import FolderClaims
from gankit.pipeline.items import Progress
from gankit.pipeline.report import Waits
from gankit.pipeline.run_options import RunOptions
from gankit.pipeline.targets import Job
from gankit.storage.group import Group, Kept, Result, Task
from gankit.storage.urls import is_url
from gankit.video.making import ClipMaker, clip_options
from gankit.video.options import VideoOptions

if TYPE_CHECKING:
    from gankit.pipeline.images import ImagePipeline


def run_clip(
    pipeline: ImagePipeline,
    task: Task,
    options: RunOptions,
    video: VideoOptions,
    local: FolderClaims,
    *,
    progress: Callable[[Progress], None] | None = None,
    check: bool = False,
) -> tuple[Result | None, Waits]:
    """Make the result of one clip. Return it, ``None`` if another run has claimed it, and how long the engine waited.

    Args:
        pipeline: the pipeline.
        task: the clip.
        options: the options of the run.
        video: the options of clips.
        local: the claims on local results.
        progress: called with the state of the clip, from any thread, one call at a time.
        check: whether a result that appeared since the run began is that of an earlier try that was lost; otherwise
            another run has made it.

    Raises:
        OutputError: If a local folder, or the temporary folder, cannot be written.
        BackendError, CheckpointError, ParityError: If no engine can run the model.
    """
    began = perf_counter()
    with tempfile.TemporaryDirectory(prefix="gankit-clip-") as folder:
        group = Group([task], Path(folder), local)
        if (reason := _no_room(task, Path(folder))) is not None:
            group.fail(task, f"{task.source}: {reason}")
        else:
            group.fetch(task, check=check)
        if (found := group.results.get(task.number)) is not None:
            return found, Waits(perf_counter() - began, 0.0)
        if group.claimed:
            return None, Waits(perf_counter() - began, 0.0)
        job = group.jobs[task.number]
        if is_url(task.source):
            with suppress(OSError):  # a copy has the time of the copying, by which segments would seem to be of another
                os.utime(job.source, (0, 0))
        own = pipeline.engines.options_of_results()
        kept = Kept(pipeline.engines.weights_sha256, lambda target: {**own, **clip_options(options, video, target)})
        waits, maker = Waits(perf_counter() - began, 0.0), ClipMaker(pipeline, options, video, kept)
        with _named(task, job):
            report = maker.make(job, progress)
        began = perf_counter()
        result = group.put(task, report, kept.entries.get(job.target))
        return result, waits + maker.waits + Waits(0.0, perf_counter() - began)


def _no_room(task: Task, folder: Path) -> str | None:
    """Return why the temporary folder is too small for a clip; ``None`` if nothing is known against it.

    The size of the result is not known before it is made. It is at least about that of the source.
    """
    size = _size(task)
    needed = size * (is_url(task.source) + is_url(task.target))
    free = shutil.disk_usage(folder).free
    if needed <= free:
        return None
    return (
        f"needs at least {needed / 1e6:,.0f} MB in the temporary folder {folder.parent}, where {free / 1e6:,.0f} MB "
        "are free; set TMPDIR to a folder of another disk"
    )


def _size(task: Task) -> int:
    if is_url(task.source):
        return task.size
    try:
        return Path(task.source).stat().st_size
    except OSError:
        return 0  # reported when it is opened


@contextmanager
def _named(task: Task, job: Job) -> Iterator[None]:
    """Name the places of a clip, not its temporary files, in an error that ends the run."""
    try:
        yield
    except OutputError as error:
        text = str(error).replace(str(job.target), task.target).replace(str(job.source), task.source)
        raise OutputError(text) from error
