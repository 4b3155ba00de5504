"""Exact ways to load weights into a network that lacks some of the file's tensors, or has more than the file.

Tensors whose shapes do not fit are not changed: all names and shapes are checked later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gankit.models.edsr import Tail, shifts
from gankit.models.values import Input, Output, entrance, exit_layer


def biases_into_means(state: Mapping[str, Tensor], pattern: str, replacement: str) -> dict[str, Tensor]:
    r"""Take the biases of convolutions into the BatchNorms behind them: bn(y + b) is bn(y) with the mean less b.

    Args:
        state: under gankit's names.
        pattern: regular expression of the whole name of a bias.
        replacement: the name of the running mean after it; ``\1`` is the first group.
    """
    result = dict(state)
    for name, bias in state.items():
        found = re.fullmatch(pattern, name)
        mean = state.get(found.expand(replacement)) if found else None
        if found and mean is not None and mean.shape == bias.shape:
            del result[name]
            result[found.expand(replacement)] = (mean.double() - bias.double()).float()
    return result


def norm_into_conv(state: Mapping[str, Tensor], conv: str, norm: str, eps: float = 1e-5) -> dict[str, Tensor]:
    """Fold a BatchNorm into the convolution before it: w·γ/σ and (b - μ)·γ/σ + β, computed in float64.

    Args:
        state: under any names.
        conv: name of the convolution, which has a bias, without a dot at its end.
        norm: likewise of the BatchNorm, whose tensors are not in the result.
        eps: what the BatchNorm adds to the variance.
    """
    names = [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    kernel, bias = state.get(f"{conv}.weight"), state.get(f"{conv}.bias")
    parts = [state[name].double() for name in names if name in state]
    fits = len(parts) == 4 and kernel is not None and kernel.ndim == 4 and bias is not None
    if not fits or any(part.shape != (kernel.shape[0],) for part in (*parts, bias)):  # type: ignore[union-attr]
        return dict(state)
    assert kernel is not None
    assert bias is not None
    gamma, beta, mean, variance = parts
    factor = gamma / torch.sqrt(variance + eps)
    result = {name: value for name, value in state.items() if not name.startswith(f"{norm}.")}
    result[f"{conv}.weight"] = (kernel.double() * factor[:, None, None, None]).float()
    result[f"{conv}.bias"] = ((bias.double() - mean) * factor + beta).float()
    return result


def with_values(state: Mapping[str, Tensor], channels: int, values_in: Input, output: Output) -> dict[str, Tensor]:
    """The state with the fixed statistics of the layers at the ends, which no foreign file has.

    Args:
        state: under gankit's names.
        channels: of the images; ImageNet's values with other than three channels are refused later.
        values_in: option of the model.
        output: option of the model.
    """
    result = dict(state)
    if channels != 3 and "imagenet" in f"{values_in} {output}":
        return result
    for prefix, layer in (("entrance.", entrance(values_in, channels)), ("exit.", exit_layer(output))):
        if layer is not None:
            result |= layer.state_dict(prefix=prefix)
    return result


def with_mean(state: Mapping[str, Tensor], mean: Sequence[float] | None, tail: Tail) -> dict[str, Tensor]:
    """The state of an EDSR with the constants of the layers that shift its values, in place of any that it has.

    Args:
        state: under gankit's names.
        mean: option of the model.
        tail: option of the model.
    """
    result = {name: value for name, value in state.items() if not name.startswith(("entrance.", "exit."))}
    for prefix, layer in zip(("entrance.", "exit."), shifts(mean, tail), strict=True):
        if layer is not None:
            result |= layer.state_dict(prefix=prefix)
    return result
