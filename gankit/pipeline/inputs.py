"""Which pictures a run takes, and where each result goes. Imports no torch.

The rules for targets, in full:

* A file goes to ``output/stem+suffix.ext``. One folder is mirrored under ``output``; of several folders each goes
  into a subfolder with its own name. A pattern is mirrored from its last folder without a wildcard.
* ``ext`` is that of ``format``, else the source's own, else ``.png`` where the source's cannot be written.
* Sources of one stem that would share a target (``a.png`` and ``a.jpg`` with ``format="png"``) all carry their
  own extension in the name: ``a_png.png`` and ``a_jpg.png``. All of them, so that a later run with one more
  source never takes the result of one for that of the other.
"""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gankit.errors import UsageError

_READ_ONLY = frozenset({".apng"})  # read as a PNG's first frame, written as a PNG


@dataclass(frozen=True)
class Job:
    """One picture to do: the file it comes from and the file it becomes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Inputs:
    """What was found.

    Attributes:
        jobs: one for each picture, in the order of the arguments, folders sorted.
        ignored: files in folders and patterns that are hidden or no pictures.
    """

    jobs: tuple[Job, ...]
    ignored: int


@dataclass(frozen=True)
class _Found:
    """A source, and the folder under the output that its result goes to."""

    source: Path
    folder: Path


class _Finder:
    """Walks files, folders and patterns once; keeps count of what it passes over."""

    def __init__(self, output: Path, suffix: str, readable: frozenset[str]) -> None:
        self.output = output.resolve()
        self.suffix = suffix
        self.readable = readable
        self.ignored = 0

    def is_picture(self, path: Path) -> bool:
        return path.suffix.lower() in self.readable

    def wanted(self, path: Path, root: Path) -> bool:
        """Whether a file met in a folder or pattern is taken; counts it where not."""
        # A result of an earlier run into the same folder is known by its suffix only.
        own_result = bool(self.suffix) and path.stem.endswith(self.suffix) and path.parent.resolve() == self.output
        if own_result:
            return False
        take = self.is_picture(path) and not any(part.startswith(".") for part in path.relative_to(root).parts)
        self.ignored += not take
        return take

    def is_output(self, folder: Path, root: Path) -> bool:
        """Whether ``folder`` is the output folder, lying inside the folder that is read."""
        return folder != root and folder.resolve() == self.output

    def walk(self, root: Path, prefix: Path) -> Iterator[_Found]:
        for here, folders, names in os.walk(root, onerror=_unreadable):
            folder = Path(here)
            folders[:] = sorted(
                name for name in folders if not name.startswith(".") and not self.is_output(folder / name, root)
            )
            for name in sorted(names):
                path = folder / name
                if self.wanted(path, root):
                    yield _Found(path, prefix / folder.relative_to(root))

    def match(self, pattern: str) -> Iterator[_Found]:
        root = _fixed_part(pattern)
        matches = sorted(Path(name) for name in glob.iglob(pattern, recursive=True))  # noqa: PTH207 - of any root
        if not matches:
            raise UsageError(f"{pattern}: no file matches")
        for path in matches:
            inside = [root, *(root / part for part in _parents_below(path, root))]
            if any(self.is_output(folder, root) for folder in inside):
                continue
            if path.is_dir():
                if not self.is_output(path, root):
                    yield from self.walk(path, path.relative_to(root))
            elif self.wanted(path, root):
                yield _Found(path, path.parent.relative_to(root))


def collect(inputs: Sequence[str | Path], output: str | Path, *, suffix: str = "", format: str | None = None) -> Inputs:
    """Find the pictures and give each its target.

    Args:
        inputs: files, folders (recursive) and patterns (``**`` goes through folders).
        output: folder of the results; need not exist. Where it lies inside an input folder it is not read.
        suffix: added to each name, before the extension.
        format: name of the format of all results; ``None`` keeps each source's own.

    Returns:
        The jobs, at least one.

    Raises:
        UsageError: a path or pattern that finds nothing, a named file that is no picture, nothing to do at all, an
            unknown format, two sources with one target, or a target that is one of the sources.
    """
    from gankit.images import FORMATS, SUFFIXES

    if not inputs:
        raise UsageError("no input: give files, folders or patterns")
    extension = None
    if format is not None:
        if format.lower() not in FORMATS:
            raise UsageError(f"unknown format '{format}': known are {', '.join(sorted(FORMATS))}")
        extension = FORMATS[format.lower()]
    if "/" in suffix or os.sep in suffix or "\0" in suffix:
        raise UsageError(f"suffix '{suffix}' must not name a folder")
    output = Path(output)
    finder = _Finder(output, suffix, SUFFIXES)
    found = _unique(_find(finder, inputs))
    if not found:
        places = ", ".join(str(path) for path in inputs)
        raise UsageError(f"{places}: no pictures found (read are {', '.join(sorted(SUFFIXES))})")
    jobs = _targets(found, output, suffix, extension)
    _refuse_overwriting_sources(jobs)
    return Inputs(tuple(jobs), finder.ignored)


def _find(finder: _Finder, inputs: Sequence[str | Path]) -> Iterator[_Found]:
    folders = sum(Path(path).is_dir() for path in inputs)
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            # "." and ".." have a name only when resolved
            yield from finder.walk(path, Path(path.resolve().name) if folders > 1 else Path())
        elif path.exists():
            if not finder.is_picture(path):
                known = ", ".join(sorted(finder.readable))
                raise UsageError(f"{path}: not a picture by its name (read are {known})")
            yield _Found(path, Path())
        elif glob.has_magic(str(given)):
            yield from finder.match(os.path.expanduser(str(given)))  # noqa: PTH111 - a pattern is no path
        else:
            raise UsageError(f"{path}: no such file or folder")


def _unique(found: Iterable[_Found]) -> list[_Found]:
    """Each source once, as it was met first."""
    seen: dict[Path, _Found] = {}
    for item in found:
        seen.setdefault(item.source.resolve(), item)
    return list(seen.values())


def _targets(found: Sequence[_Found], output: Path, suffix: str, extension: str | None) -> list[Job]:
    def target(item: _Found, stem: str) -> Path:
        own = ".png" if item.source.suffix.lower() in _READ_ONLY else item.source.suffix
        return output / item.folder / f"{stem}{suffix}{extension or own}"

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
                    f"{jobs[place].source} and {item.source} would both become {place}: "
                    "give their common folder, or run them with different outputs"
                )
            jobs[place] = Job(item.source, place)
    order = {item.source: index for index, item in enumerate(found)}
    return sorted(jobs.values(), key=lambda job: order[job.source])


def _refuse_overwriting_sources(jobs: Sequence[Job]) -> None:
    sources = {job.source.resolve(): job.source for job in jobs}
    for job in jobs:
        hit = sources.get(job.target.resolve())
        if hit is not None:
            raise UsageError(f"{hit}: the result of {job.source} would replace it: give another output, or a suffix")


def _fixed_part(pattern: str) -> Path:
    """The folder of a pattern before its first wildcard."""
    fixed: list[str] = []
    for part in Path(pattern).parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)


def _parents_below(path: Path, root: Path) -> list[Path]:
    """The folders between ``root`` and ``path``, relative to ``root``."""
    return [parent for parent in path.relative_to(root).parents if parent != Path()]


def _unreadable(error: OSError) -> None:
    raise UsageError(f"{error.filename}: cannot be read: {error.strerror}")
