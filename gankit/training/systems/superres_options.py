"""What the two stages of super-resolution can be given. Imports no torch: the command line shows the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gankit.training.choices import RELATIVISTIC

Norm = Literal["frozen", "batch"]


@dataclass(frozen=True)
class ContentOptions:
    """Options of the ``srresnet`` stage.

    Attributes:
        steps: for the learning rate's schedule.
        scale: 2, 4 or 8.
        norm: ``"frozen"``: BatchNorm is the identity with a trainable bias; ``"batch"``: as published.
        inner_lr: Muon's learning rate for the body.
        lr: Adam's learning rate for the rest.
        content: ``"l1"``, ``"mse"`` (the paper's) or ``"charbonnier"``.
        betas: Adam's decay rates, of all networks.
        weight_decay: L2 penalty on the weights that Adam trains: all but the generator's body.
        schedule: of all learning rates; see :data:`gankit.training.schedules.SCHEDULES`.
        warmup: steps in which they rise from 0.
        model: further arguments of the generator (``blocks``, ``channels``).
    """

    steps: int
    scale: int = 4
    norm: Norm = "frozen"
    inner_lr: float = 5e-3
    lr: float = 1e-3
    content: Literal["l1", "mse", "charbonnier"] = "l1"
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: int = 100
    model: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AdversarialOptions(ContentOptions):
    """Options of the ``srgan`` stage; the weights multiply the loss's terms.

    Attributes:
        content_weight: weight of the content loss.
        perceptual_weight: weight of feature matching, or of VGG19 where its weights are given.
        adversarial: ``"relativistic"``, or one of :data:`gankit.training.losses.ADVERSARIAL`.
        adversarial_weight: weight of that loss for the generator.
        smooth: one-sided label smoothing: the target of real images is 1 - smooth.
        consistency_weight: weight of the distance between the reduced result and the input.
        vgg_weights: a VGG19 state dict, or ``None`` for feature matching.
        discriminator_channels: width of the discriminator's first stage (64 in the paper).
        discriminator_norm: ``"spectral"``: spectral normalisation, no BatchNorm; ``"batch"``: BatchNorm, as published.
        discriminator_lr: its learning rate.
        discriminator_steps: of the discriminator for one of the generator.
        instance_noise: deviation of the noise on all that the discriminator judges, of a range of 1; it falls to 0
            with the last step.
        r1_weight: weight of the R1 penalty on real images.
        penalty_weight: weight of the gradient penalty between real and made images.
        clip: the discriminator's weights are held within ± this; 0 for no bound.
        head_start: steps that the discriminator trains alone.
    """

    inner_lr: float = 5e-4
    lr: float = 1e-4
    content_weight: float = 1.0
    perceptual_weight: float = 0.05
    adversarial: str = RELATIVISTIC
    adversarial_weight: float = 5e-3
    smooth: float = 0.0
    consistency_weight: float = 1.0
    vgg_weights: Path | None = None
    discriminator_channels: int = 64
    discriminator_norm: Literal["spectral", "batch"] = "spectral"
    discriminator_lr: float = 1e-4
    discriminator_steps: int = 1
    instance_noise: float = 0.0
    r1_weight: float = 0.0
    penalty_weight: float = 0.0
    clip: float = 0.0
    head_start: int = 100


@dataclass(frozen=True)
class PhotoData:
    """Where the images come from and how they are cut.

    Attributes:
        photos: folder of training images, read recursively.
        validation: folder of validation images.
        patch: LR side of a patch.
        batch: patches in a step.
        synthetic: images of text, line art and patterns to add.
        workers: loader processes.
        seed: of the patches and of the weight init.
    """

    photos: Path
    validation: Path
    patch: int = 24
    batch: int = 16
    synthetic: int = 24
    workers: int = 0
    seed: int = 0
