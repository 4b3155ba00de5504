"""PatchGAN: the discriminator of pix2pix (Isola et al., CVPR 2017, arXiv:1611.07004), CycleGAN and CUT.

It classifies patches, not images. The names of the weights are those of junyanz/pytorch-CycleGAN-and-pix2pix. Its
input is the input and output image joined in pix2pix (``in_channels=6``), the output image alone in CycleGAN.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor, nn

from gankit.models.antialias import Downsample
from gankit.models.checks import one_of

DiscriminatorNorm = Literal["instance", "batch", "none"]


class PatchGAN(nn.Module):
    """4×4 convolutions of stride 2, two more of stride 1, and a logit for every patch.

    Args:
        in_channels: channels of the input.
        channels: width of the first layer (64 in the paper), doubled up to eight times as many.
        layers: strided convolutions: 3 for patches of 70×70 pixels, 1 for 16×16, 5 for 286×286.
        norm: ``"instance"`` (CycleGAN), ``"batch"`` (pix2pix) or ``"none"``, in all layers except the first and last.
        antialias: blurred subsampling in place of strides, as in CUT.
    """

    def __init__(
        self,
        in_channels: int = 3,
        channels: int = 64,
        layers: int = 3,
        *,
        norm: DiscriminatorNorm = "instance",
        antialias: bool = False,
    ) -> None:
        make_norm, biased = _norm(norm)
        if layers < 1:
            raise ValueError(f"layers must be 1 or more, not {layers}")
        super().__init__()
        widths = [in_channels, *(channels * min(2**index, 8) for index in range(layers + 1))]
        stages: list[nn.Module] = []
        for index, (width_in, width) in enumerate(itertools.pairwise(widths)):
            halved = index < layers  # the last of them has stride 1
            stride = 2 if halved and not antialias else 1
            stages.append(nn.Conv2d(width_in, width, 4, stride, padding=1, bias=biased or not index))
            stages += make_norm(width) if index else []
            stages.append(nn.LeakyReLU(0.2, inplace=True))
            stages += [Downsample(width)] if halved and antialias else []
        stages.append(nn.Conv2d(widths[-1], 1, 4, padding=1))
        self.model = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N, 1, h, w) logits, one for every patch; large means real."""
        result: Tensor = self.model(x)
        return result

    @property
    def receptive_field(self) -> int:
        """The side of the patch that one logit sees, in pixels."""
        side = 1
        for layer in reversed(list(self.model)):
            if isinstance(layer, nn.Conv2d):
                side = (side - 1) * layer.stride[0] + layer.kernel_size[0]
            elif isinstance(layer, Downsample):
                side = (side - 1) * 2 + 3
        return side


class PixelGAN(nn.Module):
    """The 1×1 PatchGAN: three 1×1 convolutions, a logit for every pixel.

    Args:
        in_channels: channels of the input.
        channels: width of the first layer.
        norm: as in :class:`PatchGAN`.
    """

    def __init__(self, in_channels: int = 3, channels: int = 64, *, norm: DiscriminatorNorm = "instance") -> None:
        make_norm, biased = _norm(norm)
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(in_channels, channels, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(channels, 2 * channels, 1, bias=biased),
            *make_norm(2 * channels),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * channels, 1, 1, bias=biased),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N, 1, H, W) logits; large means real."""
        result: Tensor = self.net(x)
        return result


def _norm(kind: DiscriminatorNorm) -> tuple[Callable[[int], list[nn.Module]], bool]:
    """A function that makes the layers of the norm, and whether the convolution before them has a bias."""
    one_of("norm", kind, get_args(DiscriminatorNorm))
    kinds: dict[str, Callable[[int], list[nn.Module]]] = {
        "instance": lambda width: [nn.InstanceNorm2d(width)],
        "batch": lambda width: [nn.BatchNorm2d(width)],
        "none": lambda _: [],
    }
    return kinds[kind], kind != "batch"
