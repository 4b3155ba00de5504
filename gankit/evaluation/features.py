"""Networks whose features say how far two sets of images are apart: our classifier, an ONNX file, Inception.

They are fed uint8 images and scale them themselves, so that no caller can feed one the wrong values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gankit.errors import BackendError, CheckpointError, UsageError
from gankit.evaluation import classifier
from gankit.evaluation.metrics import gray

Images = NDArray[np.uint8]
Fit = Literal["resize", "crop"]
Run = Callable[[Tensor], tuple[Tensor, Tensor | None]]
_BATCH = 500


@dataclass(frozen=True)
class Features:
    """What a network made of a set of images.

    Attributes:
        values: (N, D) float64.
        logits: (N, K) float64; ``None`` where the network tells no classes.
        resize: how the images were brought to its size: ``"none"``, or words.
    """

    values: NDArray[np.float64]
    logits: NDArray[np.float64] | None
    resize: str

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class FeatureNetwork:
    """A network, what to feed it, and what to say of it.

    Attributes:
        name: as tables have it.
        run: (N, C, H, W) float32 in [0, 1] -> features (N, D) and logits (N, K) or ``None``.
        size: height and width that it takes; ``None`` for any.
        channels: 1 or 3; others are converted (full-range BT.601 luma, or three equal channels).
        note: what a reader should know of it, such as its accuracy.
        sha256: of its weights file.
        inception: it is the Inception network of FID, whose figures alone may be called FID, KID and IS.
        own_resize: how it resizes within, in words; empty where it does not.
    """

    name: str
    run: Run
    size: tuple[int, int] | None
    channels: int
    note: str = ""
    sha256: str = ""
    inception: bool = False
    own_resize: str = ""

    def __call__(self, batches: Iterable[Images], fit: Fit = "resize") -> Features:
        """The features of all images.

        Args:
            batches: (N, H, W, C) uint8 each, C 1 or 3.
            fit: what to do with other sizes: ``"resize"`` by antialiased bicubic, or ``"crop"`` the middle, for nets
                that were trained on padded images.

        Raises:
            UsageError: no images, of different sizes, or too small to crop.
        """
        values, logits, shapes = [], [], set()
        for batch in batches:
            shapes.add(batch.shape[1:3])
            for start in range(0, len(batch), _BATCH):
                part = self._fitted(_in_channels(batch[start : start + _BATCH], self.channels), fit)
                with torch.inference_mode():
                    found, reported = self.run(_tensor(part))
                values.append(found.double().numpy())
                logits += [] if reported is None else [reported.double().numpy()]
        if not values:
            raise UsageError("there are no images to measure")
        return Features(np.concatenate(values), np.concatenate(logits) if logits else None, self._resize(shapes, fit))

    def _fitted(self, images: Images, fit: Fit) -> Images:
        have = images.shape[1:3]
        if self.size is None or have == self.size:
            return np.ascontiguousarray(images)
        height, width = self.size
        if fit == "crop":
            top, left = (have[0] - height) // 2, (have[1] - width) // 2
            if top < 0 or left < 0:
                raise UsageError(f"images of {have[1]}×{have[0]} cannot be cropped to {width}×{height}: resize them")
            return np.ascontiguousarray(images[:, top : top + height, left : left + width])
        return np.stack([_resized(image, (width, height)) for image in images])

    def _resize(self, shapes: set[tuple[int, ...]], fit: Fit) -> str:
        if self.own_resize:
            return self.own_resize
        if self.size is None or shapes == {self.size}:
            return "none"
        size = f"{self.size[1]}×{self.size[0]}"
        return f"middle {size} cropped" if fit == "crop" else f"antialiased bicubic to {size}"


def open_features(name: str | Path) -> FeatureNetwork:
    """A feature network.

    Args:
        name: ``"fashion-classifier"``, which ships with gankit; a file that ``gankit evaluate train-classifier`` wrote;
            or an ONNX file: one input (N, C, H, W) in [0, 1], C 1 or 3, the features its first output, (N, D) or
            (N, D, h, w), of which the mean is taken, and class logits its second, if any.

    Raises:
        CheckpointError: the file is missing, broken, or no such network.
        BackendError: ONNX Runtime is not installed.
    """
    path = Path(name)
    if path.suffix.lower() == ".onnx":
        return _onnx(path)
    net, notes, sha256 = classifier.open_classifier(classifier.shipped(name))

    def run(x: Tensor) -> tuple[Tensor, Tensor | None]:
        found = net.features(x)
        return found, net.head(found)

    note = f"{float(notes['accuracy']):.2%} right on {notes['test']}" if {"accuracy", "test"} <= notes.keys() else ""
    side = classifier.SIDE
    return FeatureNetwork(str(name), run, (side, side), 1, note, sha256)


def _onnx(path: Path) -> FeatureNetwork:
    """A network in an ONNX file, run by ONNX Runtime on the CPU; such a file holds no code."""
    import hashlib

    try:
        import onnxruntime
    except ImportError:
        raise BackendError(f"{path}: needs ONNX Runtime: pip install 'gankit[cpu]'") from None
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's own exceptions have no common base
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: ONNX Runtime cannot open it: {reason}") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = inputs[0].shape
    if len(inputs) != 1 or len(shape) != 4 or shape[1] not in (1, 3) or inputs[0].type != "tensor(float)":
        raise CheckpointError(
            f"{path}: must have one input of float32 (N, 1 or 3, H, W), not {len(inputs)} of {inputs[0].type} {shape}"
        )
    fixed = shape[0] if isinstance(shape[0], int) else None
    size = (shape[2], shape[3]) if isinstance(shape[2], int) and isinstance(shape[3], int) else None
    names = [output.name for output in outputs[:2]]

    def once(x: Tensor) -> list[np.ndarray]:
        found: list[np.ndarray] = session.run(names, {inputs[0].name: x.contiguous().numpy()})
        return found

    def run(x: Tensor) -> tuple[Tensor, Tensor | None]:
        if fixed is None:
            parts = [once(x)]
        else:  # the last one is filled up with its own first image
            whole = torch.cat([x, x[:1].expand(-len(x) % fixed, -1, -1, -1)])
            parts = [once(piece) for piece in whole.split(fixed)]
        found = [torch.from_numpy(np.concatenate(arrays))[: len(x)] for arrays in zip(*parts, strict=True)]
        return _flat(path, found[0]), found[1].flatten(1) if len(found) > 1 else None

    return FeatureNetwork(path.name, run, size, shape[1], sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def _tensor(images: Images) -> Tensor:
    """(N, H, W, C) uint8 -> (N, C, H, W) in [0, 1]."""
    own = np.require(images, requirements=["C", "W"])  # torch warns of memory that is read-only
    return torch.from_numpy(own).permute(0, 3, 1, 2).float() / 255


def _flat(path: Path, features: Tensor) -> Tensor:
    if features.ndim == 4:
        return features.mean(dim=(2, 3))
    if features.ndim != 2:
        raise CheckpointError(f"{path}: its first output must be (N, D) or (N, D, h, w), not {tuple(features.shape)}")
    return features


def _in_channels(images: Images, channels: int) -> Images:
    """(N, H, W, 1 or 3) -> (N, H, W, channels)."""
    have = images.shape[3]
    if have == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=3)
    return gray(images)[..., None]


def _resized(image: Images, size: tuple[int, int]) -> Images:
    pillow_image = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    result = np.asarray(pillow_image.resize(size, Image.Resampling.BICUBIC))
    return result[..., None] if result.ndim == 2 else result
