"""The encoded segments of a result that is not complete yet, in a hidden folder beside it.

The folder is there while a run works and after it was interrupted. ``job.json`` in it says of which source, weights and
options the segments are; if one of them changed, the segments are thrown away. A segment is one file, which appears
whole or not at all: a line of JSON, and the packets one after the other.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gankit_export.files import PARTIAL, atomic_path

from gankit.errors import OutputError
from gankit.video.encode import EncodedPacket
from gankit.video.library import writable

_SEGMENT = re.compile(r"[0-9]{6}\.segment")
_JOB, _LOCK = "job.json", "lock"


@dataclass(frozen=True)
class Segment:
    """One segment.

    Attributes:
        frames: times of its frames in ticks, in the order in which they are shown.
        computed: number of frames that went through the engine.
        end: time at which the last frame ends.
        extradata: what the encoder wrote once, hexadecimal.
        packets: time, whether it is a key frame, and number of bytes of each packet, in the order of decoding.
    """

    frames: Sequence[int]
    computed: int
    end: int
    extradata: str
    packets: Sequence[tuple[int, bool, int]]


class WorkFolder:
    """The folder of the segments of one result. :meth:`locked` must be entered first.

    Args:
        target: the result.
    """

    def __init__(self, target: Path) -> None:
        name = hashlib.sha256(target.name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self.target, self.folder = target, target.parent / f".gankit-clip-{name}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder, and keep other runs from using it inside the context.

        Raises:
            OutputError: If another run uses it, or if it cannot be created.
        """
        from filelock import FileLock, Timeout

        with writable(self.target):
            if self.folder.is_symlink():
                raise OutputError(f"{self.folder}: is a link, in place of a folder that gankit makes; remove it")
            self.folder.mkdir(exist_ok=True)
        lock = FileLock(str(self.folder / _LOCK))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(
                f"{self.target}: another run is making this result; wait for it, or use another --output"
            ) from None
        try:
            yield
        finally:
            lock.release()
            self._remove_empty()

    def begin(self, job: Mapping[str, Any]) -> None:
        """Remove what is there unless it belongs to the same job.

        Args:
            job: everything that determines the segments, as in JSON.
        """
        content = json.dumps(dict(job), sort_keys=True, default=str)
        with suppress(OSError, ValueError):
            if (self.folder / _JOB).read_text(encoding="ascii") == content:
                return
        self.clear()
        with writable(self.target), atomic_path(self.folder / _JOB) as temporary:
            temporary.write_text(content, encoding="ascii")

    def segments(self) -> list[Segment]:
        """Return the segments from the first one to the last before one is missing."""
        found: list[Segment] = []
        while (segment := self._header(len(found))) is not None:
            found.append(segment)
        return found

    def add(self, index: int, segment: Segment, packets: Sequence[EncodedPacket]) -> None:
        """Write a segment.

        Raises:
            OutputError: If it cannot be written.
        """
        with (
            writable(self.target),
            atomic_path(self._path(index), sync=True) as temporary,
            temporary.open("wb") as file,
        ):
            file.write(json.dumps(asdict(segment), separators=(",", ":")).encode("ascii") + b"\n")
            for packet in packets:
                file.write(packet.data)

    def packets(self, index: int) -> Iterator[EncodedPacket]:
        """Yield the packets of a segment, reading one at a time."""
        with self._path(index).open("rb") as file:
            header = json.loads(file.readline())
            for pts, key, size in header["packets"]:
                yield EncodedPacket(pts, key, file.read(size))

    def clear(self) -> None:
        """Remove the segments and the job."""
        for path in self.folder.iterdir():
            if path.name == _JOB or _SEGMENT.fullmatch(path.name) or PARTIAL.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.segment"

    def _header(self, index: int) -> Segment | None:
        try:
            with self._path(index).open("rb") as file:
                line = file.readline()
                segment = Segment(**json.loads(line))
                whole = len(line) + sum(size for _, _, size in segment.packets) == self._path(index).stat().st_size
        except (OSError, ValueError, TypeError):
            return None
        return segment if whole and segment.frames else None

    def _remove_empty(self) -> None:
        """Remove the folder unless it holds segments."""
        with suppress(OSError):
            if {path.name for path in self.folder.iterdir()} <= {_LOCK}:
                (self.folder / _LOCK).unlink(missing_ok=True)
                self.folder.rmdir()
