"""Sets up a super-resolution run: data, judge, device, recipe; then the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from gankit.errors import GankitError
from gankit.evaluation.metrics import psnr_y
from gankit.training.data import SuperResolutionPatches, batches, read_pictures, reduce
from gankit.training.loop import Plan, Progress, System, fit
from gankit.training.recipes.srgan import AdversarialOptions, AdversarialSystem, ContentOptions, ContentSystem


@dataclass(frozen=True)
class Data:
    """Where the pictures come from and how they are cut.

    Attributes:
        photos: folder of training pictures, read recursively.
        validation: folder of pictures that decide which weights are best.
        patch: LR side of a patch.
        batch: patches in a step.
        synthetic: pictures of text, line art and patterns to add.
        workers: loader processes.
        seed: of the patches and of the initial weights.
    """

    photos: Path
    validation: Path
    patch: int = 24
    batch: int = 16
    synthetic: int = 24
    workers: int = 0
    seed: int = 0


def fabric_for(device: str, precision: str) -> Any:
    """A Lightning Fabric on ``device`` (``"auto"``, ``"cpu"``, ``"cuda"``).

    Args:
        device: where to train.
        precision: ``"auto"`` (bf16 where the CPU or GPU has it), ``"bf16"`` or ``"fp32"``.

    Raises:
        GankitError: Lightning Fabric is not installed.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise GankitError("training needs Lightning Fabric: pip install 'gankit[train]'") from None
    accelerator = {"auto": "auto", "cpu": "cpu", "cuda": "cuda"}[device]
    if precision == "auto":
        on_gpu = device != "cpu" and torch.cuda.is_available()
        bf16 = torch.cuda.is_bf16_supported() if on_gpu else torch.cpu._is_avx512_bf16_supported()
        precision = "bf16" if bf16 else "fp32"
    return Fabric(accelerator=accelerator, devices=1, precision={"bf16": "bf16-mixed", "fp32": "32-true"}[precision])  # type: ignore[arg-type]


class KodakJudge:
    """PSNR on Y of a folder's pictures, reduced by bicubic and upscaled again.

    Args:
        folder: the pictures.
        scale: factor; also the border that is left out, as the papers do.
        fabric: where and how precisely to run.
    """

    def __init__(self, folder: Path, scale: int, fabric: Any) -> None:
        self._pairs = [reduce(picture, scale) for picture in read_pictures(folder)]
        self._scale, self._fabric = scale, fabric

    def __call__(self, generator: nn.Module) -> Mapping[str, float]:
        """The mean in dB as ``score``."""
        values = []
        for large, small in self._pairs:
            batch = self._fabric.to_device(torch.from_numpy(small.copy()).permute(2, 0, 1)[None]).float() / 255
            with torch.inference_mode(), self._fabric.autocast():
                result = generator(batch)
            pixels = (result[0].float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
            values.append(psnr_y(pixels, large, self._scale))
        return {"score": float(np.mean(values))}


def train_super_resolution(
    recipe: Literal["srresnet", "srgan"],
    data: Data,
    plan: Plan,
    *,
    device: str = "auto",
    precision: str = "auto",
    initial: Path | None = None,
    options: Mapping[str, Any] | None = None,
    notify: Callable[[Progress], None] | None = None,
) -> dict[str, float]:
    """Train one stage; see :func:`gankit.training.loop.fit` for what the folder gets.

    Args:
        recipe: which stage.
        data: pictures.
        plan: steps and folder.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        precision: ``"auto"``, ``"bf16"`` or ``"fp32"``.
        initial: a weights file to begin from (``srgan`` begins from a trained ``srresnet``).
        options: fields of :class:`ContentOptions` or :class:`AdversarialOptions`.
        notify: called after every step.

    Returns:
        The best validation.
    """
    torch.manual_seed(data.seed)
    fabric = fabric_for(device, precision)
    state: Mapping[str, Tensor] | None = None
    fields = {"steps": plan.steps, **dict(options or {})}
    if initial is not None:
        from gankit.checkpoints import open_model

        loaded = open_model(initial)
        state = loaded.generator.state_dict()
        known = dict(loaded.facts.options)
        fields |= {"scale": known["scale"], "model": {key: known[key] for key in ("channels", "blocks")}}
    system: System
    scale = int(fields.get("scale", 4))
    judge = KodakJudge(data.validation, scale, fabric)
    if recipe == "srgan":
        system = AdversarialSystem(AdversarialOptions(**fields), fabric, judge, state)
    else:
        system = ContentSystem(ContentOptions(**fields), fabric, judge, state)
    patches = SuperResolutionPatches(
        read_pictures(data.photos), scale=scale, patch=data.patch, seed=data.seed, synthetic=data.synthetic
    )
    stream = partial(_stream, patches, data)
    return fit(system, stream, plan, notify)


def _stream(patches: SuperResolutionPatches, data: Data, start: int) -> Any:
    return batches(patches, data.batch, start, data.workers)
