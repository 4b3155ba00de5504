"""Convert Pillow images to decoded images and back: modes, colour spaces, metadata."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from gankit.errors import UsageError
from gankit.images.cmyk import note_of, to_srgb, usable_back
from gankit.images.decoded import DecodedImage, from_channels
from gankit.images.metadata import read_exif, upright
from gankit.images.xmp import read_xmp, xmp_orientation

# Modes whose array is what a DecodedImage wants, and the mode to convert the others to.
_AS_IT_IS = frozenset({"L", "LA", "RGB", "RGBA"})
_CONVERT = {"1": "L", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "PA": "RGBA", "YCbCr": "RGB", "HSV": "RGB"}


def from_pil(image: Image.Image) -> DecodedImage:
    """Convert a Pillow image to a DecodedImage, upright, with its metadata.

    Args:
        image: mode 1, L, LA, P, PA, RGB, RGBA, I;16 (any order), I within 0 to 65535, CMYK, YCbCr, LAB or HSV;
            the first frame of an animation. It is not changed.

    Returns:
        The image; ``to_pil`` gives it back.

    Raises:
        UsageError: pixels that are neither 8 nor 16 bits (mode F, or I outside of 16 bits).
    """
    stored = samples_of(image)
    orientation, fields = metadata_of(image)
    fields["notes"] = (*stored.notes, *fields["notes"])
    decoded = from_channels(upright(stored.samples, orientation), stored.icc_profile)
    return replace(decoded, cmyk_profile=stored.cmyk_profile, **fields)


def metadata_of(image: Image.Image) -> tuple[int, dict[str, Any]]:
    """Return the orientation of a Pillow image, and its metadata as fields of a :class:`DecodedImage`.

    The pixels need not be loaded. The colour profile is not among the fields.
    """
    packet = image.info.get("xmp")
    orientation, exif = read_exif(image.getexif(), xmp_orientation(packet))
    xmp, notes = read_xmp(packet)
    comment = image.info.get("comment")
    return orientation, {
        "exif": exif,
        "dpi": valid_dpi(image.info.get("dpi")),
        "format": image.format or "PNG",
        "xmp": xmp,
        "comment": comment if isinstance(comment, bytes) and comment else None,
        "notes": notes,
    }


def to_pil(image: DecodedImage) -> Image.Image:
    """Convert a DecodedImage to a Pillow image.

    Profile, EXIF, XMP, comment and resolution are in its ``info``, where ``save`` finds most of them.

    Args:
        image: any; Pillow has no 16-bit colour and no 16-bit alpha, so such images become 8 bit.

    Returns:
        Mode L, LA, RGB, RGBA or, for 16-bit gray without alpha, I;16.
    """
    if image.pixels.dtype == np.uint16 and (image.alpha is not None or not image.gray):
        image = image.to_8bit()
    pillow_image = Image.fromarray(image.channels())
    if image.icc_profile:
        pillow_image.info["icc_profile"] = image.icc_profile
    if image.exif:
        pillow_image.info["exif"] = image.exif
    if image.dpi:
        pillow_image.info["dpi"] = image.dpi
    if image.xmp:
        pillow_image.info["xmp"] = image.xmp
    if image.comment:
        pillow_image.info["comment"] = image.comment
    return pillow_image


def embedded(image: DecodedImage) -> dict[str, bytes]:
    """The profile, EXIF and XMP that an image has, as the options of Pillow's ``save``."""
    values = {"icc_profile": image.icc_profile, "exif": image.exif, "xmp": image.xmp}
    return {name: value for name, value in values.items() if value}


@dataclass(frozen=True)
class StoredSamples:
    """The pixels of an image as stored (EXIF orientation not applied), in gray or RGB.

    Attributes:
        samples: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4) uint8, or (H, W) uint16.
        icc_profile: the colour profile that holds for them: ``None`` where the colours were converted to sRGB.
        cmyk_profile: as in :class:`DecodedImage`.
        notes: a sentence for each thing that was lost.
    """

    samples: np.ndarray
    icc_profile: bytes | None = None
    cmyk_profile: bytes | None = None
    notes: tuple[str, ...] = ()


def samples_of(image: Image.Image) -> StoredSamples:
    """Return the pixels of an image, as for :func:`from_pil`.

    Raises:
        UsageError: pixels that are neither 8 nor 16 bits.
    """
    icc_profile = image.info.get("icc_profile")
    mode = image.mode
    if mode == "CMYK":
        convert, used = to_srgb(mode, icc_profile)
        own = icc_profile if used and usable_back(icc_profile) else None
        return StoredSamples(np.asarray(convert(image)), cmyk_profile=own, notes=(note_of(used, own is not None),))
    if mode == "LAB":
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        return StoredSamples(np.asarray(to_srgb(mode, lab)[0](image)))
    if mode.startswith("I;16"):
        return StoredSamples(np.asarray(image).astype(np.uint16), icc_profile)
    if mode == "I":
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > 65535:
            raise UsageError("32-bit integer pixels; give 8 or 16 bits")
        return StoredSamples(wide.astype(np.uint16), icc_profile)
    if mode == "F":
        raise UsageError("floating-point pixels have no fixed range; give 8 or 16 bits")
    if mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif "transparency" in image.info and mode in ("L", "RGB"):
        image = image.convert("LA" if mode == "L" else "RGBA")
    elif mode not in _AS_IT_IS:
        image = image.convert(_CONVERT.get(mode, "RGB"))
    return StoredSamples(np.asarray(image), icc_profile)


def valid_dpi(value: object) -> tuple[float, float] | None:
    """Two finite positive numbers as floats, or None for anything else that files and users put there."""
    try:
        x, y = (float(part) for part in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if all(math.isfinite(part) and part > 0 for part in (x, y)) else None
