"""A convolution with its activation, or with an addition in place, as one oneDNN call."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = tuple[str, list[float]]


def fused_activation(module: nn.Module) -> Activation | None:
    """The name and scalars by which oneDNN knows an activation; ``None`` for one that it cannot fuse."""
    if isinstance(module, nn.ReLU):
        return "relu", []
    if isinstance(module, nn.LeakyReLU):
        return "leaky_relu", [module.negative_slope]
    return None


def onednn_available() -> bool:
    """Whether this build of torch has oneDNN's fused convolutions (x86 builds have)."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


class FusedConv:
    """A stride-1 convolution on the CPU, weights laid out once for oneDNN.

    Args:
        conv: weights in the precision to run in.
        activation: applied to the result, see :func:`fused_activation`.
    """

    def __init__(self, conv: nn.Conv2d, activation: Activation | None = None) -> None:
        self.kernel = (conv.kernel_size[0], conv.kernel_size[1])
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self._activation = activation
        self._plain = not onednn_available()
        weight = conv.weight.detach()
        self._bias = None if conv.bias is None else conv.bias.detach()
        self._weight = weight
        if not self._plain:
            # Laid out for a strip of usual size; oneDNN accepts it for any.
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(
                weight, [0, 0], [1, 1], [1, 1], 1, [1, conv.in_channels, 64, 512]
            )

    def __call__(self, x: Tensor, padding: tuple[int, int], add_to: Tensor | None = None) -> Tensor:
        """Convolve.

        Args:
            x: (1, C, H, W), channels_last.
            padding: zeros above and below, left and right.
            add_to: a tensor that the result is added to, in place; it is returned.
        """
        if self._plain:
            return self._fallback(x, padding, add_to)
        if add_to is not None:
            torch.ops.mkldnn._convolution_pointwise_(
                add_to, x, self._weight, self._bias, padding, (1, 1), (1, 1), 1, "add", 1.0, None, [], None
            )
            return add_to
        name, scalars = self._activation or ("none", [])
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight, self._bias, padding, (1, 1), (1, 1), 1, name, scalars, None
        )
        return result

    def _fallback(self, x: Tensor, padding: tuple[int, int], add_to: Tensor | None) -> Tensor:
        result = F.conv2d(x, self._weight, self._bias, padding=padding)
        if self._activation is not None:
            name, scalars = self._activation
            result = F.relu(result) if name == "relu" else F.leaky_relu(result, scalars[0])
        return result if add_to is None else add_to.add_(result)
