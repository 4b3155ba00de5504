"""What a camera, a messenger or a web site does to a photograph before anybody enlarges it.

A network that was trained on clean reductions takes noise and JPEG blocks for detail and sharpens them. Trained on
patches that went through blur, noise and a real JPEG codec, it learns to remove these, after the two-stage model of
Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833) with the milder ranges of everyday photographs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from gankit.datasets.conditions import jpeg

_REACH = 4  # pixels from which the widest blur takes something: 3 σ
_MCU = 16  # side of what JPEG with 4:2:0 codes at once
_BESIDE = 4  # pixels beside a patch that its own depend on after one JPEG: chroma is interpolated across blocks
_RESIZED = 8  # the same after a resize down and up again, by bicubic at a factor of 0.6
_FILTERS = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.BOX)
_BANK = 2**20  # normally distributed numbers that all patches take their noise from

Margins = tuple[int, int, int, int]
"""Pixels above, below, left and right of a patch."""


@dataclass(frozen=True)
class Degradation:
    """How a low-resolution patch is degraded. Each pair is a range.

    The strength of blur and noise is drawn so that mild ones are more frequent: ``least + (most - least) · u**power``
    with u evenly distributed in [0, 1).

    Attributes:
        clean: share of the patches that stay as they are.
        blur: standard deviation of the Gaussian blur in pixels, at most 1.3.
        noise: standard deviation of the noise in 8-bit levels. A random share of its variance is Gaussian, the rest
            is the photons' (Poisson), which grows with the value; the deviation is that at middle gray.
        gray_noise: share of the noisy patches in which all colours have the same noise.
        quality: of the JPEG.
        subsampled: share of JPEGs with 4:2:0.
        again: share of the degraded patches that are resized, resized back and stored as JPEG a second time.
        factor: of that resize.
        second_quality: of the second JPEG.
        power: see above.
    """

    clean: float = 0.3
    blur: tuple[float, float] = (0.2, 1.2)
    noise: tuple[float, float] = (0.0, 8.0)
    gray_noise: float = 0.4
    quality: tuple[int, int] = (50, 95)
    subsampled: float = 0.5
    again: float = 0.2
    factor: tuple[float, float] = (0.6, 1.4)
    second_quality: tuple[int, int] = (70, 95)
    power: float = 1.5


PHOTO = Degradation()


@dataclass(frozen=True)
class Draw:
    """One degradation, drawn: what :meth:`Degrader.apply` does to one patch.

    Attributes:
        blur: standard deviation in pixels.
        gaussian: standard deviation of the Gaussian noise in 8-bit levels.
        shot: standard deviation of the photons' noise at middle gray.
        gray: whether all colours have the same noise.
        place: where in the bank of random numbers the noise begins.
        jpegs: quality and whether chroma is subsampled, of one JPEG or two.
        factor: of the resize between the two.
        filters: of the resize and the resize back.
        windows: for each JPEG, the last one first, the margins of what goes through it around what is needed of it.
    """

    blur: float
    gaussian: float
    shot: float
    gray: bool
    place: int
    jpegs: tuple[tuple[int, bool], ...]
    factor: float
    filters: tuple[Image.Resampling, Image.Resampling]
    windows: tuple[Margins, ...]

    @property
    def margins(self) -> Margins:
        """What must lie around a patch so that its borders are those of a larger image."""
        top, bottom, left, right = (sum(sides) + _REACH for sides in zip(*self.windows, strict=True))
        return top, bottom, left, right


@dataclass
class Degrader:
    """Draws degradations and applies them.

    Args:
        options: the ranges.
        seed: of the bank of random numbers that the noise is taken from.
    """

    options: Degradation = PHOTO
    seed: int = 0
    _bank: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._bank = np.random.default_rng((self.seed, 2**20)).standard_normal(_BANK, np.float32)

    def draw(self, rng: np.random.Generator, patch: int) -> Draw | None:
        """A degradation for a square of ``patch`` pixels; ``None`` for one that stays clean."""
        o = self.options
        u = rng.random(20)
        if u[0] < o.clean:
            return None
        noise = _between(o.noise, u[1] ** o.power)
        shot = u[2]
        first = (int(_between(o.quality, u[5], whole=True)), bool(u[6] < o.subsampled))
        windows = [(*_window(patch, u[7], _BESIDE), *_window(patch, u[8], _BESIDE))]
        jpegs = [first]
        if u[9] < o.again:
            jpegs.append((int(_between(o.second_quality, u[10], whole=True)), bool(u[11] < o.subsampled)))
            (top, bottom, left, right) = windows[0]
            down = _window(patch + top + bottom, u[12], _RESIZED)
            windows.append((*down, *_window(patch + left + right, u[13], _RESIZED)))
        return Draw(
            blur=_between(o.blur, u[14] ** o.power),
            gaussian=noise * math.sqrt(1 - shot),
            shot=noise * math.sqrt(shot),
            gray=bool(u[3] < o.gray_noise),
            place=int(u[4] * _BANK),
            jpegs=tuple(jpegs),
            factor=o.factor[0] * (o.factor[1] / o.factor[0]) ** u[15],
            filters=(_FILTERS[int(u[16] * len(_FILTERS))], _FILTERS[int(u[17] * 2)]),
            windows=tuple(windows),
        )

    def apply(self, region: np.ndarray, margins: Margins, draw: Draw) -> np.ndarray:
        """Degrade a patch.

        Args:
            region: (3, H, W) uint8, the patch and what lies around it.
            margins: how much of that is not the patch, at most ``draw.margins``; less where the image ends.
            draw: what is to be done.

        Returns:
            The patch, (3, h, w) uint8.
        """
        pixels, margins = _blurred(region, margins, draw)
        self._add_noise(pixels, draw)
        levels = np.rint(pixels, out=pixels).clip(0, 255, out=pixels).transpose(1, 2, 0).astype(np.uint8, order="C")
        for number, (quality, subsampled) in enumerate(draw.jpegs):
            if number:
                levels, margins = _cut(_resized(levels, draw), margins, draw.windows[0])
            levels = jpeg(levels, quality, subsampled=subsampled)
        top, bottom, left, right = margins
        height, width = levels.shape[:2]
        result: np.ndarray = levels[top : height - bottom, left : width - right].transpose(2, 0, 1)
        return result

    def _add_noise(self, pixels: np.ndarray, draw: Draw) -> None:
        """Add noise to (3, H, W) float32 in place.

        The photons' noise is normal with the variance of a Poisson distribution, which at these strengths counts 250
        photons and more at middle gray.
        """
        if draw.gaussian + draw.shot < 0.05:
            return
        shape = pixels.shape[1:] if draw.gray else pixels.shape
        count = math.prod(shape)
        where = draw.place % max(1, _BANK - count)
        noise = self._bank[where : where + count].reshape(shape)
        variance = np.maximum(pixels, 0)
        variance *= draw.shot**2 / 128
        variance += draw.gaussian**2
        pixels += np.sqrt(variance, out=variance) * noise


def turned(margins: Margins, turns: int, *, mirror: bool) -> Margins:
    """The margins after a region was mirrored, left for right, and then turned by ``numpy.rot90`` so many times."""
    top, bottom, left, right = margins
    if mirror:
        left, right = right, left
    for _ in range(turns % 4):
        top, bottom, left, right = right, left, top, bottom
    return top, bottom, left, right


def unturned(margins: Margins, turns: int, *, mirror: bool) -> Margins:
    """The margins that :func:`turned` makes these of."""
    top, bottom, left, right = margins
    for _ in range(turns % 4):
        top, bottom, left, right = left, right, bottom, top
    return (top, bottom, right, left) if mirror else (top, bottom, left, right)


def _between(ends: Iterable[float], share: float, *, whole: bool = False) -> float:
    least, most = ends
    return least + math.floor((most - least + 1) * share) if whole else least + (most - least) * share


def _window(needed: int, share: float, beside: int) -> tuple[int, int]:
    """Margins before and after ``needed`` pixels that put JPEG's grid anywhere and let it end with a whole block."""
    before = beside + int(share * _MCU)
    return before, -(before + needed + beside) % _MCU + beside


