"""Find the images of a run, and decide where each result is written. Imports no torch.

The rules for targets are:

* Without an output folder, results are written beside their sources, with a mark in the name. The results of a folder
  go to ``folder+mark/``, and the result of a file goes to ``stem+mark.ext``. The mark is ``_x4`` for an upscaler of
  scale 4 and ``_translated`` for a translator.
* With an output folder, the result of a file goes to ``output/stem+suffix.ext``. A single input folder is mirrored in
  ``output``; each of several input folders gets a subfolder with its own name. A pattern is mirrored from its last
  folder without a wildcard.
* ``ext`` is the extension of ``format``. Without ``format`` it is the source's own extension, or ``.png`` if the
  source's format cannot be written.
* Sources with the same stem that would share a target (``a.png`` and ``a.jpg`` with ``format="png"``) all get their own
  extension in the name: ``a_png.png`` and ``a_jpg.png``. A later run with one more source therefore never confuses
  their results.
* A source that is the target of another source is the result of an earlier run, and is skipped. This also holds if it
  is named, as the shell does for ``photos/*.png``. Only ``overwrite`` would replace such a file, and it is refused if
  the file is named.
"""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

from gankit.errors import ImageError, UsageError
from gankit.pipeline.paths import exists, is_folder, place, why_not


@dataclass(frozen=True)
class Job:
    """One image to process: the source file and the target file."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Inputs:
    """The images that were found.

    Attributes:
        jobs: one job for each image, in the order of the arguments. Folders are sorted.
        ignored: number of files that are hidden or not images, and of links to folders, which are not followed.
        unreadable: errors of subfolders that could not be listed.
        results: images that are the target of a job and therefore not sources.
        places: the folders and files to which results go if there is no output folder.
    """

    jobs: tuple[Job, ...]
    ignored: int
    unreadable: tuple[ImageError, ...]
    results: tuple[Path, ...] = ()
    places: tuple[Path, ...] = ()


@dataclass(frozen=True)
class _Found:
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


class _Finder:
    """Walks folders and patterns. Records which files it ignores and which folders it cannot list."""

    def __init__(self, output: str | Path | None, readable: frozenset[str]) -> None:
        self.output = None if output is None else os.path.realpath(output)
        self.readable = readable
        self.ignored: set[str] = set()
        self.unreadable: dict[str, ImageError] = {}

    def is_image(self, path: Path) -> bool:
        return path.suffix.lower() in self.readable

    def ignore(self, path: Path) -> None:
        self.ignored.add(place(path))

    def wanted(self, path: Path) -> bool:
        """Whether to process a file from a folder or pattern; otherwise records it as ignored."""
        take = self.is_image(path) and not path.name.startswith(".")
        if not take:
            self.ignore(path)
        return take

    def listing(self, folder: Path, root: Path) -> tuple[list[str], list[str]]:
        """Return the sorted names of the folders to enter and of the files, without hidden folders and the output.

        A link to a folder counts as a file that is not an image, because following it could lead in circles.
        """
        try:
            with os.scandir(folder) as entries:
                real = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            if folder == root:
                raise UsageError(f"{folder}: {reason}") from None
            self.unreadable.setdefault(place(folder), ImageError(folder, reason))
            return [], []
        folders = [name for name in sorted(real) if real[name] and not name.startswith(".")]
        files = [name for name in sorted(real) if not real[name]]
        return [name for name in folders if os.path.realpath(folder / name) != self.output], files

    def walk(self, top: Path, root: Path, prefix: Path) -> Iterator[_Found]:
        """Yield the images in ``top`` and below. The user named ``root``, and ``prefix`` mirrors ``top``."""
        waiting = [(top, prefix)]
        while waiting:
            folder, mirrored = waiting.pop()
            folders, files = self.listing(folder, root)
            for name in files:
                if self.wanted(folder / name):
                    yield _Found(folder / name, mirrored)
            waiting += [(folder / name, mirrored / name) for name in reversed(folders)]

    def match(self, pattern: str) -> Iterator[_Found]:
        """Yield the images that match a pattern, and those in the folders that match it."""
        root = _fixed_part(pattern)
        paths = sorted(self.expand(root, Path(pattern).parts[len(root.parts) :])) if is_folder(root) else []
        if not paths and not self.unreadable:
            raise UsageError(f"{pattern}: no file matches this pattern")
        for path, whole in paths:
            if whole:
                yield from self.walk(path, root, path.relative_to(root))
            elif self.wanted(path):
                yield _Found(path, path.parent.relative_to(root))

    def expand(self, root: Path, parts: Sequence[str]) -> set[tuple[Path, bool]]:
        """Return the matches below ``root``, and whether each is a folder. Unlike ``glob``, follow no links."""
        found: set[tuple[Path, bool]] = set()
        seen: set[tuple[Path, tuple[str, ...]]] = set()
        waiting = [(root, tuple(parts))]
        while waiting:
            folder, left = waiting.pop()
            if (folder, left) in seen:
                continue
            seen.add((folder, left))
            head, rest = left[0], left[1:]
            if left == ("**",):
                found.add((folder, True))
                continue
            folders, files = self.listing(folder, root)
            if head == "**":
                waiting += [(folder, rest), *((folder / name, left) for name in folders)]
            elif rest:
                waiting += [(folder / name, rest) for name in folders if fnmatch(name, head)]
            else:
                shown = [name for name in files if not name.startswith(".") or head.startswith(".")]
                found |= {(folder / name, True) for name in folders if fnmatch(name, head)}
                found |= {(folder / name, False) for name in shown if fnmatch(name, head)}
        return found


def collect(
    inputs: Sequence[str | Path],
    output: str | Path | None,
    *,
    suffix: str = "",
    format: str | None = None,
    overwrite: bool = False,
    mark: str = "",
) -> Inputs:
    """Find the images and decide the target of each.

    Args:
        inputs: files, folders (with their subfolders) and patterns (``**`` matches subfolders). Links to folders are
            followed only if they are named.
        output: folder for the results, which need not exist. It is not read if it is inside an input folder. ``None``
            writes the results beside their sources.
        suffix: text to add to each file name, before the extension.
        format: file format of all results; ``None`` keeps the format of each source.
        overwrite: whether existing targets will be replaced.
        mark: text that distinguishes results from their sources if there is no output folder.

    Returns:
        The jobs, at least one.

    Raises:
        UsageError: If a name is empty, a path or pattern finds nothing, a named folder cannot be listed, the only
            input is not an image, there are no images at all, the format is unknown, two sources have the same target,
            or a target is its own source or, with ``overwrite``, another named source.
    """
    from gankit.images import SUFFIXES

    if not inputs:
        raise UsageError("no input; name files, folders or patterns")
    if "" in inputs or output == "":
        raise UsageError("an input or the output is an empty name; use '.' for the current folder")
    if "/" in suffix or os.sep in suffix or "\0" in suffix:
        raise UsageError(f"suffix '{suffix}' must not contain a folder")
    extension = _extension(format)
    finder = _Finder(output, SUFFIXES)
    found = _unique(_find(finder, inputs) if output is not None else _find_beside(finder, inputs, mark))
    unreadable = tuple(finder.unreadable.values())
    if not found:
        if unreadable:
            raise UsageError(str(unreadable[0]))
        places = ", ".join(str(path) for path in inputs)
        raise UsageError(f"{places}: no images found; gankit reads {', '.join(sorted(SUFFIXES))}")
    every = _targets(found, Path() if output is None else Path(output), suffix, extension)
    jobs = _without_results(every, {item.source for item in found if item.named and overwrite})
    _refuse_overwriting_sources(jobs)
    sources = frozenset(jobs)
    results = tuple(job.source for job in every if job not in sources)
    beside = {item.source: item for item in found if item.root is not None}
    shown = [_place(beside[job.source], job.target) for job in every if job.source in beside]
    return Inputs(tuple(jobs), len(finder.ignored), unreadable, results, tuple(dict.fromkeys(shown)))


def _extension(format: str | None) -> str | None:
    from gankit.images import FORMATS

    if format is None:
        return None
    if format.lower() not in FORMATS:
        raise UsageError(f"unknown format '{format}'; choose from {', '.join(sorted(FORMATS))}")
    return FORMATS[format.lower()]


def _find(finder: _Finder, inputs: Sequence[str | Path]) -> Iterator[_Found]:
    folders = sum(is_folder(path) for path in inputs)
    for given in inputs:
        path = Path(given)
        if is_folder(path):
            # "." and ".." have a name only after they are resolved
            prefix = Path(Path(os.path.realpath(path)).name) if folders > 1 else Path()
            yield from finder.walk(path, path, prefix)
        elif exists(path):
            if finder.is_image(path):
                yield _Found(path, Path(), named=True)
            elif len(inputs) > 1:
                finder.ignore(path)  # the shell expands photos/* to all files
            else:
                known = ", ".join(sorted(finder.readable))
                raise UsageError(f"{path}: the extension is not that of an image; gankit reads {known}")
        elif glob.has_magic(str(given)):
            yield from finder.match(os.path.expanduser(str(given)))  # noqa: PTH111 - a pattern is no path
        else:
            raise UsageError(f"{path}: {why_not(path)}")


def _find_beside(finder: _Finder, inputs: Sequence[str | Path], mark: str) -> Iterator[_Found]:
    """Like :func:`_find`, but with results beside their sources."""
    for given in inputs:
        path = Path(given)
        if not is_folder(path):
            several = (
                [given, given] if len(inputs) > 1 else [given]
            )  # with several inputs, a file that is not an image is ignored
            for item in _unique(_find(finder, several)):
                yield replace(item, folder=Path(), root=item.source.parent, mark=mark)
            continue
        named = path if path.name not in ("", "..") else Path(os.path.realpath(path))
        for item in finder.walk(path, path, Path(f"{named.name}{mark}")):
            yield replace(item, root=named.parent)


def _place(item: _Found, target: Path) -> Path:
    """Return the place to report to the user: the folder for a whole input folder, or the file."""
    return target if item.mark or item.root is None else item.root / item.folder.parts[0]


def _unique(found: Iterable[_Found]) -> list[_Found]:
    """Return each source once, as found first, and as named if the user named it at all."""
    seen: dict[str, _Found] = {}
    for item in found:
        first = seen.setdefault(place(item.source), item)
        if item.named and not first.named:
            seen[place(item.source)] = replace(first, named=True)
    return list(seen.values())


def _targets(found: Sequence[_Found], output: Path, suffix: str, extension: str | None) -> list[Job]:
    from gankit.images import READ_ONLY

    def target(item: _Found, stem: str) -> Path:
        own = READ_ONLY.get(item.source.suffix.lower(), item.source.suffix)
        return (item.root or output) / item.folder / f"{stem}{item.mark}{suffix}{extension or own}"

    groups: dict[Path, list[_Found]] = defaultdict(list)
    for item in found:
        groups[target(item, item.source.stem)].append(item)
    jobs: dict[Path, Job] = {}
    for plain, items in groups.items():
        for item in items:
            stem = item.source.stem
            place = plain if len(items) == 1 else target(item, f"{stem}_{item.source.suffix[1:]}")
            if place in jobs:
                raise UsageError(
                    f"{jobs[place].source} and {item.source} would both become {place}; "
                    "rename one of them, or use another output for it"
                )
            jobs[place] = Job(item.source, place)
    order = {item.source: index for index, item in enumerate(found)}
    return sorted(jobs.values(), key=lambda job: order[job.source])


def _without_results(jobs: Sequence[Job], kept: Container[Path]) -> list[Job]:
    """Remove the sources that are results of an earlier run, except for those to keep."""
    makers = {place(job.target): job for job in jobs}
    return [job for job in jobs if job.source in kept or makers.get(place(job.source), job) is job]


def _refuse_overwriting_sources(jobs: Sequence[Job]) -> None:
    sources = {os.path.realpath(job.source): job.source for job in jobs}
    for job in jobs:
        hit = sources.get(os.path.realpath(job.target))
        if hit is not None:
            raise UsageError(f"{hit}: the result of {job.source} would replace it; use another --output or --suffix")


def _fixed_part(pattern: str) -> Path:
    """Return the part of a pattern before its first wildcard."""
    fixed: list[str] = []
    for part in Path(pattern).parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)
