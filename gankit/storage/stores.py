"""List, read and write the objects below one folder of a store, whole or not at all."""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from gankit_export.files import atomic_path

from gankit.errors import OutputError, UsageError, first_line
from gankit.pipeline.journal import State, state_of
from gankit.storage.urls import is_url, scheme

# Stores in which an object appears when its upload is complete. Elsewhere a temporary name and a rename do this.
_WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "hf", "memory"})
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_CHECKSUMS = ("ETag", "etag", "md5Hash", "content_md5", "checksum")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
_ONE_PUT = 32 << 20  # larger files are read in parts


@dataclass(frozen=True)
class Object:
    """An object of a store.

    Attributes:
        name: its name, relative to the folder of the store.
        size: its size in bytes.
        version: text that changes with the content: the ETag or checksum where the store has one, else the time.
        written: the time when it was written, where the store has one.
    """

    name: str
    size: int
    version: str
    written: str = ""

    @property
    def state(self) -> str:
        """Size and version in one text."""
        return f"{self.size}:{self.version}"

    @property
    def stamp(self) -> str:
        """Text that changes when the object is written again, with the same content, too."""
        return f"{self.state}:{self.written}"


class NoFolderError(UsageError):
    """There is no such folder, nor such a bucket."""


class Store(Protocol):
    """A folder, local or remote, whose files appear whole or not at all. May be used from several threads."""

    root: str

    def place(self, name: str) -> str:
        """Return the path or URL of a file."""

    def find(self, name: str) -> Object | None:
        """Return a file; ``None`` if there is none. Raises ``OSError`` if it is not known."""

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; ``None`` if there is none."""

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file of the store to a local path."""

    def put(self, path: Path, name: str) -> None:
        """Copy a local file to the store."""


def local_object(name: str, state: State) -> Object:
    """Return a local file of a state."""
    return Object(name, state.size, str(state.mtime_ns))


def open_store(root: str) -> Store:
    """Open a folder.

    Args:
        root: its path, or its URL.

    Raises:
        UsageError: If fsspec, or the package for the scheme of the URL, is missing or refuses the URL.
    """
    return Remote(root) if is_url(root) else Local(root)


