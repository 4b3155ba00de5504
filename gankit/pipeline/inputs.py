"""Find the images of a run. ``gankit.pipeline.targets`` decides where each result is written. Imports no torch.

Hidden files and folders, and ``__MACOSX`` (which the archives of macOS contain), are no inputs unless the user names
them.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path

from gankit_export.files import PARTIAL

from gankit.errors import ImageError, UsageError
from gankit.pipeline.journal import NAME as JOURNAL
from gankit.pipeline.paths import exists, is_folder, place, why_not
from gankit.pipeline.targets import Found, Job, assign, place_of, refuse_overwriting_sources, without_results

SAME = "same"
"""The format of results that have the format of their source."""


class NoInputError(UsageError):
    """The inputs hold no image."""


@dataclass(frozen=True)
class Inputs:
    """The images that were found.

    Attributes:
        jobs: one job for each image, in the order of the arguments. Folders are sorted.
        ignored: number of files that are hidden or not images, and of links to folders, which are not followed.
        unreadable: errors of subfolders that could not be listed.
        results: images that are the target of a job and therefore not sources.
        places: the folders and files to which results go if there is no output folder.
        unread: images of formats that gankit does not read, by the name of the format.
        other: jobs whose result has another format than the source, though the user asked for the same.
        renamed: jobs whose result gets another name than usual, because on a disk that ignores case or Unicode
            normalisation it would replace another result.
        ignored_files: the files that ``ignored`` counts.
    """

    jobs: tuple[Job, ...]
    ignored: int
    unreadable: tuple[ImageError, ...]
    results: tuple[Path, ...] = ()
    places: tuple[Path, ...] = ()
    unread: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    renamed: tuple[Job, ...] = ()
    other: tuple[Job, ...] = ()
    ignored_files: tuple[Path, ...] = ()


class _Finder:
    """Walks folders and patterns. Records which files it ignores and which folders it cannot list."""

    def __init__(self, output: str | Path | None, readable: frozenset[str]) -> None:
        self.output = None if output is None else os.path.realpath(output)
        self.readable = readable
        self.ignored: dict[str, Path] = {}
        self.unread: dict[str, Path] = {}
        self.unreadable: dict[str, ImageError] = {}

    def is_image(self, path: Path) -> bool:
        return path.suffix.lower() in self.readable

    def ignore(self, path: Path) -> None:
        """Record a file that is no input: as ignored, or as an image of a format that gankit does not read."""
        from gankit.images import UNREAD

        if path.name == JOURNAL or PARTIAL.fullmatch(path.name):
            return  # gankit's own
        if path.suffix.lower() in UNREAD and not _hidden(path.name):
            self.unread.setdefault(place(path), path)
        else:
            self.ignored.setdefault(place(path), path)

    def unread_by_kind(self) -> dict[str, tuple[Path, ...]]:
        """Return the images of formats that gankit does not read, by the name of the format."""
        from gankit.images import UNREAD

        kinds: dict[str, tuple[Path, ...]] = {}
        for path in self.unread.values():
            kind = UNREAD[path.suffix.lower()]
            kinds[kind] = (*kinds.get(kind, ()), path)
        return kinds

    def wanted(self, path: Path) -> bool:
        """Whether to process a file from a folder or pattern; otherwise records it as ignored."""
        take = self.is_image(path) and not _hidden(path.name)
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
        folders = [name for name in sorted(real) if real[name] and not _hidden(name)]
        files = [name for name in sorted(real) if not real[name]]
        return [name for name in folders if os.path.realpath(folder / name) != self.output], files

    def walk(self, top: Path, root: Path, prefix: Path) -> Iterator[Found]:
        """Yield the images in ``top`` and below. The user named ``root``, and ``prefix`` mirrors ``top``."""
        waiting = [(top, prefix)]
        while waiting:
            folder, mirrored = waiting.pop()
            folders, files = self.listing(folder, root)
            for name in files:
                if self.wanted(folder / name):
                    yield Found(folder / name, mirrored)
            waiting += [(folder / name, mirrored / name) for name in reversed(folders)]

    def match(self, pattern: str) -> Iterator[Found]:
        """Yield the images that match a pattern, and those in the folders that match it."""
        root = _fixed_part(pattern)
        paths = sorted(self.expand(root, Path(pattern).parts[len(root.parts) :])) if is_folder(root) else []
        if not paths and not self.unreadable:
            raise UsageError(f"{pattern}: no file matches this pattern")
        for path, whole in paths:
            if whole:
                yield from self.walk(path, root, path.relative_to(root))
            elif self.wanted(path):
                yield Found(path, path.parent.relative_to(root))

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
    readable: frozenset[str] | None = None,
) -> Inputs:
    """Find the images and decide the target of each.

    Args:
        inputs: files, folders (with their subfolders) and patterns (``**`` matches subfolders). Links to folders are
            followed only if they are named.
        output: folder for the results, which need not exist. It is not read if it is inside an input folder. ``None``
            writes the results beside their sources.
        suffix: text to add to each file name, before the extension.
        format: file format of all results; ``None`` keeps the format of each source, except for GIF, whose results are
            PNG, and ``"same"`` keeps it for all that gankit writes.
        overwrite: whether existing targets will be replaced.
        mark: text that distinguishes results from their sources if there is no output folder.
        readable: extensions of the files to find, in lower case; ``None`` finds images.

    Returns:
        The jobs, at least one.

    Raises:
        NoInputError: If there are no images at all.
        UsageError: If a name is empty, a path or pattern finds nothing, a named folder cannot be listed, the only
            input is not an image, the format is unknown, two sources have the same target,
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
    if len(inputs) > 1:  # the shell expands photos/* to all but hidden names
        inputs = [given for given in inputs if Path(given).name != "__MACOSX"] or inputs
    finder = _Finder(output, SUFFIXES if readable is None else readable)
    found = _unique(_find(finder, inputs) if output is not None else _find_beside(finder, inputs, mark))
    unreadable, unread = tuple(finder.unreadable.values()), finder.unread_by_kind()
    if not found:
        if unreadable:
            raise NoInputError(str(unreadable[0]))
        if unread:
            raise NoInputError("; ".join(unread_message(kind, paths) for kind, paths in unread.items()))
        places = ", ".join(str(path) for path in inputs)
        raise NoInputError(f"{places}: no images found; gankit reads {', '.join(sorted(SUFFIXES))}")
    same = format is not None and format.lower() == SAME
    every, renamed = assign(found, Path() if output is None else Path(output), suffix, extension, same=same)
    jobs = without_results(every, {item.source for item in found if item.named and overwrite})
    refuse_overwriting_sources(jobs)
    sources = frozenset(jobs)
    results = tuple(job.source for job in every if job not in sources)
    beside = {item.source: item for item in found if item.root is not None}
    shown = dict.fromkeys(place_of(beside[job.source], job.target) for job in every if job.source in beside)
    kept = tuple(job for job in renamed if job in sources)
    other = tuple(job for job in jobs if same and _other_format(job))
    ignored = tuple(finder.ignored.values())
    return Inputs(tuple(jobs), len(ignored), unreadable, results, tuple(shown), unread, kept, other, ignored)


