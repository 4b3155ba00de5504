"""What the two stages of super-resolution can be given. Imports no torch: the command line shows the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Norm = Literal["frozen", "batch"]


@dataclass(frozen=True)
class ContentOptions:
    """Options of the ``srresnet`` stage.

    Attributes:
        steps: for the learning rate's cosine.
        scale: 2, 4 or 8.
        norm: ``"frozen"``: BatchNorm is the identity with a trainable bias; ``"batch"``: as published.
        inner_lr: Muon's learning rate for the body.
        lr: Adam's learning rate for the rest.
        loss: ``"l1"``, ``"mse"`` (the paper's) or ``"charbonnier"``.
        model: further arguments of the generator (``blocks``, ``channels``).
    """

    steps: int
    scale: int = 4
    norm: Norm = "frozen"
    inner_lr: float = 5e-3
    lr: float = 1e-3
    loss: Literal["l1", "mse", "charbonnier"] = "l1"
    model: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AdversarialOptions(ContentOptions):
    """Options of the ``srgan`` stage; the weights multiply the loss's terms.

    Attributes:
        content: weight of the content loss.
        perceptual: weight of feature matching, or of VGG19 where its weights are given.
        adversarial: weight of the relativistic loss.
        consistency: weight of the distance between the reduced result and the input.
        vgg_weights: a VGG19 state dict, or ``None`` for feature matching.
        discriminator_channels: width of the discriminator's first stage (64 in the paper).
        discriminator_norm: ``"spectral"``: spectral normalisation, no BatchNorm; ``"batch"``: BatchNorm, as published.
        discriminator_lr: its learning rate.
        head_start: steps that the discriminator trains alone.
    """

    inner_lr: float = 5e-4
    lr: float = 1e-4
    content: float = 1.0
    perceptual: float = 0.05
    adversarial: float = 5e-3
    consistency: float = 1.0
    vgg_weights: Path | None = None
    discriminator_channels: int = 64
    discriminator_norm: Literal["spectral", "batch"] = "spectral"
    discriminator_lr: float = 1e-4
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
