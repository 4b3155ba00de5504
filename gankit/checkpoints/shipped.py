"""The weights that ship with the package, and their cards."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from gankit import models
from gankit.errors import CheckpointError


def weights_path(name: str) -> Path:
    """Where the weights of a registry name are installed, there or not."""
    return Path(str(files("gankit.weights"))) / f"{name}.safetensors"


def card(name: str) -> dict[str, Any]:
    """What is known of shipped weights: ``sha256``, data, recipe, steps, figures.

    Raises:
        UsageError: unknown name.
        CheckpointError: the card is not installed or is damaged.
    """
    models.entry(name)
    path = weights_path(name).with_suffix(".json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content["sha256"], str):
            raise TypeError
    except FileNotFoundError:
        raise CheckpointError(f"{path}: the card of '{name}' is missing: reinstall gankit") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: the card of '{name}' is damaged: reinstall gankit") from error
    return dict(content)
