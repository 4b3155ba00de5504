"""InstanceNorm together with what surrounds it in a generator, in one read and one write of the image.

This file has the public functions, the reference in torch's own operations and the gradient. The kernels are in
:mod:`gankit_kernels.on_cuda`, which is imported with the first CUDA tensor.

Sources: Ulyanov et al. 2016, arXiv:1607.08022; for GroupNorm, Wu and He 2018, arXiv:1803.08494.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gankit_kernels.activations import Activation, activate, check_activation, derivative
from gankit_kernels.borders import unreflected
from gankit_kernels.library import exporting, has_triton, register
from gankit_kernels.specs import NormSpec
from gankit_kernels.tensors import check_image, check_like, computed_in, fits

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
    """Compute ``pad(activation((x - mean) / sqrt(var + eps) * weight + bias) + residual)`` for every plane.

    Mean and (biased) variance are centred sums in float32 for every dtype. Where one block of threads cannot hold a
    plane, its parts are merged by the method of Chan et al. 1983. There are no atomics, so the same call gives the same
    bits. The remaining computation is in float32 too, and the result is rounded once. NaN stays NaN after every
    activation.

    Args:
        x: (N, C, H, W) float32, float16, bfloat16 (or float64, which the CUDA kernels do not support), as planes or
            channels_last.
        weight: (C,) of any floating dtype, or ``None`` for 1.
        bias: (C,) of any floating dtype, or ``None`` for 0.
        residual: Tensor of ``x``'s shape and any strides, added after the activation. On CUDA a view into a padded
            image is read in place.
        activation: ``"none"``, ``"relu"``, ``"leaky_relu"`` or ``"tanh"``.
        slope: LeakyReLU's slope below zero.
        pad: Width of the reflected border around the result, in pixels; smaller than H and W.
        eps: Added to the variance.
        config: How the CUDA kernels divide the work, in place of the analytic default. The result then has no gradient.
            If the configured kernel cannot serve the call, the default is used.

    Returns:
        (N, C, H + 2·pad, W + 2·pad) in the dtype and the layout of ``x``.

    Raises:
        ValueError: A shape, device, activation or border does not fit, or ``config`` is cut for another shape.
        TypeError: A dtype is not floating point.
    """
    return _norm(x, weight, bias, residual, NormSpec(activation, slope, pad, eps), config)


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
    """GroupNorm with one group: like :func:`instance_norm`, with the statistics of all channels of an image."""
    return _norm(x, weight, bias, residual, NormSpec(activation, slope, pad, eps, whole=True), config)


def composite(x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, spec: NormSpec) -> Tensor:
    """The same in torch's own operations: what an export contains, and the reference for the kernels."""
    dtype = computed_in(x)
    weight = None if weight is None else weight.to(dtype)
    bias = None if bias is None else bias.to(dtype)
    if spec.whole:
        result = F.group_norm(x.to(dtype), 1, weight, bias, spec.eps)
    else:
        # F.instance_norm would refuse planes of one pixel
        result = torch.instance_norm(x.to(dtype), weight, bias, None, None, True, 0.0, spec.eps, False)
    result = activate(result, spec.activation, spec.slope)
    if residual is not None:
        result = result + residual.to(dtype)
    if spec.pad:
        result = F.pad(result, (spec.pad,) * 4, mode="reflect")
    return result.to(x.dtype)


def _norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    spec: NormSpec,
    config: InstanceNormConfig | None,
) -> Tensor:
    check_image("x", x)
    check_activation(spec.activation)
    _, channels, height, width = x.shape
    check_like("weight", weight, x, (channels,))
    check_like("bias", bias, x, (channels,))
    check_like("residual", residual, x, tuple(x.shape))
    # Each side is compared by itself: min() would make torch.compile guard on which is smaller.
    if spec.pad < 0 or (spec.pad and (spec.pad >= height or spec.pad >= width)):
        raise ValueError(f"pad must be from 0 to less than the sides of {height}×{width}, not {spec.pad}")
    if exporting():
        return composite(x, weight, bias, residual, spec)
    if config is not None and x.is_cuda:
        return _on_cuda(x, weight, bias, residual, spec, config)
    result: Tensor = _OPERATION(x, weight, bias, residual, **vars(spec))
    return result


def _reference(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, spec: NormSpec
) -> Tensor:
    result = spec.empty(x)
    return result if x.numel() == 0 else result.copy_(composite(x, weight, bias, residual, spec))


def _on_cuda(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    spec: NormSpec,
    config: InstanceNormConfig | None = None,
) -> Tensor:
    pixels = (x.shape[2] + 2 * spec.pad) * (x.shape[3] + 2 * spec.pad)
    if not has_triton() or not fits(x, pixels):
        return _reference(x, weight, bias, residual, spec)
    from gankit_kernels.on_cuda.instance_norm import launch

    return launch(x, weight, bias, residual, spec, config)


def _empty(x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, spec: NormSpec) -> Tensor:
    return spec.empty(x)


def _setup(ctx: Any, tensors: tuple[Any, ...], spec: NormSpec) -> None:
    x, weight, bias, residual = tensors
    ctx.save_for_backward(x, weight, bias)
    ctx.spec, ctx.residual = spec, None if residual is None else residual.dtype


def _backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    """Differentiate the formula in float32, with torch's own operations, which have gradients themselves."""
    x, weight, bias = ctx.saved_tensors
    spec: NormSpec = ctx.spec
    dtype, axes = computed_in(x), (1, 2, 3) if spec.whole else (2, 3)
    gradient = gradient.to(dtype)
    if spec.pad:
        gradient = unreflected(gradient, (spec.pad,) * 4)
    to_residual = None if ctx.residual is None else gradient.to(ctx.residual)
    wide = x.to(dtype)
    centred = wide - wide.mean(axes, keepdim=True)
    scale = (centred.square().mean(axes, keepdim=True) + spec.eps).rsqrt()
    normed = centred * scale
    factor = None if weight is None else weight.to(dtype)[:, None, None]
    value = normed if factor is None else normed * factor
    slopes = derivative(value if bias is None else value + bias.to(dtype)[:, None, None], spec.activation, spec.slope)
    inner = gradient if slopes is None else gradient * slopes
    to_weight = None if weight is None else (inner * normed).sum((0, 2, 3)).to(weight.dtype)
    to_bias = None if bias is None else inner.sum((0, 2, 3)).to(bias.dtype)
    inner = inner if factor is None else inner * factor
    inner = inner - inner.mean(axes, keepdim=True) - normed * (inner * normed).mean(axes, keepdim=True)
    return (inner * scale).to(x.dtype), to_weight, to_bias, to_residual


_OPERATION = register(
    "instance_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor? residual, *, str activation, float slope, int pad,"
    " float eps, bool whole) -> Tensor",
    NormSpec,
    reference=_reference,
    on_cuda=_on_cuda,
    empty=_empty,
    setup=_setup,
    backward=_backward,
)
