"""Launches that are worked out once for a shape, and then repeated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


class Step:
    """One launch: a kernel and all its arguments but the tensors and two scalars.

    Triton looks at the type and the divisors of every argument of every launch, which takes longer than most of these
    kernels run. Here the numbers stay as they are, so that what it compiled for the first launch serves all others
    whose tensors begin at addresses that are alike.

    Args:
        kernel: of Triton's.
        programs: to launch.
        tensors: which of the call's tensors are the first arguments, by index.
        numbers: the arguments behind them.
        constants: constants of the kernel, and options of the launch.
        scalars: whether the call's scalars stand between numbers and constants.
    """

    def __init__(
        self,
        kernel: Any,
        programs: int,
        tensors: Sequence[int],
        numbers: Sequence[int],
        constants: dict[str, Any],
        *,
        scalars: bool = True,
    ) -> None:
        self._kernel, self._grid = kernel, (programs, 1, 1)
        self._tensors, self._numbers, self._constants, self._scalars = tensors, numbers, constants, scalars
        self._fixed = [constants[name] for name in kernel.arg_names if name in constants]
        self._compiled: dict[tuple[int | None, ...], Any] = {}

    def __call__(self, tensors: Sequence[Tensor], scalars: Sequence[float], device: int | None) -> None:
        """Launch on ``device``, the current one, where all tensors are."""
        given = [tensors[index] for index in self._tensors]
        arguments = (*given, *self._numbers, *scalars) if self._scalars else (*given, *self._numbers)
        key = (device, *[tensor.data_ptr() % 16 for tensor in given])
        compiled = self._compiled.get(key)
        if compiled is None:
            self._compiled[key] = self._kernel[self._grid](*arguments, **self._constants)  # None in the interpreter
        else:
            compiled[self._grid](*arguments, *self._fixed)
