"""What a user may want of an image's metadata before it is written: none of it, or a word on how it was made."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from gankit.images.decoded import DecodedImage
from gankit.images.xmp import with_source_type


def strip_metadata(image: DecodedImage) -> DecodedImage:
    """Remove all that says who, where, when and with what: EXIF, XMP, IPTC, comment and PNG text.

    The colour profile, a PNG's colour chunks and the resolution stay: without them the image looks or prints
    differently.

    Args:
        image: any.

    Returns:
        The image without them; its pixels are the same array.
    """
    return replace(image, exif=None, xmp=None, iptc=None, comment=None, png_text=())


def mark_ai(image: DecodedImage, kind: Literal["edited", "generated"] = "edited") -> DecodedImage:
    """State in the XMP packet that a trained model made the image, as IPTC and search engines ask for.

    Sets ``Iptc4xmpExt:DigitalSourceType``, the property that IPTC's Photo Metadata Standard 2025.1 defines for it, and
    replaces an earlier value.

    Args:
        image: any. PNG, JPEG, WebP and TIFF hold the statement.
        kind: "edited" for an image that a model has changed (compositeWithTrainedAlgorithmicMedia), "generated" for
            one that it made from noise (trainedAlgorithmicMedia).

    Returns:
        The image with the statement.
    """
    source_type = {"edited": "compositeWithTrainedAlgorithmicMedia", "generated": "trainedAlgorithmicMedia"}[kind]
    return replace(image, xmp=with_source_type(image.xmp, source_type))
