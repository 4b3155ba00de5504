"""Sets up a run of a recipe that begins with a latent: data, device, recipe; then the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gankit.datasets.idx import official_files
from gankit.datasets.whole_images import WholeImages
from gankit.errors import UsageError
from gankit.training.fabric import Device
from gankit.training.loader import batches, pinned
from gankit.training.loop import Plan, Progress, fit
from gankit.training.state import Settings, prepare
from gankit.training.systems.latent import LatentSystem
from gankit.training.systems.latent_options import LatentData, LatentOptions, VAEOptions, from_preset
from gankit.training.systems.vae import VAESystem

Part = Literal["train", "t10k"]
_COMPARED = 1000


def train_latent(
    recipe: str,
    preset: Mapping[str, Any],
    data: LatentData,
    plan: Plan,
    *,
    device: Device | None = None,
    options: Mapping[str, Any] | None = None,
    notify: Callable[[Progress], None] | None = None,
) -> dict[str, float]:
    """Train a generator and a discriminator; see :func:`gankit.training.loop.fit` for what the folder gets.

    Args:
        recipe: its name, which the checkpoint and the weights keep.
        preset: the recipe's own values of fields of :class:`LatentOptions`.
        data: images.
        plan: steps and folder.
        device: where; ``None`` for one device of this machine, in the precision that it has.
        options: fields of :class:`LatentOptions`, in place of those of the preset.
        notify: called after every step.

    Returns:
        Empty: no score says which samples are best.

    Raises:
        UsageError: data and options do not go together, or one sample is too few for BatchNorm.
        CheckpointError: the run to resume is another.
        OutputError: nothing can be written to the plan's folder.
    """
    fabric = _begin(plan, device)
    made = from_preset(preset, {"steps": plan.steps, "seed": data.seed, **dict(options or {})})
    images = _images(data, made)
    if made.net == "cgan":
        if not images.names:
            raise UsageError(
                f"{data.images}: has no classes: give IDX files with labels, or a folder with one sub-folder per class"
            )
        made = replace(made, classes=len(images.names))
    reference = _reference(data, made, images)
    torch.manual_seed(data.seed)
    system = LatentSystem(recipe, made, fabric, reference)
    _check_batch(system.modules, data.batch)
    stream = partial(_stream, images, data, made.discriminator_steps, pinned(fabric))
    return fit(system, stream, plan, notify, _settings(recipe, made, images, data))


def train_vae(
    data: LatentData,
    plan: Plan,
    *,
    device: Device | None = None,
    options: Mapping[str, Any] | None = None,
    notify: Callable[[Progress], None] | None = None,
) -> dict[str, float]:
    """Train a variational autoencoder; arguments, result and errors as for :func:`train_latent`.

    ``options`` are fields of :class:`VAEOptions`.
    """
    fabric = _begin(plan, device)
    made = VAEOptions(**{"steps": plan.steps, "seed": data.seed, **dict(options or {})})
    images = _images(data, made)
    reference = _reference(data, made, images)
    torch.manual_seed(data.seed)
    system = VAESystem(made, fabric, reference)
    _check_batch(system.modules, data.batch)
    stream = partial(_stream, images, data, 1, pinned(fabric))
    return fit(system, stream, plan, notify, _settings(system.name, made, images, data))


def _begin(plan: Plan, device: Device | None) -> Any:
    """The Fabric; and see that the folder can take the run before the images are read, which takes long."""
    fabric = (device or Device()).launch()
    prepare(plan.folder, resume=plan.resume)
    return fabric


def _check_batch(modules: Mapping[str, nn.Module], batch: int) -> None:
    """See that BatchNorm has something to take the mean of; in convolutions an image has many pixels.

    Raises:
        UsageError: it has one value.
    """
    for name, module in modules.items():
        if batch < 2 and any(isinstance(each, nn.BatchNorm1d) for each in module.modules()):
            raise UsageError(
                f"--batch {batch}: the {name} has BatchNorm over the samples of a step, and needs at least 2: give a "
                "larger --batch, or --norm none"
            )


def _images(
    data: LatentData, options: LatentOptions | VAEOptions, part: Literal["train", "t10k"] = "train"
) -> WholeImages:
    given: dict[str, Any] = {"mirror": data.mirror, "seed": data.seed} if part == "train" else {}
    return WholeImages(data.images, side=options.size, colours=options.colours, fit=data.fit, part=part, **given)


def _reference(data: LatentData, options: LatentOptions | VAEOptions, images: WholeImages) -> Tensor:
    """The images that samples are compared with: held-out ones, where the folder has the official files of both."""
    held_out = data.images.is_dir() and official_files(data.images, "t10k") is not None
    reference, _ = (_images(data, options, "t10k") if held_out else images).first(_COMPARED)
    return reference


def _settings(recipe: str, options: LatentOptions | VAEOptions, images: WholeImages, data: LatentData) -> Settings:
    """What decides the result of a run."""
    fields = {
        name: ",".join(map(str, value)) if isinstance(value, tuple) else value
        for name, value in asdict(options).items()
    }
    return {
        "recipe": recipe,
        **fields,
        "data": images.fingerprint,
        **{name: getattr(data, name) for name in ("batch", "fit", "mirror")},
    }


def _stream(images: WholeImages, data: LatentData, turns: int, pin: bool, start: int) -> Iterator[Any]:
    """Batches for the steps from ``start`` on: one for each turn of the discriminator where there are several."""
    single = batches(images, data.batch, start * turns, data.workers, pin=pin)
    while True:
        yield [next(single) for _ in range(turns)]
