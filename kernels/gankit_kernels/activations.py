"""The activations that a kernel can apply before it writes: names, values, derivatives."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

Activation = Literal["none", "relu", "leaky_relu", "tanh"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)


def check_activation(activation: str) -> None:
    """Require the name of an activation.

    Raises:
        ValueError: No activation has this name.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}")


def activate(x: Tensor, activation: str, slope: float) -> Tensor:
    """Apply an activation to a tensor; ``slope`` is LeakyReLU's slope below zero."""
    if activation == "relu":
        return F.relu(x)
    if activation == "leaky_relu":
        return F.leaky_relu(x, slope)
    return torch.tanh(x) if activation == "tanh" else x


def derivative(x: Tensor, activation: str, slope: float) -> Tensor | None:
    """The derivative of an activation at ``x``, or ``None`` where it is 1 everywhere."""
    if activation == "relu":
        return (x > 0).to(x.dtype)
    if activation == "leaky_relu":
        return torch.where(x > 0, 1.0, slope).to(x.dtype)
    return 1 - torch.tanh(x) ** 2 if activation == "tanh" else None
