"""Pixels in and out: formats, colour, alpha, 16 bit and metadata. Knows nothing of generators, and no torch."""

from gankit.images.alpha import bleed
from gankit.images.annotate import mark_ai, strip_metadata
from gankit.images.decode import MAX_PIXELS, decode
from gankit.images.decoded import DecodedImage, from_array, to_array
from gankit.images.encode import check_target, encode
from gankit.images.formats import FORMATS, RESULT_SUFFIXES, SUFFIXES, writer_of
from gankit.images.luma import luma
from gankit.images.pillow import from_pil, to_pil
from gankit.images.unread import UNREAD

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "RESULT_SUFFIXES",
    "SUFFIXES",
    "UNREAD",
    "DecodedImage",
    "bleed",
    "check_target",
    "decode",
    "encode",
    "from_array",
    "from_pil",
    "luma",
    "mark_ai",
    "strip_metadata",
    "to_array",
    "to_pil",
    "writer_of",
]
