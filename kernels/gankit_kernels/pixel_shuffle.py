"""PixelShuffle with the bias before it and the activation after it, in one read and one write.

Source: Shi et al. 2016, arXiv:1609.05158. The kernels are in :mod:`gankit_kernels.on_cuda`.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from gankit_kernels.activations import Activation, activate, check_activation, derivative
from gankit_kernels.library import exporting, has_triton, register
from gankit_kernels.specs import ShuffleSpec
from gankit_kernels.tensors import check_image, check_like, computed_in, fits

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
    """Compute ``activation(shuffle(x + bias))`` in float32, rounded once.

    Args:
        x: (N, C·r², H, W) float32, float16, bfloat16 (or float64, which the CUDA kernels do not support), as planes or
            channels_last.
        r: Upscaling factor of both sides, 1 or more.
        bias: (C·r²,) in the order of ``x``'s channels, or ``None`` for 0.
        prelu: PReLU's slopes below zero: (1,) for all channels of the result or (C,) for each; requires
            ``activation="none"``.
        activation: ``"none"``, ``"relu"``, ``"leaky_relu"`` or ``"tanh"``.
        slope: LeakyReLU's slope below zero.
        order: Order of ``x``'s channels in ONNX's terms. ``"crd"`` is PyTorch's (channel, sub-row, sub-column).
            ``"dcr"`` is (sub-row, sub-column, channel), in which channels_last images are copied in long runs; reorder
            the weights of the preceding convolution once with :func:`to_dcr`.

    Returns:
        (N, C, r·H, r·W) in the dtype and the layout of ``x``.

    Raises:
        ValueError: A shape, device, activation or order does not fit.
        TypeError: A dtype is not floating point.
    """
    check_image("x", x)
    check_activation(activation)
    if r < 1 or x.shape[1] % (r * r):
        raise ValueError(f"r must be 1 or more and its square must divide {x.shape[1]} channels; it is {r}")
    if order not in get_args(Order):
        raise ValueError(f"order must be 'crd' or 'dcr', not {order!r}")
    if prelu is not None and activation != "none":
        raise ValueError(f"prelu is itself an activation and cannot be combined with {activation!r}")
    check_like("bias", bias, x, (x.shape[1],))
    check_like("prelu", prelu, x, (1,), (x.shape[1] // (r * r),))
    spec = ShuffleSpec(r, activation, slope, order == "dcr")
    if exporting():
        return composite(x, bias, prelu, spec)
    result: Tensor = _OPERATION(x, bias, prelu, **vars(spec))
    return result


def to_dcr(value: Tensor, r: int) -> Tensor:
    """Reorder a convolution's weight (C·r², …) or bias (C·r²,) for ``order="dcr"``: (c, i, j) -> (i, j, c)."""
    result: Tensor = value.unflatten(0, (-1, r * r)).transpose(0, 1).flatten(0, 1)
    return result


def to_crd(value: Tensor, r: int) -> Tensor:
    """The inverse of :func:`to_dcr`."""
    result: Tensor = value.unflatten(0, (r * r, -1)).transpose(0, 1).flatten(0, 1)
    return result


def composite(x: Tensor, bias: Tensor | None, prelu: Tensor | None, spec: ShuffleSpec) -> Tensor:
    """The same in torch's own operations: what an export contains, and the reference for the kernels."""
    dtype = computed_in(x)
    result = _shuffled(x.to(dtype), bias, spec)
    result = activate(result, spec.activation, spec.slope) if prelu is None else F.prelu(result, prelu.to(dtype))
    return result.to(x.dtype)


def _shuffled(x: Tensor, bias: Tensor | None, spec: ShuffleSpec) -> Tensor:
    if bias is not None:
        x = x + bias.to(x.dtype)[:, None, None]
    if spec.dcr:
        x = x.unflatten(1, (spec.r * spec.r, -1)).transpose(1, 2).flatten(1, 2)
    return F.pixel_shuffle(x, spec.r)


def _reference(x: Tensor, bias: Tensor | None, prelu: Tensor | None, spec: ShuffleSpec) -> Tensor:
    result = spec.empty(x)
    return result if x.numel() == 0 else result.copy_(composite(x, bias, prelu, spec))


def _on_cuda(x: Tensor, bias: Tensor | None, prelu: Tensor | None, spec: ShuffleSpec) -> Tensor:
    if not has_triton() or not fits(x, x.shape[2] * x.shape[3] * spec.r * spec.r):
        return _reference(x, bias, prelu, spec)
    from gankit_kernels.on_cuda.pixel_shuffle import launch

    return launch(x, bias, prelu, spec)


def _empty(x: Tensor, bias: Tensor | None, prelu: Tensor | None, spec: ShuffleSpec) -> Tensor:
    return spec.empty(x)


def _setup(ctx: Any, tensors: tuple[Any, ...], spec: ShuffleSpec) -> None:
    ctx.save_for_backward(*tensors)
    ctx.spec = spec


def _backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    x, bias, prelu = ctx.saved_tensors
    spec: ShuffleSpec = ctx.spec
    dtype = computed_in(x)
    inner = gradient.to(dtype)
    to_prelu = None
    if prelu is not None:
        value = _shuffled(x.to(dtype), bias, spec)
        below = value <= 0
        products = torch.where(below, inner * value, 0.0)
        to_prelu = (products.sum().reshape(1) if prelu.numel() == 1 else products.sum((0, 2, 3))).to(prelu.dtype)
        inner = torch.where(below, inner * prelu.to(dtype)[:, None, None], inner)
    elif spec.activation != "none":
        slopes = derivative(_shuffled(x.to(dtype), bias, spec), spec.activation, spec.slope)
        inner = inner if slopes is None else inner * slopes
    inner = F.pixel_unshuffle(inner, spec.r)
    if spec.dcr:
        inner = inner.unflatten(1, (-1, spec.r * spec.r)).transpose(1, 2).flatten(1, 2)
    to_bias = None if bias is None else inner.sum((0, 2, 3)).to(bias.dtype)
    return inner.to(x.dtype), to_bias, to_prelu


_OPERATION = register(
    "pixel_shuffle(Tensor x, Tensor? bias, Tensor? prelu, *, int r, str activation, float slope, bool dcr) -> Tensor",
    ShuffleSpec,
    reference=_reference,
    on_cuda=_on_cuda,
    empty=_empty,
    setup=_setup,
    backward=_backward,
)
