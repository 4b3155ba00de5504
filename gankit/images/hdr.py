"""High dynamic range: linear light to the values that a network sees, and back, without a loss.

Networks are trained on display-encoded values from 0 to 1. Linear values from 0 to 1 are therefore encoded with the
transfer function of sRGB (IEC 61966-2-1), so that a photograph in linear light gives the network what its PNG would.
Above 1 a logarithm continues the curve with the same slope, as in hybrid log-gamma (ITU-R BT.2100), and negative values
take the mirrored curve. The encoded values of an image are then moved to 0 to 1 as far as they reach beyond.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gankit.images.strips import by_strips

_SLOPE = 1.055 / 2.4  # of the sRGB curve at 1
_KNEE, _LINEAR = 0.0031308, 12.92
_HALF_MAX = 65504.0
# Factor of the exponential beyond which float32 overflows; the largest float32 is exp(88.7).
_MOST = 1 + 88 * _SLOPE


@dataclass(frozen=True)
class Hdr:
    """What the pixels of an image with a high dynamic range stand for.

    Attributes:
        low: encoded value that 0 stands for, at most 0.
        high: encoded value that 1 stands for, at least 1.
        half: whether the file holds float16; else float32.
        chromaticities: x and y of red, green, blue and white (CIE 1931), where the file states them.
        aspect: width over height of a pixel.
    """

    low: float = 0.0
    high: float = 1.0
    half: bool = False
    chromaticities: tuple[float, ...] | None = None
    aspect: float = 1.0


def encoded(linear: np.ndarray) -> np.ndarray:
    """Encode linear light of any range: sRGB up to 1, a logarithm above, mirrored below 0. float32, any shape."""
    size = np.abs(linear)
    inside = np.minimum(size, 1)
    curve = np.where(inside <= _KNEE, inside * _LINEAR, 1.055 * np.maximum(inside, _KNEE) ** (1 / 2.4) - 0.055)
    curve += _SLOPE * np.log(np.maximum(size, 1))
    signed: np.ndarray = np.copysign(curve, linear).astype(np.float32, copy=False)
    return signed


def linear_light(values: np.ndarray) -> np.ndarray:
    """Invert :func:`encoded`. float32, any shape."""
    size = np.abs(values)
    inside = np.minimum(size, 1)
    curve = np.where(inside <= _KNEE * _LINEAR, inside / _LINEAR, ((inside + 0.055) / 1.055) ** 2.4)
    curve = curve * np.exp((np.clip(size, 1, _MOST) - 1) / _SLOPE)
    signed: np.ndarray = np.copysign(curve, values).astype(np.float32, copy=False)
    return signed


def to_pixels(linear: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Encode an image for a network.

    Args:
        linear: (H, W, C) float32, finite.

    Returns:
        The pixels, float32 from 0 to 1, and the encoded values that 0 and 1 stand for.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    check_finite(not_finite(linear))
    pixels = by_strips(encoded, np.empty(linear.shape, np.float32), linear)
    low, high = min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))
    return _moved(pixels, low, high), low, high


def _moved(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Move encoded values in place, so that ``low`` becomes 0 and ``high`` becomes 1."""
    if (low, high) != (0.0, 1.0):
        pixels -= np.float32(low)
        pixels /= np.float32(high - low)
    return pixels


def not_finite(linear: np.ndarray) -> int:
    """Return the number of values that are NaN or infinite."""
    return int(linear.size - np.isfinite(linear).sum())


def check_finite(count: int) -> None:
    """Refuse an image with values that are NaN or infinite.

    Args:
        count: how many there are.

    Raises:
        ValueError: There are some.
    """
    if count:
        values = "1 value is" if count == 1 else f"{count} values are"
        raise ValueError(f"{values} NaN or infinite; replace them first, for example with `oiiotool --fixnan box3`")


class PixelsByRows:
    """Does what :func:`to_pixels` does for an image whose rows come one strip after the other, and exactly the same.

    The image is read twice: the first time for the range of its values.
    """

    def __init__(self) -> None:
        self._not_finite = 0
        self._linear, self._encoded = (np.inf, -np.inf), (0.0, 1.0)

    def add(self, linear: np.ndarray) -> None:
        """Take rows for the first time: (H, W, C) float32."""
        count = not_finite(linear)
        self._not_finite += count
        if not count and not self._not_finite:
            self._linear = _wider(self._linear, linear)
            self._encoded = _wider(self._encoded, encoded(linear))

    def complete(self, half: bool) -> tuple[Hdr, str]:
        """Return what the pixels stand for and the sentence of :func:`range_note`, once all rows were added.

        Args:
            half: whether the file holds float16.

        Raises:
            ValueError: a value is NaN or infinite.
        """
        check_finite(self._not_finite)
        return Hdr(*self._encoded, half=half), _range_note(*self._linear)

    def pixels(self, linear: np.ndarray) -> np.ndarray:
        """Encode rows, as :func:`to_pixels` does."""
        return _moved(by_strips(encoded, np.empty(linear.shape, np.float32), linear), *self._encoded)


def _wider(bounds: tuple[float, float], values: np.ndarray) -> tuple[float, float]:
    return min(bounds[0], float(values.min())), max(bounds[1], float(values.max()))


def to_linear(pixels: np.ndarray, hdr: Hdr) -> np.ndarray:
    """Decode what a network has made of the result of :func:`to_pixels`.

    Values below 0 become 0 where the source has no negative values; what lies above its largest value is kept.

    Args:
        pixels: float32, any shape.
        hdr: what they stand for.

    Returns:
        Linear light, float32; at most 65504 in size if ``hdr.half``.
    """

    def decode(part: np.ndarray) -> np.ndarray:
        values = part * np.float32(hdr.high - hdr.low) + np.float32(hdr.low)
        light = linear_light(np.maximum(values, 0) if hdr.low == 0 else values)
        return np.clip(light, -_HALF_MAX, _HALF_MAX) if hdr.half else light

    return by_strips(decode, np.empty(pixels.shape, np.float32), pixels)


def to_display(pixels: np.ndarray, hdr: Hdr) -> np.ndarray:
    """Cut to 0 to 1, and encode as sRGB in 16 bits. Arrays as for :func:`to_linear`; uint16."""

    def encode(part: np.ndarray) -> np.ndarray:
        values = part * np.float32(hdr.high - hdr.low) + np.float32(hdr.low)
        rounded: np.ndarray = np.rint(np.clip(values, 0, 1) * 65535)
        return rounded

    return by_strips(encode, np.empty(pixels.shape, np.uint16), pixels)


def range_note(linear: np.ndarray) -> str:
    """A sentence on the range of an image in linear light."""
    return _range_note(float(linear.min()), float(linear.max()))


def _range_note(low: float, high: float) -> str:
    return f"linear values from {low:.4g} to {high:.4g} are kept"
