"""The cached choices of ``auto``, one for each model, machine, set of versions and question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gankit_export.files import atomic_path
from gankit_export.precisions import Precision

from gankit.backends.choice.environment import installed
from gankit.backends.choice.machine import machine
from gankit.backends.cuda.switches import graphs_wanted, kernels_wanted
from gankit.errors import OutputError
from gankit.paths import cache_folder
from gankit.version import __version__, sources


@dataclass(frozen=True)
class Choice:
    """A backend, precision and device that passed the parity check, with the measured figures.

    Attributes:
        backend: name of the backend.
        precision: precision of the engine.
        device: device of the engine.
        psnr: worst parity with fp32 of all inputs, as PSNR in dB.
        max_abs: largest absolute difference (1 is full scale) on that input.
        image: the name of that input, as in :class:`~gankit.backends.choice.parity.Parity`.
        megapixels_per_second: speed in input megapixels per second.
        kernels: whether to use gankit's own kernels on a GPU, rather than torch's.
        artefact: sha256 of the exported file that the measured engine ran; empty if it ran none.
        contrast: least contrast of the images that the engine may run; 0 if it may run all.
        quantised: whether the exported file is an int8 one.
    """

    backend: str
    precision: Precision
    device: str
    psnr: float
    max_abs: float
    image: str
    megapixels_per_second: float
    kernels: bool = True
    artefact: str = ""
    contrast: float = 0.0
    quantised: bool = False


_FLOATS, _FLAGS = ("psnr", "max_abs", "megapixels_per_second", "contrast"), ("kernels", "quantised")
_KINDS = dict.fromkeys(_FLOATS, float) | dict.fromkeys(_FLAGS, bool)


def look_up(question: Sequence[Any], notify: Callable[[str], None] | None = None) -> Choice | None:
    """Return the choice for the same question on the same machine with the same versions, or ``None``.

    Args:
        question: what was asked: model, options and shapes.
        notify: called with one line if the cached choice is damaged.
    """
    path = _file(question)
    try:
        text = path.read_bytes()
    except OSError:
        return None  # missing or unreadable, so the backends are measured
    try:
        found = json.loads(text)
        if set(found) == {field.name for field in fields(Choice)} and all(
            isinstance(found[field.name], _KINDS.get(field.name, str)) for field in fields(Choice)
        ):
            return Choice(**found)
    except (ValueError, TypeError, RecursionError):
        pass
    if notify is not None:
        notify(f"{path}: this cached choice of a backend is damaged; measuring again")
    return None


def store(question: Sequence[Any], choice: Choice) -> None:
    """Store a choice. If the cache cannot be written, the next run measures again."""
    remember(question, asdict(choice))


def remember(question: Sequence[Any], facts: Mapping[str, Any]) -> None:
    """Store what an engine has measured about itself, like a choice.

    Args:
        question: what was measured.
        facts: what was found, as JSON has it.
    """
    path = _file(question)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(facts))


def recall(question: Sequence[Any]) -> dict[str, Any] | None:
    """Return what :func:`remember` stored on the same machine with the same versions; ``None`` without it."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(_file(question).read_bytes())
        return found if isinstance(found, dict) else None
    return None


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
    key = [question, kernels_wanted(), graphs_wanted(), asdict(machine()), installed(), __version__, code]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    return _folder() / f"{digest[:32]}.json"