def _cut(pixels: np.ndarray, has: Margins, wants: Margins) -> tuple[np.ndarray, Margins]:
    """(H, W, 3) cropped to the wanted margins; where there is less than that, it stays."""
    less = [max(0, there - wanted) for there, wanted in zip(has, wants, strict=True)]
    height, width = pixels.shape[:2]
    cropped = pixels[less[0] : height - less[1], less[2] : width - less[3]]
    top, bottom, left, right = (there - gone for there, gone in zip(has, less, strict=True))
    return np.ascontiguousarray(cropped), (top, bottom, left, right)


def _blurred(region: np.ndarray, has: Margins, draw: Draw) -> tuple[np.ndarray, Margins]:
    """(3, H, W) uint8 -> float32, blurred, without the margin that the blur needs; and the margins that are left."""
    less = [min(_REACH, max(0, there - wanted + _REACH)) for there, wanted in zip(has, draw.margins, strict=True)]
    height, width = region.shape[1:]
    top, bottom, left, right = (there - gone for there, gone in zip(has, less, strict=True))
    down = _kernel(height, less[0], height - less[1], draw.blur)
    across = _kernel(width, less[2], width - less[3], draw.blur)
    # By torch, whose products stay on one core in a loader's worker; numpy's would take those of the others.
    planes, rows, columns = (torch.from_numpy(each) for each in (region.astype(np.float32), down, across))
    return ((rows @ planes) @ columns.T).numpy(), (top, bottom, left, right)


def _kernel(length: int, first: int, last: int, deviation: float) -> np.ndarray:
    """The Gaussian filter along one axis as a matrix, (last - first, length); each row adds up to 1."""
    weights = np.zeros(length + 1, np.float32)
    near = np.arange(min(_REACH, length) + 1)
    weights[: len(near)] = np.exp(-(near**2) / (2 * deviation**2))
    matrix: np.ndarray = weights[np.abs(np.arange(first, last)[:, None] - np.arange(length))]
    matrix /= matrix.sum(axis=1, keepdims=True)
    return matrix


def _resized(pixels: np.ndarray, draw: Draw) -> np.ndarray:
    """(H, W, 3) uint8 resized by the factor, and back."""
    height, width = pixels.shape[:2]
    size = (max(1, round(width * draw.factor)), max(1, round(height * draw.factor)))
    away, back = draw.filters
    return np.asarray(Image.fromarray(pixels).resize(size, away).resize((width, height), back))
