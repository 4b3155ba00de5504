"""What the recipes that translate images can be given. Imports no torch: the command line shows the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gankit.training.choices import Init
from gankit.training.schedules import Schedule, make_schedule

DiscriminatorNorm = Literal["instance", "batch", "spectral", "none"]


@dataclass(frozen=True)
class TranslationOptions:
    """Options of both recipes.

    Attributes:
        steps: for the learning rate's schedule, and for the noise, which ends with them.
        model: arguments of the generator (``channels``, …).
        adversarial: the loss that is played, one of :data:`gankit.training.losses.ADVERSARIAL`.
        adversarial_weight: of that loss for the generator.
        smooth: one-sided label smoothing: the real target is 1 - smooth.
        content: the distance of images: ``"l1"`` as in the papers, ``"mse"`` or ``"charbonnier"``.
        lr: Adam's learning rate for the generator.
        discriminator_lr: and for the discriminator; ``None`` for the same (else TTUR, Heusel et al. 2017).
        betas: Adam's decay rates.
        weight_decay: L2 penalty on the weights of both.
        schedule: of both learning rates, by name.
        warmup: steps in which they rise from 0.
        weight_init: ``"normal"`` with deviation 0.02 as in the papers, ``"xavier"`` or ``"he"``.
        discriminator_channels: width of the PatchGAN's first layer.
        discriminator_layers: its strided convolutions: with 3 a logit sees a patch of 70×70, with 0 one pixel.
        discriminator_norm: ``"instance"``, ``"batch"`` as in pix2pix's paper, ``"spectral"`` or ``"none"``.
        discriminator_steps: of the discriminator for one of the generator.
        instance_noise: deviation of the noise on all that the discriminator sees, falling to 0 with the last step.
        r1_weight: weight of the R1 penalty on real images.
        penalty_weight: weight of the gradient penalty between real and made images.
    """

    steps: int
    model: Mapping[str, Any] = field(default_factory=dict)
    adversarial: str = "nonsaturating"
    adversarial_weight: float = 1.0
    smooth: float = 0.0
    content: str = "l1"
    lr: float = 2e-4
    discriminator_lr: float | None = None
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: int = 0
    weight_init: Init = "normal"
    discriminator_channels: int = 64
    discriminator_layers: int = 3
    discriminator_norm: DiscriminatorNorm = "instance"
    discriminator_steps: int = 1
    instance_noise: float = 0.0
    r1_weight: float = 0.0
    penalty_weight: float = 0.0

    def schedule_of(self) -> Schedule:
        """The factor of both learning rates by step."""
        return make_schedule(self.schedule, self.steps, warmup=self.warmup)


@dataclass(frozen=True)
class Pix2PixOptions(TranslationOptions):
    """Options of the recipe; the weights multiply the loss's terms.

    Without an adversarial weight it is a plain regression, and there is no discriminator.

    Attributes:
        content_weight: λ of the distance to the target (equation 4).
    """

    content_weight: float = 100.0


@dataclass(frozen=True)
class CycleGANOptions(TranslationOptions):
    """Options of the recipe.

    The adversarial weight of 2 cancels the ½ in the LSGAN loss, which CycleGAN omits.

    Attributes:
        cycle_weight: λ of the way there and back (equation 3).
        identity_weight: of leaving images of the other side as they are, as a part of ``cycle_weight`` (section 5.2);
            0 for images whose colours are to change.
        image_pool: images that the discriminators see again (section 4).
        seed: of the choice of those.
    """

    adversarial: str = "lsgan"
    adversarial_weight: float = 2.0
    schedule: str = "linear"
    cycle_weight: float = 10.0
    identity_weight: float = 0.5
    image_pool: int = 50
    seed: int = 0
