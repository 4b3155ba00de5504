"""What follows a convolution in a generator: bias, activation, scale, residual and border, in one read and one write.

torch adds a convolution's bias on CUDA in a pass of its own, and runs each of the other operations in one more. The
kernels are in :mod:`gankit_kernels.on_cuda`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gankit_kernels.activations import Activation, activate, check_activation, derivative
from gankit_kernels.borders import unreflected
from gankit_kernels.library import exporting, has_triton, register
from gankit_kernels.specs import EpilogueSpec
from gankit_kernels.tensors import check_image, check_like, computed_in, fits


def epilogue(
    x: Tensor,
    bias: Tensor | None = None,
    *,
    prelu: Tensor | None = None,
    residual: Tensor | None = None,
    activation: Activation = "none",
    slope: float = 0.01,
    scale: float = 1.0,
    before: bool = False,
    pads: Sequence[int] = (0, 0, 0, 0),
    in_place: bool = False,
) -> Tensor:
    """Compute ``pad(activation(x + bias) * scale + residual)`` in float32, rounded once.

    Args:
        x: (N, C, H, W) float32, float16, bfloat16 (or float64, which the CUDA kernels do not support), as planes or
            channels_last.
        bias: (C,) of any floating dtype, or ``None`` for 0.
        prelu: PReLU's slopes below zero: (1,) for all channels or (C,) for each; requires ``activation="none"``.
        residual: Tensor of ``x``'s shape. On CUDA, a channels_last view into a padded image is read in place.
        activation: ``"none"``, ``"relu"``, ``"leaky_relu"`` or ``"tanh"``.
        slope: LeakyReLU's slope below zero.
        scale: Factor of the result before the residual is added.
        before: Add the residual before the activation: ``activation((x + bias) * scale + residual)``.
        pads: Widths of the reflected border (left, right, top, bottom) around the result, in pixels, each smaller than
            the side of the image along its axis.
        in_place: Overwrite ``x`` with the result, which needs ``pads`` of 0 and has no gradient.

    Returns:
        (N, C, top + H + bottom, left + W + right) in the dtype and the layout of ``x``; ``x`` itself if ``in_place``.

    Raises:
        ValueError: A shape, device, activation or border does not fit.
        TypeError: A dtype is not floating point.
    """
    check_image("x", x)
    check_activation(activation)
    _, channels, height, width = x.shape
    if prelu is not None and activation != "none":
        raise ValueError(f"prelu is itself an activation and cannot be combined with {activation!r}")
    check_like("bias", bias, x, (channels,))
    check_like("prelu", prelu, x, (1,), (channels,))
    check_like("residual", residual, x, tuple(x.shape))
    spec = EpilogueSpec(activation, slope, scale, before, tuple(pads))
    if spec.padded:
        left, right, top, bottom = spec.pads
        if min(spec.pads) < 0 or max(left, right) >= width or max(top, bottom) >= height:
            raise ValueError(f"pads must be from 0 to less than the sides of {height}×{width}, not {spec.pads}")
        if in_place:
            raise ValueError("a result with a border does not fit into x: take in_place=False or pads of 0")
    if exporting():
        return composite(x, bias, prelu, residual, spec)
    if in_place:
        _IN_PLACE(x, bias, prelu, residual, **vars(spec))
        return x
    result: Tensor = _OPERATION(x, bias, prelu, residual, **vars(spec))
    return result


def composite(
    x: Tensor, bias: Tensor | None, prelu: Tensor | None, residual: Tensor | None, spec: EpilogueSpec
) -> Tensor:
    """The same in torch's own operations: what an export contains, and the reference for the kernels."""
    dtype = computed_in(x)
    result = x.to(dtype)
    added = None if residual is None else residual.to(dtype)
    if bias is not None:
        result = result + bias.to(dtype)[:, None, None]
    if spec.before:
        result = result if spec.scale == 1 else result * spec.scale
        result = result if added is None else result + added
    result = activate(result, spec.activation, spec.slope) if prelu is None else F.prelu(result, prelu.to(dtype))
    if not spec.before:
        result = result if spec.scale == 1 else result * spec.scale
        result = result if added is None else result + added
    if spec.padded:
        result = F.pad(result, tuple(spec.pads), mode="reflect")
    return result.to(x.dtype)


