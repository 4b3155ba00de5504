"""The file formats that gankit reads and writes, one file each.

A new format needs a file in this folder that defines ``FORMAT``, and its name in the list below.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from gankit.images.formats.base import Format, Header

__all__ = ["FORMATS", "REGISTRY", "RESULT_SUFFIXES", "SUFFIXES", "Format", "Header", "format_of", "titles", "writer_of"]

_MODULES = (
    "png",
    "jpeg",
    "webp",
    "tiff",
    "bmp",
    "gif",
    "avif",
    "jxl",
    "heic",
    "exr",
)

REGISTRY: tuple[Format, ...] = tuple(import_module(f"{__name__}.{module}").FORMAT for module in _MODULES)

FORMATS: Mapping[str, str] = MappingProxyType(
    {name: f".{name}" for format in REGISTRY if format.encode for name in (format.name, *format.aliases)}
)
"""Suffix of the results by the name that ``--format`` takes."""

SUFFIXES: frozenset[str] = frozenset(suffix for format in REGISTRY for suffix in (*format.suffixes, *format.read_only))
"""Suffixes of the files that are read, in lower case."""

RESULT_SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        suffix: format.results or (format if format.encode else REGISTRY[0]).suffixes[0]
        for format in REGISTRY
        for suffix in (
            (*format.read_only, *format.suffixes) if format.encode is None or format.results else format.read_only
        )
    }
)
"""Suffixes of files whose results take another suffix if the user sets no format: of formats that are only read, or
that hold less than another one."""

_WRITERS: Mapping[str, Format] = MappingProxyType(
    {suffix: format for format in REGISTRY if format.encode for suffix in format.suffixes}
)


def format_of(data: bytes) -> Format | None:
    """The format of a file by its first bytes; ``None`` for one that no format recognises."""
    return next((format for format in REGISTRY if format.matches(data)), None)


def writer_of(suffix: str) -> Format | None:
    """The format that writes files with a suffix in any case; ``None`` where there is none."""
    return _WRITERS.get(suffix.lower())


def titles(last: str = "and") -> str:
    """The formats that are read, as part of a sentence: "PNG, JPEG, WebP, TIFF and BMP"."""
    names = [format.title for format in REGISTRY]
    return f"{', '.join(names[:-1])} {last} {names[-1]}"
