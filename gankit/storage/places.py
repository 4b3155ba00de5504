"""Stand-ins for remote inputs: empty local files with the names of the objects, so that all rules for paths hold.

``gankit.pipeline.inputs`` finds the images among them and decides the names of the results, as for any folder. Texts
and reports that name a stand-in are changed to name the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from gankit.errors import ImageError, UsageError
from gankit.pipeline.report import ImageReport, Report
from gankit.storage.stores import Object, Remote
from gankit.storage.urls import as_path, folder_and_pattern, is_url, shown

_NO_NAMES = frozenset({"", ".", ".."})
_TOLD_BY_CONTENT = (".ts", ".mts")  # clips by their first bytes, or TypeScript
_HEAD = 8


@dataclass
class Places:
    """The stand-ins of one run.

    Attributes:
        folder: local folder for them.
        roots: local path and URL of each remote folder.
        objects: the object of each stand-in.
        unreadable: objects whose names no local file can have.
    """

    folder: Path
    roots: dict[Path, str] = field(default_factory=dict)
    objects: dict[Path, Object] = field(default_factory=dict)
    unreadable: list[ImageError] = field(default_factory=list)

    def stand_in(self, url: str) -> Path:
        """List a URL, and return the file, folder or pattern that stands for it.

        Raises:
            UsageError: If it cannot be listed, or holds nothing.
        """
        root, pattern = folder_and_pattern(url)
        root = root.rstrip("/")
        store = Remote(root)
        found = store.objects()
        if not found:
            raise UsageError(f"{url}: no such object or folder")
        local = self.folder / "in" / str(len(self.roots)) / root.rpartition("/")[2]
        if [item.name for item in found] == [""]:
            local.parent.mkdir(parents=True)
            local.touch()
            self.objects[local] = found[0]
        else:
            local.mkdir(parents=True)
            for item in found:
                self._touch(local, store, item)
        self.roots[local] = root
        return local if pattern is None else local / pattern

    def _touch(self, local: Path, store: Remote, item: Object) -> None:
        path = local / item.name
        if item.name == "" or item.name.endswith("/"):
            return  # a marker of an empty folder
        try:
            if _NO_NAMES & set(item.name.split("/")):
                raise OSError
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                if path.suffix.lower() in _TOLD_BY_CONTENT:
                    file.write(store.head(item.name, _HEAD))
        except (OSError, ValueError):
            reason = "the name of this object cannot be that of a file; copy it to another name"
            self.unreadable.append(ImageError(shown(store.place(item.name)), reason))
            return
        self.objects[path] = item

    def output(self, url: str, *, file: bool = False) -> Path:
        """Return the folder, or the file, that stands for the output. It is inside that of an input if the URL is."""
        url = url.rstrip("/")
        if file:
            folder, _, name = url.rpartition("/")
            if folder.endswith(":/"):
                raise UsageError(f"{url}: names no file in a bucket or folder; use another --output")
            return self.output(folder) / name
        for local, root in self.roots.items():
            if local.is_dir() and (url == root or url.startswith(f"{root}/")):
                return local / PurePosixPath(url[len(root) :].lstrip("/"))
        local = self.folder / "out"
        self.roots[local] = url
        return local

    def text(self, line: str) -> str:
        """Replace the paths of stand-ins in a line by URLs."""
        for local, root in self.roots.items():
            line = line.replace(str(local), root)
        return line

    def place(self, path: Path) -> str:
        """Return the path or URL of a file that may be a stand-in."""
        for local, root in self.roots.items():
            if path == local or path.is_relative_to(local):
                name = path.relative_to(local).as_posix()
                return root if name == "." else f"{root}/{name}"
        return str(path)

    def report(self, report: ImageReport) -> ImageReport:
        """Return the report of an image with its places in place of the stand-ins."""
        return replace(
            report,
            source=shown(self.place(report.source)),
            target=shown(self.place(report.target)),
            error=None if report.error is None else self.text(report.error),
            notes=tuple(map(self.text, report.notes)),
        )

    def whole_report(self, report: Report) -> Report:
        """Return the report of a run with its places in place of the stand-ins."""
        changes: dict[str, Any] = {
            name: tuple(shown(self.place(path)) for path in value)
            for name, value in vars(report).items()
            if isinstance(value, tuple) and value and all(isinstance(path, Path) for path in value)
        }
        return replace(report, images=tuple(map(self.report, report.images)), **changes)


def stand_ins(inputs: Sequence[str | Path], places: Places) -> list[str | Path]:
    """Return the inputs with a stand-in for each URL."""
    given = [as_path(item) for item in inputs]
    return [str(places.stand_in(item)) if isinstance(item, str) and is_url(item) else item for item in given]
