"""The options of clips: codec, quality, preset and frame rate. Imports neither PyAV nor torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict

from gankit.errors import UsageError

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".vob", ".ts", ".mts", ".m2ts", ".wmv"}
    | {".asf", ".flv", ".3gp", ".3g2", ".ogv", ".mxf", ".y4m"}
)
"""Extensions of the files that are taken for clips, in lower case."""

WRITTEN = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm"})
"""Extensions of the containers that are written. A clip of another container becomes ``.mkv``, which holds all."""

_ALIASES: Mapping[str, str] = MappingProxyType(
    {"h264": "libx264", "h265": "libx265", "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9"}
)
_HIGHEST_FPS = 1000
_NTSC = (24, 30, 48, 60, 120)  # frames per 1.001 seconds


@dataclass(frozen=True)
class Codec:
    """What is known of an encoder beyond what FFmpeg says.

    Attributes:
        crf: default of ``--crf``; ``None`` if the encoder has no such option.
        preset: default of ``--preset``; ``None`` leaves it to the encoder.
        options: further options for FFmpeg.
        even: whether width and height must be even if the colours have half the resolution.
        lossless: whether the encoder keeps every value.
    """

    crf: float | None = None
    preset: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    even: bool = True
    lossless: bool = False


_UNKNOWN = Codec()
_CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        "libx264": Codec(17, "medium"),
        "libx265": Codec(19, "medium", {"x265-params": "log-level=none"}),
        "libsvtav1": Codec(22, "6"),
        "libvpx-vp9": Codec(20, None, {"b": "0", "row-mt": "1", "cpu-used": "2"}, even=False),
        "ffv1": Codec(options={"level": "3", "slicecrc": "1"}, even=False, lossless=True),
    }
)


@dataclass(frozen=True)
class VideoOptions:
    """The options of clips.

    Attributes:
        codec: FFmpeg's name of a video encoder, or ``"h264"``, ``"hevc"``, ``"av1"`` or ``"vp9"``; ``None`` is
            ``"libx264"``, and ``"libvpx-vp9"`` for ``.webm``, which cannot hold it.
        crf: quality at which the encoder aims, lower is better; ``None`` is 17 for ``"libx264"``, 19 for
            ``"libx265"``, 22 for ``"libsvtav1"`` and 20 for ``"libvpx-vp9"``.
        preset: speed of the encoder; ``None`` is ``"medium"`` for ``"libx264"`` and ``"libx265"``.
        fps: frames per second of the results; ``None`` keeps every frame at its time.
        segment: frames of a segment. A run that was interrupted continues after the last whole one.

    Raises:
        UsageError: If a number is out of range or a value has the wrong type.
    """

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    fps: float | str | None = None
    segment: int = 250

    def __post_init__(self) -> None:
        for name in ("codec", "preset"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise UsageError(f"{name} must be a name, not {value!r}")
        if self.crf is not None and (
            isinstance(self.crf, bool) or not isinstance(self.crf, int | float) or not 0 <= self.crf <= 63
        ):
            raise UsageError(f"crf must be a number from 0 to 63, not {self.crf!r}")
        if isinstance(self.segment, bool) or not isinstance(self.segment, int) or self.segment < 1:
            raise UsageError(f"segment must be a whole number of at least 1, not {self.segment!r}")
        _ = self.rate  # raises

    @property
    def rate(self) -> Fraction | None:
        """The frame rate as a fraction, such as 30000/1001 for ``"29.97"``; ``None`` keeps that of the source."""
        if self.fps is None:
            return None
        try:
            given = Fraction(str(self.fps))
        except (ValueError, ZeroDivisionError):
            raise UsageError(f"fps must be a number such as 25 or 30000/1001, not {self.fps!r}") from None
        if not 0 < given <= _HIGHEST_FPS:
            raise UsageError(f"fps must be above 0 and at most {_HIGHEST_FPS}, not {self.fps!r}")
        # The rates of NTSC are written rounded: 23.98 and 23.976 are both 24000/1001.
        nearest = round(given * Fraction(1001, 1000))
        ntsc = Fraction(nearest * 1000, 1001)
        rounded = given.denominator > 1 and nearest in _NTSC and abs(ntsc - given) < Fraction(6, 1000)
        return ntsc if rounded else given

    def encoder(self, target: Path) -> str:
        """Return FFmpeg's name of the encoder for a target."""
        default = "libvpx-vp9" if target.suffix.lower() == ".webm" else "libx264"
        name = self.codec or default
        return _ALIASES.get(name.lower(), name)

    def facts(self, target: Path) -> Codec:
        """Return what is known of the encoder."""
        return _CODECS.get(self.encoder(target), _UNKNOWN)

    def encoder_options(self, target: Path) -> dict[str, str]:
        """Return the options of the encoder, as FFmpeg takes them."""
        known = self.facts(target)
        crf = known.crf if self.crf is None else self.crf
        preset = known.preset if self.preset is None else self.preset
        found = dict(known.options)
        found |= {} if crf is None else {"crf": f"{crf:g}"}
        return found | ({} if preset is None else {"preset": preset})

    def of_result(self) -> dict[str, Any]:
        """Return the options that determine the content of a result and are not at their defaults."""
        found = {"codec": self.codec, "crf": self.crf, "preset": self.preset}
        found |= {"fps": None if self.rate is None else str(self.rate)}
        return {name: value for name, value in found.items() if value is not None}


class VideoKeywords(TypedDict, total=False):
    """The fields of :class:`VideoOptions` as keyword arguments."""

    codec: str | None
    crf: float | None
    preset: str | None
    fps: float | str | None
    segment: int