def _reference(
    x: Tensor, bias: Tensor | None, prelu: Tensor | None, residual: Tensor | None, spec: EpilogueSpec
) -> Tensor:
    result = spec.empty(x)
    return result if x.numel() == 0 else result.copy_(composite(x, bias, prelu, residual, spec))


def _reference_in_place(
    x: Tensor, bias: Tensor | None, prelu: Tensor | None, residual: Tensor | None, spec: EpilogueSpec
) -> None:
    x.copy_(composite(x, bias, prelu, residual, spec))


def _supported(x: Tensor, spec: EpilogueSpec) -> bool:
    left, right, top, bottom = spec.pads
    return has_triton() and fits(x, (x.shape[2] + top + bottom) * (x.shape[3] + left + right))


def _on_cuda(
    x: Tensor, bias: Tensor | None, prelu: Tensor | None, residual: Tensor | None, spec: EpilogueSpec
) -> Tensor:
    if not _supported(x, spec):
        return _reference(x, bias, prelu, residual, spec)
    from gankit_kernels.on_cuda.epilogue import launch

    return launch(x, bias, prelu, residual, spec)


def _on_cuda_in_place(
    x: Tensor, bias: Tensor | None, prelu: Tensor | None, residual: Tensor | None, spec: EpilogueSpec
) -> None:
    if not _supported(x, spec):
        _reference_in_place(x, bias, prelu, residual, spec)
        return
    from gankit_kernels.on_cuda.epilogue import launch_in_place

    launch_in_place(x, bias, prelu, residual, spec)


def _empty(x: Tensor, bias: Tensor | None, prelu: Tensor | None, residual: Tensor | None, spec: EpilogueSpec) -> Tensor:
    return spec.empty(x)


def _setup(ctx: Any, tensors: tuple[Any, ...], spec: EpilogueSpec) -> None:
    ctx.save_for_backward(*tensors)
    ctx.spec = spec


def _backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    """Differentiate the formula in float32, with torch's own operations, which have gradients themselves."""
    x, bias, prelu, residual = ctx.saved_tensors
    spec: EpilogueSpec = ctx.spec
    dtype = computed_in(x)
    inner = gradient.to(dtype)
    if spec.padded:
        inner = unreflected(inner, spec.pads)
    to_residual = None if residual is None else inner
    value = x.to(dtype)
    if bias is not None:
        value = value + bias.to(dtype)[:, None, None]
    if spec.before:
        value = value * spec.scale
        value = value if residual is None else value + residual.to(dtype)
    else:
        inner = inner * spec.scale
    to_prelu = None
    if prelu is not None:
        below = value <= 0
        products = torch.where(below, inner * value, 0.0)
        to_prelu = (products.sum().reshape(1) if prelu.numel() == 1 else products.sum((0, 2, 3))).to(prelu.dtype)
        inner = torch.where(below, inner * prelu.to(dtype)[:, None, None], inner)
    else:
        slopes = derivative(value, spec.activation, spec.slope)
        inner = inner if slopes is None else inner * slopes
    if spec.before:
        to_residual = None if residual is None else inner
        inner = inner * spec.scale
    to_bias = None if bias is None else inner.sum((0, 2, 3)).to(bias.dtype)
    to_residual = None if to_residual is None else to_residual.to(residual.dtype)
    return inner.to(x.dtype), to_bias, to_prelu, to_residual


_TENSORS = "Tensor? bias, Tensor? prelu, Tensor? residual"
_FIELDS = "str activation, float slope, float scale, bool before, int[] pads"
_OPERATION = register(
    f"epilogue(Tensor x, {_TENSORS}, *, {_FIELDS}) -> Tensor",
    EpilogueSpec,
    reference=_reference,
    on_cuda=_on_cuda,
    empty=_empty,
    setup=_setup,
    backward=_backward,
)
_IN_PLACE = register(
    f"epilogue_(Tensor(a!) x, {_TENSORS}, *, {_FIELDS}) -> ()",
    EpilogueSpec,
    reference=_reference_in_place,
    on_cuda=_on_cuda_in_place,
    empty=lambda x, bias, prelu, residual, spec: None,
)
