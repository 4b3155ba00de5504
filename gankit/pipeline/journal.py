"""The journal of a folder of results: which source, weights and options made each of them. Imports no torch.

The journal is ``.gankit.jsonl`` in the folder of the results, with one JSON object a line. One line is appended before
a result is written and one after it, each in a single write. A killed run therefore leaves a readable journal, at worst
with an incomplete last line, which is ignored. When lines that no longer matter outnumber the others, the file is
rewritten. It is locked for each of these, because several runs may write to it at the same time.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from gankit_export.files import append_bytes, atomic_path

from gankit.errors import OutputError
from gankit.pipeline.byte_locks import whole

NAME = ".gankit.jsonl"
_ROUNDING_NS = 2_000_000_000  # FAT and some network file systems store even seconds
_SPARE_LINES = 64


@dataclass(frozen=True)
class State:
    """Size in bytes and modification time in nanoseconds of a file."""

    size: int
    mtime_ns: int

    def near(self, other: State | None) -> bool:
        """Whether the size is equal, and the time too as far as any file system stores it."""
        return other is not None and self.size == other.size and abs(self.mtime_ns - other.mtime_ns) <= _ROUNDING_NS


def state_of(path: str | Path) -> State | None:
    """Return the state of a file; ``None`` if it cannot be read."""
    try:
        found = os.stat(path)  # noqa: PTH116 - Path.stat is slower, and this runs for each result that is skipped
    except (OSError, ValueError):
        return None
    return State(found.st_size, found.st_mtime_ns)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, hexadecimal; empty if it cannot be read or is no regular file."""
    if not os.path.isfile(path):  # noqa: PTH113 - opening a pipe would wait for its writer
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


@dataclass(frozen=True)
class Entry:
    """One line of a journal.

    Attributes:
        result: file name of the result.
        source: absolute path of the source.
        source_state: state of the source when it was read.
        sha256: of the source, hexadecimal; empty if it changed while it was read.
        read: when the source was read, in seconds since the epoch.
        model: sha256 of the weights, hexadecimal.
        options: options that determine the result and are not at their defaults.
        made_by: what made the result, which is recorded and not compared: the version of gankit, backend, precision,
            device, tile and number of CPU threads.
        before: state of the file that the result replaces; ``None`` if there was none.
        written: state of the result; ``None`` before it is written.
        written_sha256: of the result, hexadecimal; empty before it is written.
    """

    result: str
    source: str
    source_state: State
    sha256: str
    read: float
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    made_by: Mapping[str, Any] = field(default_factory=dict)
    before: State | None = None
    written: State | None = None
    written_sha256: str = ""


class Journal:
    """The journal of one folder. May be used from several threads.

    Args:
        folder: folder of the results. It need not exist before :meth:`add`.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._lock = threading.Lock()
        self._done: dict[str, Entry] = {}
        self._begun: dict[str, Entry] = {}
        self._lines = 0
        self._complete = True  # whether the last line has its end
        self._checked = False
        self._file, self._end = 0, 0  # number of the file that was read, and where its last complete line ends
        self._update()

    def maker(self, result: str, now: State) -> Entry | None:
        """Return how an existing result was made; ``None`` if gankit did not make the file that is there.

        Args:
            result: file name of the result.
            now: its state.
        """
        done, begun = self._done.get(result), self._begun.get(result)
        if done is not None and done.written is not None:
            if now.near(done.written):
                return done
            # A copy of the folder, which need not keep the times.
            if now.size == done.written.size and sha256_of(self.path.parent / result) == done.written_sha256 != "":
                return done
        # A run that was killed between writing a file and its line: files appear whole, so this one is complete.
        return begun if begun is not None and not now.near(begun.before) else None

    def update(self) -> None:
        """Read what other runs have appended."""
        with self._lock:
            self._update()

    def _update(self) -> None:
        for entry in self._read():
            self._keep(entry)

    def begin(self, entry: Entry) -> None:
        """Append that a result is about to be written.

        Raises:
            OutputError: If the journal cannot be written.
        """
        self.add(replace(entry, before=state_of(self.path.parent / entry.result), written=None))

    def finish(self, entry: Entry) -> None:
        """Append that a result was written.

        Raises:
            OutputError: If the journal cannot be written.
        """
        path = self.path.parent / entry.result
        self.add(replace(entry, written=state_of(path), written_sha256=sha256_of(path)))

    def add(self, entry: Entry) -> None:
        """Append an entry.

        Raises:
            OutputError: If the journal cannot be written.
        """
        with self._lock:
            try:
                with whole(self.path):
                    if not self._checked:
                        self._compact()
                    # Opened for each line, because another run may have rewritten the file.
                    append_bytes(self.path, (b"" if self._complete else b"\n") + _line(entry))
            except OSError as error:
                raise OutputError(f"{self.path}: cannot be written: {error.strerror or error}") from error
            self._complete = True
            self._lines += 1
            self._keep(entry)

    def _keep(self, entry: Entry) -> None:
        if entry.written is None:
            self._begun[entry.result] = entry
            return
        self._begun.pop(entry.result, None)
        self._done[entry.result] = entry

    def _read(self) -> Iterator[Entry]:
        with suppress(OSError), self.path.open("rb") as file:  # there is no journal yet, or it cannot be read
            number = os.fstat(file.fileno()).st_ino
            if number != self._file:
                self._file, self._end, self._lines = number, 0, 0
            file.seek(self._end)
            for line in file:
                self._lines += 1
                self._complete = line.endswith(b"\n")
                self._end += len(line) if self._complete else 0
                entry = _entry(line)
                if entry is not None:
                    yield entry

    def _compact(self) -> None:
        """Rewrite the journal if most of its lines are superseded or describe results that are gone."""
        self._checked = True
        if self._lines <= _SPARE_LINES:
            return
        self._update()
        with suppress(OSError):
            names = set(os.listdir(self.path.parent))  # noqa: PTH208 - a set of names, not of paths
            lines = [_line(entry) for kind in (self._done, self._begun) for entry in kind.values()
                     if entry.result in names]  # fmt: skip
            if self._lines > 4 * len(lines) + _SPARE_LINES:
                with atomic_path(self.path) as temporary:
                    temporary.write_bytes(b"".join(lines))
                self._lines, self._complete = len(lines), True


def plain_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as they are after a journal was written and read, so that they can be compared."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(options), default=str))
    return plain


def _line(entry: Entry) -> bytes:
    # In ASCII, because file names may contain bytes that cannot be written as UTF-8.
    return json.dumps(asdict(entry), separators=(",", ":"), default=str).encode("ascii") + b"\n"


def _entry(line: bytes) -> Entry | None:
    """Read one line; ``None`` if it is incomplete or damaged, or of another version of gankit."""
    try:
        content = json.loads(line)
        known = {item.name for item in fields(Entry)}
        values = {name: content[name] for name in known}
        for name in ("source_state", "before", "written"):
            given = values[name]
            values[name] = None if given is None else State(int(given["size"]), int(given["mtime_ns"]))
        entry = Entry(**values)
        texts = (entry.result, entry.source, entry.sha256, entry.model, entry.written_sha256)
        valid = all(isinstance(text, str) for text in texts) and isinstance(entry.options, dict)
        valid = valid and isinstance(entry.made_by, dict)
        valid = valid and isinstance(entry.read, int | float) and isinstance(entry.source_state, State)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return entry if valid else None
