"""Use gankit's own CUDA kernels in a generator, unless the environment turns them off."""

from __future__ import annotations

import torch
from gankit_export.norms import Float32Norm
from torch import Tensor, nn

from gankit.backends.cuda.switches import is_on, number
from gankit.models.facts import Facts

PAD_OUTPUTS = "GANKIT_PAD_OUTPUTS"
PAD_INPUTS = "GANKIT_PAD_INPUTS"
CUDNN_RELU = "GANKIT_CUDNN_RELU"
DENSE = "GANKIT_DENSE"
NORM_ONE_LAUNCH = "GANKIT_NORM_ONE_LAUNCH"


def with_kernels(module: nn.Module, *, dense: bool = False) -> nn.Module:
    """Return a copy of a typed generator in which norms, shuffles and convolutions are fused with their neighbours.

    A generator that cannot be traced is returned unchanged. Five environment variables are for measurements:
    ``GANKIT_PAD_OUTPUTS`` and ``GANKIT_PAD_INPUTS`` are the multiples to which fp16 and bf16 convolutions are widened
    (8 and 1, which means not at all), ``GANKIT_CUDNN_RELU=on`` leaves bias and ReLU to cuDNN, ``GANKIT_DENSE=off``
    leaves the concatenations of dense blocks as they are, and ``GANKIT_NORM_ONE_LAUNCH=on`` or ``off`` replaces the
    measurement of :mod:`gankit_kernels.on_cuda.norm_choice`.

    Args:
        module: the result of :func:`gankit.backends.modules.typed_module`.
        dense: whether to remove the concatenations of dense blocks, which suits an engine that does not compile.

    Raises:
        UsageError: If a variable has an unknown value.
    """
    from gankit_kernels import fuse

    outputs, inputs = number(PAD_OUTPUTS, 8), number(PAD_INPUTS, 1)
    is_on(NORM_ONE_LAUNCH)  # the kernels read it themselves, in the middle of a run
    relu, dense = is_on(CUDNN_RELU, default=False), dense and is_on(DENSE)
    try:
        return fuse(module, unwrap=_norm_inside, pad_outputs=outputs, pad_inputs=inputs, cudnn_relu=relu, dense=dense)
    except ValueError:
        return module


def to_values(batch: Tensor, facts: Facts, dtype: torch.dtype) -> Tensor:
    """Like :func:`gankit.backends.pixels.to_values` for integers, bit for bit, in one pass and in channels_last."""
    from gankit_kernels import from_uint8

    low, high = facts.value_range
    pixels = batch.permute(0, 2, 3, 1)
    return from_uint8(pixels, low=low, high=high, dtype=dtype, memory_format=torch.channels_last)


def from_values(values: Tensor, facts: Facts, dtype: torch.dtype) -> Tensor:
    """Like :func:`gankit.backends.pixels.from_values` for integers, bit for bit, in one pass and in channels_last."""
    from gankit_kernels import to_uint8

    low, high = facts.value_range
    return to_uint8(values, low=low, high=high, dtype=dtype).permute(0, 3, 1, 2)


def _norm_inside(module: nn.Module) -> nn.Module:
    """Return the norm without the casts around it, because the kernels compute in float32 themselves."""
    return module.norm if isinstance(module, Float32Norm) else module
