"""Sets up a super-resolution run: data, validation, device, recipe; then the loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gankit.checkpoints import open_model
from gankit.datasets.folders import fingerprint, read_images
from gankit.datasets.patches import SuperResolutionPatches, reduce
from gankit.errors import UsageError
from gankit.evaluation.metrics import psnr_y
from gankit.models.srgan import SRResNet
from gankit.training.fabric import Device
from gankit.training.loader import batches, pinned
from gankit.training.loop import Plan, Progress, fit
from gankit.training.sample_grid import tensor_grid
from gankit.training.srresnet import has_frozen_norms
from gankit.training.state import Settings, prepare
from gankit.training.systems.srgan import AdversarialSystem, ContentSystem
from gankit.training.systems.superres_options import AdversarialOptions, ContentOptions, PhotoData

_log = logging.getLogger(__name__)
_VALIDATION_SIDE = 768
_SHOWN, _SHOWN_SIDE = 4, 160


class UpscalingValidator:
    """PSNR on Y of the middle of a folder's images, reduced by bicubic and upscaled again.

    The middle is at most 768×768 pixels, which holds all of a Kodak image.

    Args:
        folder: the images.
        scale: factor; also the border that is left out, as the papers do.
        fabric: where and how precisely to run.

    Raises:
        UsageError: the folder has no image that is large enough.
    """

    def __init__(self, folder: Path, scale: int, fabric: Any) -> None:
        smallest = 2 * scale + 1  # one pixel inside the border
        self._pairs = []
        too_small = 0
        for image in read_images(folder):
            if min(image.shape[:2]) // scale * scale < smallest:
                too_small += 1
            else:
                self._pairs.append(reduce(_middle(image, _VALIDATION_SIDE), scale))
        if not self._pairs:
            raise UsageError(f"{folder}: every image is smaller than {3 * scale}×{3 * scale} pixels; give larger ones")
        if too_small:
            _log.warning("%s: %d images are too small for the validation", folder, too_small)
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

    def sample_grid(self, generator: nn.Module) -> np.ndarray:
        """Bicubic | result | the image itself, of the middle of up to four images: (H, W, 3) uint8."""
        shown = []
        side = min(_SHOWN_SIDE // self._scale, *(min(small.shape[:2]) for _, small in self._pairs[:_SHOWN]))
        for large, small in self._pairs[:_SHOWN]:
            top, left = ((length - side) // 2 for length in small.shape[:2])
            scale = self._scale
            low, high = (
                self._fabric.to_device(torch.from_numpy(part.copy()).permute(2, 0, 1)[None]).float() / 255
                for part in (
                    small[top : top + side, left : left + side],
                    large[top * scale : (top + side) * scale, left * scale : (left + side) * scale],
                )
            )
            with torch.inference_mode(), self._fabric.autocast():
                result = generator(low)
            shown += [F.interpolate(low, scale_factor=scale, mode="bicubic"), result.float(), high]
        return tensor_grid(torch.cat(shown), 3, low=0.0)


def _middle(image: np.ndarray, side: int) -> np.ndarray:
    """The middle of (H, W, 3), at most ``side`` high and wide; a copy, so that the rest can be forgotten."""
    top, left = (max(0, length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side].copy()


def train_super_resolution(
    recipe: Literal["srresnet", "srgan"],
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
        recipe: which stage.
        data: images.
        plan: steps and folder.
        device: where; ``None`` for one device of this machine, in the precision that it has.
        initial: a model's name or a weights file to begin from (``srgan`` begins from a trained ``srresnet``).
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
    state: Mapping[str, Tensor] | None = None
    if initial is not None:
        state, known = _begin_from(initial, fields)
        fields |= known
    elif recipe == "srgan" and not plan.resume and fabric.is_global_zero:
        _log.warning(
            "training starts from random weights: srgan is meant to start from a trained srresnet; give it with --init"
        )
    torch.manual_seed(data.seed)
    system: ContentSystem
    scale = int(fields.get("scale", 4))
    validator = UpscalingValidator(data.validation, scale, fabric)
    if recipe == "srgan":
        system = AdversarialSystem(AdversarialOptions(**fields), fabric, validator, state)
    else:
        system = ContentSystem(ContentOptions(**fields), fabric, validator, state)
    patches = SuperResolutionPatches(
        read_images(data.photos), scale=scale, patch=data.patch, seed=data.seed, synthetic=data.synthetic
    )
    stream = partial(_stream, patches, data, pinned(fabric))
    return fit(system, stream, plan, notify, _settings(system, data))


def _settings(system: ContentSystem, data: PhotoData) -> Settings:
    """What decides the result of a run."""
    options = asdict(system.options)
    net, vgg = system.generator, options.get("vgg_weights")
    return {
        **{
            name: str(value) if isinstance(value, tuple) else value
            for name, value in options.items()
            if name not in ("model", "vgg_weights")
        },
        "blocks": len(net.body),
        "channels": net.head[0].out_channels,
        "vgg_weights": vgg.name if vgg else None,
        "data": fingerprint(data.photos),
        "validation": fingerprint(data.validation),
        **{name: getattr(data, name) for name in ("patch", "batch", "synthetic", "seed")},
    }


def _begin_from(initial: str | Path, fields: Mapping[str, Any]) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """The state of trained weights, and the options that build their generator."""
    loaded = open_model(initial)
    if not isinstance(loaded.generator, SRResNet) or loaded.facts.channels != 3:
        raise UsageError(f"{initial}: is not an SRResNet for RGB images, the only network that this recipe trains")
    has = loaded.facts.options
    asked = {**dict(fields.get("model", {})), **({"scale": fields["scale"]} if "scale" in fields else {})}
    for name, value in asked.items():
        if value != has[name]:
            raise UsageError(f"{initial}: its {name} is {has[name]}, not {value}: omit --{name}")
    if fields.get("norm") == "batch" and has_frozen_norms(loaded.generator):
        raise UsageError(
            f"{initial}: was trained with frozen norms, and the batch's statistics would spoil it: omit --norm"
        )
    return loaded.generator.state_dict(), {
        "scale": has["scale"],
        "model": {name: has[name] for name in ("channels", "blocks")},
    }


def _stream(patches: SuperResolutionPatches, data: PhotoData, pin: bool, start: int) -> Any:
    return batches(patches, data.batch, start, data.workers, pin=pin)
