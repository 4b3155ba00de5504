"""DCGAN: transposed convolutions and BatchNorm (Radford et al., ICLR 2016, arXiv:1511.06434)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gankit.models.checks import flag, one_of, whole
from gankit.models.facts import Facts
from gankit.models.latents import RANGES, check_image, check_layers, check_widths

Kernels = Sequence[Sequence[int]]
NORMS = ("batch", "instance", "spectral", "none")
_FIRST, _DOUBLING = (4, 1, 0), (4, 2, 1)


def kernels_for(layers: int) -> tuple[tuple[int, int, int], ...]:
    """The paper's kernels, (size, stride, padding) each: one that makes 4×4 of a latent, then some that double it."""
    return (_FIRST, *[_DOUBLING] * (layers - 1))


def side(kernels: Kernels) -> int:
    """The side of the images that transposed convolutions of these kernels make of one pixel."""
    length = 1
    for size, stride, padding in kernels:
        length = (length - 1) * stride - 2 * padding + size
    return length


class Generator(nn.Module):
    """Transposed convolutions, each with BatchNorm and ReLU, the last with tanh.

    Args:
        latent: numbers in a latent.
        widths: channels of every layer but the last; one layer more than widths, so that the paper's are 64×64.
        channels: 1 for gray, 3 for RGB.
        kernels: (size, stride, padding) of every layer; ``None`` for those of :func:`kernels_for`. [7, 1, 0] and two
            of [4, 2, 1] make 28×28.
        bias: the convolutions have one.
    """

    def __init__(
        self,
        latent: int = 100,
        widths: Sequence[int] = (512, 256, 128, 64),
        channels: int = 3,
        kernels: Kernels | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = latent
        *hidden, last = kernels or kernels_for(len(widths) + 1)
        for width, kernel in zip(widths, hidden, strict=True):
            layers += [_transposed(before, width, kernel, bias), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        self.main = nn.Sequential(*layers, _transposed(before, channels, last, bias), nn.Tanh())
        initialise(self)

    def forward(self, latents: Tensor) -> Tensor:
        """(N, latent) standard normal -> (N, C, H, W) in [-1, 1]."""
        return self.main(latents[:, :, None, None])


class Discriminator(nn.Module):
    """The generator's mirror: convolutions with LeakyReLU 0.2 down to one logit. Arguments as the generator's.

    Args:
        widths: channels of every layer but the last, in the generator's order, widest first.
        channels: 1 for gray, 3 for RGB.
        kernels: (size, stride, padding), in the generator's order.
        norm: ``"batch"``: BatchNorm in all layers but the first and the last, as in the paper; ``"instance"``:
            InstanceNorm in its place, which looks at one image only; ``"spectral"``: spectral norm in all (Miyato et
            al. 2018, arXiv:1802.05957); ``"none"``, as a gradient penalty wants it.
        dropout: probability that a channel is left away, after every layer but the last.
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
        return self.main(x).flatten(1)


def initialise(module: nn.Module) -> None:
    """Initialise as in the paper: normal with deviation 0.02, mean 0 in convolutions and mean 1 in BatchNorms."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and not nn.utils.parametrize.is_parametrized(layer):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)


def facts(
    name: str = "dcgan",
    latent: int = 100,
    widths: Sequence[int] = (512, 256, 128, 64),
    channels: int = 3,
    kernels: Kernels | None = None,
    bias: bool = False,
) -> Facts:
    """What a user of the generator must know before running it.

    Raises:
        ValueError: an option is one that no network of ours has.
    """
    check_layers(latent, "relu", "tanh")
    check_widths("widths", widths)
    flag("bias", bias)
    kernels = kernels_for(len(widths) + 1) if kernels is None else kernels
    if not isinstance(kernels, list | tuple) or len(kernels) != len(widths) + 1:
        raise ValueError(f"kernels must be one more than widths, not {kernels!r}")
    for kernel in kernels:
        if not isinstance(kernel, list | tuple) or len(kernel) != 3:
            raise ValueError(f"kernels must be a size, a stride and a padding each, not {kernel!r}")
        for value, least in zip(kernel, (1, 1, 0), strict=True):
            whole("kernels", value, 64, least)
    length = side(kernels)
    check_image((length, length), channels)
    return Facts(
        name=name,
        paper="Radford et al. 2016, arXiv:1511.06434",
        task="generate",
        scale=1,
        channels=channels,
        value_range=RANGES["tanh"],
        multiple=1,
        norm="batch",
        options={
            "latent": latent,
            "widths": list(widths),
            "channels": channels,
            "kernels": [list(kernel) for kernel in kernels],
            "bias": bias,
        },
        latent=latent,
        output_size=(length, length),
    )


def _transposed(before: int, width: int, kernel: Sequence[int], bias: bool) -> nn.Module:
    size, stride, padding = kernel
    return nn.ConvTranspose2d(before, width, size, stride, padding, bias=bias)


def _convolution(before: int, width: int, kernel: Sequence[int], norm: str) -> nn.Module:
    size, stride, padding = kernel
    # BatchNorm takes away what a bias adds; the paper's code has none in the first and last either
    layer = nn.Conv2d(before, width, size, stride, padding, bias=norm != "batch")
    return spectral_norm(layer) if norm == "spectral" else layer
