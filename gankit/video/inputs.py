"""Find the clips among the inputs of a run, and decide where each result is written. Imports neither PyAV nor torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gankit.errors import UsageError
from gankit.pipeline.inputs import Inputs, NoInputError, collect
from gankit.pipeline.paths import exists, is_folder
from gankit.pipeline.run_options import RunOptions
from gankit.pipeline.targets import Job, refuse_overwriting_sources
from gankit.video.library import MISSING, is_installed
from gankit.video.options import VIDEO_SUFFIXES, WRITTEN

_SYNC = b"\x47"  # of each packet of an MPEG transport stream
OTHER = ".mkv"  # of the results of containers that are not written


@dataclass(frozen=True)
class Clips:
    """The clips of a run.

    Attributes:
        found: the clips; ``None`` if there are none.
        others: the inputs without the clips that the user named, which may hold images.
        named: whether the user named a clip.
        in_folders: number of clips that were found in folders and by patterns.
    """

    found: Inputs | None
    others: tuple[str | Path, ...]
    named: bool = False
    in_folders: int = 0


def find_clips(
    inputs: Sequence[str | Path] | str | Path, output: str | Path | None, options: RunOptions, mark: str
) -> Clips:
    """Find the clips.

    Args:
        inputs: files, folders and patterns, as for :func:`gankit.pipeline.inputs.collect`.
        output: folder for the results, or the result itself if there is one clip and the name ends like that of a clip.
        options: the options of the run.
        mark: text that distinguishes results from their sources if there is no output folder.

    Raises:
        UsageError: As :func:`~gankit.pipeline.inputs.collect` does, and if the output is a file that cannot be written.
    """
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    named = [path for path in given if is_clip(path)]
    others = tuple(path for path in given if path not in named)
    file = output_file(output)
    if file is not None and named:
        return Clips(_one(given, file), others, named=True)
    searched = [*named, *(path for path in others if is_folder(path) or not exists(path))]
    if not searched or "" in given:
        return Clips(None, others)
    named_places = {Path(path) for path in named}
    try:
        found = collect(
            searched,
            output,
            suffix=options.suffix,
            overwrite=options.overwrite,
            mark="" if output is not None else mark,
            readable=VIDEO_SUFFIXES,
        )
    except NoInputError:
        return Clips(None, others)
    jobs = _writable([job for job in found.jobs if job.source in named_places or _is_video(job.source)])
    if not jobs:
        return Clips(None, others)
    refuse_overwriting_sources(jobs)
    beside = [*(job.source for job in jobs), *found.results]
    in_folders = sum(source not in named_places for source in beside)
    return Clips(replace(found, jobs=tuple(jobs), unread={}), others, bool(named), in_folders)


def find_processed(
    inputs: Sequence[str | Path] | str | Path,
    output: str | Path | None,
    options: RunOptions,
    mark: str,
    notify: Callable[[str], None] | None,
) -> Clips:
    """Find the clips, and leave out those in folders if PyAV is not installed, which a line says.

    Args:
        inputs: as for :func:`find_clips`, as are the other arguments.
        output: see there.
        options: see there.
        mark: see there.
        notify: called with a line to report to the user.

    Raises:
        UsageError: As for :func:`find_clips`, and if PyAV is not installed and a clip is named.
    """
    clips = find_clips(inputs, output, options, mark)
    if clips.found is None or is_installed():
        return clips
    first = clips.found.jobs[0].source
    if clips.named:
        raise UsageError(f"{first}: {MISSING}")
    if notify is not None:
        more = f" and {len(clips.found.jobs) - 1} more clips are" if len(clips.found.jobs) > 1 else " is"
        notify(f"{first}{more} not processed: {MISSING}")
    return Clips(None, clips.others)


def joined(images: Inputs | None, clips: Clips) -> Inputs:
    """Return the images and the clips of a run, of which those in folders are no ignored files.

    Args:
        images: the images; ``None`` if there are none, and then there are clips.
        clips: the clips.
    """
    found = clips.found
    if images is None or found is None:
        return images or found or Inputs((), 0, ())
    beside = {*(job.source for job in found.jobs), *found.results}
    return replace(
        images,
        jobs=(*images.jobs, *found.jobs),
        ignored=max(0, images.ignored - clips.in_folders),
        ignored_files=tuple(path for path in images.ignored_files if path not in beside),
        results=(*images.results, *found.results),
        places=(*images.places, *(path for path in found.places if path.suffix)),
        renamed=(*images.renamed, *found.renamed),
    )


def is_clip(path: str | Path) -> bool:
    """Whether a path names a file that is taken for a clip."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES and exists(path) and not is_folder(path)


def _is_video(path: Path) -> bool:
    """Whether a file in a folder may be a clip: ``.ts`` and ``.mts`` are extensions of TypeScript, too."""
    if path.suffix.lower() not in (".ts", ".mts"):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(5)
    except OSError:
        return True  # reported when it is opened
    return _SYNC in (head[:1], head[4:5])  # with 4 bytes of time in front, as cameras write it


def output_file(output: str | Path | None) -> Path | None:
    """Return the result that the user named as the output; ``None`` if the output is a folder.

    Raises:
        UsageError: If it is a file of a container that is not written.
    """
    if output is None or is_folder(output) or Path(output).suffix.lower() not in VIDEO_SUFFIXES:
        return None
    file = Path(output)
    if file.suffix.lower() not in WRITTEN:
        raise UsageError(f"{file}: clips are written as {', '.join(sorted(WRITTEN))}; use another --output")
    return file


def _one(inputs: Sequence[str | Path], file: Path) -> Inputs:
    if len(inputs) > 1:
        raise UsageError(f"--output {file} names a file, but there are {len(inputs)} inputs; use a folder")
    jobs = (Job(Path(inputs[0]), file),)
    refuse_overwriting_sources(jobs)
    return Inputs(jobs, 0, ())


def _writable(jobs: Sequence[Job]) -> list[Job]:
    """Give results of containers that are not written another extension, and a name of their own."""
    taken = {job.target for job in jobs}
    result = []
    for job in jobs:
        if job.target.suffix.lower() not in WRITTEN:
            target = job.target.with_suffix(OTHER)
            if target in taken:
                target = job.target.with_name(f"{job.target.stem}_{job.target.suffix[1:]}{OTHER}")
            taken.add(target)
            job = Job(job.source, target)
        result.append(job)
    return result
