"""What the recipes of super-resolution can be given. Imports no torch: the command line shows the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from gankit.training.choices import RELATIVISTIC, DegradationName, DiscriminatorName

Network = Literal["srresnet", "edsr"]
Norm = Literal["frozen", "batch"]


@dataclass(frozen=True)
class ContentOptions:
    """Options of the ``srresnet`` and ``edsr`` recipes.

    Attributes:
        steps: for the learning rate's schedule.
        network: the generator, :class:`gankit.models.srgan.SRResNet` or :class:`gankit.models.edsr.EDSR`.
        scale: 2, 4 or 8.
        norm: of SRResNet. ``"frozen"``: BatchNorm is the identity with a trainable bias; ``"batch"``: as published.
        inner_lr: Muon's learning rate for SRResNet's body.
        lr: Adam's learning rate for the rest, and for all of EDSR.
        content: ``"l1"``, ``"mse"`` (the paper's) or ``"charbonnier"``.
        betas: Adam's decay rates, of all networks.
        mse_share: share of the steps, at the end, in which the content loss is the squared error, which is what PSNR
            measures.
        weight_decay: L2 penalty on the weights that Adam trains: all but SRResNet's body.
        schedule: of all learning rates; see :data:`gankit.training.schedules.SCHEDULES`.
        warmup: steps in which they rise from 0.
        final_rate: the last factor of the learning rates; ``None`` for the schedule's own.
        compile: whether ``torch.compile`` makes the generator's passes.
        model: further arguments of the generator (``blocks``, ``channels``).
    """

    steps: int
    network: Network = "srresnet"
    scale: int = 4
    norm: Norm = "frozen"
    inner_lr: float = 5e-3
    lr: float = 1e-3
    content: Literal["l1", "mse", "charbonnier"] = "l1"
    mse_share: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: int = 100
    final_rate: float | None = None
    compile: bool = False
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
        adversarial_warmup: steps of the generator in which that weight rises from 0.
        consistency_weight: weight of the distance between the reduced result and the input, or what the input was
            before it was degraded.
        vgg_weights: a VGG19 state dict, or ``None`` for feature matching.
        discriminator: ``"vgg"``: the paper's, one logit an image; ``"unet"``: Real-ESRGAN's, one a pixel.
        discriminator_channels: width of the discriminator's first stage (64 in the paper).
        discriminator_norm: of ``"vgg"``. ``"spectral"``: spectral normalisation, no BatchNorm; ``"batch"``: BatchNorm,
            as published.
        discriminator_lr: its learning rate.
        discriminator_steps: of the discriminator for one of the generator.
        instance_noise: deviation of the noise on all that the discriminator judges, of a range of 1; it falls to 0
            with the last step.
        r1_weight: weight of the R1 penalty on real images.
        penalty_weight: weight of the gradient penalty between real and made images.
        clip: the discriminator's weights are held within ± this; 0 for no bound.
        head_start: steps that the discriminator trains alone.
        degraded: whether the inputs are, so that the result is compared with the reduced target instead.
    """

    inner_lr: float = 5e-4
    lr: float = 1e-4
    content_weight: float = 1.0
    perceptual_weight: float = 0.05
    adversarial: str = RELATIVISTIC
    adversarial_weight: float = 5e-3
    adversarial_warmup: int = 0
    smooth: float = 0.0
    consistency_weight: float = 1.0
    vgg_weights: Path | None = None
    discriminator: DiscriminatorName = "vgg"
    discriminator_channels: int = 64
    discriminator_norm: Literal["spectral", "batch"] = "spectral"
    discriminator_lr: float = 1e-4
    discriminator_steps: int = 1
    instance_noise: float = 0.0
    r1_weight: float = 0.0
    penalty_weight: float = 0.0
    clip: float = 0.0
    head_start: int = 100
    degraded: bool = False


UNET: Mapping[str, Any] = MappingProxyType({"adversarial": "nonsaturating", "adversarial_warmup": 1000})
"""What differs where the discriminator is a U-Net: Real-ESRGAN's loss, which weighs little at first."""

ADVERSARIAL_EDSR: Mapping[str, Any] = MappingProxyType({"discriminator": "unet", "final_rate": 0.1})
"""What differs where EDSR is trained adversarially."""

EDSR: Mapping[str, Any] = MappingProxyType({"network": "edsr", "mse_share": 0.1})
"""What differs in the ``edsr`` recipe."""

EDSR_PATCH = 48
"""Side of its LR patches."""


@dataclass(frozen=True)
class PhotoData:
    """Where the images come from and how they are cut.

    Attributes:
        photos: folders of training images, read recursively.
        validation: folder of validation images.
        patch: LR side of a patch.
        degradation: what is done to the LR patches, and to the images of the validation.
        batch: patches in a step.
        synthetic: images of text, line art and patterns to add.
        workers: loader processes.
        seed: of the patches and of the weight init.
    """

    photos: tuple[Path, ...]
    validation: Path
    patch: int = 24
    degradation: DegradationName = "clean"
    batch: int = 16
    synthetic: int = 24
    workers: int = 0
    seed: int = 0
