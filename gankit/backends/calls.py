"""Calls of engines whose results are checked. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from gankit.backends.base import Engine
from gankit.backends.pixels import dtype_name
from gankit.errors import BackendError

if TYPE_CHECKING:
    from torch import Tensor

Values = TypeVar("Values", np.ndarray, "Tensor")


def checked_run(engine: Engine, *inputs: Values, shape: Sequence[int]) -> Values:
    """Run an engine, and check the shape and the dtype of its result. All calls of the pipeline go through here.

    Args:
        engine: the engine.
        inputs: arrays, as in :meth:`Engine.run_arrays`, or tensors, as in :meth:`Engine.run`.
        shape: shape that the result must have: (N, C', H', W').

    Returns:
        The result, an array or a tensor like the inputs. Images have the dtype of the input, and samples are float32.

    Raises:
        BackendError: If the engine returns anything else.
    """
    result = engine.run_arrays(*inputs) if isinstance(inputs[0], np.ndarray) else engine.run(*inputs)
    check_result(engine, inputs, result, shape)
    return result


def checked_submit(engine: Engine, *arrays: np.ndarray, shape: Sequence[int]) -> Callable[[], np.ndarray]:
    """Submit a call of an engine; return a function that waits for the result and checks it like :func:`checked_run`.

    Args:
        engine: the engine.
        arrays: as in :meth:`Engine.submit_arrays`.
        shape: shape that the result must have: (N, C', H', W').
    """
    finish = engine.submit_arrays(*arrays)

    def result() -> np.ndarray:
        made = finish()
        check_result(engine, arrays, made, shape)
        return made

    return result


def check_result(engine: Engine, inputs: Sequence[Values], result: Values, shape: Sequence[int]) -> None:
    """Check the shape and the dtype of a result, as :func:`checked_run` does.

    Raises:
        BackendError: If one of them is wrong. The message names the engine and both.
    """
    images = inputs[0].ndim == len(shape)
    dtype = dtype_name(inputs[0]) if images else "float32"
    if tuple(result.shape) == tuple(shape) and dtype_name(result) == dtype:
        return
    given, got, wanted = tuple(inputs[0].shape), tuple(result.shape), tuple(shape)
    returned = f"{got} and not {wanted}" if got != wanted else f"{dtype_name(result)} and not {dtype}"
    name = f"{engine.backend} {engine.precision}"
    advice = "use another --backend, or correct the facts of a module of your own"
    raise BackendError(f"{name} returned {returned} for an input of {given}; {advice}")
