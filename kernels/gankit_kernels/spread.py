"""The inputs of a dense block without concatenations: an epilogue that writes its result into several tensors at once.

The k-th convolution of a dense block reads the block's input and the results of the k - 1 convolutions before it. A
network concatenates them anew for every convolution: on an H100, ESRGAN spends 23 of 77 ms on that. torch passes only
dense tensors to cuDNN and oneDNN and copies the first channels of a wider one, so that one buffer of growing channels
would be copied as often. Here each convolution has an input of its own, and whoever makes a part of it writes it there:
the parts are written as often as before, but read only once, in the pass that adds the bias.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gankit_kernels.activations import Activation, check_activation
from gankit_kernels.epilogue import composite
from gankit_kernels.library import has_triton, register
from gankit_kernels.specs import EpilogueSpec, SpreadSpec
from gankit_kernels.tensors import check_image, check_like, fits


def spread(
    x: Tensor,
    targets: Sequence[Tensor],
    first: int,
    bias: Tensor | None = None,
    *,
    prelu: Tensor | None = None,
    residual: Tensor | None = None,
    result: Tensor | None = None,
    activation: Activation = "none",
    slope: float = 0.01,
    scale: float = 1.0,
    before: bool = False,
) -> None:
    """Compute an epilogue as :func:`gankit_kernels.epilogue` does, and write it into some channels of other tensors.

    It has no gradient. On CUDA, channels_last tensors take one pass for every four targets; others are copied.

    Args:
        x: (N, C, H, W) floating point.
        targets: Tensors (N, C', H, W) of the dtype of ``x``, whose channels ``first`` to ``first + C - 1`` are written.
        first: Number of channels before the written ones.
        bias: See :func:`gankit_kernels.epilogue`, also for the arguments below.
        prelu: (1,) or (C,).
        residual: Tensor of ``x``'s shape.
        result: Tensor of ``x``'s shape, dtype and layout that is written, too; it may be ``x`` itself.
        activation: Name of the activation.
        slope: LeakyReLU's slope below zero.
        scale: Factor of the result before the residual is added.
        before: Add the residual before the activation.

    Raises:
        ValueError: A shape, device or activation does not fit.
        TypeError: A dtype does not.
    """
    check_image("x", x)
    check_activation(activation)
    samples, channels, height, width = x.shape
    check_like("bias", bias, x, (channels,))
    check_like("prelu", prelu, x, (1,), (channels,))
    check_like("residual", residual, x, tuple(x.shape))
    check_like("result", result, x, tuple(x.shape))
    if prelu is not None and activation != "none":
        raise ValueError(f"prelu is itself an activation and cannot be combined with {activation!r}")
    for target in targets:
        check_like("a target", target, x, (samples, target.shape[1], height, width))
        if target.dtype != x.dtype or (result is not None and result.dtype != x.dtype):
            raise TypeError(f"targets and result must be {x.dtype} as x, not {target.dtype}")
        if first < 0 or first + channels > target.shape[1]:
            raise ValueError(
                f"channels {first} to {first + channels} do not fit a target of {target.shape[1]} channels"
            )
    spec = SpreadSpec(activation, slope, scale, before, first)
    _OPERATION(x, bias, prelu, residual, result, list(targets), **vars(spec))


def _epilogue_of(spec: SpreadSpec) -> EpilogueSpec:
    return EpilogueSpec(spec.activation, spec.slope, spec.scale, spec.before)


def _reference(
    x: Tensor,
    bias: Tensor | None,
    prelu: Tensor | None,
    residual: Tensor | None,
    result: Tensor | None,
    targets: list[Tensor],
    spec: SpreadSpec,
) -> None:
    made = composite(x, bias, prelu, residual, _epilogue_of(spec))
    for target in targets:
        target.narrow(1, spec.first, x.shape[1]).copy_(made)
    if result is not None:
        result.copy_(made)


def _on_cuda(
    x: Tensor,
    bias: Tensor | None,
    prelu: Tensor | None,
    residual: Tensor | None,
    result: Tensor | None,
    targets: list[Tensor],
    spec: SpreadSpec,
) -> None:
    if not has_triton() or not fits(x, x.shape[0] * x.shape[2] * x.shape[3]):
        _reference(x, bias, prelu, residual, result, targets, spec)
        return
    from gankit_kernels.on_cuda.spread import launch

    launch(x, bias, prelu, residual, result, targets, spec)


_OPERATION = register(
    "spread(Tensor x, Tensor? bias, Tensor? prelu, Tensor? residual, Tensor(a!)? result, Tensor(b!)[] targets, *, "
    "str activation, float slope, float scale, bool before, int first) -> ()",
    SpreadSpec,
    reference=_reference,
    on_cuda=_on_cuda,
    empty=lambda x, bias, prelu, residual, result, targets, spec: None,
)
