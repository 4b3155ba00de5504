"""What earlier runs found out about models in files, so that a run whose engine is in the cache needs no torch.

A record belongs to one content of the weights file, to the options with which it was opened, and to the versions and
the code that read it. It has a checksum of its own: a record that has changed is not used. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gankit_export.files import atomic_path

from gankit.checkpoints.types import Loaded
from gankit.errors import CheckpointError
from gankit.models.deferred import Deferred
from gankit.models.facts import Facts
from gankit.paths import cache_folder
from gankit.version import __version__, installed_version, sources

if TYPE_CHECKING:
    from torch import nn

_READERS = ("torch", "safetensors", "spandrel", "onnx", "onnxruntime")
_CODE = ("gankit.checkpoints", "gankit.models", "gankit_export")


@dataclass(frozen=True)
class KnownModel:
    """What is known about a model without reading its tensors.

    Attributes:
        facts: facts of the generator.
        sha256: of the weights file, hexadecimal.
        path: the weights file, which a direction may have selected.
        recognised: see :class:`gankit.checkpoints.Loaded`.
        assumed: see :class:`gankit.checkpoints.Loaded`.
        warnings: the lines that were logged while the file was read.
        halo: halo of the generator in input pixels; 0 for one that is not tileable.
        pixel_bytes: memory of its layers for each input pixel in bytes, by precision; empty for one that is tileable.
    """

    facts: Facts
    sha256: str
    path: str
    recognised: str
    assumed: str
    warnings: tuple[str, ...]
    halo: int
    pixel_bytes: Mapping[str, float]

    def loaded(self, read: Callable[[], Loaded]) -> Loaded:
        """Return the model. Its generator is read when it is first needed.

        Args:
            read: reads the weights file.
        """

        def generator() -> nn.Module:
            found = read()
            if (found.sha256, found.facts) != (self.sha256, self.facts):
                raise CheckpointError(f"{self.path}: this file was changed during the run; start it again")
            return found.generator

        path = Path(self.path)
        return Loaded(Deferred(generator), self.facts, self.sha256, path, self.recognised, self.assumed)


def look_up(question: Sequence[Any]) -> KnownModel | None:
    """Return what is known about a model; ``None`` if there is no record, or if it is damaged.

    Args:
        question: how the model was opened, and the sha256 of its weights.
    """
    try:
        content = _content(_file(question))
        facts, warnings = Facts(**content.pop("facts")), tuple(content.pop("warnings"))
        return KnownModel(facts=facts, warnings=warnings, **content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def store(question: Sequence[Any], known: KnownModel) -> None:
    """Store what is known about a model. If the cache cannot be written, the next run reads the model again.

    Args:
        question: as for :func:`look_up`.
        known: what is known.
    """
    try:
        text = json.dumps(_fields(known) | {"facts": _fields(known.facts)}, sort_keys=True, default=dict)
        if Facts(**json.loads(text)["facts"]) != known.facts:
            return  # it has an option that JSON does not keep
    except (TypeError, ValueError):
        return
    path = _file(question)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps({"known": text, "sha256": _sha256(text)}))


def is_intact(path: Path) -> bool:
    """Whether a record is as gankit wrote it."""
    try:
        return bool(_content(path))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def _content(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        ValueError: If it does not have the checksum in it.
    """
    record = json.loads(path.read_bytes())
    if _sha256(record["known"]) != record["sha256"]:
        raise ValueError
    return dict(json.loads(record["known"]))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _fields(value: Any) -> dict[str, Any]:
    return {item.name: getattr(value, item.name) for item in fields(value)}


def _file(question: Sequence[Any]) -> Path:
    readers = {name: installed_version(name) for name in _READERS}
    key = json.dumps([question, readers, __version__, sources(*_CODE)], sort_keys=True, default=str)
    return cache_folder() / "models" / f"{_sha256(key)[:32]}.json"
