"""VGG19's features for the perceptual loss, from weights that the user has."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gankit.checkpoints import read
from gankit.errors import CheckpointError

# Convolutions by width, "M" for max pooling (Simonyan & Zisserman 2015, arXiv:1409.1556, table 1, column E).
_PLAN: tuple[int | str, ...] = (64, 64, "M", 128, 128, "M", *(256,) * 4, "M", *(512,) * 4, "M", *(512,) * 4)


class PerceptualLoss(nn.Module):
    """L1 between VGG19 features of the fourth convolution before the fifth pooling, before its activation.

    "VGG54" of Ledig et al. 2017 (section 2.2.1), taken before the activation as ESRGAN does (Wang et al. 2018,
    arXiv:1809.00219, section 3.3).

    Args:
        weights: a state dict of torchvision's ``vgg19`` (``features.0.weight`` …), or of its ``features`` alone.

    Raises:
        CheckpointError: the file is not readable safely, or is no VGG19.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for item in _PLAN:
            if isinstance(item, int):
                layers += [nn.Conv2d(width, item, 3, padding=1), nn.ReLU(inplace=True)]
                width = item
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])
        self.features.load_state_dict(_read(weights, self.features.state_dict()))
        self.features.requires_grad_(False).eval()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)

    def forward(self, result: Tensor, target: Tensor) -> Tensor:
        """The loss of (N, 3, H, W) RGB in [0, 1] against a target of the same shape; a scalar."""
        ours = self.features((result - self.mean) / self.std)
        with torch.no_grad():
            theirs = self.features((target - self.mean) / self.std)
        return F.l1_loss(ours.float(), theirs.float())


def _read(path: Path, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {name.removeprefix("features."): value for name, value in read(path).tensors.items()}
    wrong = [name for name, value in wanted.items() if name not in found or found[name].shape != value.shape]
    if wrong:
        raise CheckpointError(f"{path}: does not hold VGG19: '{wrong[0]}' is missing or has another shape")
    return {name: found[name].float() for name in wanted}
