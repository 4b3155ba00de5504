"""A convolution with its bias and a ReLU, which cuDNN runs as one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gankit_kernels.library import exporting, register
from gankit_kernels.tensors import check_image, memory_format


@dataclass(frozen=True)
class ConvolutionSpec:
    """Everything about a convolution that is no tensor: the arguments of ``F.conv2d``, with ``padding`` as numbers."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int


def conv_relu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Compute ``relu(conv2d(x, weight, bias))``, without a gradient.

    On CUDA it is one kernel of cuDNN for float16 and bfloat16 in channels_last, which has tensor cores' kernels for it.
    Other dtypes and layouts, and other devices, take torch's two operations.

    Args:
        x: (N, C, H, W), floating point.
        weight: See ``F.conv2d``, also for the next five; ``padding`` may not be a word.
        bias: (O,) or ``None``.
        stride: (rows, columns).
        padding: (rows, columns).
        dilation: (rows, columns).
        groups: Number of groups.

    Returns:
        (N, O, H', W') in the dtype and the layout of ``x``.

    Raises:
        ValueError: ``padding`` is a word, or ``x`` is no batch of images.
        TypeError: ``x`` is not floating point.
    """
    check_image("x", x)
    if isinstance(padding, str):
        raise ValueError(f"padding must be two numbers, not {padding!r}")
    spec = ConvolutionSpec(tuple(stride), tuple(padding), tuple(dilation), groups)
    if exporting():
        return _composite(x, weight, bias, spec)
    result: Tensor = _OPERATION(x, weight, bias, **vars(spec))
    return result


def _composite(x: Tensor, weight: Tensor, bias: Tensor | None, spec: ConvolutionSpec) -> Tensor:
    return F.relu(F.conv2d(x, weight, bias, **_arguments(spec)))


def _reference(x: Tensor, weight: Tensor, bias: Tensor | None, spec: ConvolutionSpec) -> Tensor:
    return _composite(x, weight, bias, spec).contiguous(memory_format=memory_format(x))


def _on_cuda(x: Tensor, weight: Tensor, bias: Tensor | None, spec: ConvolutionSpec) -> Tensor:
    half = x.dtype in (torch.float16, torch.bfloat16) and weight.dtype == x.dtype
    if not half or not x.is_contiguous(memory_format=torch.channels_last) or not torch.backends.cudnn.is_available():
        return _reference(x, weight, bias, spec)
    channels_last = weight.contiguous(memory_format=torch.channels_last)
    arguments = _arguments(spec)
    return torch.cudnn_convolution_relu(x, channels_last, bias, **arguments).contiguous(memory_format=memory_format(x))


def _arguments(spec: ConvolutionSpec) -> dict[str, Any]:
    return {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation, "groups": spec.groups}


def _empty(x: Tensor, weight: Tensor, bias: Tensor | None, spec: ConvolutionSpec) -> Tensor:
    sides = [
        (size + 2 * pad - step * (kernel - 1) - 1) // stride + 1
        for size, pad, step, kernel, stride in zip(
            x.shape[2:], spec.padding, spec.dilation, weight.shape[2:], spec.stride, strict=True
        )
    ]
    shape = (x.shape[0], weight.shape[0], *sides)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format(x))


_OPERATION = register(
    "conv_relu(Tensor x, Tensor weight, Tensor? bias, *, int[] stride, int[] padding, int[] dilation, int groups)"
    " -> Tensor",
    ConvolutionSpec,
    reference=_reference,
    on_cuda=_on_cuda,
    empty=_empty,
)
