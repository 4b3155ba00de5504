"""The operations as modules, for rewritten networks."""

from __future__ import annotations

from torch import Tensor, nn

from gankit_kernels.activations import Activation
from gankit_kernels.instance_norm import group_norm, instance_norm
from gankit_kernels.pixel_shuffle import Order, pixel_shuffle


class FusedNorm(nn.Module):
    """InstanceNorm, or GroupNorm with one group, with the activation, the addition and the border that follow it.

    Args:
        weight: (C,) or ``None``. Its dtype is kept, so that float32 weights serve float16 images.
        bias: (C,) or ``None``, likewise.
        whole: Whether the statistics are those of all channels of an image.
        activation: Activation after the norm.
        slope: LeakyReLU's slope below zero.
        pad: Width of the reflected border around the result, in pixels.
        eps: Added to the variance.
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
        """Normalise (N, C, H, W), add ``residual`` if there is one, and return (N, C, H + 2·pad, W + 2·pad)."""
        norm = group_norm if self.whole else instance_norm
        if residual is not None and (residual.shape != x.shape or residual.dtype != x.dtype):
            # the addition broadcasts or promotes: keep it as it was in the network
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
        """The settings, for ``print(module)``."""
        return f"whole={self.whole}, activation={self.activation}, pad={self.pad}, eps={self.eps}"


class FusedShuffle(nn.Module):
    """PixelShuffle with the bias of the convolution before it and the activation after it.

    Args:
        r: Upscaling factor of both sides.
        bias: (C·r²,) in the order of the source's channels, or ``None``.
        order: Order of the source's channels, as in :func:`gankit_kernels.pixel_shuffle`.
        activation: Activation after the shuffle.
        slope: LeakyReLU's slope below zero.
        prelu: PReLU's slopes, (1,) or (C,), in place of an activation.
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
        """Shuffle (N, C·r², H, W) and return (N, C, r·H, r·W)."""
        return pixel_shuffle(
            x, self.r, bias=self.bias, prelu=self.prelu, activation=self.activation, slope=self.slope, order=self.order
        )

    def extra_repr(self) -> str:
        """The settings, for ``print(module)``."""
        return f"r={self.r}, order={self.order}, activation={self.activation}"


def inside(x: Tensor, pad: int) -> Tensor:
    """A view of an image without its border."""
    return x.narrow(2, pad, x.shape[2] - 2 * pad).narrow(3, pad, x.shape[3] - 2 * pad)
