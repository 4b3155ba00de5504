"""Kernel launches that are planned once for a shape and then repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class Step:
    """One kernel launch with every argument fixed except the tensors and the floating-point scalars.

    Triton inspects the type and the alignment of every argument at every launch, which takes longer than most of these
    kernels run. A step fixes the integers, so that only two facts about the tensors decide which compiled kernel
    serves a launch: dtype and alignment. Both are in the step's key, for every tensor.

    Args:
        kernel: A ``triton.jit`` function whose arguments come in this order: tensors, integers, scalars, constants.
        programs: Number of programs to launch.
        tensors: Index, among the tensors of a call, of each tensor that the kernel takes.
        integers: The kernel's integer arguments by name.
        constants: The kernel's constants by name, and launch options such as ``num_warps``.
        scalars: Names of the kernel's floating-point arguments, whose values come with every call.

    Raises:
        TypeError: The names are not the kernel's arguments.
    """

    def __init__(
        self,
        kernel: Any,
        programs: int,
        tensors: Sequence[int],
        integers: Mapping[str, int],
        constants: Mapping[str, Any],
        *,
        scalars: Sequence[str] = (),
    ) -> None:
        arguments = list(kernel.arg_names[len(tensors) :])
        constant = [name for name in arguments if name in constants]
        if arguments != [*(name for name in arguments if name in integers), *scalars, *constant]:
            raise TypeError(f"{kernel} takes {arguments}, not {[*integers, *scalars, *constants]}")
        self._kernel, self._grid = kernel, (programs, 1, 1)
        self._tensors, self._constants = tuple(tensors), dict(constants)
        self._integers = tuple(integers[name] for name in arguments if name in integers)
        self._takes_scalars = bool(scalars)
        self._fixed = tuple(constants[name] for name in constant)
        self._compiled: dict[tuple[object, ...], Any] = {}

    def arguments(self, tensors: Sequence[Tensor], scalars: Sequence[float]) -> tuple[Any, ...]:
        """The kernel's arguments in order, without its constants."""
        given = [tensors[index] for index in self._tensors]
        return (*given, *self._integers, *scalars) if self._takes_scalars else (*given, *self._integers)

    def launch_by_triton(self, tensors: Sequence[Tensor], scalars: Sequence[float]) -> Any:
        """Launch the way Triton does it: every argument is inspected, and the kernel is compiled where it must be.

        Returns:
            The compiled kernel, or ``None`` under the interpreter.
        """
        return self._kernel[self._grid](*self.arguments(tensors, scalars), **self._constants)

    def __call__(self, tensors: Sequence[Tensor], scalars: Sequence[float], device: int | None) -> None:
        """Launch on the current device.

        Args:
            tensors: All tensors of the call, on the current device.
            scalars: Values of the scalars, each a ``float``: an ``int`` would be another type to Triton.
            device: Index of the current device.
        """
        key: list[int | torch.dtype | None] = [device]
        for index in self._tensors:
            tensor = tensors[index]
            key += (tensor.dtype, tensor.data_ptr() % 16)
        known = tuple(key)
        compiled = self._compiled.get(known)
        if compiled is None:
            self._compiled[known] = self.launch_by_triton(tensors, scalars)
        else:
            compiled[self._grid](*self.arguments(tensors, scalars), *self._fixed)
