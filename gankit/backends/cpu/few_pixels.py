"""Convolutions of few pixels as products of two matrices.

oneDNN reorders the weights at every call of a module, which takes longer than the arithmetic of few pixels. A matrix
product reads each weight once: of 512 channels from 4×4 pixels to 2×2 it takes a fifth of the time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class FewPixels:
    """A convolution, transposed or not, without dilation and groups; its results are not in channels_last.

    Args:
        conv: its padding is zeros.
        activation: applied to the result.

    Attributes:
        weight: that of ``conv``, in the same shape, not copied again.
    """

    def __init__(
        self, conv: nn.Conv2d | nn.ConvTranspose2d, activation: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        weight = conv.weight.detach()
        self._bias, self._activation = conv.bias, activation
        assert not isinstance(conv.padding, str)
        self._kernel, self._stride, self._padding = conv.kernel_size, conv.stride, conv.padding
        self._rest = conv.output_padding if isinstance(conv, nn.ConvTranspose2d) else None
        if self._rest is None:
            self.weight = weight.contiguous()
            self._matrix = self.weight.flatten(1)
        else:  # (C', k, k, C): torch multiplies the transposed matrix ten times as slowly
            rows = weight.permute(1, 2, 3, 0).contiguous()
            self.weight, self._matrix = rows.permute(3, 0, 1, 2), rows.flatten(0, 2)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        columns = x if self._rest is not None else functional.unfold(x, self._kernel, 1, self._padding, self._stride)
        count = len(x)
        products = torch.mm(self._matrix, columns.transpose(0, 1).reshape(self._matrix.shape[1], -1))
        products = products.view(len(self._matrix), count, -1).transpose(0, 1)
        size = self._length(x, 0), self._length(x, 1)
        if self._rest is None:
            result = products.unflatten(2, size)
        else:
            result = functional.fold(products, size, self._kernel, 1, self._padding, self._stride)
        if self._bias is not None:
            result = result + self._bias[:, None, None]
        return result if self._activation is None else self._activation(result)

    def _length(self, x: Tensor, axis: int) -> int:
        """Rows or columns of the result."""
        length, kernel, stride = x.shape[2 + axis], self._kernel[axis], self._stride[axis]
        around = 2 * self._padding[axis]
        if self._rest is None:
            return (length + around - kernel) // stride + 1
        return (length - 1) * stride - around + kernel + self._rest[axis]
