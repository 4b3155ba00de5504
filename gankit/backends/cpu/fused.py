"""A convolution with its activation, or with an addition in place, as one oneDNN call."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = tuple[str, list[float]]
_KNOWN_SIZES = 64  # of inputs, each with a reference to one of the few layouts


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
    """A stride-1 convolution on the CPU, weights laid out once for each kernel that oneDNN chooses.

    oneDNN chooses its kernel, and with it the layout of the weights, by the size of the rows. Given another layout, it
    lays all weights out anew in every call, with its slowest code: 15 ms for 64 to 256 channels, where the convolution
    of a strip takes 30 ms.

    Several threads may call it at once.

    Args:
        conv: weights in the precision to run in.
        activation: applied to the result, see :func:`fused_activation`.
    """

    def __init__(self, conv: nn.Conv2d, activation: Activation | None = None) -> None:
        self.kernel = (conv.kernel_size[0], conv.kernel_size[1])
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self._activation = activation
        self._plain = not onednn_available()
        self._bias = None if conv.bias is None else conv.bias.detach()
        self._weight = conv.weight.detach()
        self._layouts: dict[bytes, Tensor] = {}
        self._by_size: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, x: Tensor, padding: tuple[int, int], add_to: Tensor | None = None) -> Tensor:
        """Convolve.

        Args:
            x: (1, C, H, W), channels_last.
            padding: zeros above and below, left and right.
            add_to: a tensor that the result is added to, in place; it is returned.
        """
        if self._plain:
            return self._fallback(x, padding, add_to)
        weight = self._laid_out((x.shape[2], x.shape[3], *padding))
        if add_to is not None:
            torch.ops.mkldnn._convolution_pointwise_(
                add_to, x, weight, self._bias, padding, (1, 1), (1, 1), 1, "add", 1.0, None, [], None
            )
            return add_to
        name, scalars = self._activation or ("none", [])
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight, self._bias, padding, (1, 1), (1, 1), 1, name, scalars, None
        )
        return result

    def _laid_out(self, size: tuple[int, ...]) -> Tensor:
        """The weights for an input of such height, width and padding."""
        known = self._by_size.get(size)
        if known is not None:
            return known
        height, width, *padding = size
        weight: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
            self._weight, padding, [1, 1], [1, 1], 1, [1, self.in_channels, height, width]
        )
        layout = torch.ops.mkldnn._get_mkldnn_serialized_md(weight).numpy().tobytes()
        if len(self._by_size) >= _KNOWN_SIZES:
            self._by_size.clear()
        self._by_size[size] = weight = self._layouts.setdefault(layout, weight)
        return weight

    def _fallback(self, x: Tensor, padding: tuple[int, int], add_to: Tensor | None) -> Tensor:
        result = F.conv2d(x, self._weight, self._bias, padding=padding)
        if self._activation is not None:
            name, scalars = self._activation
            result = F.relu(result) if name == "relu" else F.leaky_relu(result, scalars[0])
        return result if add_to is None else add_to.add_(result)
