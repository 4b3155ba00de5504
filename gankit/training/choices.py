"""The names that options choose from. Imports no torch: the command line lists them."""

from __future__ import annotations

from typing import Literal, get_args

Init = Literal["xavier", "he", "normal"]
INITS: tuple[Init, ...] = get_args(Init)
"""The rules of :func:`gankit.training.weight_init.initialise`."""

ADVERSARIAL_NAMES = ("minimax", "nonsaturating", "lsgan", "wasserstein", "hinge")
"""The keys of :data:`gankit.training.losses.ADVERSARIAL`."""

RELATIVISTIC = "relativistic"
"""The loss of super-resolution that compares real and made images with each other; not one of those."""

CONTENT_NAMES = ("l1", "mse", "charbonnier")
"""The keys of :data:`gankit.training.systems.adversary.CONTENT`, and the content losses of super-resolution."""

DegradationName = Literal["clean", "photo"]
DEGRADATIONS: tuple[DegradationName, ...] = get_args(DegradationName)
"""What low-resolution patches go through: the reduction alone, or blur, noise and JPEG after it."""

DiscriminatorName = Literal["vgg", "unet"]
DISCRIMINATORS: tuple[DiscriminatorName, ...] = get_args(DiscriminatorName)
"""The discriminators of super-resolution."""
