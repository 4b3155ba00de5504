"""Sets up a run of pix2pix or CycleGAN: data, validation, device, recipe; then the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gankit.checkpoints import open_model
from gankit.datasets.crops import PairedCrops, UnpairedCrops, middle
from gankit.datasets.folders import fingerprint
from gankit.datasets.options import ImageFolderData
from gankit.datasets.pairs import Pair
from gankit.errors import UsageError
from gankit.models.cyclegan import ResNetGenerator
from gankit.models.facts import Direction
from gankit.models.pix2pix import UNetGenerator
from gankit.training import ranks
from gankit.training.fabric import Device
from gankit.training.loader import batches, pinned
from gankit.training.loop import Plan, Progress, fit
from gankit.training.state import Settings, prepare
from gankit.training.systems.cyclegan import CycleGAN, joined_state
from gankit.training.systems.pix2pix import Pix2Pix
from gankit.training.systems.translation_options import CycleGANOptions, Pix2PixOptions, TranslationOptions
from gankit.training.translation_data import input_header_of, read_paired, read_unpaired, write_held_out
from gankit.training.validators import CycleShowcase, CycleValidator, PairShowcase, PairValidator

_SHOWN = 6
_VALIDATED = 24  # of each side of a CycleGAN: four passes each
_CYCLEGAN_MULTIPLE = 4


def train_pix2pix(
    data: ImageFolderData,
    plan: Plan,
    *,
    device: Device | None = None,
    initial: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    notify: Callable[[Progress], None] | None = None,
) -> dict[str, float]:
    """Train a U-Net on pairs; see :func:`gankit.training.loop.fit` for what the folder gets, and ``held_out.txt``.

    Args:
        data: images. Where the target is a mask, the best weights by Dice are kept.
        plan: steps and folder.
        device: where.
        initial: a model's name or a weights file to begin from.
        options: fields of :class:`Pix2PixOptions`; ``model`` without the channels, which the images tell.
        notify: called after every step.

    Returns:
        The best validation; empty where the target is no mask.

    Raises:
        UsageError: the folders and the options do not go together.
        CheckpointError: ``initial`` cannot be used, or the run to resume is another.
        OutputError: nothing can be written to the plan's folder.
    """
    fabric = _begin(plan, device or Device())
    pairs = read_paired(data)
    trained = list(pairs.trained.values())
    options, state = dict(options or {}), None
    source, target = trained[0]
    model = {**options.get("model", {}), "in_channels": source.shape[2], "out_channels": target.shape[2]}
    if initial is not None:
        state, model = _begin_from(initial, UNetGenerator, model)
    fields = Pix2PixOptions(**{"steps": plan.steps, **options, "model": model})
    multiple = 2 ** int(model.get("downs", 8))
    _check_side(data.cut.size, multiple, fields)

    torch.manual_seed(data.seed)
    validated = [_middle_pair(each, multiple) for each in pairs.held.values()]
    shown = validated or [_middle_pair(each, multiple) for each in trained[:_SHOWN]]
    is_mask = data.kinds[1] == "mask"
    system = Pix2Pix(
        fields,
        fabric,
        PairValidator(validated, fabric, mask=is_mask),
        PairShowcase(_spread(shown), fabric),
        keeps_best=is_mask and bool(validated),
        initial=state,
        header=input_header_of(data.kinds[0], (taken for taken, _ in trained)),
    )
    crops = PairedCrops(trained, data.cut, seed=data.seed, exact=data.exact)
    ranks.by_first(lambda: write_held_out(plan.folder, {"": pairs.held}))
    return fit(system, partial(_stream, crops, data, pinned(fabric)), plan, notify, _settings(fields, data))


def train_cyclegan(
    data: ImageFolderData,
    plan: Plan,
    *,
    device: Device | None = None,
    initial: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    notify: Callable[[Progress], None] | None = None,
) -> dict[str, float]:
    """Train both directions between two folders; the weights are ``final_G_A.safetensors`` and ``final_G_B``.

    Args:
        data: images, with a ``target``.
        plan: steps and folder.
        device: where.
        initial: a weights file of both directions, or one of two that lie together (``…_G_A`` and ``…_G_B``).
        options: fields of :class:`CycleGANOptions`; ``model`` without the channels, which the images tell.
        notify: called after every step.

    Returns:
        Nothing: an adversary's game has no best weights.

    Raises:
        UsageError: the folders and the options do not go together.
        CheckpointError: ``initial`` cannot be used, or the run to resume is another.
        OutputError: nothing can be written to the plan's folder.
    """
    fabric = _begin(plan, device or Device())
    sides = read_unpaired(data)
    trained = [list(side.trained.values()) for side in sides]
    options, state = dict(options or {}), None
    taken, made = (images[0].shape[2] for images in trained)
    model = {**options.get("model", {}), "in_channels": taken, "out_channels": made}
    if initial is not None:
        first, model = _begin_from(initial, ResNetGenerator, model, "AtoB")
        second, _ = _begin_from(initial, ResNetGenerator, {}, "BtoA")
        state = joined_state(first, second)
    fields = CycleGANOptions(**{"steps": plan.steps, "seed": data.seed, **options, "model": model})
    _check_side(data.cut.size, _CYCLEGAN_MULTIPLE, fields)

    torch.manual_seed(data.seed)
    validated = [_middles(_spread(list(side.held.values()), _VALIDATED)) for side in sides]
    shown = [_spread(held or _middles(seen[:_SHOWN])) for held, seen in zip(validated, trained, strict=True)]
    validator, showcase = CycleValidator(validated[0], validated[1], fabric), CycleShowcase(shown[0], shown[1], fabric)
    headers = [input_header_of(kind, images) for kind, images in zip(data.kinds, trained, strict=True)]
    system = CycleGAN(fields, fabric, validator, showcase, initial=state, headers=(headers[0], headers[1]))
    crops = UnpairedCrops(trained[0], trained[1], data.cut, seed=data.seed, exact=data.exact)
    held = {"A ": sides[0].held, "B ": sides[1].held}
    ranks.by_first(lambda: write_held_out(plan.folder, held))
    return fit(system, partial(_stream, crops, data, pinned(fabric)), plan, notify, _settings(fields, data))


def _settings(options: TranslationOptions, data: ImageFolderData) -> Settings:
    """What decides the result of a run."""
    flat: dict[str, int | float | str | bool | None] = {}
    for name, value in {**asdict(options), **asdict(data.cut)}.items():
        if name == "model":
            flat |= {f"model_{key}": str(each) if isinstance(each, list) else each for key, each in value.items()}
        else:
            flat[name] = str(value) if isinstance(value, list | tuple) else value
    for name, folder in (("source", data.source), ("target", data.target)):
        flat[name] = fingerprint(folder) if folder else None
    for name in ("source_kind", "target_kind", "mask_from", "turned", "load", "holdout", "batch", "seed"):
        flat[name] = getattr(data, name)
    return flat


def _begin(plan: Plan, place: Device) -> Any:
    """The Fabric; and see that the folder can take the run before the images are read, which takes long."""
    fabric = place.launch()
    ranks.by_first(lambda: prepare(plan.folder, resume=plan.resume))
    return fabric


def _middle_pair(pair: Pair, multiple: int) -> Pair:
    first, second = middle(pair, multiple)
    return first, second


def _middles(images: Iterable[Any]) -> list[Any]:
    return [middle([each], _CYCLEGAN_MULTIPLE)[0] for each in images]


def _spread(items: list[Any], most: int = _SHOWN) -> list[Any]:
    """A few of them, from all over the list."""
    return items[:: max(1, len(items) // most)][:most]


def _check_side(side: int, multiple: int, options: TranslationOptions) -> None:
    """See that both nets can take the squares.

    Raises:
        UsageError: one cannot.
    """
    if side % multiple:
        raise UsageError(f"--size {side}: must be a multiple of {multiple} for this generator")
    least = 3 * 2**options.discriminator_layers
    if options.discriminator_layers and options.adversarial_weight and side < least:
        raise UsageError(
            f"--size {side}: the discriminator needs at least {least}: give fewer --discriminator-layers, or larger "
            "squares"
        )


def _begin_from(
    initial: str | Path, kind: type[torch.nn.Module], asked: Mapping[str, Any], direction: Direction | None = None
) -> tuple[Mapping[str, torch.Tensor], dict[str, Any]]:
    """The state of trained weights, and the options that build their generator.

    Raises:
        UsageError: they are of another architecture or size.
    """
    loaded = open_model(initial, direction=direction)
    if not isinstance(loaded.generator, kind):
        raise UsageError(f"{initial}: is a '{loaded.facts.name}', which this recipe does not train")
    has = dict(loaded.facts.options)
    for name, value in asked.items():
        if value != has[name]:
            raise UsageError(f"{initial}: its {name} is {has[name]}, not {value}")
    return loaded.generator.state_dict(), has


def _stream(crops: PairedCrops | UnpairedCrops, data: ImageFolderData, pin: bool, start: int) -> Any:
    return batches(crops, data.batch, start, data.workers, pin=pin)
