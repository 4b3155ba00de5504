"""Any weights file -> a recognised architecture and its state dict. Loading is safe: weights are data, never code."""

from gankit.checkpoints.files import Stored, read
from gankit.checkpoints.layouts import Match, recognise
from gankit.checkpoints.native import save
from gankit.checkpoints.opening import load, open_model
from gankit.checkpoints.shipped import card
from gankit.checkpoints.types import Loaded

__all__ = ["Loaded", "Match", "Stored", "card", "load", "open_model", "read", "recognise", "save"]
