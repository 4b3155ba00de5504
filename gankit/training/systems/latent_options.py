"""What the recipes that begin with a latent can be given. Imports no torch: the command line lists all of this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from gankit.datasets.options import Fit
from gankit.training.choices import Init

Net = Literal["gan", "cgan", "dcgan"]
Norm = Literal["batch", "instance", "spectral", "none"]

NORMS: Mapping[Net, tuple[Norm, ...]] = MappingProxyType(
    {
        "gan": ("spectral", "none"),
        "cgan": ("spectral", "none"),
        "dcgan": ("batch", "instance", "spectral", "none"),
    }
)
"""The discriminator's normalisations that each net can have."""


@dataclass(frozen=True)
class LatentOptions:
    """Options of an adversarial recipe that begins with a latent.

    Attributes:
        steps: of the generator; for the schedule, the growth and the decay of the instance noise.
        net: which generator and discriminator.
        size: height and width of the images.
        colours: 1 for gray, 3 for RGB.
        classes: of ``cgan``.
        latent: numbers in a latent.
        widths: of the generator's layers; empty for those that the size asks for.
        discriminator_widths: of the discriminator's, in its net's order; empty for those that go with the generator.
        norm: the normalisation in the generator of ``gan`` and ``cgan``: ``"batch"``, ``"none"``, or, in ``cgan``
            alone, ``"conditional"``: BatchNorm with a scale and a shift for each class (de Vries et al. 2017,
            arXiv:1707.00683).
        discriminator_norm: the discriminator's normalisation; see :data:`NORMS`.
        projection: the discriminator of ``cgan`` asks of its last features whether they fit the class.
        discriminator_dropout: probability of dropout in the discriminator.
        weight_init: weight init; ``None`` for that of the net's paper.
        adversarial: a key of :data:`gankit.training.losses.ADVERSARIAL`.
        smooth: one-sided label smoothing; real images are asked to be 1 - ``smooth`` real.
        penalty_weight: weight of the gradient penalty (Gulrajani et al. 2017); 0 for none.
        r1_weight: weight γ of the penalty γ/2·|∇D(real)|² (Mescheder et al. 2018); 0 for none.
        clip: the discriminator's weights are held within ± this (Arjovsky et al. 2017); 0 for no bound.
        discriminator_steps: for each of the generator, each with real images of its own.
        optimiser: ``"adam"``, or ``"rmsprop"``, which has no momentum, as Arjovsky et al. want it.
        lr: learning rate of the generator.
        discriminator_lr: of the discriminator; ``None`` for the same (two rates: Heusel et al. 2017, TTUR).
        betas: Adam's decay rates.
        weight_decay: L2 penalty on the weights of both.
        schedule: of both learning rates; see :data:`gankit.training.schedules.SCHEDULES`.
        warmup: steps in which the learning rates rise from 0.
        instance_noise: deviation of the noise on real and generated images, which falls linearly to 0 at the last
            step (Sønderby et al. 2017); 0 for none.
        progressive: part of the steps in which the images grow from a quarter of the size (Karras et al. 2018); 0
            for the whole size from the first step.
        seed: of the latents.
    """

    steps: int
    net: Net = "dcgan"
    size: int = 28
    colours: int = 1
    classes: int = 10
    latent: int = 100
    widths: tuple[int, ...] = ()
    discriminator_widths: tuple[int, ...] = ()
    norm: Literal["batch", "conditional", "none"] = "batch"
    discriminator_norm: Norm = "none"
    projection: bool = True
    discriminator_dropout: float = 0.0
    weight_init: Init | None = None
    adversarial: str = "nonsaturating"
    smooth: float = 0.0
    penalty_weight: float = 0.0
    r1_weight: float = 0.0
    clip: float = 0.0
    discriminator_steps: int = 1
    optimiser: Literal["adam", "rmsprop"] = "adam"
    lr: float = 2e-4
    discriminator_lr: float | None = None
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: int = 0
    instance_noise: float = 0.0
    progressive: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class VAEOptions:
    """Options of the ``vae`` recipe.

    Attributes:
        steps: for the schedule.
        size: height and width of the images.
        colours: 1 for gray, 3 for RGB.
        latent: numbers in a latent.
        hidden: widths of the encoder's layers; the decoder has them in reverse.
        kl_weight: weight β of the KL term; above 1 it asks for a simpler latent, below 1 for sharper images.
        loss: ``"bce"`` of pixels as probabilities, or ``"mse"``: half the squared error, Gaussian pixels of deviation
            1.
        kl_warmup: steps in which the KL term's weight rises from 0 to ``kl_weight``.
        weight_init: weight init; ``None`` for that of the net's paper.
        lr: Adam's learning rate.
        betas: Adam's decay rates.
        weight_decay: L2 penalty on the weights.
        schedule: of the learning rate; see :data:`gankit.training.schedules.SCHEDULES`.
        warmup: steps in which the learning rate rises from 0.
        seed: of the noise.
    """

    steps: int
    size: int = 28
    colours: int = 1
    latent: int = 20
    hidden: tuple[int, ...] = (448, 256)
    kl_weight: float = 1.0
    loss: Literal["bce", "mse"] = "bce"
    kl_warmup: int = 1000
    weight_init: Init | None = None
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: int = 0
    seed: int = 0


@dataclass(frozen=True)
class LatentData:
    """Where the images come from.

    Attributes:
        images: a folder with the official IDX files, one IDX file, or a folder of images.
        batch: images in a step of the discriminator.
        fit: how images of another size become square; see :func:`gankit.datasets.pixels.fitted`.
        mirror: half of the images are mirrored.
        workers: loader processes.
        seed: of the order, the latents and the weight init.
    """

    images: Path
    batch: int = 64
    fit: Fit = "resize"
    mirror: bool = False
    workers: int = 0
    seed: int = 0


def from_preset(preset: Mapping[str, Any], given: Mapping[str, Any]) -> LatentOptions:
    """A preset's options with those that are given in their place.

    Where ``discriminator_norm`` is not given and the net does not have the preset's, there is none.

    Args:
        preset: fields of :class:`LatentOptions`.
        given: likewise.
    """
    fields = {**preset, **given}
    preset_norm = fields.get("discriminator_norm", "none")
    if "discriminator_norm" not in given and preset_norm not in NORMS[fields.get("net", "dcgan")]:
        fields["discriminator_norm"] = "none"
    return LatentOptions(**fields)
