"""Files that backends build from a generator, such as compiled packages, cached between runs.

The name of each file ends with the sha256 of its content, and of the files that belong to it, which is checked before
every use. It also has the fingerprint of the generator and of what built it.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from gankit_export.precisions import Precision

from gankit.backends.artefacts import fingerprint
from gankit.backends.base import EngineSpec
from gankit.errors import BackendError
from gankit.paths import cache_folder

T = TypeVar("T")


def open_built(
    spec: EngineSpec,
    folder: str,
    suffixes: Sequence[str],
    build: Callable[[Path], None],
    open_file: Callable[[Path], T],
    *,
    needs: Sequence[str] = (),
    precision: Precision = "fp32",
) -> T:
    """Open a file of a generator, which is built once and cached.

    A cached file that has changed on disk, or that cannot be opened, is deleted and built once more, which is reported
    in one line.

    Args:
        spec: the generator. Lines for the user go to its ``notify``.
        folder: name of the folder in the cache.
        suffixes: of the file and of those that belong to it, such as ``(".param", ".bin")``.
        build: writes the files to the path that it gets, which has the first suffix, and beside it.
        open_file: opens the file, and raises any exception if it is damaged.
        needs: what else the file depends on, such as versions and the instruction set.
        precision: of the file.

    Returns:
        What ``open_file`` returns.

    Raises:
        BackendError: If the file cannot be built, or cannot be written.
    """
    depends = hashlib.sha256("\n".join((fingerprint(spec, precision), *needs)).encode()).hexdigest()[:32]
    stem = f"{re.sub(r'[^A-Za-z0-9._-]', '_', spec.facts.name)[:60]}-{depends}"
    home = cache_folder() / folder
    for path in _intact(home, stem, suffixes, spec):
        try:
            return open_file(path)
        except (ImportError, MemoryError, BackendError):
            raise  # not the file's fault
        except Exception:  # each runtime has its own errors
            _discard(path, suffixes, "cannot be opened", spec)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".gankit-", dir=home) as scratch:
            draft = Path(scratch) / f"model{suffixes[0]}"
            build(draft)
            path = home / f"{stem}-{_digest(draft, suffixes)}{suffixes[0]}"
            for suffix in reversed(suffixes):  # the file itself comes last
                draft.with_suffix(suffix).replace(path.with_suffix(suffix))
    except OSError as error:
        why = f"cannot be written ({error.strerror or error}); set GANKIT_CACHE to a folder with free space"
        raise BackendError(f"{home}: the built model {why}") from error
    return open_file(path)


def is_built_intact(path: Path, suffixes: Sequence[str]) -> bool:
    """Whether a built file and those that belong to it have the sha256 in its name."""
    try:
        return _digest(path, suffixes) == path.stem.rpartition("-")[2]
    except OSError:
        return False


def _digest(path: Path, suffixes: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for suffix in suffixes:
        digest.update(path.with_suffix(suffix).read_bytes())
    return digest.hexdigest()


def _intact(home: Path, stem: str, suffixes: Sequence[str], spec: EngineSpec) -> Iterator[Path]:
    found: list[Path] = []
    with suppress(OSError):
        found = sorted(home.glob(f"{stem}-{'[0-9a-f]' * 64}{suffixes[0]}"))
    for path in found:
        if is_built_intact(path, suffixes):
            with suppress(OSError):
                os.utime(path)  # the time of the last use, which `gankit cache` shows
            yield path
        else:
            _discard(path, suffixes, "has changed since gankit wrote it", spec)


def _discard(path: Path, suffixes: Sequence[str], why: str, spec: EngineSpec) -> None:
    for suffix in suffixes:
        with suppress(OSError):
            path.with_suffix(suffix).unlink()
    if spec.notify is not None:
        spec.notify(f"{path}: this cached file {why}; building it again")
