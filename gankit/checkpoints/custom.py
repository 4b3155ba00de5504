"""A user's own ``nn.Module`` as a model: its facts are stated, or derived by running and tracing it, never guessed."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gankit_export.calls import WholeImageError
from gankit_export.receptive_field import halo
from torch import Tensor, nn

from gankit.checkpoints.fingerprint import module_sha256
from gankit.checkpoints.types import Loaded
from gankit.errors import UsageError
from gankit.models.facts import Facts, Task
from gankit.models.sampling import latents

_SIDES = (48, 72)  # of the trial image, before they are rounded up to the multiple


def from_module(
    module: nn.Module, task: Task, facts: Facts | None = None, stated: Mapping[str, Any] | None = None
) -> Loaded:
    """Take a module as a model.

    The module is copied, put into eval mode and fp32 on the CPU, and run once on small inputs: what it makes of them
    must agree with what is stated, and what is not stated is read off.

    Args:
        module: takes (N, C, H, W) in its value range and returns the same, ``scale`` times as large; or takes latents
            (N, latent), and classes (N,) where it has some, and returns images.
        task: what it does.
        facts: all of them; ``None`` where ``stated`` has some. ``tileable=None`` traces the receptive field.
        stated: fields of :class:`~gankit.models.facts.Facts`, ``value_range`` among them.

    Returns:
        The model, with complete facts.

    Raises:
        UsageError: a fact is out of its range, the module does not run on what is stated, returns another shape, or its
            receptive field can be neither traced nor is stated.
    """
    given = dict(stated or {})
    if facts is None and "value_range" not in given:
        raise UsageError(
            f"state the value_range of {_name(module)}: the values of a black and a white pixel, such as (0, 1)"
        )
    try:
        generator = copy.deepcopy(module).cpu().float().eval().requires_grad_(False)
    except Exception as error:
        raise UsageError(f"{_name(module)} cannot be copied: {_first_line(error)}") from error
    try:
        if task == "generate":
            facts = _of_latents(generator, facts, given)
        else:
            start = facts or Facts(task=task, name=_name(module), **{"scale": 1, **given})
            facts = _of_images(generator, start, start.scale if facts or "scale" in given else None)
    except ValueError as error:
        raise UsageError(f"{_name(module)}: {error}") from error
    return Loaded(generator, facts, module_sha256(generator), Path(facts.name))


def _of_images(generator: nn.Module, facts: Facts, scale: int | None) -> Facts:
    step, least = facts.multiple, facts.minimum
    height, width = (-(-max(side, least) // step) * step for side in _SIDES)
    shapes: list[tuple[int, ...]] = []
    found = scale
    for sides in ((height, width), (height + step, width + 2 * step)):
        given = torch.full((1, facts.channels, *sides), sum(facts.value_range) / 2)
        made = _run(generator, facts.name, (given,), "channels=, multiple= or minimum=")
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
    if facts.task == "translate" and found != 1:
        raise UsageError(f"{facts.name} changes the size by {found}: use Upscaler")
    facts = replace(facts, scale=found or 1, out_channels=None if channels == facts.channels else channels)
    return _with_reach(generator, facts)


def _with_reach(generator: nn.Module, facts: Facts) -> Facts:
    """Tileable and halo: as stated, or from the traced receptive field."""
    if facts.tileable is False:
        return facts
    if facts.halo is not None:
        return replace(facts, tileable=True)
    try:
        return replace(facts, tileable=True, halo=halo(generator))
    except ValueError as error:
        if facts.tileable is None and isinstance(error, WholeImageError):
            return replace(facts, tileable=False)
        raise UsageError(
            f"{facts.name}: its receptive field cannot be traced ({error}); "
            "state tileable=False, or halo= in input pixels"
        ) from error


def _of_latents(generator: nn.Module, facts: Facts | None, stated: Mapping[str, Any]) -> Facts:
    size = facts.latent if facts else stated.get("latent", 0)
    classes = facts.classes if facts else stated.get("classes", 0)
    name = facts.name if facts else _name(generator)
    if type(size) is not int or size < 1:
        raise UsageError(f"{name}: state latent=, the numbers in one latent")
    given: tuple[Tensor, ...] = (torch.from_numpy(latents(0, range(2), size)),)
    if classes:
        given = (*given, torch.arange(2) % classes)
    made = _run(generator, name, given, "latent= and classes=")
    count, channels, height, width = made.shape
    if count != 2 or channels not in (1, 3):
        raise UsageError(f"{name} makes {tuple(made.shape)} of 2 latents; images are (2, 1 or 3, H, W)")
    seen: dict[str, Any] = {"channels": channels, "output_size": (height, width)}
    facts = facts or Facts(task="generate", name=name, **{**seen, **stated})
    if (facts.channels, facts.output_size) != (channels, (height, width)):
        raise UsageError(f"{name} makes {channels}×{height}×{width}, which is not what its facts say")
    return facts


def _run(generator: nn.Module, name: str, inputs: Sequence[Tensor], hint: str) -> Tensor:
    shapes = " and ".join(str(tuple(item.shape)) for item in inputs)
    try:
        with torch.inference_mode():
            made = generator(*inputs)
    except Exception as error:  # whatever a module raises
        raise UsageError(f"{name} does not run on {shapes}: {_first_line(error)}; state {hint}") from error
    if not isinstance(made, Tensor) or made.ndim != 4 or not made.is_floating_point():
        what = f"{made.dtype} {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise UsageError(f"{name} returns {what} for {shapes}; it must return one (N, C, H, W) float tensor")
    return made


def _name(module: nn.Module) -> str:
    return type(module).__name__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
