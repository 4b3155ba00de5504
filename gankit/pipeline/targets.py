"""Decide where each result of a run is written. Imports no torch.

The rules for targets are:

* Without an output folder, results are written beside their sources, with a mark in the name. The results of a folder
  go to ``folder+mark/``, and the result of a file goes to ``stem+mark.ext``. The mark is ``_x4`` for an upscaler of
  scale 4 and ``_translated`` for a translator.
* With an output folder, the result of a file goes to ``output/stem+suffix.ext``. A single input folder is mirrored in
  ``output``; each of several input folders gets a subfolder with its own name. A pattern is mirrored from its last
  folder without a wildcard.
* ``ext`` is the extension of ``format``. Without ``format`` it is the source's own extension, or ``.png`` if the
  source's format cannot be written, or is GIF. With ``format="same"`` it is that of the source also for GIF.
* Sources with the same stem that would share a target (``a.png`` and ``a.jpg`` with ``format="png"``) all get their own
  extension in the name: ``a_png.png`` and ``a_jpg.png``. A later run with one more source therefore never confuses
  their results.
* A source that is the target of another source is the result of an earlier run, and is skipped. This also holds if it
  is named, as the shell does for ``photos/*.png``. Only ``overwrite`` would replace such a file, and it is refused if
  the file is named.
* Results whose names differ only in case or Unicode normalisation (``A.png`` and ``a.png``) would replace each other on
  the disks of macOS and Windows. On every disk, the first keeps its name and the others get a number: ``a_2.png``.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from gankit.errors import UsageError
from gankit.pipeline.paths import place


@dataclass(frozen=True)
class Job:
    """One image to process: the source file and the target file."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Found:
    """A source and where its result goes.

    Attributes:
        source: the file.
        folder: folder of the result, relative to the output folder.
        named: whether the user named this file.
        root: folder that replaces the output folder if there is none.
        mark: text that follows the stem of the result.
    """

    source: Path
    folder: Path
    named: bool = False
    root: Path | None = None
    mark: str = ""


def comparison_of(target: Path) -> Path:
    """Return the file of the comparison beside a result."""
    return target.with_name(f"{target.stem}_compare.png")


def place_of(item: Found, target: Path) -> Path:
    """Return the place to report to the user: the folder for a whole input folder, or the file."""
    return target if item.mark or item.root is None else item.root / item.folder.parts[0]


def assign(
    found: Sequence[Found], output: Path, suffix: str, extension: str | None, *, same: bool = False
) -> tuple[list[Job], tuple[Job, ...]]:
    """Give each source its target.

    Args:
        found: the sources.
        output: folder for the results.
        suffix: text to add to each file name, before the extension.
        extension: extension of all results; ``None`` keeps that of each source.
        same: whether results keep the extension of a format that holds less than another one (GIF).

    Returns:
        The jobs in the order of the sources, and those among them whose target got a number.

    Raises:
        UsageError: If two sources of different folders have the same target.
    """
    from gankit.images import RESULT_SUFFIXES, writer_of

    def target(item: Found, stem: str) -> Path:
        own = RESULT_SUFFIXES.get(item.source.suffix.lower(), item.source.suffix)
        if same and writer_of(item.source.suffix) is not None:
            own = item.source.suffix
        return (item.root or output) / item.folder / f"{stem}{item.mark}{suffix}{extension or own}"

    groups: dict[Path, list[Found]] = defaultdict(list)
    for item in found:
        groups[target(item, item.source.stem)].append(item)
    jobs: dict[Path, Job] = {}
    for plain, items in groups.items():
        for item in items:
            stem = item.source.stem
            own = plain if len(items) == 1 else target(item, f"{stem}_{item.source.suffix[1:]}")
            if own in jobs:
                raise UsageError(
                    f"{jobs[own].source} and {item.source} would both become {own}; "
                    "rename one of them, or use another output for it"
                )
            jobs[own] = Job(item.source, own)
    order = {item.source: index for index, item in enumerate(found)}
    return _numbered(sorted(jobs.values(), key=lambda job: order[job.source]))


def _numbered(jobs: Sequence[Job]) -> tuple[list[Job], tuple[Job, ...]]:
    """Give a number to each target that differs from an earlier one only in case or Unicode normalisation."""
    taken: set[str] = set()
    later: set[Job] = set()
    for job in jobs:
        key = _folded(job.target)
        if key in taken:
            later.add(job)
        taken.add(key)
    if not later:
        return list(jobs), ()
    result, renamed = [], []
    for job in jobs:
        if job in later:
            number, target = 2, job.target
            while _folded(target) in taken:
                target = job.target.with_name(f"{job.target.stem}_{number}{job.target.suffix}")
                number += 1
            taken.add(_folded(target))
            job = Job(job.source, target)
            renamed.append(job)
        result.append(job)
    return result, tuple(renamed)


def _folded(path: str | Path) -> str:
    """Return the same text for all names that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(path)).casefold())


def without_results(jobs: Sequence[Job], kept: Container[Path]) -> list[Job]:
    """Remove the sources that are results or comparisons of an earlier run, except for those to keep."""
    makers = {place(comparison_of(job.target)): job for job in jobs}
    makers |= {place(job.target): job for job in jobs}
    return [job for job in jobs if job.source in kept or makers.get(place(job.source), job) is job]


def refuse_overwriting_sources(jobs: Sequence[Job]) -> None:
    """Check that no target is a source, also on a disk that ignores case.

    Raises:
        UsageError: If a result would replace a source.
    """
    sources = {_folded(os.path.realpath(job.source)): job.source for job in jobs}
    exact = {os.path.realpath(job.source): job.source for job in jobs}
    for job in jobs:
        real = os.path.realpath(job.target)
        hit = exact.get(real) or sources.get(_folded(real))
        if hit is not None and (real in exact or _same(hit, job.target)):
            raise UsageError(f"{hit}: the result of {job.source} would replace it; use another --output or --suffix")


def _same(source: Path, target: Path) -> bool:
    try:
        return os.path.samefile(source, target)  # noqa: PTH121
    except OSError:  # the target does not exist
        return False
