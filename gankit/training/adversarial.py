"""The losses of two networks that play against each other, as pure functions of the discriminator's logits.

Logits are what the discriminator says before any sigmoid: of any shape, one an image or one a patch; every loss is
the mean over all of them. Each function returns a scalar that its network minimises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

from torch import Tensor
from torch.nn import functional as F

from gankit.errors import UsageError


def bce_discriminator(real: Tensor, fake: Tensor, smooth: float = 0.0) -> Tensor:
    """-(1 - s)·log σ(real) - s·log(1 - σ(real)) - log(1 - σ(fake)) (Goodfellow et al. 2014, arXiv:1406.2661, eq. 1).

    One-sided label smoothing (Salimans et al. 2016, arXiv:1606.03498, section 3.4): the target of real images is
    1 - s, that of made ones stays 0.

    Args:
        real: logits of real images, any shape.
        fake: logits of made images, any shape.
        smooth: s, in [0, 1).
    """
    # -(1 - s)·log σ(x) - s·log(1 - σ(x)) = softplus(-x) + s·x, since log σ(x) - log(1 - σ(x)) = x.
    return F.softplus(-real).mean() + smooth * real.mean() + F.softplus(fake).mean()


def minimax_generator(fake: Tensor) -> Tensor:
    """log(1 - σ(fake)), the generator's side of eq. 1 of Goodfellow et al. 2014 (arXiv:1406.2661).

    Its gradient vanishes where the discriminator has won; the paper itself trains by :func:`nonsaturating_generator`.
    """
    return -F.softplus(fake).mean()


def nonsaturating_generator(fake: Tensor) -> Tensor:
    """-log σ(fake) (Goodfellow et al. 2014, arXiv:1406.2661, section 3)."""
    return F.softplus(-fake).mean()


def lsgan_discriminator(real: Tensor, fake: Tensor, smooth: float = 0.0) -> Tensor:
    """½·(real - 1 + s)² + ½·fake² (Mao et al. 2017, arXiv:1611.04076, eq. 9).

    Args:
        real: logits of real images, any shape.
        fake: logits of made images, any shape.
        smooth: s, by which the target of real images is lower than 1.
    """
    return ((real - (1 - smooth)).square().mean() + fake.square().mean()) / 2


def lsgan_generator(fake: Tensor) -> Tensor:
    """½·(fake - 1)² (Mao et al. 2017, arXiv:1611.04076, eq. 9). CycleGAN omits the ½."""
    return (fake - 1).square().mean() / 2


def wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Fake - real (Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1).

    The discriminator must be Lipschitz: by :func:`gankit.training.penalties.clip_weights`, or by
    :func:`gankit.training.penalties.gradient_penalty`.
    """
    return fake.mean() - real.mean()


def wasserstein_generator(fake: Tensor) -> Tensor:
    """-fake (Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1)."""
    return -fake.mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """max(0, 1 - real) + max(0, 1 + fake) (Lim and Ye 2017, arXiv:1705.02894; Miyato et al. 2018, eq. 16)."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """-fake (Lim and Ye 2017, arXiv:1705.02894; Miyato et al. 2018, arXiv:1802.05957, eq. 17)."""
    return -fake.mean()


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Relativistic average loss of the discriminator (Jolicoeur-Martineau 2018, arXiv:1807.00734).

    -log σ(real - mean(fake)) - log(1 - σ(fake - mean(real))), halved as ESRGAN does.
    """
    return (F.softplus(-(real - fake.mean())).mean() + F.softplus(fake - real.mean()).mean()) / 2


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """Relativistic average loss of the generator: the discriminator's with the roles exchanged."""
    return relativistic_discriminator(fake, real)


@dataclass(frozen=True)
class AdversarialLoss:
    """The two sides of one game.

    Attributes:
        name: its key in :data:`ADVERSARIAL`.
        discriminator: of the logits of real and of made images.
        generator: of the logits of made images.
        has_target: whether real images have a target that can be smoothed.
    """

    name: str
    discriminator: Callable[..., Tensor]
    generator: Callable[[Tensor], Tensor]
    has_target: bool = False

    def smoothed(self, smooth: float) -> AdversarialLoss:
        """The same game with one-sided label smoothing.

        Args:
            smooth: by how much the target of real images is lower than 1, in [0, 1).

        Raises:
            UsageError: out of range, or the loss has no target that could be smoothed.
        """
        if not 0 <= smooth < 1:
            raise UsageError(
                f"a label smoothing of {smooth} is out of range: give a number from 0 up to, but not including, 1"
            )
        if smooth == 0:
            return self
        if not self.has_target:
            able = ", ".join(name for name, loss in ADVERSARIAL.items() if loss.has_target)
            raise UsageError(f"the {self.name} loss has no labels to smooth: omit the smoothing, or use {able}")
        return replace(self, discriminator=partial(self.discriminator, smooth=smooth))


ADVERSARIAL: Mapping[str, AdversarialLoss] = MappingProxyType(
    {
        loss.name: loss
        for loss in (
            AdversarialLoss("minimax", bce_discriminator, minimax_generator, has_target=True),
            AdversarialLoss("nonsaturating", bce_discriminator, nonsaturating_generator, has_target=True),
            AdversarialLoss("lsgan", lsgan_discriminator, lsgan_generator, has_target=True),
            AdversarialLoss("wasserstein", wasserstein_discriminator, wasserstein_generator),
            AdversarialLoss("hinge", hinge_discriminator, hinge_generator),
        )
    }
)
