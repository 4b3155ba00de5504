"""A user's own ``nn.Module`` as a model: its facts are stated, or derived by running and tracing it, never guessed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from gankit_export.rewrites import trace
from torch import Tensor, nn

from gankit.checkpoints.fingerprint import module_sha256
from gankit.checkpoints.types import Loaded
from gankit.errors import UsageError
from gankit.models.facts import Facts
from gankit.models.receptive_field import halo
from gankit.models.sampling import latents

_SIDES = (48, 72)  # of the trial image, before they are rounded up to the multiple
_WHOLE_IMAGE = (nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.AdaptiveAvgPool2d, nn.Linear)


def from_module(module: nn.Module, facts: Facts, *, scale: int | None = None) -> Loaded:
    """Take a module as a model.

    The module is copied, put into eval mode and fp32 on the CPU, and run once on small inputs: what it makes of them
    must agree with what is stated, and what is not stated is read off.

    Args:
        module: takes (N, C, H, W) in ``facts.value_range`` and returns the same, ``scale`` times as large; or takes
            latents (N, latent), and classes (N,) where ``facts.classes`` says so, and returns images.
        facts: task and value range, and what else is known. ``tileable=None`` traces the receptive field.
        scale: output side over input side, as the user stated it; ``None`` to read it off.

    Returns:
        The model, with complete facts.

    Raises:
        UsageError: the module does not run on what is stated, returns another shape, or its receptive field can be
            neither traced nor is stated.
    """
    try:
        generator = copy.deepcopy(module).cpu().float().eval().requires_grad_(False)
    except Exception as error:
        raise UsageError(f"{_name(module)} cannot be copied: {_first_line(error)}") from error
    if facts.name == "custom":
        facts = replace(facts, name=_name(module))
    facts = _of_latents(generator, facts) if facts.task == "generate" else _of_images(generator, facts, scale)
    return Loaded(generator, facts, module_sha256(generator), Path(_name(module)))


def _of_images(generator: nn.Module, facts: Facts, scale: int | None) -> Facts:
    step, least = facts.multiple, facts.minimum
    height, width = (-(-max(side, least) // step) * step for side in _SIDES)
    shapes: list[tuple[int, ...]] = []
    found = scale
    for sides in ((height, width), (height + step, width + 2 * step)):
        given = torch.full((1, facts.channels, *sides), sum(facts.value_range) / 2)
        made = _run(generator, facts, (given,))
        shapes.append(tuple(made.shape))
        if found is None:
            found = made.shape[2] // sides[0]
        if made.shape[0] != 1 or found < 1 or tuple(made.shape[2:]) != (found * sides[0], found * sides[1]):
            of = "×".join(map(str, given.shape[1:]))
            into = "×".join(map(str, made.shape[1:]))
            stated = "" if scale is None else f" with scale={scale}"
            raise UsageError(
                f"{facts.name} makes {into} of {of}, which does not fit{stated}; state the scale that it has, or "
                "multiple= if its input sides must be a multiple"
            )
    channels = shapes[0][1]
    facts = replace(facts, scale=found or 1, out_channels=None if channels == facts.channels else channels)
    if facts.task == "translate" and facts.scale != 1:
        raise UsageError(f"{facts.name} changes the size by {facts.scale}: use Upscaler")
    return _with_reach(generator, facts)


def _with_reach(generator: nn.Module, facts: Facts) -> Facts:
    """Tileable and halo: as stated, or from the traced receptive field."""
    if facts.tileable is False:
        return replace(facts, halo=None)
    if facts.halo is not None:
        return replace(facts, tileable=True)
    try:
        return replace(facts, tileable=True, halo=halo(generator))
    except ValueError as error:
        if facts.tileable is None and _needs_whole_image(generator):
            return replace(facts, tileable=False)
        raise UsageError(
            f"{facts.name}: its receptive field cannot be traced ({error}); "
            "state tileable=False, or halo= in input pixels"
        ) from error


def _needs_whole_image(generator: nn.Module) -> bool:
    """Whether a layer is known to look at the whole image, in a network that can be traced."""
    try:
        traced = trace(generator)
    except ValueError:
        return False
    return any(isinstance(item, _WHOLE_IMAGE) for item in traced.modules())


def _of_latents(generator: nn.Module, facts: Facts) -> Facts:
    if facts.latent < 1:
        raise UsageError(f"{facts.name}: state latent=, the numbers in one latent")
    given: tuple[Tensor, ...] = (torch.from_numpy(latents(0, range(2), facts.latent)),)
    if facts.classes:
        given = (*given, torch.arange(2) % facts.classes)
    made = _run(generator, facts, given)
    count, channels, height, width = made.shape
    if count != 2 or channels not in (1, 3):
        raise UsageError(f"{facts.name} makes {tuple(made.shape)} of 2 latents; images are (2, 1 or 3, H, W)")
    return replace(facts, channels=channels, output_size=(height, width))


def _run(generator: nn.Module, facts: Facts, inputs: Sequence[Tensor]) -> Tensor:
    shapes = " and ".join(str(tuple(item.shape)) for item in inputs)
    try:
        with torch.inference_mode():
            made = generator(*inputs)
    except Exception as error:  # whatever a module raises
        hint = "latent= and classes=" if facts.task == "generate" else "channels=, multiple= or minimum="
        raise UsageError(f"{facts.name} does not run on {shapes}: {_first_line(error)}; state {hint}") from error
    if not isinstance(made, Tensor) or made.ndim != 4 or not made.is_floating_point():
        what = f"{made.dtype} {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise UsageError(f"{facts.name} returns {what} for {shapes}; it must return one (N, C, H, W) float tensor")
    return made


def _name(module: nn.Module) -> str:
    return type(module).__name__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
