"""Weight init by the rules of the papers, for any network."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gankit.errors import UsageError
from gankit.training.choices import INITS, Init

_Weighted = nn.Conv2d | nn.ConvTranspose2d | nn.Linear
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, nn.LayerNorm)


@torch.no_grad()
def initialise(module: nn.Module, how: Init, gain: float = 0.02) -> None:
    """Draw new weights for every convolution and dense layer, with biases of 0; norms become the identity.

    * ``"xavier"``: N(0, 2/(fan_in + fan_out)) (Glorot and Bengio 2010, eq. 16 as a normal distribution);
    * ``"he"``: N(0, 2/fan_in) (He et al. 2015, arXiv:1502.01852, eq. 10);
    * ``"normal"``: N(0, gain²), norms' scales N(1, gain²) (Radford et al. 2016, arXiv:1511.06434, section 3).

    The fan-in of a transposed convolution is C·k²/stride², the number of inputs that reach one output pixel.

    Args:
        module: changed in place, by torch's global random numbers. Spectral normalisation may be there or not.
        how: the rule.
        gain: the standard deviation of ``"normal"``; the other rules compute theirs.

    Raises:
        UsageError: there is no such rule.
    """
    if how not in INITS:
        raise UsageError(f"there is no weight init {how!r}: choose from {', '.join(INITS)}")
    for layer in module.modules():
        if isinstance(layer, _Weighted):
            fan_in, fan_out = _fans(layer)
            deviation = {"xavier": math.sqrt(2 / (fan_in + fan_out)), "he": math.sqrt(2 / fan_in), "normal": gain}[how]
            _own(layer, "weight").normal_(0, deviation)
            if layer.bias is not None:
                _own(layer, "bias").zero_()
        elif isinstance(layer, _NORMS) and layer.weight is not None:
            layer.weight.fill_(1)
            if how == "normal":
                layer.weight.normal_(1, gain)
            if layer.bias is not None:
                layer.bias.zero_()


def _fans(layer: _Weighted) -> tuple[float, float]:
    """How many inputs reach one output, and how many outputs one input."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    area = math.prod(layer.kernel_size)
    fan_in, fan_out = (count / layer.groups * area for count in (layer.in_channels, layer.out_channels))
    strides = math.prod(layer.stride)
    return (fan_in / strides, fan_out) if isinstance(layer, nn.ConvTranspose2d) else (fan_in, fan_out / strides)


def _own(layer: nn.Module, name: str) -> Tensor:
    """The parameter itself, also where a parametrisation computes from it what the layer uses."""
    if parametrize.is_parametrized(layer, name):
        own: Tensor = layer.parametrizations[name].original  # type: ignore[union-attr, index]
        return own
    plain: Tensor = getattr(layer, name)
    return plain
