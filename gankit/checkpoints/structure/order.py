"""The order of tensors: that of the layers in a PyTorch file, that of the alphabet in a safetensors one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

_PARTS = ("weight", "bias", "running_mean", "running_var")


def by_number(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The tensors in the order of the numbers in their names, and of each layer in PyTorch's order.

    Args:
        state: tensors whose order tells nothing.

    Returns:
        ``None`` where names do not tell the order either: where two layers differ in a word before they differ in a
        number, or a tensor is not called as PyTorch's layers call theirs.
    """
    layers = sorted({name.rpartition(".")[0] for name in state}, key=_natural)
    if any(name.rpartition(".")[2] not in _PARTS for name in state) or not all(map(_numbered, layers, layers[1:])):
        return None
    return {name: state[name] for layer in layers for part in _PARTS if (name := f"{layer}.{part}") in state}


def agrees(names: Sequence[str], expected: Sequence[str]) -> bool:
    """Whether no tensor has the name of another part of a layer than the one at its place, such as bias for weight."""
    pairs = ((name.rpartition(".")[2], wanted.rpartition(".")[2]) for name, wanted in zip(names, expected, strict=True))
    return all(part == wanted or not {part, wanted} <= set(_PARTS) for part, wanted in pairs)


def positive(state: Mapping[str, Tensor]) -> bool:
    """Whether all that would be variances can be some."""
    return all(bool((value >= 0).all()) for name, value in state.items() if name.endswith(".running_var"))


def _natural(layer: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in layer.split(".")]


def _numbered(one: str, other: str) -> bool:
    """Whether two layers differ first in a number."""
    for a, b in zip(one.split("."), other.split("."), strict=False):
        if a != b:
            return a.isdecimal() and b.isdecimal()
    return False