class Local:
    """A local folder."""

    def __init__(self, root: str) -> None:
        self.root = root

    def place(self, name: str) -> str:
        """Return the path of a file."""
        return str(Path(self.root) / name)

    def find(self, name: str) -> Object | None:
        """Return a file; ``None`` if there is none."""
        return None if (found := state_of(self.place(name))) is None else local_object(name, found)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; ``None`` if there is none."""
        try:
            return Path(self.place(name)).read_bytes()
        except FileNotFoundError:
            return None

    def fetch(self, name: str, path: Path) -> None:
        """Link a file to a path, which reads it in place."""
        path.symlink_to(Path(self.place(name)).absolute())

    def put(self, path: Path, name: str) -> None:
        """Copy a local file into the folder."""
        target = Path(self.place(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary, path.open("rb") as file, temporary.open("xb") as copy:
            while block := file.read(1 << 20):
                copy.write(block)


class Remote:
    """A folder of a store that fsspec opens.

    Args:
        root: its URL.

    Raises:
        UsageError: See :func:`open_store`.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        if importlib.util.find_spec("fsspec") is None:
            raise UsageError(f"{root}: reading URLs needs fsspec; run: pip install 'gankit[remote]'")
        import fsspec.core

        protocol = scheme(root)
        try:
            self._fs, self._key = fsspec.core.url_to_fs(self.root, use_listings_cache=False)
        except ImportError as error:
            package = _PACKAGES.get(protocol)
            step = f"run: pip install {package}" if package else first_line(error)
            raise UsageError(f"{root}: {protocol}:// needs a package of its own; {step}") from None
        except ValueError as error:
            raise UsageError(f"{root}: {first_line(error)}; use s3://, gs://, file:// or another of fsspec") from None
        self._whole = protocol in _WHOLE

    def __reduce__(self) -> tuple[Any, ...]:
        return Remote, (self.root,)

    def place(self, name: str) -> str:
        """Return the URL of an object."""
        return f"{self.root}/{name}" if name else self.root

    def _path(self, name: str) -> str:
        return f"{self._key.rstrip('/')}/{name}" if name else self._key

    def objects(self) -> list[Object]:
        """Return all objects below the folder, sorted by name; the folder itself if it is an object.

        Raises:
            UsageError: If it cannot be listed.
        """
        with _listing(self.root):
            found = self._fs.find(self._key, detail=True)
        result = []
        base = self._fs._strip_protocol(self._key).rstrip("/")
        for path, info in sorted(found.items()):
            name = path[len(base) :].lstrip("/") if path != base else ""
            result.append(_object(name, info))
        return result

    def present(self) -> list[Object]:
        """Return what :meth:`objects` does, and nothing if there is no such folder.

        Raises:
            UsageError: If it cannot be listed.
        """
        try:
            return self.objects()
        except NoFolderError:
            return []

    def find(self, name: str) -> Object | None:
        """Return an object; ``None`` if there is none."""
        try:
            with _as_os_error():
                info = self._fs.info(self._path(name))
        except FileNotFoundError:
            return None
        return _object(name, info) if info.get("type") != "directory" else None

    def read(self, name: str) -> bytes | None:
        """Return the content of an object; ``None`` if there is none."""
        try:
            with _as_os_error():
                return bytes(self._fs.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def head(self, name: str, size: int) -> bytes:
        """Return the first bytes of an object. Raises ``OSError`` if it cannot be read."""
        with _as_os_error():
            return bytes(self._fs.cat_file(self._path(name), start=0, end=size))

    def fetch(self, name: str, path: Path) -> None:
        """Copy an object to a local path."""
        with _as_os_error():
            self._fs.get_file(self._path(name), str(path))

    def put(self, path: Path, name: str) -> None:
        """Copy a local file to the store. The object appears when it is complete."""
        final = self._path(name)
        with _as_os_error():
            if self._whole:
                self._send(path, final)
                return
            folder, _, last = final.rpartition("/")
            self._fs.makedirs(folder, exist_ok=True)
            partial = f"{folder}/.{last}.{uuid.uuid4().hex}.part"
            try:
                self._send(path, partial)
                self._fs.mv(partial, final)
            except BaseException:
                with suppress(Exception):
                    self._fs.rm_file(partial)
                raise

    def create(self, name: str, content: bytes) -> None:
        """Write a small object if there is none of this name. In stores without such a condition, ask first.

        Raises:
            FileExistsError: If there is one.
            OSError: If it cannot be written.
        """
        with _as_os_error():
            self._make_parent(name)
            self._fs.pipe_file(self._path(name), content, mode="create")

    def write(self, name: str, content: bytes) -> None:
        """Write a small object, or replace it. Raises ``OSError`` if it cannot be written."""
        with _as_os_error():
            self._make_parent(name)
            self._fs.pipe_file(self._path(name), content)

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects. Raises ``OSError`` if one cannot be removed."""
        if names:
            with _as_os_error():
                self._fs.rm([self._path(name) for name in names])

    def _make_parent(self, name: str) -> None:
        if not self._whole:
            self._fs.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)

    def _send(self, path: Path, key: str) -> None:
        if path.stat().st_size <= _ONE_PUT:
            self._fs.pipe_file(key, path.read_bytes())
        else:
            self._fs.put_file(str(path), key)


def _object(name: str, info: dict[str, Any]) -> Object:
    time = _first(info, _TIMES)
    version = _first(info, _CHECKSUMS) or time
    version = f"{version:.3f}" if isinstance(version, float) else str(version).strip('"')
    written = str(int(time) if isinstance(time, float) else time)  # listings may have parts of seconds
    return Object(name, int(info.get("size") or 0), version, written)


def _first(info: dict[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        value = info.get(name)
        if value:  # some listings give the same time as a number
            return value.timestamp() if isinstance(value, datetime) else value
    return ""


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Raise what a client library raises as an ``OSError``: each has exceptions of its own."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise OSError(first_line(error)) from error


@contextmanager
def _listing(url: str) -> Iterator[None]:
    try:
        with _as_os_error():
            yield
    except FileNotFoundError:
        raise NoFolderError(f"{url}: no such bucket or folder") from None
    except OSError as error:
        raise UsageError(f"{url}: cannot be listed: {first_line(error)}") from None


def write_bytes(store: Store, name: str, content: bytes, scratch: Path) -> None:
    """Write a file of a store, whole or not at all.

    Args:
        store: the store.
        name: name of the file.
        content: its content.
        scratch: a path that does not exist yet, for a temporary copy.

    Raises:
        OutputError: If it cannot be written.
    """
    try:
        scratch.write_bytes(content)
        store.put(scratch, name)
    except OSError as error:
        place = store.place(name)
        raise OutputError(f"{place}: cannot be written: {first_line(error)}; use another --output") from error
    finally:
        scratch.unlink(missing_ok=True)
