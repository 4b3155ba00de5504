"""The version of gankit, in the one place where it is written, and those of the packages beside it."""

from __future__ import annotations

from importlib import metadata

__version__ = "0.1.0"


def installed_version(package: str) -> str | None:
    """Return the version of an installed distribution; ``None`` if there is none of that name."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
