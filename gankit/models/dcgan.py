"""DCGAN: transposed convolutions and BatchNorm (Radford et al., ICLR 2016, arXiv:1511.06434)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gankit.models import latents as rules
from gankit.models.checks import Fields, Flag, Optional, Several, Whole, one_of
from gankit.models.facts import Facts
from gankit.models.options import ModelOptions, option

Kernels = Sequence[Sequence[int]]
NORMS = ("batch", "instance", "spectral", "none")
_FIRST, _DOUBLING = (4, 1, 0), (4, 2, 1)
_KERNEL = Fields(
    (Whole(64), Whole(64), Whole(64, least=0)),
    "[size, stride, padding], whole numbers up to 64 of which only the padding may be 0",
)


@dataclass(frozen=True)
class DCGANOptions(ModelOptions):
    """Options of DCGAN's generator."""

    latent: int = option(100, rules.LATENT, "Numbers in a latent")
    widths: tuple[int, ...] = option(
        (512, 256, 128, 64), rules.WIDTHS, "Channels of every layer except the last, so that there is one layer more"
    )
    channels: int = option(3, rules.COLOURS, "Colour channels: 1 for gray, 3 for RGB")
    kernels: tuple[tuple[int, int, int], ...] | None = option(
        None,
        Optional(Several(_KERNEL, rules.WIDTHS.longest + 1, fewest=2)),
        "Kernels of all layers; none for the paper's, whose first layer makes 4×4 and whose others double the size. "
        "[7, 1, 0] and two of [4, 2, 1] make 28×28",
    )
    bias: bool = option(False, Flag(), "The convolutions have a bias")

    def check(self) -> None:
        """Every layer has a kernel, and together they make an image."""
        if len(self.layers) != len(self.widths) + 1:
            wanted = f"{len(self.widths) + 1}, one more than the widths"
            raise ValueError(f"kernels must be {wanted}, not {len(self.layers)}")
        rules.SIDE.require("size", side(self.layers))

    @property
    def layers(self) -> tuple[tuple[int, int, int], ...]:
        """The kernels of all layers, the paper's where none are given."""
        return kernels_for(len(self.widths) + 1) if self.kernels is None else self.kernels

    def stored(self) -> dict[str, Any]:
        """See the base class; the kernels are always written in full."""
        return super().stored() | {"kernels": [list(kernel) for kernel in self.layers]}

    def facts(self, name: str) -> Facts:
        """See the base class."""
        length = side(self.layers)
        return Facts(
            name=name,
            paper="Radford et al. 2016, arXiv:1511.06434",
            task="generate",
            channels=self.channels,
            value_range=rules.RANGES["tanh"],
            latent=self.latent,
            output_size=(length, length),
            options=self.stored(),
        )


def kernels_for(layers: int) -> tuple[tuple[int, int, int], ...]:
    """The paper's kernels, (size, stride, padding) each: the first makes 4×4 of a latent, the others double it."""
    return (_FIRST, *[_DOUBLING] * (layers - 1))


def side(kernels: Kernels) -> int:
    """The side in pixels of the images that transposed convolutions with these kernels make of one pixel."""
    length = 1
    for size, stride, padding in kernels:
        length = (length - 1) * stride - 2 * padding + size
    return length


class Generator(nn.Module):
    """Transposed convolutions, each with BatchNorm and ReLU, the last with tanh.

    Args:
        options: ``None`` for the paper's, which make images of 64×64.
    """

    Options = DCGANOptions

    def __init__(self, options: DCGANOptions | None = None) -> None:
        super().__init__()
        o = options or DCGANOptions()
        layers: list[nn.Module] = []
        before = o.latent
        *hidden, last = o.layers
        for width, kernel in zip(o.widths, hidden, strict=True):
            layers += [_transposed(before, width, kernel, o.bias), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        self.main = nn.Sequential(*layers, _transposed(before, o.channels, last, o.bias), nn.Tanh())
        initialise(self)

    def forward(self, latents: Tensor) -> Tensor:
        """(N, latent) standard normal -> (N, C, H, W) in [-1, 1]."""
        result: Tensor = self.main(latents[:, :, None, None])
        return result


class Discriminator(nn.Module):
    """The generator's mirror: convolutions with LeakyReLU 0.2 down to one logit.

    Args:
        widths: channels of every layer except the last, in the generator's order, widest first.
        channels: 1 for gray, 3 for RGB.
        kernels: (size, stride, padding) of every layer, in the generator's order; ``None`` for the paper's.
        norm: ``"batch"`` for BatchNorm in all layers except the first and the last, as in the paper; ``"instance"`` for
            InstanceNorm in its place, which sees one image at a time; ``"spectral"`` for spectral norm in all layers
            (Miyato et al. 2018, arXiv:1802.05957); ``"none"``, as a gradient penalty requires.
        dropout: probability that a channel is dropped, after every layer except the last.
    """

    def __init__(
        self,
        widths: Sequence[int] = (512, 256, 128, 64),
        channels: int = 3,
        kernels: Kernels | None = None,
        norm: str = "batch",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        one_of("norm", norm, NORMS)
        last, *hidden = kernels or kernels_for(len(widths) + 1)
        layers: list[nn.Module] = []
        before = channels
        for index, (width, kernel) in enumerate(zip(widths[::-1], hidden[::-1], strict=True)):
            layers.append(_convolution(before, width, kernel, norm))
            if norm == "batch" and index:
                layers.append(nn.BatchNorm2d(width))
            elif norm == "instance" and index:
                layers.append(nn.InstanceNorm2d(width, affine=True))
            layers.append(nn.LeakyReLU(0.2))
            if dropout:
                layers.append(nn.Dropout2d(dropout))
            before = width
        self.main = nn.Sequential(*layers, _convolution(before, 1, last, norm))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1) logits; large means real."""
        result: Tensor = self.main(x).flatten(1)
        return result


def initialise(module: nn.Module) -> None:
    """Initialise as in the paper: normal with deviation 0.02, mean 0 in convolutions and mean 1 in BatchNorms."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and not nn.utils.parametrize.is_parametrized(layer):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)


def _transposed(before: int, width: int, kernel: Sequence[int], bias: bool) -> nn.Module:
    size, stride, padding = kernel
    return nn.ConvTranspose2d(before, width, size, stride, padding, bias=bias)


def _convolution(before: int, width: int, kernel: Sequence[int], norm: str) -> nn.Module:
    size, stride, padding = kernel
    # BatchNorm subtracts what a bias adds; the paper's code has no bias in the first and the last layer either
    layer = nn.Conv2d(before, width, size, stride, padding, bias=norm != "batch")
    return spectral_norm(layer) if norm == "spectral" else layer
