"""InstanceNorm with everything that stands around it in a generator: one read and one write of the picture.

The public functions, the reference in torch's own operations and the gradient; the kernels are in
:mod:`gankit_kernels.on_cuda`, which is imported with the first CUDA tensor.

Ulyanov et al. 2016, arXiv:1607.08022; GroupNorm is Wu and He 2018, arXiv:1803.08494.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gankit_kernels.activations import Activation, activate, check_activation, derivative
from gankit_kernels.library import exporting, has_triton, register
from gankit_kernels.tensors import check_like, check_picture, computed_in, fits, memory_format

if TYPE_CHECKING:
    from gankit_kernels.on_cuda.instance_norm import InstanceNormConfig


def instance_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    residual: Tensor | None = None,
    activation: Activation = "none",
    slope: float = 0.01,
    pad: int = 0,
    eps: float = 1e-5,
    config: InstanceNormConfig | None = None,
) -> Tensor:
    """``pad(activation((x - mean) / sqrt(var + eps) * weight + bias) + residual)``, statistics of every plane.

    Mean and (biased) variance are centred sums in float32 whatever the dtype, merged by Chan et al. 1983 where one
    block of threads cannot hold a plane; no atomics, so that the same call gives the same bits. Everything after them
    is float32 too, and is rounded once. A NaN comes out as NaN behind every activation.

    Args:
        x: (N, C, H, W) float32, float16, bfloat16 (or float64, not on CUDA kernels), planes or channels_last.
        weight: (C,) of any floating dtype, or ``None`` for 1.
        bias: (C,), or ``None`` for 0.
        residual: of ``x``'s shape, added behind the activation; any strides. On CUDA a view into a padded picture
            is read in place.
        activation: ``"none"``, ``"relu"``, ``"leaky_relu"`` or ``"tanh"``.
        slope: of ``"leaky_relu"`` below zero.
        pad: pixels of reflected border around the result; smaller than H and W.
        eps: added to the variance.
        config: CUDA only: how the kernels are cut, in place of the analytic default; no gradient then. Where its
            kernel cannot do what is asked, the default does.

    Returns:
        (N, C, H + 2·pad, W + 2·pad) in the dtype and the layout of ``x``.

    Raises:
        ValueError: a shape, device, activation or border that does not fit; a ``config`` cut for another shape.
        TypeError: a dtype that is not floating point.
    """
    return _norm(x, weight, bias, residual, activation, slope, pad, eps, False, config)


def group_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    residual: Tensor | None = None,
    activation: Activation = "none",
    slope: float = 0.01,
    pad: int = 0,
    eps: float = 1e-5,
    config: InstanceNormConfig | None = None,
) -> Tensor:
    """GroupNorm with one group: as :func:`instance_norm`, with the statistics of all channels of a picture."""
    return _norm(x, weight, bias, residual, activation, slope, pad, eps, True, config)


def composite(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    activation: str,
    slope: float,
    pad: int,
    eps: float,
    whole: bool,
) -> Tensor:
    """The same in torch's own operations: what is exported, and what the kernels are measured against."""
    dtype = computed_in(x)
    weight = None if weight is None else weight.to(dtype)
    bias = None if bias is None else bias.to(dtype)
    if whole:
        result = F.group_norm(x.to(dtype), 1, weight, bias, eps)
    else:
        # not F.instance_norm, which refuses planes of one pixel
        result = torch.instance_norm(x.to(dtype), weight, bias, None, None, True, 0.0, eps, False)
    result = activate(result, activation, slope)
    if residual is not None:
        result = result + residual.to(dtype)
    if pad:
        result = F.pad(result, (pad,) * 4, mode="reflect")
    return result.to(x.dtype)


def empty_result(x: Tensor, pad: int) -> Tensor:
    """An empty tensor for the result, laid out as ``x``."""
    samples, channels, height, width = x.shape
    shape = (samples, channels, height + 2 * pad, width + 2 * pad)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format(x))


