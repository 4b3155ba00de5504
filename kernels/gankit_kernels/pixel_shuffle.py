"""PixelShuffle with the bias before it and the activation behind it: one read and one write.

Shi et al. 2016, arXiv:1609.05158. The kernels are in :mod:`gankit_kernels.on_cuda`.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from gankit_kernels.activations import Activation, activate, check_activation, derivative
from gankit_kernels.library import exporting, has_triton, register
from gankit_kernels.tensors import check_like, check_picture, computed_in, fits, memory_format

Order = Literal["crd", "dcr"]


def pixel_shuffle(
    x: Tensor,
    r: int,
    *,
    bias: Tensor | None = None,
    prelu: Tensor | None = None,
    activation: Activation = "none",
    slope: float = 0.01,
    order: Order = "crd",
) -> Tensor:
    """``activation(shuffle(x + bias))``, computed in float32 and rounded once.

    Args:
        x: (N, C·r², H, W) float32, float16, bfloat16 (or float64, not on CUDA kernels), planes or channels_last.
        r: factor of both sides, 1 or more.
        bias: (C·r²,), in the order of ``x``'s channels; ``None`` for 0.
        prelu: slopes below zero, (1,) or one for every channel of the result, (C,); with ``activation="none"``.
        activation: ``"none"``, ``"relu"``, ``"leaky_relu"`` or ``"tanh"``.
        slope: of ``"leaky_relu"`` below zero.
        order: of the channels, in ONNX's words: ``"crd"`` is PyTorch's (channel, sub-row, sub-column), ``"dcr"`` is
            (sub-row, sub-column, channel), for which channels_last pictures are copied in long runs.
            :func:`to_dcr` turns the weights of the convolution before once, at load time.

    Returns:
        (N, C, r·H, r·W) in the dtype and the layout of ``x``.

    Raises:
        ValueError: a shape, device, activation or order that does not fit.
        TypeError: a dtype that is not floating point.
    """
    check_picture("x", x)
    check_activation(activation)
    if r < 1 or x.shape[1] % (r * r):
        raise ValueError(f"r must be 1 or more, and its square divide {x.shape[1]} channels; it is {r}")
    if order not in get_args(Order):
        raise ValueError(f"order must be 'crd' or 'dcr', not {order!r}")
    if prelu is not None and activation != "none":
        raise ValueError(f"prelu is an activation by itself: not with {activation!r}")
    check_like("bias", bias, x, (x.shape[1],))
    check_like("prelu", prelu, x, (1,), (x.shape[1] // (r * r),))
    if exporting():
        return composite(x, r, bias, prelu, activation, slope, order == "dcr")
    result: Tensor = _OPERATION(x, r, bias, prelu, activation, slope, order == "dcr")
    return result


def to_dcr(value: Tensor, r: int) -> Tensor:
    """Reorder a convolution's weight (C·r², …) or bias (C·r²,) for ``order="dcr"``: (c, i, j) -> (i, j, c)."""
    return value.unflatten(0, (-1, r * r)).transpose(0, 1).flatten(0, 1)


def to_crd(value: Tensor, r: int) -> Tensor:
    """The inverse of :func:`to_dcr`."""
    return value.unflatten(0, (r * r, -1)).transpose(0, 1).flatten(0, 1)


def composite(
    x: Tensor, r: int, bias: Tensor | None, prelu: Tensor | None, activation: str, slope: float, dcr: bool
) -> Tensor:
    """The same in torch's own operations: what is exported, and what the kernels are measured against."""
    dtype = computed_in(x)
    result = _shuffled(x.to(dtype), r, bias, dcr)
    result = activate(result, activation, slope) if prelu is None else F.prelu(result, prelu.to(dtype))
    return result.to(x.dtype)


def empty_result(x: Tensor, r: int) -> Tensor:
    """An empty tensor for the result, laid out as ``x``."""
    samples, channels, height, width = x.shape
    shape = (samples, channels // (r * r), height * r, width * r)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format(x))


def _shuffled(x: Tensor, r: int, bias: Tensor | None, dcr: bool) -> Tensor:
    if bias is not None:
        x = x + bias.to(x.dtype)[:, None, None]
    if dcr:
        x = x.unflatten(1, (r * r, -1)).transpose(1, 2).flatten(1, 2)
    return F.pixel_shuffle(x, r)


def _reference(x: Tensor, r: int, *rest: Any) -> Tensor:
    result = empty_result(x, r)
    return result if x.numel() == 0 else result.copy_(composite(x, r, *rest))


def _on_cuda(x: Tensor, r: int, *rest: Any) -> Tensor:
    if not has_triton() or not fits(x, x.shape[2] * x.shape[3] * r * r):
        return _reference(x, r, *rest)
    from gankit_kernels.on_cuda.pixel_shuffle import launch

    return launch(x, r, *rest)


def _shapes(x: Tensor, r: int, *rest: Any) -> Tensor:
    return empty_result(x, r)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.r, bias, prelu, ctx.activation, ctx.slope, ctx.dcr = inputs
    ctx.save_for_backward(x, bias, prelu)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    x, bias, prelu = ctx.saved_tensors
    dtype = computed_in(x)
    inner = gradient.to(dtype)
    to_prelu = None
    if prelu is not None:
        value = _shuffled(x.to(dtype), ctx.r, bias, ctx.dcr)
        below = value <= 0
        products = torch.where(below, inner * value, 0.0)
        to_prelu = (products.sum().reshape(1) if prelu.numel() == 1 else products.sum((0, 2, 3))).to(prelu.dtype)
        inner = torch.where(below, inner * prelu.to(dtype)[:, None, None], inner)
    elif ctx.activation != "none":
        slopes = derivative(_shuffled(x.to(dtype), ctx.r, bias, ctx.dcr), ctx.activation, ctx.slope)
        inner = inner if slopes is None else inner * slopes
    inner = F.pixel_unshuffle(inner, ctx.r)
    if ctx.dcr:
        inner = inner.unflatten(1, (-1, ctx.r * ctx.r)).transpose(1, 2).flatten(1, 2)
    to_bias = None if bias is None else inner.sum((0, 2, 3)).to(bias.dtype)
    return inner.to(x.dtype), None, to_bias, to_prelu, None, None, None


_OPERATION = register(
    "pixel_shuffle(Tensor x, int r, Tensor? bias, Tensor? prelu, str activation, float slope, bool dcr) -> Tensor",
    reference=_reference,
    on_cuda=_on_cuda,
    shapes=_shapes,
    setup=_setup,
    backward=_backward,
)
