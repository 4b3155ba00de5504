"""Validation of super-resolution: PSNR on Y of a folder's images, clean and degraded, and sample grids of some."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gankit.datasets.conditions import CONDITIONS, ConditionName
from gankit.datasets.folders import read_images
from gankit.datasets.reduction import reduce
from gankit.errors import UsageError
from gankit.training.choices import DegradationName
from gankit.training.sample_grid import tensor_grid

_log = logging.getLogger(__name__)
_SIDE = 768
_SHOWN, _SHOWN_SIDE = 4, 160
_LUMA = (65.481, 128.553, 24.966)  # of R, G and B in [0, 1], as gankit.evaluation.metrics.luma has it

INPUTS: Mapping[DegradationName, tuple[ConditionName, ...]] = MappingProxyType(
    {"clean": ("clean",), "photo": ("clean", "q50", "q75", "noise5_q75")}
)
"""The conditions that reduced images are upscaled under; the seed of the noise is the image's number."""


class UpscalingValidator:
    """PSNR on Y of the middle of a folder's images, reduced by bicubic and upscaled again.

    The middle is at most 768×768 pixels, which holds all of a Kodak image.

    Args:
        folder: the images.
        scale: factor; also the border that is left out, as the papers do.
        fabric: where and how precisely to run.
        degradation: which of :data:`INPUTS`.

    Raises:
        UsageError: the folder has no image that is large enough.
    """

    def __init__(self, folder: Path, scale: int, fabric: Any, degradation: DegradationName = "clean") -> None:
        smallest = 2 * scale + 1  # one pixel inside the border
        self._pairs = []
        too_small = 0
        for image in read_images(folder):
            if min(image.shape[:2]) // scale * scale < smallest:
                too_small += 1
            else:
                self._pairs.append(reduce(_middle(image, _SIDE), scale))
        if not self._pairs:
            raise UsageError(f"{folder}: every image is smaller than {3 * scale}×{3 * scale} pixels; give larger ones")
        if too_small:
            _log.warning("%s: %d images are too small for the validation", folder, too_small)
        self._scale, self._fabric = scale, fabric
        self._inputs = {
            name: [CONDITIONS[name](small, number) for number, (_, small) in enumerate(self._pairs)]
            for name in INPUTS[degradation]
        }

    def __call__(self, generator: nn.Module) -> Mapping[str, float]:
        """The mean in dB as ``score``; where there are several inputs, the mean of each by its name as well."""
        values: dict[str, float] = {}
        for name, inputs in self._inputs.items():
            each = [self._psnr(generator, small, large) for small, (large, _) in zip(inputs, self._pairs, strict=True)]
            values[name] = float(torch.stack(each).mean())  # the first time that anybody waits for the device
        score = float(np.mean(list(values.values())))
        return {"score": score, **(values if len(values) > 1 else {})}

    def _psnr(self, generator: nn.Module, small: np.ndarray, large: np.ndarray) -> Tensor:
        """As :func:`gankit.evaluation.metrics.psnr_y`, on the device: a scalar in dB."""
        with torch.inference_mode():
            with self._fabric.autocast():
                result = generator(self._batch(small).float() / 255)
            border = self._scale
            levels = (result.float().clamp(0, 1) * 255).round() - self._batch(large)
            inside = levels[..., border:-border, border:-border]
            luma = sum(weight / 255 * inside[:, channel] for channel, weight in enumerate(_LUMA))
            assert isinstance(luma, Tensor)
            return 10 * torch.log10(255**2 / luma.double().square().mean())

    def _batch(self, pixels: np.ndarray) -> Tensor:
        """(H, W, 3) uint8 -> (1, 3, H, W) on the device."""
        batch: Tensor = self._fabric.to_device(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
        return batch

    def sample_grid(self, generator: nn.Module) -> np.ndarray:
        """Bicubic | result | the image itself, of the middle of up to four images: (H, W, 3) uint8.

        The last of the inputs is shown, which is the most degraded.
        """
        shown = []
        smalls = [*self._inputs.values()][-1][:_SHOWN]
        scale = self._scale
        side = min(_SHOWN_SIDE // scale, *(min(small.shape[:2]) for small in smalls))
        for small, (large, _) in zip(smalls, self._pairs, strict=False):
            top, left = ((length - side) // 2 for length in small.shape[:2])
            low, high = (
                self._batch(part).float() / 255
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
