"""Run jobs whose sources and targets are decided: still images, animations, and images by strips. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from gankit.pipeline.frame_runs import run_jobs
from gankit.pipeline.image_files import ImageFiles
from gankit.pipeline.items import Progress
from gankit.pipeline.large import LargeImages
from gankit.pipeline.remaining import Pixels
from gankit.pipeline.report import ImageReport, Waits
from gankit.pipeline.run_options import RunOptions
from gankit.pipeline.runner import Runner
from gankit.pipeline.sharing import Sharing
from gankit.pipeline.targets import Job
from gankit.pipeline.workload import job_pixels, result_bytes, thread_counts

if TYPE_CHECKING:
    from gankit.pipeline.engines import Engines
    from gankit.pipeline.resume import Resume

_SUMS = ("done", "failed", "output_mp", "seconds", "waited_to_decode", "waited_to_encode")


def process(
    engines: Engines,
    jobs: Sequence[Job],
    options: RunOptions,
    resume: Resume,
    *,
    record: Callable[[ImageReport], None],
    progress: Callable[[Progress], None] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Waits:
    """Run jobs through an engine, and write their results. One thread at a time may use the engines.

    What another run is making in the same folders is left to it. This run waits for it at the end, and makes what the
    other one has left undone.

    Args:
        engines: the engines of a pipeline.
        jobs: jobs with different targets, whose folders exist or can be made.
        options: the options of the run.
        resume: keeps the journals of the results.
        record: called with the report of each image, from any thread.
        progress: called with the state of the run, from any thread, one call at a time.
        notify: called with each line to report to the user.

    Returns:
        How long the engine waited.

    Raises:
        OutputError: If a folder cannot be written. Files written before are complete.
        BackendError, CheckpointError, ParityError: If no engine can run the model.
    """
    facts = engines.fast(job_pixels(jobs)).facts
    max_memory = engines.options.max_memory
    files = ImageFiles(jobs, options, resume, facts, engines.made_by, max_memory)
    pixels = None if progress is None else Pixels(jobs, lambda job: files.frames_of(job) is not None)
    waits, before, made_elsewhere = Waits(0.0, 0.0), Progress(len(jobs)), 0

    def listen(state: Progress) -> None:
        if pixels is not None and progress is not None:
            progress(pixels.of(replace(_sum(before, state), total=len(jobs) - made_elsewhere)))

    def known(report: ImageReport) -> None:
        nonlocal made_elsewhere
        files.forget(report.source)
        sharing.release(report.target)
        made_elsewhere += report.status not in ("done", "failed")
        if pixels is not None:
            pixels.add(report)
        record(report)

    with resume.claims() or nullcontext() as claims:
        sharing, todo = Sharing(resume, claims, known, options.compare), list(jobs)
        while todo:
            large = LargeImages(todo, files, engines, options, None if progress is None else listen, known)
            runner = Runner(
                decode=files.decode,
                check=files.check,
                work=engines.image,
                encode=files.encode,
                finish=files.finish,
                cost=lambda image: result_bytes(image, facts.scale),
                progress=large.progress,
                record=known,
                batching=engines.batching(),
                claim=sharing.claim,
                put_off=lambda job: files.forget(job.source),
                too_large=large.too_large,
                **thread_counts(max_memory),
            )
            run_jobs(runner, large.others(), files, notify)
            large.run(sharing.claim)
            began = perf_counter()
            todo = sharing.after_others(notify)
            waits += large.waits + Waits(perf_counter() - began, 0.0)
            before = _sum(before, large.state)
            if made_elsewhere:  # since the last state was reported
                listen(Progress(0))
    return waits


def _sum(before: Progress, state: Progress) -> Progress:
    """Return the progress of a run that was in one state before, and has reached another one since."""
    return replace(state, **{name: getattr(before, name) + getattr(state, name) for name in _SUMS})
