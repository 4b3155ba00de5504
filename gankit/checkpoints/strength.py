"""Weights between a faithful and a sharp generator: network interpolation (Wang et al. 2018, ESRGAN, section 3.4).

A generator that was trained adversarially from a faithful one has the same layers, and the mean of the weights of both,
``(1 - strength) · faithful + strength · sharp``, makes images between theirs. The mixed weights are a file in the cache
like any other weights file, so that engines, exports and resumed runs know them by their content. Importing this module
imports no torch.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gankit import models
from gankit.checkpoints.shipped import weights_path
from gankit.errors import OutputError, UsageError
from gankit.paths import cache_folder
from gankit.version import sources
from gankit.weights import TRAINED

if TYPE_CHECKING:
    from gankit.checkpoints.types import Loaded

FOLDER = "mixed"
_LOG = logging.getLogger(__name__)
_CODE = ("gankit.checkpoints", "gankit.models")


def at_strength(model: Any, strength: float | None, faithful: str | Path | None = None) -> Any:
    """Return the weights of a generator between a faithful one (0) and a sharp one (1).

    Args:
        model: the name or the weights file of the sharp generator; of a pair that ships, either name.
        strength: 0 to 1; ``None`` returns ``model``.
        faithful: the name or the weights file of the faithful generator; ``None`` for the one of the pair that ships.

    Returns:
        At 0 and 1 the generators themselves. Between them a file in the cache, which is mixed if it is not there.

    Raises:
        UsageError: The strength is outside 0 to 1, there is no faithful generator, or the two are no pair.
        CheckpointError: A weights file cannot be read.
        OutputError: The cache cannot be written.
    """
    if strength is None:
        if faithful is not None:
            raise UsageError("--faithful needs --strength")
        return model
    if not (math.isfinite(strength) and 0 <= strength <= 1):
        raise UsageError(f"strength must be from 0 (faithful) to 1 (sharp), not {strength:g}")
    if not isinstance(model, str | Path):
        raise UsageError("strength mixes weights files: give the name of a model or a weights file")
    soft, sharp = (faithful, model) if faithful is not None else _pair(model)
    if strength in (0, 1):
        return sharp if strength else soft
    return _cached(soft, sharp, strength)


def _pair(model: str | Path) -> tuple[str, str]:
    """Return the names of the faithful and the sharp weights of a pair that ships.

    Raises:
        UsageError: If the model is in none.
    """
    pairs = {name: (entry.faithful, name) for name, entry in TRAINED.items() if entry.faithful is not None}
    pairs |= {soft: (soft, sharp) for soft, sharp in pairs.values()}
    if not isinstance(model, str) or model not in pairs:
        raise UsageError(
            f"'{model}' has no faithful partner for --strength: name one with --faithful, or use --model "
            f"{' or '.join(sorted(pairs))}"
        )
    return pairs[model]


def _cached(soft: str | Path, sharp: str | Path, strength: float) -> Path:
    """Return the intact file of a mixture in the cache; make it if there is none."""
    contents = [_sha256(weights_path(str(item)) if str(item) in TRAINED else Path(item)) for item in (soft, sharp)]
    key = hashlib.sha256(repr((contents, strength, sources(*_CODE))).encode()).hexdigest()[:16]
    name = f"{re.sub(r'[^A-Za-z0-9._-]', '_', Path(sharp).stem)[:60]}-strength-{strength:g}.safetensors"
    folder = cache_folder() / FOLDER
    found: list[Path] = []
    with suppress(OSError):
        found = sorted(folder.glob(f"{key}-{'[0-9a-f]' * 64}/{name}"))
    for path in found:
        if is_intact(path):
            with suppress(OSError):
                os.utime(path)  # the time of the last use, which `gankit cache` shows
            return path
        _LOG.warning("%s: this cached file has changed since gankit wrote it; mixing the weights again", path)
        with suppress(OSError):
            path.unlink()
    return _mix(soft, sharp, strength, folder / key, name)


def _sha256(path: Path) -> str:
    """The sha256 of a file, hexadecimal; empty if it cannot be read, which reading its weights reports."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def is_intact(path: Path) -> bool:
    """Whether the content of a mixed file has the sha256 at the end of its folder's name."""
    return _sha256(path) == path.parent.name.rpartition("-")[2]


def _mix(soft: str | Path, sharp: str | Path, strength: float, home: Path, name: str) -> Path:
    """Write the file of a mixture to a folder with the sha256 of its content after ``home``; return its path."""
    import torch

    from gankit.checkpoints.native import input_header, save
    from gankit.checkpoints.opening import open_model

    faithful, adversarial = open_model(soft), open_model(sharp)
    _check(soft, sharp, faithful, adversarial)
    ends = faithful.generator.state_dict(), adversarial.generator.state_dict()
    mixed = {
        key: torch.lerp(value.double(), ends[1][key].double(), strength).to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in ends[0].items()
    }
    facts = adversarial.facts
    header = {**input_header(facts), "strength": f"{strength:g}"}
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=home.parent) as folder:
            temporary = Path(folder) / name
            digest = save(temporary, mixed, facts.name, facts.options, dtype=torch.float32, metadata=header)
            target = home.with_name(f"{home.name}-{digest}") / name
            target.parent.mkdir(exist_ok=True)
            return temporary.replace(target)
    except OSError as error:
        why = f"cannot be written ({error.strerror}); set GANKIT_CACHE to a folder with free space"
        raise OutputError(f"{home.parent}: the mixed weights {why}") from error


def _check(soft: str | Path, sharp: str | Path, faithful: Loaded, adversarial: Loaded) -> None:
    """Raise ``UsageError`` unless the two have the same layers and are gankit's own networks."""
    first, second = faithful.facts, adversarial.facts
    for name, facts in ((soft, first), (sharp, second)):
        if facts.name not in models.MODELS:
            raise UsageError(f"'{name}' is {facts.paper}: --strength mixes the weights of gankit's own networks only")
    same = (first.task, first.scale, first.value_range) == (second.task, second.scale, second.value_range)
    if not same or dict(first.options) != dict(second.options) or _shapes(faithful) != _shapes(adversarial):
        raise UsageError(
            f"'{soft}' ({_words(faithful)}) and '{sharp}' ({_words(adversarial)}) have different layers: --strength "
            "needs a sharp model that was trained from the faithful one"
        )


def _shapes(loaded: Loaded) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in loaded.generator.state_dict().items()}


def _words(loaded: Loaded) -> str:
    return ", ".join([loaded.facts.name, *(f"{name} {value}" for name, value in loaded.facts.options.items())])
