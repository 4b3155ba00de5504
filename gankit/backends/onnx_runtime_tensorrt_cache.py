"""The engines that ONNX Runtime's TensorRT provider caches: which of them are as they were when they were proven."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from gankit_export.files import atomic_path

from gankit.errors import BackendError
from gankit.paths import cache_folder


def folder() -> Path:
    """Return the folder of the engines."""
    return cache_folder() / "onnxruntime-tensorrt"


def is_intact(path: Path) -> bool:
    """Whether an engine is as it was when it passed its comparison."""
    prefix = "-".join(path.name.split("-")[:2])[:_PREFIX]
    found = _recorded(path.with_name(f"{prefix}.json"))
    return isinstance(found, dict) and found.get(path.name) == _digests(path.parent, path.name).get(path.name)


@contextmanager
def verified(prefix: str) -> Iterator[bool]:
    """Delete the cached files of an engine unless they are as they were when it passed its comparison.

    One process at a time builds it. What is there at the end is recorded.

    Args:
        prefix: beginning of the names of the files.

    Yields:
        Whether there are cached files.
    """
    here = folder()
    record = here / f"{prefix}.json"
    try:
        here.mkdir(parents=True, exist_ok=True)
        lock = FileLock(here / f"{prefix}.lock")
        lock.acquire()
    except OSError as error:
        why = f"cannot be written ({error.strerror}); set GANKIT_CACHE to another folder"
        raise BackendError(f"{here}: the engine {why}") from error
    try:
        found = _digests(here, prefix)
        cached = bool(found) and _recorded(record) == found
        if not cached:
            for name in found:
                (here / name).unlink(missing_ok=True)
        yield cached
        if not cached or _digests(here, prefix) != found:
            with atomic_path(record) as temporary:
                temporary.write_text(json.dumps(_digests(here, prefix)))
    finally:
        lock.release()


_PREFIX = 32 + 1 + 16  # characters: of the file's sha256, a hyphen, and of the profile's


def _digests(here: Path, prefix: str) -> dict[str, str]:
    """Return the sha256 of every file that the provider wrote for an engine, by its name."""
    found = {}
    for path in sorted(here.glob(f"{prefix}*")):
        if path.suffix not in (".json", ".lock"):
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _recorded(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
