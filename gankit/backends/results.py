"""Run an engine and check what it returns, so that a wrong engine never makes a file."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gankit.backends.base import Engine
from gankit.errors import BackendError


def checked_run(engine: Engine, *tensors: Tensor, shape: Sequence[int]) -> Tensor:
    """Run an engine, and check the shape and the dtype of its result. All calls of the pipeline go through here.

    Args:
        engine: the engine.
        tensors: as in :meth:`Engine.run`.
        shape: shape that the result must have: (N, C', H', W').

    Returns:
        The result of :meth:`Engine.run`. Images have the dtype of the input, and samples are float32.

    Raises:
        BackendError: If the engine returns anything else.
    """
    result = engine.run(*tensors)
    check_result(engine, tensors, result, shape)
    return result


def check_result(engine: Engine, tensors: Sequence[Tensor], result: Tensor, shape: Sequence[int]) -> None:
    """Check the shape and the dtype of a result, as :func:`checked_run` does.

    Raises:
        BackendError: If one of them is wrong. The message names the engine and both.
    """
    images = tensors[0].ndim == len(shape)
    dtype = tensors[0].dtype if images else torch.float32
    if tuple(result.shape) == tuple(shape) and result.dtype == dtype:
        return
    given, got, wanted = tuple(tensors[0].shape), tuple(result.shape), tuple(shape)
    returned = f"{got} and not {wanted}" if got != wanted else f"{result.dtype} and not {dtype}"
    name = f"{engine.backend} {engine.precision}"
    advice = "use another --backend, or correct the facts of a module of your own"
    raise BackendError(f"{name} returned {returned} for an input of {given}; {advice}")
