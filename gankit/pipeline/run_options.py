"""The options of a run over files, in one frozen dataclass. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from gankit.errors import UsageError
from gankit.images import MAX_PIXELS
from gankit.pipeline.resize import Fit, OutputSize

_LARGEST_INDEX = 65535
_LOSSY = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".webp"})


@dataclass(frozen=True)
class RunOptions:
    """The options of a run over files.

    Attributes:
        suffix: text to add to each file name, before the extension.
        format: file format of all results, such as ``"png"``; ``None`` keeps the format of each source, except that
            GIF becomes PNG, and ``"same"`` keeps GIF too.
        overwrite: whether to replace all existing results, including those that gankit did not make.
        quality: JPEG and WebP quality, 1 to 100.
        max_pixels: largest number of pixels of a source; larger images fail before they are decoded.
        strip_metadata: whether to leave out EXIF, XMP, IPTC, comments and PNG text. The colour profile is kept.
        mark_ai: whether to state in the XMP metadata that a trained model edited the image
            (``Iptc4xmpExt:DigitalSourceType``).
        mask_from: lowest value of a source that is set, for a model that takes masks; ``None`` takes masks of two
            values only.
        keep_time: whether each result gets the modification time of its source.
        scale: side of a result divided by side of its source; see :class:`~gankit.pipeline.resize.OutputSize`. If
            neither this nor a width or height is set, results have the scale of the model.
        width: width of the results in pixels.
        height: height of the results in pixels.
        fit: how an image fits a width and a height: ``"inside"``, ``"cover"`` or ``"exact"``; ``None`` is
            ``"inside"``.
        compare: whether to write an image beside each result that shows it beside a bicubic enlargement.

    Raises:
        UsageError: If a number is out of range, a value has the wrong type, or the sizes contradict each other.
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
    mask_from: int | None = None

    def __post_init__(self) -> None:
        _whole("quality", self.quality, 1, 100)
        _whole("max_pixels", self.max_pixels, 1)
        if self.mask_from is not None:
            _whole("mask_from", self.mask_from, 1, _LARGEST_INDEX)
        for name in ("overwrite", "strip_metadata", "mark_ai", "keep_time", "compare"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name} must be True or False, not {getattr(self, name)!r}")
        for name in ("suffix", "format"):
            value = getattr(self, name)
            if not isinstance(value, str) and not (name == "format" and value is None):
                raise UsageError(f"{name} must be a text, not {value!r}")
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
        found |= {} if self.mask_from is None else {"mask_from": self.mask_from}
        found |= {name: True for name in ("strip_metadata", "mark_ai") if getattr(self, name)}
        return found | self.size.of_result()


def _whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        allowed = f"at least {least}" if most is None else f"from {least} to {most}"
        raise UsageError(f"{name} must be a whole number {allowed}, not {value!r}")


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
    mask_from: int | None
