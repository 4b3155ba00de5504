"""Sets up a super-resolution run: data, judge, device, recipe; then the loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from gankit.checkpoints import open_model
from gankit.errors import GankitError, UsageError
from gankit.evaluation.metrics import psnr_y
from gankit.models.srgan import SRResNet
from gankit.training.data import SuperResolutionPatches, batches, read_pictures, reduce
from gankit.training.loop import Plan, Progress, System, fit, prepare
from gankit.training.recipes.srgan import AdversarialOptions, AdversarialSystem, ContentOptions, ContentSystem

_log = logging.getLogger(__name__)


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
        UsageError: CUDA is asked for and there is none.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise GankitError("training needs Lightning Fabric: pip install 'gankit[train]'") from None
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device can be used here: leave --device away, or install a CUDA build of torch")
    if precision == "auto":
        on_gpu = device != "cpu" and torch.cuda.is_available()
        bf16 = torch.cuda.is_bf16_supported() if on_gpu else torch.cpu._is_avx512_bf16_supported()
        precision = "bf16" if bf16 else "fp32"
    return Fabric(accelerator=device, devices=1, precision={"bf16": "bf16-mixed", "fp32": "32-true"}[precision])  # type: ignore[arg-type]


class KodakJudge:
    """PSNR on Y of a folder's pictures, reduced by bicubic and upscaled again.

    Args:
        folder: the pictures.
        scale: factor; also the border that is left out, as the papers do.
        fabric: where and how precisely to run.

    Raises:
        UsageError: the folder has no picture that is large enough.
    """

    def __init__(self, folder: Path, scale: int, fabric: Any) -> None:
        smallest = 2 * scale + 1  # one pixel inside the border
        pictures = read_pictures(folder)
        large_enough = [picture for picture in pictures if min(picture.shape[:2]) // scale * scale >= smallest]
        if not large_enough:
            raise UsageError(
                f"{folder}: every picture is smaller than {3 * scale}×{3 * scale} pixels; give larger ones"
            )
        if len(large_enough) < len(pictures):
            _log.warning("%s: %d pictures are too small to judge by", folder, len(pictures) - len(large_enough))
        self._pairs = [reduce(picture, scale) for picture in large_enough]
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
    initial: str | Path | None = None,
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
        initial: a model's name or a weights file to begin from (``srgan`` begins from a trained ``srresnet``).
        options: fields of :class:`ContentOptions` or :class:`AdversarialOptions`.
        notify: called after every step.

    Returns:
        The best validation.

    Raises:
        UsageError: the folders, ``initial`` and the options do not go together.
        CheckpointError: ``initial`` or the VGG19 weights cannot be used.
        OutputError: nothing can be written to the plan's folder.
    """
    prepare(plan)  # before the pictures are read, which takes long
    fabric = fabric_for(device, precision)
    fields = {"steps": plan.steps, **dict(options or {})}
    state: Mapping[str, Tensor] | None = None
    if initial is not None:
        state, known = _begin_from(initial, fields)
        fields |= known
    elif recipe == "srgan" and not plan.resume:
        _log.warning("begins from random weights: --init takes those of a trained srresnet, which srgan is meant for")
    torch.manual_seed(data.seed)
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


def _begin_from(initial: str | Path, fields: Mapping[str, Any]) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """The state of trained weights, and the options that build their generator."""
    loaded = open_model(initial)
    if not isinstance(loaded.generator, SRResNet) or loaded.facts.channels != 3:
        raise UsageError(f"{initial}: is no SRResNet for RGB, which is all that this recipe trains")
    has = loaded.facts.options
    asked = {**dict(fields.get("model", {})), **({"scale": fields["scale"]} if "scale" in fields else {})}
    for name, value in asked.items():
        if value != has[name]:
            raise UsageError(f"{initial}: its {name} is {has[name]}, not {value}: leave --{name} away")
    return loaded.generator.state_dict(), {
        "scale": has["scale"],
        "model": {name: has[name] for name in ("channels", "blocks")},
    }


def _stream(patches: SuperResolutionPatches, data: Data, start: int) -> Any:
    return batches(patches, data.batch, start, data.workers)
