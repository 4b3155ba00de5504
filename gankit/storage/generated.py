"""Folders of stores for generated images. Imports no torch and, before a URL is opened, no fsspec."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from gankit.errors import ImageError, OutputError, UsageError, first_line
from gankit.pipeline.generated_files import ImageFolder, LocalFolder
from gankit.storage.block_claims import BlockClaims
from gankit.storage.stores import Remote, write_bytes
from gankit.storage.urls import as_path, is_url, shown

_MOST_ASKED = 64  # objects about which the store is asked one by one; for more, the folder is listed
_ASKED_AT_ONCE = 8


@dataclass(frozen=True)
class StoreFolder:
    """A folder of a store.

    Attributes:
        store: the folder, which need not exist.
    """

    store: Remote

    def place(self, name: str) -> Path:
        """Return a path whose text is the URL of an object."""
        return shown(self.store.place(name))

    def names(self) -> set[str]:
        """Return the names of the objects in the folder and below it; none if it does not exist.

        Raises:
            UsageError: If it cannot be listed.
        """
        return {item.name for item in self.store.present()}

    def read(self, name: str) -> bytes | None:
        """Return the content of an object: ``None`` if there is none, and nothing if it cannot be read."""
        try:
            return self.store.read(name)
        except OSError:
            return b""

    def states(self, names: Iterable[str]) -> dict[str, str]:
        """Return the states of those of some objects that exist.

        Raises:
            OutputError: If they are not known.
        """
        wanted = [*names]
        try:
            if len(wanted) > _MOST_ASKED:
                there = {item.name: item for item in self.store.present()}
                found = [there.get(name) for name in wanted]
            else:
                with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
                    found = [*pool.map(self.store.find, wanted)]
        except (OSError, UsageError) as error:
            raise OutputError(
                f"{self.place('')}: cannot be read: {first_line(error)}; run the command again"
            ) from error
        return {item.name: item.stamp for item in found if item is not None}

    def claims(self, run: str, *, member: bool = False) -> BlockClaims:
        """Return the claims of a run on objects; see :class:`gankit.storage.block_claims.BlockClaims`."""
        return BlockClaims(self.store.root, run, member=member)

    def prepare(self, option: str = "--output") -> None:
        """Do nothing: the first object makes the folder, and shows whether it can be written."""

    def write_text(self, name: str, text: str) -> None:
        """Write a text, whole or not at all.

        Raises:
            OutputError: If it cannot be written.
        """
        with tempfile.TemporaryDirectory(prefix="gankit-") as folder:
            write_bytes(self.store, name, text.encode("utf-8"), Path(folder) / "text")

    def write_image(self, name: str, image: np.ndarray) -> None:
        """Write an image, (H, W, C) uint8, whole or not at all.

        Raises:
            ImageError: If it cannot be written.
            OutputError: If the temporary folder is full or cannot be written.
        """
        from gankit.images import encode, from_array

        place = self.place(name)
        try:
            with tempfile.TemporaryDirectory(prefix="gankit-") as folder:
                path = Path(folder) / f"image{PurePath(name).suffix}"
                encode(from_array(image), path)
                self.store.put(path, name)
        except ImageError as error:
            raise _error(place, error.reason) from None
        except OSError as error:
            raise _error(place, f"cannot be written: {first_line(error)}") from error


def _error(place: Path, reason: str) -> ImageError:
    error = ImageError(place, reason)
    error.path = place  # whose text is the URL
    return error


def image_folder(place: str) -> ImageFolder:
    """Return the folder that a path or a URL names.

    Raises:
        UsageError: If fsspec, or the package for the scheme of the URL, is missing or refuses the URL.
    """
    path = as_path(place)
    return StoreFolder(Remote(path)) if isinstance(path, str) and is_url(path) else LocalFolder(Path(path))


@contextmanager
def local_file(place: Path) -> Iterator[Path]:
    """Return a local path inside the block for a path, or for one whose text is a URL.

    Raises:
        OSError: If an object cannot be read.
    """
    url = str(place)
    if not is_url(url):
        yield place
        return
    folder, _, name = url.rpartition("/")
    with tempfile.TemporaryDirectory(prefix="gankit-") as temporary:
        path = Path(temporary) / name
        Remote(folder).fetch(name, path)
        yield path


def image_file(place: str) -> tuple[ImageFolder, str]:
    """Return the folder and the name of a file that a path or a URL names.

    Raises:
        UsageError: As for :func:`image_folder`, and if a URL names no file.
    """
    path = as_path(place)
    if isinstance(path, str) and is_url(path):
        folder, _, name = path.rpartition("/")
        if not name or folder.endswith(":/"):
            raise UsageError(f"{place}: names no file; add one, such as grid.png")
        return image_folder(folder), name
    return LocalFolder(Path(path).parent), Path(path).name
