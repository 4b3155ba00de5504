"""The plain residual upscaler: EDSR, and gankit's light variant of it (Lim et al., CVPRW 2017, arXiv:1707.02921)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from gankit.models.checks import Choice, Number, Optional, Several
from gankit.models.esrgan import steps, upsample_block
from gankit.models.facts import Facts
from gankit.models.options import DEPTH, WIDTH, ModelOptions, option
from gankit.models.overshoot import Overshoot, overshoot_option
from gankit.models.values import Standardise

Tail = Literal["direct", "edsr"]

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # RGB in [0, 1], as every published EDSR subtracts it


@dataclass(frozen=True)
class EDSROptions(ModelOptions):
    """Options of the plain residual generator."""

    scale: int = option(4, Choice((1, 2, 3, 4, 8)), "Enlargement")
    channels: int = option(64, WIDTH, "Width of the body; 64 in EDSR-baseline, 256 in EDSR")
    blocks: int = option(8, DEPTH, "Residual blocks; 16 in EDSR-baseline, 32 in EDSR")
    in_channels: int = option(3, WIDTH, "Colour channels of input and output")
    tail: Tail = option(
        "direct",
        Choice(get_args(Tail)),
        "One PixelShuffle added to the enlarged input, or the paper's sub-pixel convolutions and one more",
    )
    res_scale: float = option(
        1.0, Number(0, 1, above=True), "Factor of every residual; 0.1 in the paper's EDSR of 256 channels", omit=True
    )
    mean: tuple[float, ...] | None = option(
        None,
        Optional(Several(Number(0, 1), WIDTH.most)),
        "Mean of every colour channel, subtracted from the input and added again; none for no shift",
        omit=True,
    )
    overshoot: float | None = overshoot_option()

    def check(self) -> None:
        """Every colour channel has a mean."""
        if self.mean is not None and len(self.mean) != self.in_channels:
            raise ValueError(f"mean must be none or a list of in_channels={self.in_channels} values, not {self.mean!r}")

    def facts(self, name: str) -> Facts:
        """See the base class."""
        return Facts(
            name=name,
            paper="Lim et al. 2017, arXiv:1707.02921",
            task="upscale",
            scale=self.scale,
            channels=self.in_channels,
            value_range=(0.0, 1.0),
            tileable=True,
            options=self.stored(),
        )


def shifts(mean: Sequence[float] | None, tail: Tail) -> tuple[Standardise | None, Standardise | None]:
    """The layers at the ends: one subtracts the mean, and one adds it again, unless the enlarged input does.

    Args:
        mean: of every colour channel; ``None`` for no shift.
        tail: option of the model.
    """
    if mean is None:
        return None, None
    ones = [1.0] * len(mean)
    back = None if tail == "direct" else Standardise([-value for value in mean], ones)
    return Standardise(mean, ones), back


class ResidualBlock(nn.Module):
    """Conv3x3, ReLU, Conv3x3, and the skip around them; the residual may be scaled."""

    def __init__(self, channels: int, scale: float = 1.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        residual: Tensor = self.conv2(self.act(self.conv1(x)))
        return x + (residual if self.scale == 1 else residual * self.scale)


class EDSR(nn.Module):
    """Residual blocks without norms at the low resolution, a skip around all of them, and an enlarging tail.

    The ``"direct"`` tail is gankit's: one convolution to ``scale``² values for each colour, one PixelShuffle, and the
    nearest-neighbour enlargement of the input added to the result. The ``"edsr"`` tail is the paper's: sub-pixel
    convolutions of the body's width, and a convolution to the colours at the full resolution.

    Args:
        options: ``None`` for gankit's variant, ×4.

    The values are RGB in [0, 1] on both sides; the output is not clamped.
    """

    Options = EDSROptions

    def __init__(self, options: EDSROptions | None = None) -> None:
        super().__init__()
        o = options or EDSROptions()
        self.scale = o.scale
        direct = o.tail == "direct"
        self.entrance, self.exit = shifts(o.mean, o.tail)
        self.head = nn.Conv2d(o.in_channels, o.channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(o.channels, o.res_scale) for _ in range(o.blocks)))
        self.neck = nn.Conv2d(o.channels, o.channels, 3, padding=1)
        enlarge = [] if direct else steps(o.scale)
        self.upsampler = nn.Sequential(*(upsample_block(o.channels, step, "shuffle", 0)[:2] for step in enlarge))
        self.tail = nn.Conv2d(o.channels, o.in_channels * (o.scale**2 if direct else 1), 3, padding=1)
        self.shuffle = nn.PixelShuffle(o.scale) if direct else None
        self.base = nn.Upsample(scale_factor=o.scale, mode="nearest") if direct else None
        self.limit = None if o.overshoot is None else Overshoot(o.scale, o.overshoot)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale a batch.

        Args:
            x: (N, C, H, W) floating point, RGB in [0, 1]; any H and W.

        Returns:
            (N, C, scale·H, scale·W), nominally in [0, 1], not clamped.
        """
        features = self.head(x if self.entrance is None else self.entrance(x))
        features = features + self.neck(self.body(features))
        result: Tensor = self.tail(self.upsampler(features))
        if self.shuffle is not None and self.base is not None:
            result = self.shuffle(result) + self.base(x)
        elif self.exit is not None:
            result = self.exit(result)
        return result if self.limit is None else self.limit(x, result)
