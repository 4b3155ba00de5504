"""The cached choices of ``auto``, one for each model, machine, set of versions and question."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gankit.backends.artefacts import sources
from gankit.backends.base import Precision
from gankit.backends.choice.environment import installed
from gankit.backends.choice.machine import machine
from gankit.backends.cuda.kernels import wanted
from gankit.errors import OutputError
from gankit.paths import cache_folder
from gankit.version import __version__


@dataclass(frozen=True)
class Choice:
    """A backend, precision and device that passed the parity check, with the measured figures.

    Attributes:
        backend: name of the backend.
        precision: precision of the engine.
        device: device of the engine.
        psnr: parity with fp32, as PSNR in dB.
        max_abs: parity with fp32, as largest absolute difference (1 is full scale).
        megapixels_per_second: speed in input megapixels per second.
        unmeasured: candidates (backend, precision, whether with gankit's kernels) that were not measured for lack of
            time. A choice with any is not final.
        kernels: whether to use gankit's own kernels on a GPU, rather than torch's.
    """

    backend: str
    precision: Precision
    device: str
    psnr: float
    max_abs: float
    megapixels_per_second: float
    unmeasured: tuple[tuple[str, Precision, bool], ...] = ()
    kernels: bool = True


_KINDS = {"psnr": float, "max_abs": float, "megapixels_per_second": float, "unmeasured": list, "kernels": bool}


def look_up(question: Sequence[Any]) -> Choice | None:
    """Return the choice for the same question on the same machine with the same versions, or ``None``."""
    try:
        found = json.loads(_file(question).read_text())
        if not all(isinstance(found[field.name], _KINDS.get(field.name, str)) for field in fields(Choice)):
            return None
        rest = tuple((backend, precision, bool(own)) for backend, precision, own in found.pop("unmeasured"))
        return Choice(**found, unmeasured=rest)
    except (OSError, ValueError, TypeError, KeyError):
        return None  # missing or unreadable, so the backends are measured again


def store(question: Sequence[Any], choice: Choice) -> None:
    """Store a choice. If the cache cannot be written, the next run measures again."""
    path = _file(question)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(asdict(choice)))
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()


def drop(question: Sequence[Any]) -> None:
    """Delete a choice if possible."""
    with suppress(OSError):
        _file(question).unlink()


def clear() -> int:
    """Delete all choices of this user. The next run measures again.

    Returns:
        The number of choices that were deleted.

    Raises:
        OutputError: If a choice cannot be deleted.
    """
    try:
        found = [path for path in _folder().glob("*.json") if path.is_file()]
        for path in found:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{_folder()}: cannot be emptied ({error.strerror}); delete it yourself") from error
    return len(found)


def _folder() -> Path:
    return cache_folder() / "choices"


def _file(question: Sequence[Any]) -> Path:
    code = sources("gankit.backends", "gankit.models", "gankit_export", "gankit_kernels")
    key = [question, wanted(), asdict(machine()), installed(), __version__, code]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    return _folder() / f"{digest[:32]}.json"