def _other_format(job: Job) -> bool:
    """Whether the extensions of a source and its result are those of different formats."""
    from gankit.images.formats import REGISTRY

    suffix, target = job.source.suffix.lower(), job.target.suffix.lower()
    return not any({suffix, target} <= {*each.suffixes, *each.read_only} for each in REGISTRY)


def unread_message(kind: str, paths: Sequence[Path]) -> str:
    """Return one line that names images of a format that gankit does not read, and what to do."""
    article = "an" if kind == "SVG" else "a"
    what = f"is {article} {kind} image"
    if len(paths) > 1:
        what = f"and {len(paths) - 1} more are {kind} images"
    return f"{paths[0]} {what}, which gankit does not read; convert to PNG, TIFF or JPEG first"


def _hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's images: hidden (``._a.png``), or made by macOS's archiver."""
    return name.startswith(".") or name == "__MACOSX"


def _extension(format: str | None) -> str | None:
    from gankit.images import FORMATS

    if format is None or format.lower() == SAME:
        return None
    if format.lower() not in FORMATS:
        raise UsageError(f"unknown format '{format}'; choose from {', '.join(sorted(FORMATS))} or {SAME}")
    return FORMATS[format.lower()]


def _find(finder: _Finder, inputs: Sequence[str | Path]) -> Iterator[Found]:
    from gankit.images import UNREAD

    folders = sum(is_folder(path) for path in inputs)
    for given in inputs:
        path = Path(given)
        if is_folder(path):
            # "." and ".." have a name only after they are resolved
            prefix = Path(Path(os.path.realpath(path)).name) if folders > 1 else Path()
            yield from finder.walk(path, path, prefix)
        elif exists(path):
            if finder.is_image(path):
                yield Found(path, Path(), named=True)
            elif len(inputs) > 1:
                finder.ignore(path)  # the shell expands photos/* to all files
            elif path.suffix.lower() in UNREAD:
                raise UsageError(unread_message(UNREAD[path.suffix.lower()], [path]))
            else:
                known = ", ".join(sorted(finder.readable))
                raise UsageError(f"{path}: the extension is not that of an image; gankit reads {known}")
        elif glob.has_magic(str(given)):
            yield from finder.match(os.path.expanduser(str(given)))  # noqa: PTH111 - a pattern is no path
        else:
            raise UsageError(f"{path}: {why_not(path)}")


def _find_beside(finder: _Finder, inputs: Sequence[str | Path], mark: str) -> Iterator[Found]:
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


def _unique(found: Iterable[Found]) -> list[Found]:
    """Return each source once, as found first, and as named if the user named it at all."""
    seen: dict[str, Found] = {}
    for item in found:
        first = seen.setdefault(place(item.source), item)
        if item.named and not first.named:
            seen[place(item.source)] = replace(first, named=True)
    return list(seen.values())


def _fixed_part(pattern: str) -> Path:
    """Return the part of a pattern before its first wildcard."""
    fixed: list[str] = []
    for part in Path(pattern).parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)
