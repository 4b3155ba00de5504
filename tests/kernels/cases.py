"""Shared by the tests of the kernels: images of every kind, exact results, tolerances."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LAYOUTS = {"planes": torch.contiguous_format, "channels_last": torch.channels_last}


def image(shape, dtype=torch.float32, layout="planes", *, kind="usual", seed=0) -> Tensor:
    """An image of one of the kinds that break kernels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    if kind == "large mean":
        x = x * 0.5 + 1000.0
    elif kind == "constant":
        x = torch.full(shape, 0.1, dtype=torch.float64)
    elif kind == "outlier":  # in the corner, where it would ruin a shift by the first value
        x[..., 0, 0] = 1000.0
    elif kind == "tiny":
        x = x * 1e-4
    elif kind == "huge":  # too large for squares in float32, though not for squared deviations
        x = x * 1e16 + 1e20
    x = x.to(dtype)
    return x.contiguous(memory_format=LAYOUTS[layout]) if x.ndim == 4 else x


def exact_norm(x, weight=None, bias=None, residual=None, activation="none", slope=0.01, pad=0, eps=1e-5, whole=False):
    """The formula in float64."""
    wide = x.double()
    axes = (1, 2, 3) if whole else (2, 3)
    result = (wide - wide.mean(axes, keepdim=True)) / (wide.var(axes, correction=0, keepdim=True) + eps).sqrt()
    if weight is not None:
        result = result * weight.double()[:, None, None]
    if bias is not None:
        result = result + bias.double()[:, None, None]
    result = exact_activation(result, activation, slope)
    if residual is not None:
        result = result + residual.double()
    return F.pad(result, (pad,) * 4, mode="reflect") if pad else result


def exact_shuffle(x, r, bias=None, prelu=None, activation="none", slope=0.01, dcr=False):
    """The formula in float64, by indices."""
    samples, channels, height, width = x.shape
    wide = x.double()
    if bias is not None:
        wide = wide + bias.double()[:, None, None]
    result = torch.empty(samples, channels // r**2, height * r, width * r, dtype=torch.float64)
    for k in range(r * r):
        count = channels // r**2
        source = wide[:, k * count : (k + 1) * count] if dcr else wide[:, k :: r * r]
        result[:, :, k // r :: r, k % r :: r] = source
    if prelu is not None:
        return torch.where(result > 0, result, result * prelu.double().reshape(-1, 1, 1))
    return exact_activation(result, activation, slope)


def exact_epilogue(
    x,
    bias=None,
    prelu=None,
    residual=None,
    *,
    activation="none",
    slope=0.01,
    scale=1.0,
    before=False,
    pads=(0, 0, 0, 0),
):
    """The formula in float64."""
    result = x.double()
    added = 0.0 if residual is None else residual.double()
    if bias is not None:
        result = result + bias.double()[:, None, None]
    if before:
        result = result * scale + added
    if prelu is not None:
        result = torch.where(result > 0, result, result * prelu.double().reshape(-1, 1, 1))
    else:
        result = exact_activation(result, activation, slope)
    if not before:
        result = result * scale + added
    return F.pad(result, tuple(pads), mode="reflect") if any(pads) else result


def exact_activation(x, activation, slope):
    if activation == "relu":
        return x.clamp(min=0)
    if activation == "leaky_relu":
        return torch.where(x > 0, x, x * slope)
    return x.tanh() if activation == "tanh" else x


def assert_rounded(result: Tensor, exact: Tensor, dtype: torch.dtype, *, extra: float = 0.0) -> None:
    """Require the exact result, rounded to its dtype.

    The tolerance is half a unit in the last place where torch rounds, and a whole one for bfloat16, because Triton's
    interpreter truncates. Sums in float32 may add ``extra`` and some units of float32 of the largest value.
    """
    assert result.dtype == dtype
    assert result.shape == exact.shape
    units = torch.finfo(dtype).eps * (1.0 if dtype == torch.bfloat16 else 0.5 if dtype == torch.float16 else 4.0)
    largest = float(exact.abs().max()) if exact.numel() else 0.0
    tolerance = units * exact.abs() + 16 * torch.finfo(torch.float32).eps * max(1.0, largest) + extra
    worst = ((result.double() - exact).abs() - tolerance).max() if exact.numel() else torch.tensor(0.0)
    assert not torch.isnan(result).any()
    assert float(worst) <= 0, f"{float(worst):.3g} beyond the tolerance"


def same_layout(result: Tensor, x: Tensor) -> bool:
    """Whether a result is dense and in the layout of ``x``."""
    wanted = torch.channels_last if not x.is_contiguous() and x.stride(1) == 1 else torch.contiguous_format
    return result.is_contiguous(memory_format=wanted)