def _norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    activation: Activation,
    slope: float,
    pad: int,
    eps: float,
    whole: bool,
    config: InstanceNormConfig | None,
) -> Tensor:
    check_picture("x", x)
    check_activation(activation)
    _, channels, height, width = x.shape
    check_like("weight", weight, x, (channels,))
    check_like("bias", bias, x, (channels,))
    check_like("residual", residual, x, tuple(x.shape))
    # one side after the other: min() would make torch.compile ask which is the smaller
    if pad < 0 or (pad and (pad >= height or pad >= width)):
        raise ValueError(f"pad must be from 0 to less than the sides of {height}×{width}, not {pad}")
    if exporting():
        return composite(x, weight, bias, residual, activation, slope, pad, eps, whole)
    if config is not None and x.is_cuda:
        return _on_cuda(x, weight, bias, residual, activation, slope, pad, eps, whole, config)
    result: Tensor = _OPERATION(x, weight, bias, residual, activation, slope, pad, eps, whole)
    return result


def _reference(x: Tensor, *rest: Any) -> Tensor:
    pad = rest[5]
    result = empty_result(x, pad)
    return result if x.numel() == 0 else result.copy_(composite(x, *rest))


def _on_cuda(x: Tensor, *rest: Any) -> Tensor:
    border = 2 * rest[5]
    if not has_triton() or not fits(x, (x.shape[2] + border) * (x.shape[3] + border)):
        return _reference(x, *rest[:8])
    from gankit_kernels.on_cuda.instance_norm import launch

    return launch(x, *rest)


def _shapes(x: Tensor, *rest: Any) -> Tensor:
    return empty_result(x, rest[5])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, residual, ctx.activation, ctx.slope, ctx.pad, ctx.eps, ctx.whole = inputs
    ctx.save_for_backward(x, weight, bias)
    ctx.residual = None if residual is None else residual.dtype


def _backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    """Through the formula, in float32; plain operations of torch, which have gradients themselves."""
    x, weight, bias = ctx.saved_tensors
    dtype, axes = computed_in(x), (1, 2, 3) if ctx.whole else (2, 3)
    gradient = gradient.to(dtype)
    if ctx.pad:
        gradient = _unpad(gradient, ctx.pad)
    to_residual = None if ctx.residual is None else gradient.to(ctx.residual)
    wide = x.to(dtype)
    centred = wide - wide.mean(axes, keepdim=True)
    scale = (centred.square().mean(axes, keepdim=True) + ctx.eps).rsqrt()
    normed = centred * scale
    factor = None if weight is None else weight.to(dtype)[:, None, None]
    value = normed if factor is None else normed * factor
    slopes = derivative(value if bias is None else value + bias.to(dtype)[:, None, None], ctx.activation, ctx.slope)
    inner = gradient if slopes is None else gradient * slopes
    to_weight = None if weight is None else (inner * normed).sum((0, 2, 3)).to(weight.dtype)
    to_bias = None if bias is None else inner.sum((0, 2, 3)).to(bias.dtype)
    inner = inner if factor is None else inner * factor
    inner = inner - inner.mean(axes, keepdim=True) - normed * (inner * normed).mean(axes, keepdim=True)
    to_x = (inner * scale).to(x.dtype)
    return to_x, to_weight, to_bias, to_residual, None, None, None, None, None


def _unpad(gradient: Tensor, pad: int) -> Tensor:
    """The gradient of a reflected border: its rows and columns are folded back onto those that they mirror."""
    for axis in (2, 3):
        size = gradient.shape[axis] - 2 * pad
        inside = gradient.narrow(axis, pad, size)
        before = gradient.narrow(axis, 0, pad).flip(axis)
        after = gradient.narrow(axis, pad + size, pad).flip(axis)
        rest = size - pad - 1
        gradient = inside + F.pad(before, _at(axis, 1, rest)) + F.pad(after, _at(axis, rest, 1))
    return gradient


def _at(axis: int, before: int, after: int) -> list[int]:
    """``F.pad``'s numbers for zeros along one axis of (N, C, H, W)."""
    return [before, after] if axis == 3 else [0, 0, before, after]


_OPERATION = register(
    "instance_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor? residual, str activation, float slope, int pad,"
    " float eps, bool whole) -> Tensor",
    reference=_reference,
    on_cuda=_on_cuda,
    shapes=_shapes,
    setup=_setup,
    backward=_backward,
)
