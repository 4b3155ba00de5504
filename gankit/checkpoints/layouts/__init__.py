"""The key layouts of weights files: which architecture a state dict belongs to, told from names and shapes alone.

A new layout needs its own file in this folder, with a function ``match``, and one line in ``_LAYOUTS``.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gankit.checkpoints.layouts import lornatang, srresnet
from gankit.checkpoints.layouts.base import Layout, Match
from gankit.errors import CheckpointError

__all__ = ["Layout", "Match", "recognise"]

_LAYOUTS: tuple[Layout, ...] = (
    Layout("gankit SRResNet", srresnet.match),
    Layout("Lornatang SRGAN-PyTorch", lornatang.match),
)


def recognise(state: Mapping[str, Tensor]) -> Match:
    """The model, its options and the weights under our names.

    Args:
        state: tensors by name, without wrappers and prefixes.

    Raises:
        CheckpointError: no layout fits; the text, which names no file, shows the first keys.
    """
    for layout in _LAYOUTS:
        found = layout.match(state)
        if found is not None:
            return found
    names = list(state)
    shown = ", ".join(f"{name} {list(state[name].shape)}" for name in names[:3])
    raise CheckpointError(
        f"unknown architecture: {len(names)} tensors, first {shown}; "
        f"known layouts are {', '.join(layout.name for layout in _LAYOUTS)}"
    )
