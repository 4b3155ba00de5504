"""LPIPS by torchmetrics; its backbone needs torchvision, which brings the weights."""

from __future__ import annotations

from typing import Any, Literal
from urllib.error import URLError

import numpy as np
from numpy.typing import NDArray

from gankit.errors import BackendError, UsageError

Backbone = Literal["alex", "vgg", "squeeze"]
BACKBONES: tuple[Backbone, ...] = ("alex", "vgg", "squeeze")
_SMALLEST = 64
_HOW = "pip install 'gankit[perceptual]'"


class Lpips:
    """Learned perceptual distance (Zhang et al. 2018, arXiv:1801.03924), version 0.1; 0 for equal images.

    Args:
        backbone: whose features; ``"alex"`` is the authors' choice for measuring. torchvision downloads its weights
            at the first use, unless they are in its cache already.

    Raises:
        BackendError: torchmetrics or torchvision is missing or broken, or the weights cannot be had.
    """

    def __init__(self, backbone: Backbone = "alex") -> None:
        self.backbone = backbone
        try:
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

            self._metric: Any = LearnedPerceptualImagePatchSimilarity(backbone, normalize=True)
        except ImportError as error:  # torchmetrics' ModuleNotFoundError for a missing torchvision is one too
            reason = str(error).splitlines()[0]
            raise BackendError(f"LPIPS needs torchmetrics and torchvision ({reason}): {_HOW}") from error
        except URLError as error:
            raise BackendError(
                f"LPIPS: torchvision cannot download the weights of {backbone} ({error.reason}): go online once, or "
                "put them into its cache, ~/.cache/torch/hub/checkpoints"
            ) from error
        except (RuntimeError, AttributeError, OSError) as error:  # a torchvision that was built for another torch
            reason = str(error).splitlines()[0]
            raise BackendError(f"LPIPS: torchvision is installed but broken ({reason}): {_HOW}") from error

    def __call__(self, result: NDArray[np.uint8], target: NDArray[np.uint8]) -> float:
        """The distance of two (H, W, 3) uint8 images of one shape, at least 64 pixels high and wide.

        Raises:
            UsageError: they are smaller.
        """
        if min(result.shape[:2]) < _SMALLEST:
            height, width = result.shape[:2]
            raise UsageError(f"LPIPS needs images of {_SMALLEST}×{_SMALLEST} pixels or more, not {width}×{height}")
        import torch

        def values(image: NDArray[np.uint8]) -> Any:
            return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255

        with torch.inference_mode():
            distance = float(self._metric(values(result), values(target)))
        self._metric.reset()
        return distance
