"""Precision, once, in the module: the same typed module feeds every exporter and engine.

A graph converter that runs after the export has to guess which nodes may be narrow. Here the module says it:
parameters are cast, and whatever computes statistics keeps float32 inside and shows its neighbours the narrow type.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from gankit_export.layers import keeps_float32
from gankit_export.norms import Float32Norm
from gankit_export.precisions import Precision

__all__ = ["DTYPES", "Float32Edges", "RangeError", "typed"]

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class RangeError(ValueError):
    """A weight is too large for the precision."""


class Float32Edges(nn.Module):
    """A narrow module that takes and returns float32.

    Args:
        inner: a module of one tensor to one tensor.
        dtype: what it computes in.
    """

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = inner
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Float32 (N, C, H, W) in, float32 out."""
        result: Tensor = self.inner(x.to(self.dtype)).float()
        return result


def typed(module: nn.Module, precision: Precision, *, float32_edges: bool = True) -> nn.Module:
    """A deep copy in ``precision``, in eval mode, with the statistics of every normalisation in float32.

    Args:
        module: a generator in fp32; BatchNorm is best folded first (``rewrites.for_inference``), which leaves none.
        precision: arithmetic of everything but normalisations.
        float32_edges: take and return float32, with the casts inside; else the narrow type.

    Raises:
        ValueError: unknown precision.
        RangeError: a weight is too large for it.
    """
    if precision not in DTYPES:
        raise ValueError(f"precision must be one of {', '.join(DTYPES)}, not {precision!r}")
    dtype = DTYPES[precision]
    result = copy.deepcopy(module).eval().requires_grad_(False)
    if precision == "fp32":
        return result.float()
    if keeps_float32(result):
        result = Float32Norm(result)
    else:
        _keep_norms(result)
    kept = {id(item) for norm in result.modules() if isinstance(norm, Float32Norm) for item in _tensors(norm)}
    for name, item in [*result.named_parameters(), *result.named_buffers()]:
        if id(item) in kept or not item.is_floating_point():
            continue
        narrow = item.data.to(dtype)
        if not bool(torch.isfinite(narrow).all()):
            raise RangeError(f"'{name}' has values beyond the range of {precision}; take bf16 or fp32")
        item.data = narrow
    return Float32Edges(result, dtype) if float32_edges else result


def _keep_norms(module: nn.Module) -> None:
    """Wrap every normalisation below ``module``."""
    for name, child in module.named_children():
        if keeps_float32(child):
            setattr(module, name, Float32Norm(child))
        elif not isinstance(child, Float32Norm):
            _keep_norms(child)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
