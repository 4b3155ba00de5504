"""What ``auto`` chose, kept between runs: per model, machine, versions and question."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gankit import __version__
from gankit.backends.artefacts import cache_folder
from gankit.backends.base import Precision
from gankit.backends.machine import machine
from gankit.backends.survey import installed


@dataclass(frozen=True)
class Choice:
    """A backend and precision that passed the gate, with the figures of then."""

    backend: str
    precision: Precision
    psnr: float
    max_abs: float


def recall(question: Sequence[Any]) -> Choice | None:
    """The choice made for the same question on the same machine with the same versions."""
    try:
        return Choice(**json.loads(_file(question).read_text()))
    except (OSError, ValueError, TypeError):
        return None  # none yet, or not ours to read: it is measured again


def remember(question: Sequence[Any], choice: Choice) -> None:
    """Keep a choice. A cache that cannot be written costs a measurement next time, and nothing else."""
    path = _file(question)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        temporary.write_text(json.dumps(asdict(choice)))
        temporary.replace(path)
    except OSError:
        return


def forget(question: Sequence[Any]) -> None:
    """Drop a choice."""
    _file(question).unlink(missing_ok=True)


def _file(question: Sequence[Any]) -> Path:
    key = [question, asdict(machine()), installed(), __version__]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    return cache_folder() / "choices" / f"{digest[:32]}.json"
