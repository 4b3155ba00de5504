"""Convolutions by Winograd's algorithm in place of oneDNN's, in streams and in modules."""

from __future__ import annotations

import torch
from gankit_kernels import winograd
from torch import Tensor, nn

PIECE_ROWS = 12  # whole tiles, of 4 rows as of 6


def strip_rows(rows: int) -> int:
    """Return about so many rows, at least 16, for strips of a chain of residual blocks with 3×3 convolutions.

    Of n rows of a strip, one convolution of a block computes n and the other n + 2: these leave little of the tiles of
    six rows empty where n is four more than a multiple of six.
    """
    return 6 * max(2, round((rows - 4) / 6)) + 4


def suits(conv: nn.Conv2d) -> bool:
    """Whether Winograd's algorithm can run a convolution: 3×3 or 5×5, fp32, stride 1, channels that fill registers."""
    return (
        conv.kernel_size[0] == conv.kernel_size[1]
        and conv.stride == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
        and conv.weight.dtype == torch.float32
        and winograd.suits(conv.in_channels, conv.out_channels, conv.kernel_size[0])
    )


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions of a network that :func:`suits`."""
    return [item for item in module.modules() if isinstance(item, nn.Conv2d) and suits(item)]


def can_fuse(activation: nn.Module) -> bool:
    """Whether an activation can be computed together with the convolution before it."""
    return isinstance(activation, nn.ReLU | nn.LeakyReLU | nn.PReLU)


class WinogradConv:
    """What :class:`~gankit.backends.cpu.fused.FusedConv` is, by Winograd's algorithm.

    Args:
        conv: one that :func:`suits`.
        activation: applied to the result; one that :func:`can_fuse` accepts.

    Attributes:
        kernel: height and width of the kernel.
        in_channels: number of input channels.
        out_channels: number of output channels.
        filled: number of output channels with those that fill the last register, which ``out`` must have.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None = None) -> None:
        self.kernel = (conv.kernel_size[0], conv.kernel_size[1])
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self._convolve = winograd.Winograd(conv.weight, conv.bias, _slopes(activation, conv.out_channels))
        self.filled = self._convolve.filled

    def __call__(
        self, x: Tensor, padding: tuple[int, int], add_to: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        """Convolve, with as many threads as torch would use.

        Args:
            x: (1, C, H, W), channels_last.
            padding: zeros above and below, left and right.
            add_to: a tensor that the result is added to, in place; it is returned.
            out: where the result is written, (1, filled, H', W').
        """
        return self._convolve(x, padding, add_to, torch.get_num_threads(), out)


class WinogradConv2d(nn.Module):
    """An ``nn.Conv2d`` that runs by Winograd's algorithm.

    Args:
        conv: one that :func:`suits`, with a padding of at most half of its kernel.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert not isinstance(conv.padding, str)
        self._padding = (int(conv.padding[0]), int(conv.padding[1]))
        self._convolve = winograd.Winograd(conv.weight, conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W') channels_last."""
        return self._convolve(x, self._padding, None, torch.get_num_threads())


def with_winograd(module: nn.Module) -> nn.Module:
    """Replace the convolutions that suit by :class:`WinogradConv2d`, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and suits(child) and _pads_little(child):
            setattr(module, name, WinogradConv2d(child))
        else:
            with_winograd(child)
    return module


def _pads_little(conv: nn.Conv2d) -> bool:
    return not isinstance(conv.padding, str) and max(conv.padding) <= conv.kernel_size[0] // 2


def _slopes(activation: nn.Module | None, channels: int) -> Tensor | None:
    """The factors of negative results; ``None`` without an activation."""
    if activation is None:
        return None
    if isinstance(activation, nn.PReLU):
        return activation.weight.detach().expand(channels)
    return torch.full((channels,), activation.negative_slope if isinstance(activation, nn.LeakyReLU) else 0.0)
