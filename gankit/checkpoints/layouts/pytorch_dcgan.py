"""DCGAN's generator in pytorch/examples, and its variants by others; gankit's own has the same names."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor

from gankit.checkpoints.layouts.base import Match, dims
from gankit.checkpoints.layouts.stacks import numbers

# Stride and padding by the size of the kernel, of all layers except the first. No key records them. All of these double
# the size, except 3, which makes 7×7 of 4×4 on the way to 28×28.
_STEPS = {2: (2, 0), 3: (2, 1), 4: (2, 1), 6: (2, 2)}


def match(state: Mapping[str, Tensor]) -> Match | None:
    """Recognised by ``main.0``, a kernel, and ``main.1``, a BatchNorm; a discriminator has no BatchNorm there."""
    if len(dims(state, "main.0.weight")) != 4 or len(dims(state, "main.1.weight")) != 1:
        return None
    layers = [n for n in numbers(state, "main.") if len(dims(state, f"main.{n}.weight")) == 4]
    shapes = [dims(state, f"main.{n}.weight") for n in layers]
    if layers != list(range(0, 3 * len(layers), 3)) or len(layers) < 2:
        return None
    if any(before[1] != after[0] for before, after in pairwise(shapes)):
        return None
    channels = shapes[-1][1]
    kernels = [[shapes[0][2], 1, 0]]
    for number, shape in zip(layers[1:], shapes[1:], strict=True):
        step = _last(channels) if number == layers[-1] and shape[2] == 1 else _STEPS.get(shape[2])
        if step is None or shape[2] != shape[3]:
            return None
        kernels.append([shape[2], *step])
    options = {
        "latent": shapes[0][0],
        "widths": [shape[1] for shape in shapes[:-1]],
        "channels": channels,
        "kernels": kernels,
        "bias": "main.0.bias" in state,
    }
    return Match("dcgan", options, state)


def _last(channels: int) -> tuple[int, int]:
    """Stride and padding of a last layer with kernels of 1×1, in csinva/gan-vae-pretrained-pytorch.

    It crops the gray images of 32×32 to MNIST's 28×28, and keeps CIFAR's 32×32.
    """
    return (1, 2) if channels == 1 else (1, 0)
