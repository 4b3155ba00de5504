"""Any weights file -> a recognised architecture and its state dict. Loading is safe: weights are data, never code.

Importing this package imports no torch; the first use of one of these names may.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gankit.checkpoints.files import Stored, read
    from gankit.checkpoints.layouts import Match, recognise
    from gankit.checkpoints.native import save
    from gankit.checkpoints.opening import load, open_model
    from gankit.checkpoints.shipped import card
    from gankit.checkpoints.types import Loaded

__all__ = ["Loaded", "Match", "Stored", "card", "load", "open_model", "read", "recognise", "save"]

_HOMES = {
    "Loaded": "types",
    "Match": "layouts",
    "Stored": "files",
    "card": "shipped",
    "load": "opening",
    "open_model": "opening",
    "read": "files",
    "recognise": "layouts",
    "save": "native",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
