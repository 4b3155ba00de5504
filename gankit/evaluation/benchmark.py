"""Figures over a benchmark: a folder of true images and a folder of their small versions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image

from gankit.datasets.conditions import CONDITIONS, ConditionName
from gankit.datasets.folders import image_files, read_image
from gankit.datasets.reduction import reduce
from gankit.errors import ImageError, UsageError
from gankit.evaluation.metrics import SSIM_SIDE, DecodedImage, psnr, psnr_y, ssim_y

Upscale = Callable[[DecodedImage], DecodedImage]
Distance = Callable[[DecodedImage, DecodedImage], float]


@dataclass(frozen=True)
class Score:
    """Figures of one image, or their means over several.

    Attributes:
        name: the image's stem.
        psnr_y: dB, on luma.
        ssim_y: on luma.
        psnr: dB, on RGB.
        lpips: perceptual distance on RGB, where it was asked for.
    """

    name: str
    psnr_y: float
    ssim_y: float
    psnr: float
    lpips: float | None = None


@dataclass(frozen=True)
class Table:
    """Figures of one way to upscale over a benchmark.

    Attributes:
        scores: one per image, by name.
        scale: side of the true image over side of the small one.
        border: pixels cut from each side before measuring.
    """

    scores: tuple[Score, ...]
    scale: int
    border: int

    @property
    def mean(self) -> Score:
        """The means over the images (of dB values, as the papers average them)."""
        return Score(
            "mean",
            fmean(score.psnr_y for score in self.scores),
            fmean(score.ssim_y for score in self.scores),
            fmean(score.psnr for score in self.scores),
            mean_of(score.lpips for score in self.scores),
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which knows no infinity: ``None`` is the PSNR of equal images."""
        images = {score.name: _figures(score) for score in self.scores}
        return {"scale": self.scale, "border": self.border, "mean": _figures(self.mean), "images": images}


@dataclass(frozen=True)
class Pair:
    """A true image and its small version, by file."""

    name: str
    hr: Path
    lr: Path


