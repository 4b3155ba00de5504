"""Networks recognised by the order and the shapes of their tensors, whatever the names are.

It is the second way, for files whose names fit no layout. What shapes do not tell (activations, the range of values) is
assumed, and said. A new structure needs a function that yields proposals, and one line in ``_PATTERNS``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from gankit import models
from gankit.checkpoints.containers import networks
from gankit.checkpoints.layouts.base import Match
from gankit.checkpoints.structure import latents, residual, superres, translation
from gankit.checkpoints.structure.base import Pattern, Proposal
from gankit.checkpoints.structure.discriminators import discriminator
from gankit.checkpoints.structure.order import agrees, by_number, positive
from gankit.errors import CheckpointError

__all__ = ["by_structure"]

_PATTERNS = (
    Pattern("SRResNet (SRGAN)", superres.srresnet),
    Pattern("Fast-SRGAN", superres.fast_srgan),
    Pattern("RRDBNet (ESRGAN)", superres.rrdb),
    Pattern("SRVGGNetCompact", superres.compact),
    Pattern("MSRResNet", superres.msrresnet),
    Pattern("EDSR", residual.edsr),
    Pattern("ResNet (CycleGAN)", translation.resnet),
    Pattern("U-Net (pix2pix)", translation.unet),
    Pattern("AnimeGANv2", translation.animegan),
    Pattern("CartoonGAN", translation.cartoongan),
    Pattern("DCGAN", latents.dcgan),
    Pattern("dense layers (GAN)", latents.dense),
    Pattern("VAE", latents.vae),
    Pattern("conditional GAN", latents.cgan),
)


def by_structure(
    state: Mapping[str, Tensor], given: Mapping[str, Any] | None = None, *, ordered: bool = True
) -> Match | None:
    """Recognise a generator by its structure.

    Args:
        state: tensors by name, in the order of the network's layers, as PyTorch saves them.
        given: options that the user states, which decide between readings.
        ordered: whether the order is that of the layers. Safetensors files do not keep it; then numbers in the names
            must tell it.

    Returns:
        The model, its options and the weights under gankit's names, with what was assumed; ``None`` where no structure
        fits.

    Raises:
        CheckpointError: several structures fit, or it is a discriminator. The text does not name the file.
    """
    candidates = [dict(state), *(inner for _, inner in networks(state))]
    for candidate in candidates:
        layers = _weights(candidate) if ordered else by_number(_weights(candidate))
        found = None if layers is None else _read(layers, given or {})
        if found is not None:
            return found
    for candidate in candidates:
        what = discriminator([tuple(value.shape) for value in _weights(candidate).values()])
        if what is not None:
            raise CheckpointError(f"{what}, which judges images and makes none: give the generator's weights")
    return None


def _weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All but counters."""
    return {name: value for name, value in state.items() if value.is_floating_point()}


def _read(weights: Mapping[str, Tensor], given: Mapping[str, Any]) -> Match | None:
    shapes = [tuple(value.shape) for value in weights.values()]
    if not shapes or () in shapes or any(0 in shape for shape in shapes):
        return None
    proposals = [proposal for pattern in _PATTERNS for proposal in pattern.read(shapes)]
    readings: list[tuple[Proposal, Match | None]] = []
    for proposal in proposals:
        names = [name for name, _ in proposal.items]
        named = dict(zip(names, weights.values(), strict=True))
        if agrees(list(weights), names) and positive(named) and proposal.accepts(named):
            readings.append((proposal, proposal.finish(named)))
    if given and len(readings) > 1:
        readings = [(proposal, match) for proposal, match in readings if match and _agrees(proposal, match, given)]
    if len(readings) > 1:
        *others, last = (proposal.what for proposal, _ in readings)
        raise CheckpointError(
            f"unknown names, and its tensors fit {', '.join(others)} and {last}: say which it is with "
            "--model-option, such as scale=4"
        )
    if not readings:
        return None
    proposal, match = readings[0]
    if match is None:
        return None
    assumes, match = _measured(proposal, match, weights, given)
    assumed = [text for key, text in assumes.items() if key not in given]
    return replace(
        match,
        recognised=f"the order and shapes of its tensors: {match.recognised or proposal.what}",
        assumed=", ".join(assumed),
    )


def _measured(
    proposal: Proposal, match: Match, weights: Mapping[str, Tensor], given: Mapping[str, Any]
) -> tuple[Mapping[str, str], Match]:
    """What is assumed, and the match: another reading of the same tensors where a measurement speaks clearly for it."""
    measure = proposal.measure
    if measure is None or given.keys() & proposal.assumed.keys():
        return proposal.assumed, match
    named = dict(zip((name for name, _ in proposal.items), weights.values(), strict=True))
    best, score, assumes = match, measure.score(match), proposal.assumed
    needed = max(measure.clear, score + measure.ahead)
    for assumed, finish in proposal.others:
        other = finish(named)
        other_score = -math.inf if other is None else measure.score(other)
        if other is not None and other_score >= max(needed, score):
            best, score, assumes = other, other_score, assumed
    if score >= measure.clear:
        assumes = {**assumes, "measured": measure.words(score)}
    return assumes, best


def _agrees(proposal: Proposal, match: Match, given: Mapping[str, Any]) -> bool:
    known = models.known_options(match.model)
    same_scale = proposal.scale is None or given.get("scale", proposal.scale) == proposal.scale
    return same_scale and all(name in known for name in given)
