"""Sets up a run of a recipe that begins with a latent: data, device, recipe; then the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gankit.errors import UsageError
from gankit.training.data import batches
from gankit.training.fabric import Device
from gankit.training.idx import official_files
from gankit.training.images import Fit, Images
from gankit.training.loop import Plan, Progress, fit
from gankit.training.recipes.latent import LatentSystem
from gankit.training.recipes.latent_options import LatentOptions, VAEOptions, of_recipe
from gankit.training.recipes.sampling import SamplingSystem
from gankit.training.recipes.vae import VAESystem
from gankit.training.state import Settings, prepare

_JUDGED = 1000


@dataclass(frozen=True)
class Data:
    """Where the images come from.

    Attributes:
        images: a folder with the official IDX files, one IDX file, or a folder of images.
        batch: images in a step of the discriminator.
        fit: how images of another size become square; see :func:`gankit.training.images.fitted`.
        mirror: half of the images are mirrored.
        workers: loader processes.
        seed: of the order, the latents and the weight initialisation.
    """

    images: Path
    batch: int = 64
    fit: Fit = "resize"
    mirror: bool = False
    workers: int = 0
    seed: int = 0


def train_latent(
    recipe: str,
    data: Data,
    plan: Plan,
    *,
    device: Device | None = None,
    options: Mapping[str, Any] | None = None,
    notify: Callable[[Progress], None] | None = None,
) -> dict[str, float]:
    """Train; see :func:`gankit.training.loop.fit` for what the folder gets.

    Args:
        recipe: ``"vae"``, or a key of :data:`gankit.training.recipes.latent_options.PRESETS`.
        data: images.
        plan: steps and folder.
        device: where; ``None`` for one device of this machine, in the precision that it has.
        options: fields of :class:`LatentOptions` or :class:`VAEOptions`, over those of the preset.
        notify: called after every step.

    Returns:
        Empty: no score says which samples are best.

    Raises:
        UsageError: data and options do not go together.
        CheckpointError: the run to resume is another.
        OutputError: nothing can be written to the plan's folder.
    """
    fabric = (device or Device()).launch()
    prepare(plan.folder, resume=plan.resume)  # before the images are read, which takes long
    fields = {"steps": plan.steps, "seed": data.seed, **dict(options or {})}
    made = VAEOptions(**fields) if recipe == "vae" else of_recipe(recipe, fields)
    given: dict[str, Any] = {"side": made.size, "colours": made.colours, "fit": data.fit}
    images = Images(data.images, mirror=data.mirror, seed=data.seed, **given)
    if isinstance(made, LatentOptions) and made.net == "cgan":
        if not images.names:
            raise UsageError(
                f"{data.images}: has no classes: give IDX files with labels, or a folder with one sub-folder for each"
            )
        made = replace(made, classes=len(images.names))
    held_out = data.images.is_dir() and official_files(data.images, "t10k") is not None
    judges = Images(data.images, part="t10k", **given) if held_out else images
    reference, _ = judges.first(_JUDGED)
    torch.manual_seed(data.seed)
    system: SamplingSystem
    if isinstance(made, VAEOptions):
        system, turns = VAESystem(made, fabric, reference), 1
    else:
        system, turns = LatentSystem(recipe, made, fabric, reference), made.discriminator_steps
    stream = partial(_stream, images, data, turns)
    return fit(system, stream, plan, notify, _settings(recipe, made, images, data))


def _settings(recipe: str, options: LatentOptions | VAEOptions, images: Images, data: Data) -> Settings:
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


def _stream(images: Images, data: Data, turns: int, start: int) -> Iterator[Any]:
    """Batches for the steps from ``start`` on: one for each turn of the discriminator where there are several."""
    single = batches(images, data.batch, start * turns, data.workers)
    while True:
        yield [next(single) for _ in range(turns)]
