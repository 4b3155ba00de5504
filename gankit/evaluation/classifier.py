"""A small convolutional classifier of 28×28 gray images: a feature network for Fashion-MNIST that also tells the class.

Figures in its features are no FID: FID is what Inception's features give, and says nothing of gray images of clothes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gankit.checkpoints import read, save
from gankit.checkpoints.shipped import installed
from gankit.errors import CheckpointError, UsageError
from gankit.models.checks import whole

NAME = "fashion-classifier"
SIDE = 28
_MEAN, _DEVIATION = 0.286, 0.353  # of Fashion-MNIST's training images in [0, 1]
_WIDEST = 4096
_DEEPEST = 16


class Classifier(nn.Module):
    """Convolutions with BatchNorm and ReLU: one 5×5 with stride 2, one 3×3, then behind max pooling the rest, 3×3.

    A depthwise convolution over all 7×7 places, with BatchNorm, makes the features: it keeps where things are, which
    the mean over the places would lose, at 49 weights a channel. A linear layer tells the class from them.

    Args:
        widths: channels of the convolutions, two or more; the last are as many features.
        classes: distinguished.
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 96, 128), classes: int = 10) -> None:
        super().__init__()
        if not isinstance(widths, list | tuple) or not 2 <= len(widths) <= _DEEPEST:
            raise ValueError(f"widths must be 2 to {_DEEPEST} whole numbers, not {widths!r}")
        for width in widths:
            whole("widths", width, _WIDEST)
        whole("classes", classes, _WIDEST)
        self.options: dict[str, Any] = {"widths": list(widths), "classes": classes}
        layers: list[nn.Module] = []
        before = 1
        for index, width in enumerate(widths):
            kernel, stride = (5, 2) if index == 0 else (3, 1)
            layers += [nn.MaxPool2d(2)] if index == 2 else []
            layers.append(nn.Conv2d(before, width, kernel, stride, kernel // 2, bias=False))
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        places = SIDE // 4 if len(widths) > 2 else SIDE // 2
        layers += [nn.Conv2d(before, before, places, groups=before, bias=False), nn.BatchNorm2d(before), nn.Flatten()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(before, classes)

    def features(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) in [0, 1] -> (N, widths[-1])."""
        result: Tensor = self.body((x - _MEAN) / _DEVIATION)
        return result

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) in [0, 1] -> logits (N, classes)."""
        result: Tensor = self.head(self.features(x))
        return result


def save_classifier(path: Path, net: Classifier, notes: Mapping[str, str]) -> str:
    """Write the weights, kernels in fp16; returns the file's sha256.

    Args:
        path: the file.
        net: trained.
        notes: that the tables state: ``accuracy``, and ``test``, the images that it was measured on.

    Raises:
        CheckpointError, OutputError: as :func:`gankit.checkpoints.save`.
    """
    return save(path, net.state_dict(), NAME, net.options, metadata=notes)


def open_classifier(path: Path) -> tuple[Classifier, dict[str, str], str]:
    """Read what :func:`save_classifier` wrote.

    Returns:
        The network in eval mode, its notes, and the file's sha256.

    Raises:
        CheckpointError: the file is missing, broken, or no classifier of ours.
    """
    stored = read(path)
    if stored.metadata.get("model") != NAME:
        raise CheckpointError(f"{path}: is not a gankit classifier: give '{NAME}', a file of its kind, or an ONNX file")
    try:
        net = Classifier(**json.loads(stored.metadata["options"]))
        wrong = net.load_state_dict({name: value.float() for name, value in stored.tensors.items()}, strict=False)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: damaged: {str(error).splitlines()[0]}") from error
    missing = [name for name in wrong.missing_keys if not name.endswith("num_batches_tracked")]
    if missing or wrong.unexpected_keys:
        raise CheckpointError(f"{path}: damaged: '{(missing + wrong.unexpected_keys)[0]}' is missing or unexpected")
    notes = {name: value for name, value in stored.metadata.items() if name not in ("format", "model", "options")}
    return net.eval().requires_grad_(False), notes, stored.sha256


def shipped(name: str | Path) -> Path:
    """The file of the classifier that ships with gankit if ``name`` is its name, else ``name`` as a path.

    Raises:
        CheckpointError: it is not installed.
    """
    if str(name) != NAME:
        return Path(name)
    path = installed(NAME)
    if not path.is_file():
        raise CheckpointError(f"{path}: the weights of '{NAME}' are not installed: reinstall gankit")
    return path


def accuracy(net: nn.Module, images: Tensor, labels: Tensor, batch: int = 500) -> float:
    """The part of images whose class is the largest logit.

    Args:
        net: images in [0, 1] -> logits.
        images: (N, 1, 28, 28) uint8.
        labels: (N,) whole numbers.
        batch: images in one call.

    Raises:
        UsageError: no images, or not as many labels.
    """
    if len(images) != len(labels) or not len(labels):
        raise UsageError(f"{len(images)} images and {len(labels)} labels: give one label for each")
    was_training = net.training
    net.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            logits = net(images[start : start + batch].float() / 255)
            right += int((logits.argmax(1) == labels[start : start + batch]).sum())
    net.train(was_training)
    return right / len(labels)
