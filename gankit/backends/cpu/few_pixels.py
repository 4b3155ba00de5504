"""Convolutions that halve or double images of few pixels, as products of two matrices.

oneDNN reorders the weights at every call of a module, which takes longer than the arithmetic of few pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from gankit_kernels.on_cpu import llvm
from gankit_kernels.thin_product import ThinProduct
from torch import Tensor, nn
from torch.nn import functional


class FewPixels:
    """A 3×3 or 4×4 convolution with stride 2 and padding 1, or a transposed one that doubles the size.

    Args:
        conv: its numbers of channels fill registers; four times as many output channels if it is transposed.
        activation: applied to the result.
    """

    def __init__(
        self, conv: nn.Conv2d | nn.ConvTranspose2d, activation: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self._weight, self._bias, self._activation = conv.weight.detach(), conv.bias, activation
        self._doubles = isinstance(conv, nn.ConvTranspose2d)
        if conv.out_channels % llvm.lanes():  # a fourth row and column of zeros lets them fill registers together
            self._weight = functional.pad(self._weight, (0, 4 - conv.kernel_size[0]) * 2)
        self._kernel = self._weight.shape[3]
        self._product: ThinProduct | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W') channels_last."""
        if self._product is None:  # only now, because larger images do without
            self._product = ThinProduct(self._matrices())
        pixels = x.permute(0, 2, 3, 1)
        result = (self._doubled if self._doubles else self._halved)(pixels, self._product)
        if self._bias is not None:
            result = result + self._bias
        result = result.permute(0, 3, 1, 2)
        return result if self._activation is None else self._activation(result)

    def _matrices(self) -> Tensor:
        """(k², C, C') for images that are halved, (1, C, k²·C') for those that are doubled."""
        if self._doubles:
            return self._weight.permute(0, 2, 3, 1).flatten(1)[None]
        return self._weight.permute(2, 3, 1, 0).flatten(0, 1)

    def _halved(self, pixels: Tensor, product: ThinProduct) -> Tensor:
        """(N, H, W, C) -> (N, H', W', C'): each weight's pixels times its matrix."""
        height, width = ((length + 4 - self._kernel) // 2 for length in pixels.shape[1:3])
        around, taps = functional.pad(pixels, (0, 0, 1, 1, 1, 1)), range(self._kernel)
        parts = [around[:, i : i + 2 * height : 2, j : j + 2 * width : 2] for i in taps for j in taps]
        rows = torch.stack([part.flatten(0, 2) for part in parts])
        return product(rows, torch.get_num_threads()).view(len(pixels), height, width, -1)

    def _doubled(self, pixels: Tensor, product: ThinProduct) -> Tensor:
        """(N, H, W, C) -> (N, 2H, 2W, C'): what each pixel adds to those around it."""
        count, height, width, channels = pixels.shape
        rows = pixels.reshape(1, -1, channels)
        parts = product(rows, torch.get_num_threads()).view(count, height, width, self._kernel, self._kernel, -1)
        around = parts.new_zeros(count, 2 * height + 2, 2 * width + 2, parts.shape[-1])
        for i in range(self._kernel):
            for j in range(self._kernel):
                around[:, i : i + 2 * height : 2, j : j + 2 * width : 2] += parts[:, :, :, i, j]
        return around[:, 1:-1, 1:-1]
