"""The options of a run over files, in one frozen dataclass. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from gankit.errors import UsageError
from gankit.images import MAX_PIXELS
from gankit.pipeline.resize import Fit, OutputSize

_LOSSY = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".webp"})


@dataclass(frozen=True)
class RunOptions:
    """The options of a run over files.

    Attributes:
        suffix: text to add to each file name, before the extension.
        format: file format of all results, such as ``"png"``; ``None`` keeps the format of each source.
        overwrite: whether to replace all existing results, including those that gankit did not make.
        quality: JPEG and WebP quality, 1 to 100.
        max_pixels: largest number of pixels of a source; larger images fail before they are decoded.
        strip_metadata: whether to leave out EXIF, XMP, IPTC, comments and PNG text. The colour profile is kept.
        mark_ai: whether to state in the XMP metadata that a trained model edited the image
            (``Iptc4xmpExt:DigitalSourceType``).
        keep_time: whether each result gets the modification time of its source.
        scale: side of a result divided by side of its source; see :class:`~gankit.pipeline.resize.OutputSize`. If
            neither this nor a width or height is set, results have the scale of the model.
        width: width of the results in pixels.
        height: height of the results in pixels.
        fit: how an image fits a width and a height: ``"inside"``, ``"cover"`` or ``"exact"``; ``None`` is
            ``"inside"``.
        compare: whether to write an image beside each result that shows it beside a bicubic enlargement.

    Raises:
        UsageError: If the quality, the number of pixels or the size is out of range, or the sizes contradict each
            other.
    """

    suffix: str = ""
    format: str | None = None
    overwrite: bool = False
    quality: int = 95
    max_pixels: int = MAX_PIXELS
    strip_metadata: bool = False
    mark_ai: bool = False
    keep_time: bool = False
    scale: float | None = None
    width: int | None = None
    height: int | None = None
    fit: Fit | None = None
    compare: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise UsageError(f"quality must be from 1 to 100, not {self.quality}")
        if self.max_pixels < 1:
            raise UsageError(f"max_pixels must be at least 1, not {self.max_pixels}")
        _ = self.size  # raises

    @property
    def size(self) -> OutputSize:
        """The size of the results."""
        return OutputSize(self.scale, self.width, self.height, self.fit)

    def of_result(self, target: Path) -> dict[str, Any]:
        """Return the options that determine the content of a result and are not at their defaults."""
        found: dict[str, Any] = {}
        if self.quality != RunOptions.quality and target.suffix.lower() in _LOSSY:
            found["quality"] = self.quality
        found |= {name: True for name in ("strip_metadata", "mark_ai") if getattr(self, name)}
        return found | self.size.of_result()


class RunKeywords(TypedDict, total=False):
    """The fields of :class:`RunOptions` as keyword arguments."""

    suffix: str
    format: str | None
    overwrite: bool
    quality: int
    max_pixels: int
    strip_metadata: bool
    mark_ai: bool
    keep_time: bool
    scale: float | None
    width: int | None
    height: int | None
    fit: Fit | None
    compare: bool
