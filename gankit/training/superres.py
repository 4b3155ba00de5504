"""Sets up a super-resolution run: data, validation, device, recipe; then the loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gankit.checkpoints import open_model
from gankit.datasets.degradations import PHOTO
from gankit.datasets.folders import fingerprint, read_images
from gankit.datasets.patches import SuperResolutionPatches
from gankit.errors import UsageError
from gankit.models.edsr import EDSR
from gankit.models.srgan import SRResNet
from gankit.training.fabric import Device
from gankit.training.loader import batches, pinned
from gankit.training.loop import Plan, Progress, fit
from gankit.training.srresnet import has_frozen_norms
from gankit.training.state import Settings, prepare
from gankit.training.superres_validation import UpscalingValidator
from gankit.training.systems.srgan import AdversarialSystem, ContentSystem
from gankit.training.systems.superres_options import (
    ADVERSARIAL_EDSR,
    UNET,
    AdversarialOptions,
    ContentOptions,
    PhotoData,
)
from gankit.training.systems.superres_options import EDSR as EDSR_DEFAULTS

RecipeName = Literal["srresnet", "edsr", "srgan"]

_log = logging.getLogger(__name__)
_TOGETHER = 8  # batches that a worker hands over at once
_NOT_OF_THE_RESULT = frozenset({"model", "vgg_weights", "compile", "degraded"})  # or kept in another form
_EXPECTED = {
    "srresnet": (SRResNet, "an SRResNet"),
    "edsr": (EDSR, "an EDSR"),
    "srgan": (SRResNet | EDSR, "an SRResNet or EDSR"),
}


def train_super_resolution(
    recipe: RecipeName,
    data: PhotoData,
    plan: Plan,
    *,
    device: Device | None = None,
    initial: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    notify: Callable[[Progress], None] | None = None,
) -> dict[str, float]:
    """Train one stage; see :func:`gankit.training.loop.fit` for what the folder gets.

    Args:
        recipe: which one.
        data: images.
        plan: steps and folder.
        device: where; ``None`` for one device of this machine, in the precision that it has.
        initial: a model's name or a weights file to begin from (``srgan`` begins from a trained ``srresnet`` or
            ``edsr``).
        options: fields of :class:`ContentOptions` or :class:`AdversarialOptions`.
        notify: called after every step.

    Returns:
        The best validation; empty for ``srgan``, which keeps no best weights: PSNR falls as its images get sharper.

    Raises:
        UsageError: the folders, ``initial`` and the options do not go together.
        CheckpointError: ``initial`` or the VGG19 weights cannot be used, or the run to resume is another.
        OutputError: nothing can be written to the plan's folder.
    """
    prepare(plan.folder, resume=plan.resume)  # before the images are read, which takes long
    fabric = (device or Device()).launch()
    fields = {"steps": plan.steps, **dict(options or {})}
    start: _Start | None = None
    if initial is not None:
        start = _begin_from(recipe, initial, fields)
        fields |= start.fields
    elif recipe == "srgan" and not plan.resume and fabric.is_global_zero:
        _log.warning(
            "training starts from random weights: srgan is meant to start from a trained srresnet or edsr; give it "
            "with --init"
        )
    torch.manual_seed(data.seed)
    system: ContentSystem
    scale = int(fields.get("scale", 4))
    validator = UpscalingValidator(data.validation, scale, fabric, data.degradation)
    state = start.state if start else None
    photo = data.degradation == "photo"
    if recipe == "srgan":
        system = AdversarialSystem(AdversarialOptions(**_adversarial(fields), degraded=photo), fabric, validator, state)
    else:
        preset = EDSR_DEFAULTS if recipe == "edsr" else {}
        system = ContentSystem(ContentOptions(**{**preset, **fields}), fabric, validator, state)
    patches = SuperResolutionPatches(
        read_images(*data.photos),
        scale=scale,
        patch=data.patch,
        seed=data.seed,
        synthetic=data.synthetic,
        degradation=PHOTO if photo else None,
    )
    stream = partial(_stream, patches, data, pinned(fabric))
    return fit(system, stream, plan, notify, _settings(system, data))


def _settings(system: ContentSystem, data: PhotoData) -> Settings:
    """What decides the result of a run."""
    options = asdict(system.options)
    net: Any = system.generator
    head, vgg = net.head, options.get("vgg_weights")
    return {
        **{
            name: str(value) if isinstance(value, tuple) else value
            for name, value in options.items()
            if name not in _NOT_OF_THE_RESULT
        },
        "blocks": len(net.body),
        "channels": (head if isinstance(head, nn.Conv2d) else head[0]).out_channels,
        "vgg_weights": vgg.name if vgg else None,
        "data": fingerprint(*data.photos),
        "validation": fingerprint(data.validation),
        **{name: getattr(data, name) for name in ("patch", "batch", "synthetic", "seed", "degradation")},
    }


def _adversarial(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given for the adversarial stage, on top of what goes with the network and with the discriminator."""
    preset = ADVERSARIAL_EDSR if given.get("network") == "edsr" else {}
    fields = {**preset, **given}
    return {**(UNET if fields.get("discriminator") == "unet" else {}), **fields}


@dataclass(frozen=True)
class _Start:
    """What a run begins from: the weights, and the options that build their generator."""

    state: Mapping[str, Tensor]
    fields: Mapping[str, Any]


def _begin_from(recipe: RecipeName, initial: str | Path, fields: Mapping[str, Any]) -> _Start:
    """Open trained weights.

    Raises:
        UsageError: they are of a network that the recipe does not train, or contradict the options.
    """
    loaded = open_model(initial)
    kind, name = _EXPECTED[recipe]
    if not isinstance(loaded.generator, kind) or loaded.facts.channels != 3:
        known = "one that this recipe trains" if recipe == "srgan" else "the only network that this recipe trains"
        raise UsageError(f"{initial}: is not {name} for RGB images, {known}")
    has = loaded.facts.options
    asked = {**dict(fields.get("model", {})), **({"scale": fields["scale"]} if "scale" in fields else {})}
    for option, value in asked.items():
        if value != has[option]:
            raise UsageError(f"{initial}: its {option} is {has[option]}, not {value}: omit --{option}")
    if isinstance(loaded.generator, EDSR):
        if "norm" in fields or "inner_lr" in fields:
            raise UsageError(
                f"{initial}: is an EDSR, which has no norms, and Adam trains all of it: omit --norm and --inner-lr"
            )
        model = {option: value for option, value in has.items() if option != "scale"}
        return _Start(loaded.generator.state_dict(), {"network": "edsr", "scale": has["scale"], "model": model})
    assert isinstance(loaded.generator, SRResNet)
    if fields.get("norm") == "batch" and has_frozen_norms(loaded.generator):
        raise UsageError(
            f"{initial}: was trained with frozen norms, and the batch's statistics would spoil it: omit --norm"
        )
    model = {option: has[option] for option in ("channels", "blocks", "overshoot") if option in has}
    return _Start(loaded.generator.state_dict(), {"scale": has["scale"], "model": model})


def _stream(patches: SuperResolutionPatches, data: PhotoData, pin: bool, start: int) -> Any:
    return batches(patches, data.batch, start, data.workers, pin=pin, together=_TOGETHER)
