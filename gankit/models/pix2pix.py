"""pix2pix's U-Net (Isola et al., CVPR 2017, arXiv:1611.07004); its discriminator is in ``gankit.models.patchgan``.

The paper runs BatchNorm with the statistics of the test image itself: "at inference time we run the generator net in
exactly the same manner as during training". For one image that is InstanceNorm with BatchNorm's weights, which is
how it runs here by default. The paper's dropout at test time, which it found to make little noise, is off.

The names of the weights are those of junyanz/pytorch-CycleGAN-and-pix2pix.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from gankit.models import norms
from gankit.models.checks import flag, whole
from gankit.models.facts import Facts
from gankit.models.norms import AtTest, Kind

_WIDEST, _DEEPEST = 4096, 16  # beyond them a weights file is damaged
_DROPPED_FROM = 4  # the levels that have dropout: from here to the one before the innermost


class Level(nn.Module):
    """One level of the U-Net with all levels inside it.

    Args:
        model: half the size, the inner level, twice the size.
        skip: join the input to the output, as all levels but the outermost do.
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
        channels: width of the first level (64 in the paper), doubled three times.
        downs: levels: 8 for the paper's 256×256, which ends in 1×1; 7 for 128×128.
        in_channels: of the input image.
        out_channels: of the output image.
        norm: ``"batch"`` as in the paper, or ``"instance"``; convolutions before a BatchNorm have no bias.
        norm_at_test: what ``"batch"`` normalises with: ``"instance"`` for the image's own statistics, as in the
            paper, ``"eval"`` for the running ones. Train batches of more than one with ``"eval"``, and turn the result
            over with ``gankit_export.rewrites.batch_statistics``.
        dropout: rate 0.5 in the decoder's levels of full width but the innermost, while training.

    The sides of the input must be multiples of 2 ** downs.
    """

    def __init__(
        self,
        channels: int = 64,
        downs: int = 8,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        norm: Kind = "batch",
        norm_at_test: AtTest = "instance",
        dropout: bool = True,
    ) -> None:
        super().__init__()
        make_norm = norms.layer(norm, norm_at_test)
        biased = norm == "instance"
        down = functools.partial(nn.Conv2d, kernel_size=4, stride=2, padding=1, bias=biased)
        up = functools.partial(nn.ConvTranspose2d, kernel_size=4, stride=2, padding=1, bias=biased)
        widths = [channels * min(2**level, 8) for level in range(downs)]

        outer, inner = widths[-2], widths[-1]
        # the innermost level has no norm on its way down: it may be 1×1
        layers: list[nn.Module] = [nn.LeakyReLU(0.2), down(outer, inner), nn.ReLU(), up(inner, outer), make_norm(outer)]
        level = Level(nn.Sequential(*layers), skip=True)
        for index in range(downs - 2, 0, -1):
            outer, inner = widths[index - 1], widths[index]
            layers = [nn.LeakyReLU(0.2), down(outer, inner), make_norm(inner), level]
            layers += [nn.ReLU(), up(2 * inner, outer), make_norm(outer)]
            layers += [nn.Dropout(0.5)] if dropout and index >= _DROPPED_FROM else []
            level = Level(nn.Sequential(*layers), skip=True)
        layers = [down(in_channels, channels), level, nn.ReLU()]
        layers += [nn.ConvTranspose2d(2 * channels, out_channels, 4, stride=2, padding=1), nn.Tanh()]
        self.model = Level(nn.Sequential(*layers), skip=False)

    def forward(self, x: Tensor) -> Tensor:
        """Translate a batch.

        Args:
            x: (N, C, H, W) floating point, RGB in [-1, 1]; H and W multiples of 2 ** downs.

        Returns:
            (N, C', H, W) in [-1, 1].
        """
        return self.model(x)


def facts(
    name: str = "pix2pix",
    channels: int = 64,
    downs: int = 8,
    in_channels: int = 3,
    out_channels: int = 3,
    *,
    norm: Kind = "batch",
    norm_at_test: AtTest = "instance",
    dropout: bool = True,
) -> Facts:
    """What a user of the generator must know before running it.

    Raises:
        ValueError: an option is one that no network of ours has.
    """
    for option, size in (("channels", channels), ("in_channels", in_channels), ("out_channels", out_channels)):
        whole(option, size, _WIDEST)
    whole("downs", downs, _DEEPEST, least=2)
    norms.check(norm, norm_at_test)
    flag("dropout", dropout)
    return Facts(
        name=name,
        paper="Isola et al. 2017, arXiv:1611.07004",
        task="translate",
        scale=1,
        channels=in_channels,
        value_range=(-1.0, 1.0),
        multiple=2**downs,
        norm=norms.fact(norm, norm_at_test),
        options={
            "channels": channels,
            "downs": downs,
            "in_channels": in_channels,
            "out_channels": out_channels,
            "norm": norm,
            "norm_at_test": norm_at_test,
            "dropout": dropout,
        },
        out_channels=out_channels,
        minimum=2**downs,
    )
