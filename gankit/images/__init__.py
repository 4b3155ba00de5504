"""Pixels in and out: formats, colour, alpha, 16 bit and metadata. Knows nothing of generators, and no torch."""

from gankit.images.alpha import bleed
from gankit.images.decode import MAX_PIXELS, SUFFIXES, decode
from gankit.images.decoded import DecodedImage, from_array, to_array
from gankit.images.encode import FORMATS, encode
from gankit.images.pillow import from_pil, to_pil

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "SUFFIXES",
    "DecodedImage",
    "bleed",
    "decode",
    "encode",
    "from_array",
    "from_pil",
    "to_array",
    "to_pil",
]
