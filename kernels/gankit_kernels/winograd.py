"""3×3 and 5×5 convolutions on the CPU with a fraction of the products; see :mod:`gankit_kernels.on_cpu.winograd`."""

from __future__ import annotations

from torch import Tensor

from gankit_kernels.on_cpu import llvm, tiling
from gankit_kernels.on_cpu.tiled import Tiled, check_place, check_values

_WEIGHTS = (3, 5)  # rows and columns of kernels


def suits(channels: int, results: int, weights: int = 3) -> bool:
    """Whether convolutions from and to so many channels run here.

    Input channels must fill registers. So must output channels with 3×3 weights; with 5×5 the last register may be
    filled to a half, because so many products are saved.

    Args:
        channels: number of input channels.
        results: number of output channels.
        weights: rows and columns of the kernel.
    """
    if not llvm.installed() or weights not in _WEIGHTS or channels % llvm.lanes():
        return False
    return results % llvm.lanes() == 0 or (weights == 5 and results % llvm.lanes() >= llvm.lanes() // 2)


class Winograd(Tiled):
    """A 3×3 or 5×5 convolution with stride 1, and what follows it. Several threads may call it at once.

    Results differ from those of a direct convolution by 1e-6 (few channels) to 3e-5 (512) of the largest one. Tiles of
    4×4 or 6×6 results share their sums, so that NaN and infinity reach all of the tiles that see them. The weights are
    transformed at the first call, and again at the first one that takes tiles of the other size.

    Args:
        weight: (C', C, k, k) float32, k 3 or 5. C is a multiple of what a register holds. If C' is none, zeros fill
            the last register, and the result is a view of a tensor with more channels.
        bias: (C',), or ``None``.
        slopes: (C',) factors of negative results, as in PReLU; zeros are a ReLU. ``None`` leaves all results as they
            are.

    Attributes:
        filled: number of output channels with those that fill the last register.

    Raises:
        ImportError: If llvmlite is not installed.
        ValueError: If a shape does not fit, or the numbers of channels do not.
        TypeError: If the weight is not float32 on the CPU.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, slopes: Tensor | None = None) -> None:
        check_values("weight", weight)
        if weight.ndim != 4 or weight.shape[2] != weight.shape[3] or weight.shape[3] not in _WEIGHTS:
            raise ValueError(f"weight must be (C', C, 3, 3) or (C', C, 5, 5), not {tuple(weight.shape)}")
        self._weight = weight.detach()
        super().__init__((*weight.shape[:2], weight.shape[3]), bias, slopes, "one")

    def parts(self) -> list[Tensor]:
        """See the base class."""
        return [self._weight]

    def pays(self, x: Tensor, padding: tuple[int, int] = (0, 0)) -> bool:
        """Whether images are large enough for a gain; the arguments are those of :meth:`__call__`."""
        less = self.side - 1
        return tiling.pays(self.side, len(x), *(n + 2 * p - less for n, p in zip(x.shape[2:], padding, strict=True)))

    def __call__(
        self,
        x: Tensor,
        padding: tuple[int, int] = (0, 0),
        add_to: Tensor | None = None,
        threads: int = 1,
        out: Tensor | None = None,
    ) -> Tensor:
        """Convolve.

        Args:
            x: (N, C, H, W) float32. It is copied unless it is channels_last, or some of the rows of such a tensor.
            padding: zeros above and below, and left and right; at most half of the kernel, 1 or 2.
            add_to: a tensor of the result's shape and layout to which the result is added in place.
            threads: number of threads that share the rows of an image.
            out: (N, filled, H', W') of a layout like ``add_to``'s, into which the result is written.

        Returns:
            (N, C', H', W') channels_last, or ``add_to``.

        Raises:
            ValueError: If a shape, a padding or the layout of ``add_to`` or ``out`` does not fit.
            TypeError: If a tensor is not float32 on the CPU.
        """
        x = self.entered(x)
        reach = self.side // 2
        if not {*padding} <= {*range(reach + 1)}:
            raise ValueError(f"padding must be 0 to {reach} on each axis, not {padding}")
        count, _, height, width = x.shape
        rows, columns = height + 2 * (padding[0] - reach), width + 2 * (padding[1] - reach)
        if rows < 1 or columns < 1:
            kernel = f"{self.side}×{self.side}"
            raise ValueError(f"{height}×{width} pixels with the padding {padding} are fewer than the kernel's {kernel}")
        if add_to is not None:
            check_place("add_to", add_to, (count, self.results, rows, columns))
            if self.filled != self.results:
                return add_to.add_(self(x, padding, None, threads))
        result = add_to if add_to is not None else self.place(x, (rows, columns), out)
        self.compute(x, result, (rows, columns), padding, add_to is not None, threads)
        return self.wanted(result)
