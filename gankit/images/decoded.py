"""The decoded image, and its conversion from and to NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gankit.errors import UsageError
from gankit.images.hdr import Hdr, range_note, to_display, to_pixels
from gankit.images.strips import by_strips

Chunks = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class DecodedImage:
    r"""One image in memory, upright, with the metadata that goes with it.

    Args:
        pixels: (H, W, 3) RGB, uint8 or uint16, C-contiguous; EXIF orientation is already applied. An image with a high
            dynamic range, or made of a floating-point array, is float32 from 0 to 1.
        alpha: (H, W) of the same dtype, straight (not multiplied into the colours); None where the file has none.
        gray: the file is gray: ``pixels`` has three equal channels and is saved as one.
        icc_profile: the colour profile; its space is that of the pixels (RGB, or gray for a gray image).
        exif: an EXIF block beginning with ``b"Exif\0\0"``, orientation 1, no thumbnail, no pixel dimensions.
        dpi: horizontal and vertical pixels per inch.
        format: the format it was read from, in upper case: "PNG", "JPEG", "WEBP", "TIFF" or "BMP".
        xmp: an XMP packet in UTF-8, without orientation and pixel dimensions.
        png_colour: the chunks of a PNG that say what its values mean, as (name, body); only a PNG can hold them.
        iptc: an IPTC-IIM record, as press photographs carry it.
        comment: the comment of a JPEG, in whatever encoding its writer used.
        png_text: the tEXt, zTXt and iTXt chunks of a PNG, as (name, body); only a PNG can hold them.
        notes: a sentence for each part of the file that the image no longer has, such as "only the first of 4 frames
            is used"; for people, not for programs.
        hdr: what the float32 pixels of an image with a high dynamic range stand for in linear light; ``None`` for any
            other image.
        cmyk_profile: the profile of a file in CMYK, whose colours were converted to sRGB; formats that hold CMYK
            convert them back. ``None`` for any other file, and for one without a usable profile.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    gray: bool = False
    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    format: str = "PNG"
    xmp: bytes | None = None
    png_colour: Chunks = ()
    iptc: bytes | None = None
    comment: bytes | None = None
    png_text: Chunks = ()
    notes: tuple[str, ...] = ()
    hdr: Hdr | None = None
    cmyk_profile: bytes | None = None

    @property
    def samples(self) -> int:
        """Number of samples of a pixel as a file holds it: 1 or 3, and one more with alpha; 4 in CMYK."""
        if self.cmyk_profile is not None:
            return 4
        return (1 if self.gray else 3) + (self.alpha is not None)

    def channels(self) -> np.ndarray:
        """The samples as a file holds them: (H, W) gray, (H, W, 2) with alpha, (H, W, 3) or (H, W, 4)."""
        if self.gray:
            first = self.pixels[..., 0]
            return np.ascontiguousarray(first) if self.alpha is None else np.stack([first, self.alpha], axis=-1)
        if self.alpha is None:
            return self.pixels
        return np.concatenate([self.pixels, self.alpha[..., None]], axis=-1)

    def to_8bit(self) -> DecodedImage:
        """The same image in uint8, each value rounded to the nearest (65535 is 255 exactly)."""
        if self.hdr is not None:
            return self.to_display().to_8bit()
        return replace(self, pixels=to_uint8(self.pixels), alpha=None if self.alpha is None else to_uint8(self.alpha))

    def to_display(self) -> DecodedImage:
        """The same image without its high dynamic range: cut to 0 to 1, encoded as sRGB, uint16, without a profile."""
        if self.hdr is None:
            return self
        alpha = None if self.alpha is None else np.rint(np.clip(self.alpha, 0, 1) * 65535).astype(np.uint16)
        pixels = to_display(self.pixels, self.hdr)
        return replace(self, pixels=pixels, alpha=alpha, icc_profile=None, hdr=None)


def full_scale(dtype: np.dtype[Any]) -> int:
    """The value of white, and of full opacity: 255, 65535, or 1 for floating point."""
    return 1 if dtype.kind == "f" else int(np.iinfo(dtype).max)