def find_scale(hr_dir: Path | str, lr_dir: Path | str) -> int:
    """The scale of a benchmark, from the sizes of its first pair.

    Raises:
        UsageError: a folder is missing or empty, or the first true image has no small version.
        ImageError: one of them cannot be read.
    """
    hr = next(iter(_images(Path(hr_dir)).values()))
    lr_files = _images(Path(lr_dir))
    lr = lr_files.get(hr.stem) or next((path for stem, path in lr_files.items() if _is_small(stem, hr.stem)), None)
    if lr is None:
        raise UsageError(f"{hr}: no image of that name in {lr_dir}")
    result: int = max(1, read_rgb(hr).shape[0] // read_rgb(lr).shape[0])
    return result


def find_pairs(hr_dir: Path | str, lr_dir: Path | str, scale: int) -> tuple[Pair, ...]:
    """Pair the images of two folders by stem; ``baby.png`` also pairs with ``babyx4.png`` for scale 4.

    Raises:
        UsageError: a folder is missing or empty, or a true image has no small version.
    """
    hr_files, lr_files = _images(Path(hr_dir)), _images(Path(lr_dir))
    pairs = []
    for stem, hr in hr_files.items():
        lr = lr_files.get(stem) or lr_files.get(f"{stem}x{scale}")
        if lr is None:
            raise UsageError(f"{hr}: no image of that name in {lr_dir}")
        pairs.append(Pair(stem, hr, lr))
    return tuple(pairs)


def read_rgb(path: Path) -> DecodedImage:
    """An image as (H, W, 3) uint8 RGB; gray becomes RGB with equal channels, transparency is laid on white.

    Raises:
        ImageError: it cannot be read.
    """
    return read_image(path).pixels


def read_pair(pair: Pair, scale: int) -> tuple[DecodedImage, DecodedImage]:
    """Both images; the true one is cropped to the small one's size times ``scale``, as the benchmarks are made.

    Returns:
        The true image and the small one, (H, W, 3) uint8.

    Raises:
        ImageError: one cannot be read, or their sizes do not belong together.
    """
    hr, lr = read_rgb(pair.hr), read_rgb(pair.lr)
    height, width = lr.shape[0] * scale, lr.shape[1] * scale
    if not (0 <= hr.shape[0] - height < scale and 0 <= hr.shape[1] - width < scale):
        sizes = f"{hr.shape[1]}×{hr.shape[0]} and {lr.shape[1]}×{lr.shape[0]}"
        raise ImageError(pair.hr, f"{sizes} ({pair.lr.name}) are not ×{scale} of each other")
    return hr[:height, :width], lr


def each_pair(
    hr_dir: Path | str, lr_dir: Path | str | None, scale: int
) -> Iterator[tuple[str, DecodedImage, DecodedImage]]:
    """Name, true image and small image of every pair, one at a time.

    Args:
        hr_dir: folder of true images.
        lr_dir: folder of small images; ``None`` makes them by bicubic reduction of the true ones.
        scale: side of the true image over side of the small one.
    """
    if lr_dir is not None:
        for pair in find_pairs(hr_dir, lr_dir, scale):
            hr, lr = read_pair(pair, scale)
            yield pair.name, hr, lr
        return
    for name, path in sorted(_images(Path(hr_dir)).items()):
        image = read_rgb(path)
        if min(image.shape[:2]) < scale:
            raise ImageError(path, f"{image.shape[1]}×{image.shape[0]} is too small to reduce it {scale} times")
        hr, lr = reduce(image, scale)
        yield name, hr, lr


def evaluate_pairs(
    upscale: Upscale,
    hr_dir: Path | str,
    lr_dir: Path | str | None,
    scale: int,
    border: int | None = None,
    lpips: Distance | None = None,
    condition: ConditionName = "clean",
) -> Table:
    """Upscale every small image and measure it against the true one.

    Args:
        upscale: (h, w, 3) uint8 -> (scale·h, scale·w, 3) uint8.
        hr_dir: folder of true images.
        lr_dir: folder of small images with the same stems; ``None`` makes them by bicubic reduction of the true ones.
        scale: side of the true image over side of the small one.
        border: pixels cut from each side; ``None`` is the scale, as in the papers.
        lpips: a perceptual distance to measure too, such as :class:`gankit.evaluation.perceptual.Lpips`.
        condition: what is done to the small images before (:data:`gankit.datasets.conditions.CONDITIONS`); the seed of
            its noise is the number of the image.

    Raises:
        UsageError: a folder is missing or empty, an image has no partner, or ``upscale`` has another scale.
        ImageError: an image cannot be read, or the sizes do not belong together.
        ValueError: ``upscale`` gave another dtype.
    """
    cut = scale if border is None else border
    scores = []
    for number, (name, hr, lr) in enumerate(each_pair(hr_dir, lr_dir, scale)):
        if min(hr.shape[:2]) < 2 * cut + SSIM_SIDE:
            raise UsageError(f"{hr_dir}: {name} is too small to measure inside a border of {cut} pixels")
        result = upscale(CONDITIONS[condition](lr, number))
        if result.shape != hr.shape:
            made, wanted = (f"{p.shape[1]}×{p.shape[0]}" for p in (result, hr))
            raise UsageError(f"{hr_dir}: the model made {made} of {name}, the true image is {wanted} (×{scale})")
        figures = psnr_y(result, hr, cut), ssim_y(result, hr, cut), psnr(result, hr, cut)
        inner = (slice(cut, hr.shape[0] - cut), slice(cut, hr.shape[1] - cut))
        scores.append(Score(name, *figures, None if lpips is None else lpips(result[inner], hr[inner])))
    return Table(tuple(scores), scale, cut)


def bicubic(scale: int) -> Upscale:
    """The upscaler that everything is compared with: Pillow's bicubic (a = -0.5, as MATLAB's ``imresize``)."""

    def upscale(image: DecodedImage) -> DecodedImage:
        height, width = image.shape[:2]
        return np.asarray(Image.fromarray(image).resize((width * scale, height * scale), Image.Resampling.BICUBIC))

    return upscale


def _is_small(stem: str, of: str) -> bool:
    return stem.startswith(f"{of}x") and stem.removeprefix(f"{of}x").isdecimal()


def _figures(score: Score) -> dict[str, float | None]:
    figures = {"psnr_y": score.psnr_y, "ssim_y": score.ssim_y, "psnr": score.psnr}
    figures |= {} if score.lpips is None else {"lpips": score.lpips}
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean, or ``None`` where a value is."""
    found = list(values)
    known = [value for value in found if value is not None]
    return fmean(known) if len(known) == len(found) else None


def _images(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    return {path.stem: path for path in image_files(folder, recursive=False)}
