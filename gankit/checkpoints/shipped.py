"""The trained weights that ship with gankit, and their cards."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from gankit import models
from gankit.errors import CheckpointError, UsageError
from gankit.weights import TRAINED


def weights_path(name: str) -> Path:
    """The path of the weights of a name; of a pair, those from A to B.

    Raises:
        UsageError: neither a model nor weights have this name.
        CheckpointError: no weights ship for that model.
    """
    if name not in TRAINED:
        models.entry(name)  # raises with the nearest name
        raise CheckpointError(
            f"no trained weights of '{name}' ship with gankit: give a weights file, or one of {', '.join(TRAINED)}"
        )
    return installed(TRAINED[name].file or name)


def installed(file: str) -> Path:
    """The path at which a file of weights is installed, whether it exists or not.

    Args:
        file: its name without the suffix.
    """
    return Path(str(files("gankit.weights"))) / f"{file}.safetensors"


def card(name: str) -> dict[str, Any]:
    """The card of shipped weights: hash, model, options, data, steps, figures. Of a pair, the card from A to B.

    Raises:
        UsageError: unknown name.
        CheckpointError: no weights of this name ship, or the card is not installed or is damaged.
    """
    path = weights_path(name)
    content = card_of(path)
    try:
        if not isinstance(content["model"], str) or not isinstance(content["options"], dict):
            raise TypeError
        models.facts(content["model"], content["options"])
    except (UsageError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(path) from error
    return content


def card_of(path: Path) -> dict[str, Any]:
    """The card beside a file of shipped weights.

    Raises:
        CheckpointError: the card is not installed or is damaged.
    """
    path = path.with_suffix(".json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content["sha256"], str):
            raise TypeError
    except FileNotFoundError:
        raise CheckpointError(f"{path}: the card of '{path.stem}' is missing: reinstall gankit") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path) from error
    return dict(content)


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(f"{path.with_suffix('.json')}: the card of '{path.stem}' is damaged: reinstall gankit")