def to_uint8(samples: np.ndarray) -> np.ndarray:
    """Round uint16 to uint8 by value, not by dropping bits: v * 255 / 65535 to the nearest.

    Args:
        samples: any shape, uint8 (returned as it is) or uint16.

    Returns:
        The same shape, uint8.
    """
    if samples.dtype == np.uint8:
        return samples
    # 65535 = 255 * 257, so v / 257 is the exact scale; + 128 rounds to nearest (257 is odd, there are no ties).
    return by_strips(lambda part: (part.astype(np.uint32) + 128) // 257, np.empty(samples.shape, np.uint8), samples)


def from_channels(samples: np.ndarray, icc_profile: bytes | None = None) -> DecodedImage:
    """Make a DecodedImage of samples laid out as in a file.

    Args:
        samples: (H, W), (H, W, 1) gray; (H, W, 2) gray and alpha; (H, W, 3) RGB; (H, W, 4) RGBA. uint8, uint16, or
            float32 from 0 to 1.
        icc_profile: dropped where its colour space is not that of the pixels.

    Returns:
        The image without further metadata; ``pixels`` may share memory with ``samples``.

    Raises:
        UsageError: another shape or dtype.
    """
    if samples.dtype != np.float32 and (samples.dtype.kind != "u" or samples.dtype.itemsize > 2):
        raise UsageError(f"an array of {samples.dtype} is not an image; give uint8, uint16 or float32")
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.ndim != 3 or samples.shape[2] not in (1, 2, 3, 4) or 0 in samples.shape:
        raise UsageError(f"an array of shape {samples.shape} is not an image; give (H, W), or (H, W, 1 to 4)")
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    count = samples.shape[2]
    gray = count <= 2
    pixels = np.repeat(samples[..., :1], 3, axis=2) if gray else np.ascontiguousarray(samples[..., :3])
    alpha = np.ascontiguousarray(samples[..., -1]) if count in (2, 4) else None
    return DecodedImage(pixels, alpha, gray, fitting_profile(icc_profile, gray))


def from_linear(samples: np.ndarray, hdr: Hdr, icc_profile: bytes | None = None) -> DecodedImage:
    """Make a DecodedImage of linear light.

    Args:
        samples: as for :func:`from_channels`, of any floating-point type and any range; transparency from 0 to 1.
        hdr: what is known of the file; the range of the pixels is found here.
        icc_profile: dropped where its colour space is not that of the pixels.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    samples = samples.astype(np.float32, copy=False)
    count = samples.shape[2] if samples.ndim == 3 else 1
    values = from_channels(samples)
    colours = values.pixels[..., :1] if values.gray else values.pixels
    pixels, low, high = to_pixels(colours)
    alpha = values.alpha
    if alpha is not None:
        alpha = np.clip(np.nan_to_num(alpha), 0, 1)
    return replace(
        values,
        pixels=np.repeat(pixels, 3, axis=2) if count <= 2 else pixels,
        alpha=alpha,
        icc_profile=fitting_profile(icc_profile, values.gray),
        notes=(range_note(colours),),
        hdr=replace(hdr, low=low, high=high),
    )


def fitting_profile(icc_profile: bytes | None, gray: bool) -> bytes | None:
    """The profile if it describes such pixels, else None.

    A CMYK profile on RGB pixels (or an RGB one on gray) makes readers fail or show false colours.
    """
    if not icc_profile:
        return None
    return icc_profile if icc_profile[16:20] == (b"GRAY" if gray else b"RGB ") else None


def from_array(array: np.ndarray) -> DecodedImage:
    """Convert a NumPy array to a DecodedImage.

    Args:
        array: uint8, uint16 or float32 from 0 to 1; (H, W), (H, W, 1), (H, W, 2), (H, W, 3) or (H, W, 4); channels in
            the order RGBA.

    Returns:
        The image, without metadata; it may share memory with ``array``.

    Raises:
        UsageError: another shape or dtype.
    """
    return from_channels(np.asarray(array))


def to_array(image: DecodedImage, like: np.ndarray | None = None) -> np.ndarray:
    """Convert a DecodedImage to a NumPy array, the inverse of :func:`from_array`.

    Args:
        image: any.
        like: the array that the image came from: (H, W, 1) then comes back as (h, w, 1).

    Returns:
        The dtype of the image, (H, W), (H, W, 2), (H, W, 3) or (H, W, 4), or (H, W, 1) if ``like`` has that form.
    """
    samples = image.channels()
    if like is not None and like.ndim == 3 and samples.ndim == 2:
        return samples[..., None]
    return samples
