"""The operations as modules, for rewritten networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gankit_kernels.activations import Activation
from gankit_kernels.convolution import conv_relu
from gankit_kernels.epilogue import epilogue
from gankit_kernels.instance_norm import group_norm, instance_norm
from gankit_kernels.library import exporting
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
        channels: Number of the source's first channels that are the image, or ``None`` for all.
    """

    def __init__(
        self,
        r: int,
        bias: Tensor | None = None,
        *,
        channels: int | None = None,
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
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Shuffle (N, C·r², H, W) and return (N, C, r·H, r·W)."""
        x = x if self.channels is None else x.narrow(1, 0, self.channels)
        return pixel_shuffle(
            x, self.r, bias=self.bias, prelu=self.prelu, activation=self.activation, slope=self.slope, order=self.order
        )

    def extra_repr(self) -> str:
        """The settings, for ``print(module)``."""
        return f"r={self.r}, order={self.order}, activation={self.activation}"


class FusedEpilogue(nn.Module):
    """What follows a convolution: its bias, and the activation, factor, addition and border after it.

    Args:
        bias: (C,) or ``None``.
        activation: Activation after the bias.
        slope: LeakyReLU's slope below zero.
        prelu: PReLU's slopes, (1,) or (C,), in place of an activation.
        scale: Factor of the result before the addition.
        before: Whether the addition comes before the activation.
        pads: Widths of the reflected border (left, right, top, bottom).
        in_place: Whether the source may be overwritten, because nothing else reads it.
        channels: Number of the source's first channels that are the image, or ``None`` for all.
    """

    def __init__(
        self,
        bias: Tensor | None = None,
        *,
        activation: Activation = "none",
        slope: float = 0.01,
        prelu: Tensor | None = None,
        scale: float = 1.0,
        before: bool = False,
        pads: Sequence[int] = (0, 0, 0, 0),
        in_place: bool = False,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.prelu = None if prelu is None else nn.Parameter(prelu.detach(), requires_grad=False)
        self.activation, self.slope, self.scale, self.before = activation, slope, scale, before
        self.pads, self.in_place, self.channels = tuple(pads), in_place, channels

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Process (N, C, H, W), with ``residual`` added if there is one, and return the image with its border."""
        x = x if self.channels is None else x.narrow(1, 0, self.channels)
        if residual is not None and (residual.shape != x.shape or residual.dtype != x.dtype):
            return self._apart(x, residual)
        # a compiler decides by itself which memory it overwrites
        compiling = torch.compiler.is_compiling() or exporting()
        overwrite = self.in_place and self.channels is None and not any(self.pads)
        return epilogue(
            x,
            self.bias,
            prelu=self.prelu,
            residual=residual,
            activation=self.activation,
            slope=self.slope,
            scale=self.scale,
            before=self.before,
            pads=self.pads,
            in_place=overwrite and not compiling and not x.requires_grad,
        )

    def _apart(self, x: Tensor, residual: Tensor) -> Tensor:
        """The addition broadcasts or promotes: keep it as it was in the network."""
        after = {"prelu": self.prelu, "activation": self.activation, "slope": self.slope}
        if self.before:
            result = epilogue(epilogue(x, self.bias, scale=self.scale) + residual, **after)  # type: ignore[arg-type]
        else:
            result = epilogue(x, self.bias, scale=self.scale, **after) + residual  # type: ignore[arg-type]
        return epilogue(result, pads=self.pads) if any(self.pads) else result

    def extra_repr(self) -> str:
        """The settings, for ``print(module)``."""
        return f"activation={self.activation}, scale={self.scale}, before={self.before}, pads={self.pads}"


class FusedConvolution(nn.Module):
    """A convolution with its bias and a ReLU in cuDNN's one kernel, where it has one.

    Args:
        conv: The convolution, which is kept as it is.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W)."""
        conv = self.conv
        return conv_relu(x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def inside(x: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """A view of an image without its border."""
    return x.narrow(2, top, x.shape[2] - top - bottom).narrow(3, left, x.shape[3] - left - right)
