"""pix2pix's U-Net (Isola et al., CVPR 2017, arXiv:1611.07004); its discriminator is in ``gankit.models.patchgan``.

The paper runs BatchNorm with the statistics of the test image itself: "at inference time we run the generator net in
exactly the same manner as during training". For one image that is InstanceNorm with BatchNorm's weights, which is the
default here. The paper also keeps dropout at test time, and reports that it adds little noise; here it is off.

The names of the weights are those of junyanz/pytorch-CycleGAN-and-pix2pix.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gankit.models import norms
from gankit.models.checks import Flag, Whole
from gankit.models.facts import AtTest, Facts
from gankit.models.norms import Kind
from gankit.models.options import WIDTH, ModelOptions, option

_DROPPED_FROM = 4  # the levels that have dropout: from here to the one before the innermost


@dataclass(frozen=True)
class UNetGeneratorOptions(ModelOptions):
    """Options of pix2pix's generator."""

    channels: int = option(64, WIDTH, "Width of the first level, doubled three times")
    downs: int = option(
        8, Whole(16, least=2), "Levels: 8 for the paper's 256×256, whose innermost level is 1×1; 7 for 128×128"
    )
    in_channels: int = option(3, WIDTH, "Colour channels of the input")
    out_channels: int = option(3, WIDTH, "Colour channels of the output")
    norm: Kind = option("batch", norms.KIND, "Normalisation; convolutions before a BatchNorm have no bias")
    norm_at_test: AtTest = option(
        "instance",
        norms.AT_TEST,
        "Statistics that a BatchNorm uses: the image's own as in the paper, or the running ones. To train batches of "
        "more than one image, use 'eval' and convert the result by gankit_export.rewrites.batch_statistics",
    )
    dropout: bool = option(
        True, Flag(), "Dropout of rate 0.5, in training, in the decoder's levels of full width except the innermost"
    )

    def facts(self, name: str) -> Facts:
        """See the base class; an output pixel depends on hundreds of input pixels, or on all of them."""
        return Facts(
            name=name,
            paper="Isola et al. 2017, arXiv:1611.07004",
            task="translate",
            channels=self.in_channels,
            out_channels=self.out_channels,
            value_range=(-1.0, 1.0),
            multiple=2**self.downs,
            minimum=2**self.downs,
            tileable=False,
            options=self.stored(),
        )


class Level(nn.Module):
    """One level of the U-Net with all levels inside it.

    Args:
        model: layers that halve the size, the inner level, and layers that double the size.
        skip: join the input to the output, as all levels except the outermost do.
    """

    def __init__(self, model: nn.Sequential, *, skip: bool) -> None:
        super().__init__()
        self.model = model
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 2C, H, W), the input's channels first; the outermost (N, C', H, W)."""
        return torch.cat([x, self.model(x)], 1) if self.skip else self.model(x)


class UNetGenerator(nn.Module):
    """An encoder and decoder of 4×4 convolutions with stride 2, and a skip at every level.

    Args:
        options: ``None`` for the paper's.

    The sides of the input must be multiples of 2 ** downs.
    """

    Options = UNetGeneratorOptions

    def __init__(self, options: UNetGeneratorOptions | None = None) -> None:
        super().__init__()
        o = options or UNetGeneratorOptions()
        make_norm = norms.layer(o.norm, o.norm_at_test)
        biased = o.norm == "instance"
        down = functools.partial(nn.Conv2d, kernel_size=4, stride=2, padding=1, bias=biased)
        up = functools.partial(nn.ConvTranspose2d, kernel_size=4, stride=2, padding=1, bias=biased)
        widths = [o.channels * min(2**level, 8) for level in range(o.downs)]

        outer, inner = widths[-2], widths[-1]
        # the innermost level has no norm on its way down: it may be 1×1
        layers: list[nn.Module] = [nn.LeakyReLU(0.2), down(outer, inner), nn.ReLU(), up(inner, outer), make_norm(outer)]
        level = Level(nn.Sequential(*layers), skip=True)
        for index in range(o.downs - 2, 0, -1):
            outer, inner = widths[index - 1], widths[index]
            layers = [nn.LeakyReLU(0.2), down(outer, inner), make_norm(inner), level]
            layers += [nn.ReLU(), up(2 * inner, outer), make_norm(outer)]
            layers += [nn.Dropout(0.5)] if o.dropout and index >= _DROPPED_FROM else []
            level = Level(nn.Sequential(*layers), skip=True)
        layers = [down(o.in_channels, o.channels), level, nn.ReLU()]
        layers += [nn.ConvTranspose2d(2 * o.channels, o.out_channels, 4, stride=2, padding=1), nn.Tanh()]
        self.model = Level(nn.Sequential(*layers), skip=False)

    def forward(self, x: Tensor) -> Tensor:
        """Translate a batch.

        Args:
            x: (N, C, H, W) floating point, RGB in [-1, 1]; H and W multiples of 2 ** downs.

        Returns:
            (N, C', H, W) in [-1, 1].
        """
        result: Tensor = self.model(x)
        return result
