"""The networks of the recipes that begin with a latent, as their options want them."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from gankit.errors import UsageError
from gankit.models import build, cgan, dcgan, facts, gan
from gankit.training.spectral import add_spectral_norm
from gankit.training.systems.latent_options import NORMS, LatentOptions, Net
from gankit.training.weight_init import initialise

_BASE = 64  # channels at half the size, as in DCGAN
_NARROW = 32  # channels at the whole size, where each costs most
_SMALLEST_MAP = 4


def usual_widths(net: Net, size: int) -> tuple[int, ...]:
    """The generator's widths for images of this size, where none are given.

    Raises:
        UsageError: no stack of doublings makes the size.
    """
    if net == "gan":
        return (256, 512, 640)
    doublings, _ = doubled(size)
    if net == "cgan":
        stages = [_NARROW * 2**index for index in range(doublings)][::-1]
        return (3 * stages[0] // 2, *stages)
    return tuple(_BASE * 2**index for index in range(doublings - 1, -1, -1))


def doubled(size: int) -> tuple[int, int]:
    """How often a small map is doubled to make images of this size, and the map's side: 28 is 7, doubled twice.

    Raises:
        UsageError: it is not even, or too small.
    """
    side, doublings = size, 0
    while side % 2 == 0 and side // 2 >= _SMALLEST_MAP:
        side, doublings = side // 2, doublings + 1
    if not doublings:
        raise UsageError(f"images of {size}×{size} cannot be made by doubling: take a multiple of 8, or --net gan")
    return doublings, side


def model_options(options: LatentOptions) -> dict[str, Any]:
    """What builds the generator, in full.

    Raises:
        UsageError: the net cannot be so.
    """
    o = options
    widths = list(o.widths or usual_widths(o.net, o.size))
    made: dict[str, Any] = {"latent": o.latent, "channels": o.colours}
    if o.net == "dcgan":
        made |= {"widths": widths, "kernels": _kernels(o.size, len(widths))}
    else:
        made |= {"size": [o.size, o.size], "norm": o.norm != "none", "activation": "leaky_relu", "output": "tanh"}
        made["hidden" if o.net == "gan" else "widths"] = widths
    if o.net == "cgan":
        made |= {"classes": o.classes, "body": "convolutional", "conditional_norm": o.norm == "conditional"}
    elif o.norm == "conditional":
        raise UsageError("--norm conditional: only the generator of cgan knows the class")
    try:
        return dict(facts(o.net, made).options)
    except ValueError as error:
        raise UsageError(f"the generator cannot be built: {error}") from None


def build_generator(options: LatentOptions) -> nn.Module:
    """The generator with its weight init.

    Raises:
        UsageError: it cannot be built so.
    """
    made = build(options.net, model_options(options))
    if options.weight_init is not None:
        initialise(made, options.weight_init)
    return made


def build_discriminator(options: LatentOptions) -> nn.Module:
    """The discriminator with its weight init, and its spectral norm where it has one.

    Raises:
        UsageError: the net has no such norm.
    """
    o = options
    norm, dropout = o.discriminator_norm, o.discriminator_dropout
    if norm not in NORMS[o.net]:
        raise UsageError(f"--discriminator-norm {norm}: the discriminator of {o.net} has {' or '.join(NORMS[o.net])}")
    given = model_options(o)
    square = (o.size, o.size)
    made: nn.Module
    if o.net == "gan":
        made = gan.Discriminator(o.discriminator_widths or (512, 256), square, o.colours, dropout)
    elif o.net == "cgan":
        doublings, _ = doubled(o.size)
        widths = o.discriminator_widths or tuple(_BASE * 2**index for index in range(doublings))
        made = cgan.Discriminator(
            o.classes, "convolutional", widths, square, o.colours, dropout=dropout, projection=o.projection
        )
    else:
        kind = "none" if norm == "spectral" else norm  # comes below, once the weights are drawn
        widths = o.discriminator_widths or tuple(given["widths"])
        if len(widths) != len(given["widths"]):
            raise UsageError(f"--discriminator-widths: images of {o.size}×{o.size} need {len(given['widths'])} widths")
        made = dcgan.Discriminator(widths, o.colours, given["kernels"], kind, dropout)
    if o.weight_init is not None:
        initialise(made, o.weight_init)
    if norm == "spectral":
        add_spectral_norm(made)
        if isinstance(made, cgan.Discriminator) and made.projection is not None:
            spectral_norm(made.projection)
    return made


def _kernels(size: int, widths: int) -> list[list[int]]:
    """(size, stride, padding) of DCGAN's layers for images of this size."""
    side = size >> widths
    if side << widths != size or side < 1:
        raise UsageError(f"{widths} widths double {widths} times, which cannot make {size}×{size}")
    return [[side, 1, 0], *[[4, 2, 1] for _ in range(widths)]]
