"""The operations as modules, which a rewritten network calls."""

from __future__ import annotations

from torch import Tensor, nn

from gankit_kernels.activations import Activation
from gankit_kernels.instance_norm import group_norm, instance_norm
from gankit_kernels.pixel_shuffle import Order, pixel_shuffle


class FusedNorm(nn.Module):
    """InstanceNorm, or GroupNorm with one group, and what follows it.

    Args:
        weight: (C,) or ``None``; kept as it is, float32 beside narrow pictures.
        bias: likewise.
        whole: statistics of all channels of a picture.
        activation: behind the norm.
        slope: of ``"leaky_relu"``.
        pad: reflected border of the result.
        eps: added to the variance.
    """

    def __init__(
        self,
        weight: Tensor | None,
        bias: Tensor | None,
        *,
        whole: bool = False,
        activation: Activation = "none",
        slope: float = 0.01,
        pad: int = 0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.weight = None if weight is None else nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.whole, self.activation, self.slope, self.pad, self.eps = whole, activation, slope, pad, eps

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """(N, C, H, W), and what is added to the result -> (N, C, H + 2·pad, W + 2·pad)."""
        norm = group_norm if self.whole else instance_norm
        if residual is not None and (residual.shape != x.shape or residual.dtype != x.dtype):
            # an addition that stretches or widens: as it stood in the network
            result = norm(x, self.weight, self.bias, activation=self.activation, slope=self.slope, eps=self.eps)
            result = result + residual
            return nn.functional.pad(result, (self.pad,) * 4, mode="reflect") if self.pad else result
        return norm(
            x,
            self.weight,
            self.bias,
            residual=residual,
            activation=self.activation,
            slope=self.slope,
            pad=self.pad,
            eps=self.eps,
        )

    def extra_repr(self) -> str:
        """What is fused."""
        return f"whole={self.whole}, activation={self.activation}, pad={self.pad}, eps={self.eps}"


class FusedShuffle(nn.Module):
    """PixelShuffle with the bias of the convolution before it and the activation behind it.

    Args:
        r: the factor.
        bias: (C·r²,) in the order of the source's channels, or ``None``.
        order: of those channels.
        activation: behind the shuffle.
        slope: of ``"leaky_relu"``.
        prelu: slopes, in place of an activation.
    """

    def __init__(
        self,
        r: int,
        bias: Tensor | None = None,
        *,
        order: Order = "crd",
        activation: Activation = "none",
        slope: float = 0.01,
        prelu: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.prelu = None if prelu is None else nn.Parameter(prelu.detach(), requires_grad=False)
        self.r, self.activation, self.slope = r, activation, slope
        self.order: Order = order

    def forward(self, x: Tensor) -> Tensor:
        """(N, C·r², H, W) -> (N, C, r·H, r·W)."""
        return pixel_shuffle(
            x, self.r, bias=self.bias, prelu=self.prelu, activation=self.activation, slope=self.slope, order=self.order
        )

    def extra_repr(self) -> str:
        """What is fused."""
        return f"r={self.r}, order={self.order}, activation={self.activation}"


def inside(x: Tensor, pad: int) -> Tensor:
    """A picture without its border: a view."""
    return x.narrow(2, pad, x.shape[2] - 2 * pad).narrow(3, pad, x.shape[3] - 2 * pad)
