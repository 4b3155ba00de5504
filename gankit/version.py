"""The version of gankit, in the one place where it is written, those of the packages beside it, and of the code."""

from __future__ import annotations

from functools import cache

__version__ = "0.1.0"


def installed_version(package: str) -> str | None:
    """Return the version of an installed distribution; ``None`` if there is none of that name."""
    from importlib import metadata  # `gankit --help` imports this module, and should not import e-mail parsers

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def sources(*packages: str) -> str:
    """Return the sha256 of the Python files of some packages, which changes with the code even between releases."""
    import hashlib  # `gankit --help` imports this module
    from importlib.util import find_spec
    from pathlib import Path

    digest = hashlib.sha256()
    for package in packages:
        spec = find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            for path in sorted(Path(folder).rglob("*.py")):
                digest.update(path.relative_to(folder).as_posix().encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()
