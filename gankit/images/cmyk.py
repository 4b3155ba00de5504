"""CMYK to sRGB, which networks are trained on, and back, through the profile of the file.

Without a profile nobody knows which colours the inks have. Such an image is shown by Pillow's plain formula, and its
result stays RGB, because no formula would give back the inks of its source.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

NOTE = "CMYK is processed as sRGB, and colours outside of that are clipped"
ONE_WAY_NOTE = "the profile of its CMYK converts in one direction only, and its result is RGB"
PLAIN_NOTE = "CMYK without a usable colour profile is converted by a plain formula, and its result is RGB"
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_ROWS = 256  # lcms computes each pixel by itself


def to_srgb(mode: str, icc_profile: bytes | None) -> tuple[Callable[[Image.Image], Image.Image], bool]:
    """Return what converts images to sRGB through their profile; without a usable one, by Pillow's plain formula.

    Args:
        mode: of the images, CMYK or LAB.
        icc_profile: their colour profile.

    Returns:
        A function that returns an image in mode RGB, and whether it uses the profile.
    """
    if icc_profile:
        try:
            transform = ImageCms.buildTransform(
                ImageCms.ImageCmsProfile(io.BytesIO(icc_profile)),
                ImageCms.createProfile("sRGB"),
                mode,
                "RGB",
                renderingIntent=_INTENT,
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a damaged profile, or one of another colour space
        else:
            return lambda image: transform.apply(image), True
    return lambda image: image.convert("RGB"), False


def usable_back(icc_profile: bytes | None) -> bool:
    """Whether a CMYK profile converts to CMYK, too: one of a scanner need not."""
    if not icc_profile or icc_profile[16:20] != b"CMYK":
        return False
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        return ImageCms.isIntentSupported(profile, _INTENT, ImageCms.Direction.OUTPUT) == 1
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False


def note_of(used: bool, back: bool) -> str:
    """Return the sentence that says what becomes of an image.

    Args:
        used: whether its profile was used.
        back: whether the profile converts back.
    """
    return PLAIN_NOTE if not used else NOTE if back else ONE_WAY_NOTE


def to_inks(pixels: np.ndarray, icc_profile: bytes) -> np.ndarray:
    """Convert sRGB to CMYK through a profile.

    Args:
        pixels: (H, W, 3) uint8.
        icc_profile: one that :func:`usable_back` accepts.

    Returns:
        (H, W, 4) uint8: cyan, magenta, yellow and black, of which 255 is full ink.

    Raises:
        ValueError: the profile cannot be used.
    """
    inks = np.empty((*pixels.shape[:2], 4), np.uint8)
    try:
        transform = ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"),
            ImageCms.ImageCmsProfile(io.BytesIO(icc_profile)),
            "RGB",
            "CMYK",
            renderingIntent=_INTENT,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        for top in range(0, len(pixels), _ROWS):
            part = Image.fromarray(pixels[top : top + _ROWS])
            inks[top : top + _ROWS] = np.asarray(transform.apply(part))
    except (ImageCms.PyCMSError, OSError) as error:
        raise ValueError(f"its CMYK profile cannot be used: {error}") from error
    return inks
