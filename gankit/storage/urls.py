"""Tell URLs from paths, and join them. Imports no fsspec."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from gankit.errors import UsageError

# One letter is a drive of Windows.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_LOCAL = ("file", "local")


def is_url(place: str | Path) -> bool:
    """Whether ``place`` is a URL of a store, such as ``s3://bucket/photos/``; ``file://`` is one, too."""
    return isinstance(place, str) and _URL.match(place) is not None


def any_url(places: Iterable[str | Path | None]) -> bool:
    """Whether one of some inputs and outputs is a URL."""
    return any(place is not None and is_url(place) for place in places)


def scheme(url: str) -> str:
    """Return the scheme of a URL in lower case, such as ``"s3"``."""
    found = _URL.match(url)
    assert found is not None, url
    return found[1].lower()


def as_path(place: str | Path) -> str | Path:
    """Return the path that a ``file://`` URL names; anything else is returned as it is.

    Raises:
        UsageError: If the URL names another machine.
    """
    if not isinstance(place, str) or not is_url(place) or scheme(place) not in _LOCAL:
        return place
    host, slash, rest = place.split("://", 1)[1].partition("/")
    if host not in ("", "localhost") or not slash:
        raise UsageError(f"{place}: a file URL begins with file:/// and an absolute path")
    return unquote(f"/{rest}")


class UrlPath(type(Path())):  # type: ignore[misc]
    """A URL in a report, whose fields are paths. It names no local file and is only for show."""

    def __str__(self) -> str:
        return _restored(super().__str__())


def _restored(text: str) -> str:
    """Return the URL of a path that was made from one: paths hold no double slashes."""
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]+):/(?!/)", r"\1://", text)


def shown(place: str) -> Path:
    """Return a path or URL as a path for a report."""
    return UrlPath(place) if is_url(place) else Path(place)


def folder_and_pattern(url: str) -> tuple[str, PurePosixPath | None]:
    """Split a URL before its first part with a wildcard.

    Returns:
        The URL of the folder, and the pattern below it, ``None`` if there is no wildcard.
    """
    head, rest = url.split("://", 1)
    parts = rest.split("/")
    for index, part in enumerate(parts):
        if index and glob.has_magic(part):
            return f"{head}://{'/'.join(parts[:index])}", PurePosixPath(*parts[index:])
    return url, None
