"""Frames of FFmpeg to RGB arrays and back, by the colour tags of the clip.

A clip holds luma and two differences of colours, and tags say how they were made of RGB: the matrix and the range.
The two other tags, primaries and transfer, say what the RGB values mean. They go through unchanged, so that PQ and HLG
stay what they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gankit.errors import ImageError
from gankit.video.library import library

UNSPECIFIED = 2  # for primaries, transfer and matrix, as in ITU-T H.273
RGB = 0
BT709 = 1
BT601 = 6
LIMITED, FULL = 1, 2  # as in AVColorRange
_SD_HEIGHT = 576  # players take larger clips without a tag for BT.709
# From the matrices of H.273 to those of swscale.
_MATRICES = {BT709: 1, 4: 4, 5: 5, BT601: 5, 7: 7, 9: 9, 10: 9}


@dataclass(frozen=True)
class Colours:
    """The colour tags of a clip, numbered as in ITU-T H.273 (the range as in FFmpeg: 1 limited, 2 full)."""

    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    matrix: int = UNSPECIFIED
    range: int = 0

    @classmethod
    def of(cls, frame: Any) -> Colours:
        """Return the tags of a decoded frame. Formats such as ``yuvj420p`` have the full range."""
        full = frame.format.name.startswith("yuvj")
        return cls(
            int(frame.color_primaries), int(frame.color_trc), int(frame.colorspace), FULL if full else frame.color_range
        )

    @property
    def full(self) -> bool:
        """Whether the values use the full range."""
        return self.range == FULL

    def stated(self, width: int, height: int, *, rgb: bool) -> Colours:
        """Return the tags with the matrix and the range by which the clip is converted.

        Players guess a missing matrix by the size, which a result does not share with its source. The result therefore
        states the matrix: BT.601 for sources of standard definition, and BT.709 for larger ones and for RGB.

        Args:
            width: width of the source in pixels.
            height: its height.
            rgb: whether the source holds RGB.
        """
        matrix = self.matrix
        if rgb or matrix == RGB:
            matrix = BT709
        elif matrix == UNSPECIFIED:
            matrix = BT601 if height <= _SD_HEIGHT and width < 1280 else BT709
        return Colours(self.primaries, self.transfer, matrix, LIMITED if rgb or not self.full else FULL)


class Converter:
    """Converts the frames of one clip to RGB and those of its result from RGB. Each thread needs one of its own.

    Args:
        colours: the tags, as :meth:`Colours.stated` returns them.

    Raises:
        ImageError: If the matrix is one that FFmpeg cannot convert, such as ICtCp.
    """

    def __init__(self, colours: Colours, path: Any) -> None:
        if colours.matrix not in _MATRICES:
            raise ImageError(path, f"its colours (matrix {colours.matrix} of H.273) cannot be converted to RGB")
        reformatter = library().video.reformatter
        self._colours, self._matrix = colours, _MATRICES[colours.matrix]
        self._reformatter = reformatter.VideoReformatter()
        kinds = reformatter.Interpolation
        self._method = kinds.BICUBIC | kinds.ACCURATE_RND | kinds.FULL_CHR_H_INT | kinds.FULL_CHR_H_INP | kinds.BITEXACT

    def to_rgb(self, frame: Any) -> np.ndarray:
        """Return the pixels of a frame: (H, W, 3) uint8, or uint16 if the frame has more than 8 bits."""
        deep = depth_of(frame.format) > 8
        rgb = frame.format.is_rgb
        made = self._reformatter.reformat(
            frame,
            format="rgb48le" if deep else "rgb24",
            src_colorspace=None if rgb else self._matrix,
            src_color_range=None if rgb else self._colours.range,
            interpolation=self._method,
            threads=1,
        )
        return np.ascontiguousarray(made.to_ndarray())

    def from_rgb(self, pixels: np.ndarray, pixel_format: str) -> Any:
        """Return a frame of a pixel format.

        Args:
            pixels: (H, W, 3) uint8 or uint16.
            pixel_format: FFmpeg's name of the format.
        """
        av = library()
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24" if pixels.dtype == np.uint8 else "rgb48le")
        if av.VideoFormat(pixel_format).is_rgb:
            return self._reformatter.reformat(frame, format=pixel_format, interpolation=self._method, threads=1)
        made = self._reformatter.reformat(
            frame,
            format=pixel_format,
            dst_colorspace=self._matrix,
            dst_color_range=self._colours.range,
            interpolation=self._method,
            threads=1,
        )
        made.color_primaries, made.color_trc = self._colours.primaries, self._colours.transfer
        return made


def depth_of(pixel_format: Any) -> int:
    """Return the bits of a sample in a pixel format."""
    return max(int(component.bits) for component in pixel_format.components)


def has_alpha(pixel_format: Any) -> bool:
    """Whether a pixel format holds transparency."""
    return any(component.is_alpha for component in pixel_format.components)


@dataclass(frozen=True)
class Layout:
    """What a pixel format can hold: ``colours`` is "rgb", "gray", "444", "440", "422", "420", "411" or "410"."""

    colours: str
    depth: int

    @classmethod
    def of(cls, pixel_format: Any) -> Layout:
        """Return the layout of a format of PyAV."""
        kinds = [component for component in pixel_format.components if not component.is_alpha]
        depth = max(component.bits for component in kinds)
        if pixel_format.is_rgb or pixel_format.has_palette:
            return cls("rgb", depth)
        if len(kinds) < 3:
            return cls("gray", depth)
        across, down = 64 // pixel_format.chroma_width(64), 64 // pixel_format.chroma_height(64)
        names = {(1, 1): "444", (1, 2): "440", (2, 1): "422", (2, 2): "420", (4, 1): "411", (4, 4): "410"}
        return cls(names.get((across, down), "444"), depth)


# What each layout loses least in, best first.
_NEAREST = {
    "rgb": ("rgb", "444", "422", "420"),
    "gray": ("gray", "420", "422", "444"),
    "444": ("444", "rgb", "422", "420"),
    "440": ("440", "444", "422", "420"),
    "422": ("422", "444", "420"),
    "420": ("420", "422", "444"),
    "411": ("411", "422", "444", "420"),
    "410": ("420", "422", "444"),
}


def pixel_format_for(source: Any, encoder: Any, *, lossy: bool) -> str:
    """Choose the pixel format of an encoder that keeps the most of a source: depth first, then the colours.

    Args:
        source: pixel format of the source.
        encoder: codec of PyAV, for writing.
        lossy: whether RGB becomes luma and colour differences, because few players take RGB from a lossy encoder.
    """
    wanted = Layout.of(source)
    order = _NEAREST["444" if lossy and wanted.colours == "rgb" else wanted.colours]

    def loss(pixel_format: Any) -> tuple[int, int, int]:
        layout = Layout.of(pixel_format)
        colours = order.index(layout.colours) if layout.colours in order else len(order)
        return max(0, wanted.depth - layout.depth), colours, layout.depth

    formats = [each for each in encoder.video_formats or () if _plain(each)]
    return str(min(formats, key=loss).name) if formats else "yuv420p"


def _plain(pixel_format: Any) -> bool:
    """Whether a format holds whole numbers without transparency, and is no variant such as ``nv12`` or ``yuvj420p``."""
    name = str(pixel_format.name)
    plain = name.startswith(("yuv4", "gray", "gbrp", "rgb24", "rgb48", "bgr0", "rgb0"))
    return plain and not any(part in name for part in ("yuv440", "f16", "f32")) and not name.endswith("be")
