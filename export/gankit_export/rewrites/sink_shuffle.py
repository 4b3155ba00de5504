"""Sink the last PixelShuffle behind the last convolution.

``PixelShuffle(r)`` and then a k×k convolution to few channels equals one convolution at the low resolution, with r²
times the input and output channels, and then ``PixelShuffle(r)``. Sub-pixel row s of the high resolution reaches, with
its tap d, the high-resolution row r·t + s + d, which lives in low-resolution row t + (s + d) // r and sub-row
(s + d) % r. A 9×9 becomes a 5×5 for r = 2. Taps outside the original kernel are zero.

It pays because a convolution to 3 channels wastes wide matrix units (3 of 16 columns used), and because the largest
activation of the network is no longer written and read only to be shuffled.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def sunk_padding(kernel: int, scale: int) -> int:
    """Half width of the sunk kernel: ceil((kernel // 2) / scale)."""
    return -(-(kernel // 2) // scale)


def sink_weight(weight: Tensor, scale: int) -> Tensor:
    """The weight of the low-resolution convolution; differentiable.

    Args:
        weight: (O, C, k, k) of the convolution after ``PixelShuffle(scale)``, k odd, padding k // 2, stride 1.
        scale: the shuffle's factor r.

    Returns:
        (O·r², C·r², K, K), K = 2·ceil((k // 2) / r) + 1, to be used with padding K // 2 and followed by
        ``PixelShuffle(r)``. The channel orders are PixelShuffle's: channel, sub-row, sub-column.
    """
    out_channels, in_channels, kernel, _ = weight.shape
    reach = sunk_padding(kernel, scale)
    sunk = 2 * reach + 1
    span = scale * sunk  # high-resolution rows that the sunk kernel covers
    result = weight.new_zeros(out_channels, scale, scale, in_channels, scale, scale, sunk, sunk)
    for row in range(scale):
        top = row - kernel // 2 + reach * scale  # covered row at which the original kernel begins for sub-row `row`
        for column in range(scale):
            left = column - kernel // 2 + reach * scale
            padded = F.pad(weight, (left, span - kernel - left, top, span - kernel - top))
            split = padded.reshape(out_channels, in_channels, sunk, scale, sunk, scale)
            result[:, row, column] = split.permute(0, 1, 3, 5, 2, 4)
    return result.reshape(out_channels * scale**2, in_channels * scale**2, sunk, sunk)


def sink_bias(bias: Tensor | None, scale: int) -> Tensor | None:
    """(O,) -> (O·r²,): every sub-pixel of an output channel has that channel's bias."""
    return None if bias is None else bias.repeat_interleave(scale**2)


def sinkable(shuffle: nn.Module, conv: nn.Module) -> bool:
    """Whether :func:`sink` can take the pair (it need not pay: see :func:`sink_pays`)."""
    return (
        isinstance(shuffle, nn.PixelShuffle)
        and isinstance(conv, nn.Conv2d)
        and conv.kernel_size[0] == conv.kernel_size[1]
        and conv.kernel_size[0] % 2 == 1
        and conv.padding in ((conv.kernel_size[0] // 2,) * 2, "same")
        and conv.padding_mode == "zeros"
        and conv.stride == (1, 1)
        and conv.dilation == (1, 1)
        and conv.groups == 1
    )


def sink_pays(shuffle: nn.PixelShuffle, conv: nn.Conv2d, *, width: int = 16) -> bool:
    """Whether the sunk convolution costs less on a unit that computes ``width`` output channels at a time.

    Counts multiplications per low-resolution pixel with output channels rounded up to ``width``.
    """
    scale, kernel = shuffle.upscale_factor, conv.kernel_size[0]
    sunk = 2 * sunk_padding(kernel, scale) + 1
    before = scale**2 * kernel**2 * conv.in_channels * -(-conv.out_channels // width) * width
    after = sunk**2 * conv.in_channels * scale**2 * -(-conv.out_channels * scale**2 // width) * width
    return after <= before


def sink(shuffle: nn.PixelShuffle, conv: nn.Conv2d) -> tuple[nn.Conv2d, nn.PixelShuffle]:
    """The convolution and the shuffle that replace ``shuffle`` and then ``conv``.

    Raises:
        ValueError: the pair is not :func:`sinkable`.
    """
    if not sinkable(shuffle, conv):
        raise ValueError("only a stride-1, zero-padded, odd square convolution after a PixelShuffle can be sunk")
    scale = shuffle.upscale_factor
    weight = sink_weight(conv.weight.detach(), scale)
    bias = sink_bias(None if conv.bias is None else conv.bias.detach(), scale)
    sunk = nn.Conv2d(
        weight.shape[1], weight.shape[0], weight.shape[-1], padding=weight.shape[-1] // 2, bias=bias is not None
    ).to(weight)
    sunk.weight.data.copy_(weight)
    if bias is not None and sunk.bias is not None:
        sunk.bias.data.copy_(bias)
    return sunk, nn.PixelShuffle(scale)
