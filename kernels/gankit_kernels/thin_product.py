"""Products of few rows with a large matrix on the CPU, at the speed at which memory delivers the matrix."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from gankit_kernels.on_cpu import llvm, tiling
from gankit_kernels.on_cpu import winograd as kernels
from gankit_kernels.on_cpu.tiled import check_values, shared


class ThinProduct:
    """A sum of products with fixed matrices. Several threads may call it at once.

    The matrices are stored in the order in which they are read, so that the processor fetches what comes next while it
    multiplies. Libraries reorder them at every call, which takes longer than the products of few rows.

    Args:
        matrices: (P, D, R) float32. D and R are multiples of what a register holds.

    Raises:
        ImportError: If llvmlite is not installed.
        ValueError: If a size does not fit.
        TypeError: If the matrices are not float32 on the CPU.
    """

    def __init__(self, matrices: Tensor) -> None:
        check_values("matrices", matrices)
        if matrices.ndim != 3 or matrices.shape[1] % llvm.lanes() or matrices.shape[2] % llvm.lanes():
            wanted = f"(P, D, R) with multiples of {llvm.lanes()} as D and R"
            raise ValueError(f"matrices must be {wanted}, not {tuple(matrices.shape)}")
        self._count, self._depth, self._results = matrices.shape
        self._together = tiling.panel(self._results)
        panels = matrices.detach().unflatten(2, (-1, self._together))
        self._panels = panels.transpose(1, 2).contiguous()  # (P, R / together, D, together)

    def __call__(self, rows: Tensor, threads: int = 1) -> Tensor:
        """Multiply.

        Args:
            rows: (P, M, D) float32.
            threads: number of threads that share the columns of the result.

        Returns:
            (M, R): the sum of the P products.

        Raises:
            ValueError: If the shape does not fit.
            TypeError: If the rows are not float32 on the CPU.
        """
        check_values("rows", rows)
        if rows.ndim != 3 or rows.shape[::2] != (self._count, self._depth):
            raise ValueError(f"rows must be ({self._count}, M, {self._depth}), not {tuple(rows.shape)}")
        height = rows.shape[1]
        tall = tiling.rows_of(self._together)
        filled = -(-height // tall) * tall
        if filled != height or not rows.is_contiguous():
            rows = torch.nn.functional.pad(rows, (0, 0, 0, filled - height)).contiguous()
        panels = self._panels.shape[1]
        share = -(-panels // threads)
        parts = [(first, min(panels, first + share)) for first in range(0, panels, share)]
        sums = [torch.empty(filled, (stop - first) * self._together) for first, stop in parts]
        shared(
            threads,
            [partial(self._multiply, rows, total, *part) for total, part in zip(sums, parts, strict=True)],
        )
        return (sums[0] if len(sums) == 1 else torch.cat(sums, 1))[:height]

    def _multiply(self, rows: Tensor, sums: Tensor, first: int, stop: int) -> None:
        """Compute the columns of some panels."""
        height, columns = sums.shape
        for index in range(self._count):
            multiply = kernels.multiply(1, self._depth, self._together, index > 0, True)
            panels = self._panels[index, first:stop]
            multiply(rows[index].data_ptr(), 0, panels.data_ptr(), sums.data_ptr(), 0, height, columns)
