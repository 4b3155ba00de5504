"""The size of the results: a factor of the source's size, or a width and a height. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from gankit.errors import UsageError

if TYPE_CHECKING:
    from gankit.images import DecodedImage
    from gankit.images.resize import Box

Fit = Literal["inside", "cover", "exact"]
FITS: tuple[Fit, ...] = get_args(Fit)
_LARGEST_SCALE = 64


@dataclass(frozen=True)
class OutputSize:
    """The size of the results, which the result of the model is resized to with Pillow's Lanczos filter.

    Attributes:
        scale: side of a result divided by side of its source; the result has round(scale · width) × round(scale ·
            height) pixels.
        width: width of a result in pixels. Without a height, the image keeps its shape.
        height: height of a result in pixels. Without a width, the image keeps its shape.
        fit: how an image fits a width and a height: the largest that is ``"inside"`` them; one that is just large
            enough to ``"cover"`` them, with what hangs over cut off on both sides; or stretched to these
            (``"exact"``). ``None`` is ``"inside"``.

    Raises:
        UsageError: If a number is out of range or the arguments contradict each other.
    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    fit: Fit | None = None

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")
        if self.scale is not None:
            if not 0 < self.scale <= _LARGEST_SCALE:
                raise UsageError(f"scale must be above 0 and at most {_LARGEST_SCALE}, not {self.scale:g}")
            if self.width is not None or self.height is not None:
                raise UsageError("scale and width or height are both given; use one or the other")
        if self.fit is not None:
            if self.fit not in FITS:
                raise UsageError(f"unknown fit '{self.fit}'; choose from {', '.join(FITS)}")
            if self.width is None or self.height is None:
                raise UsageError("fit needs both a width and a height")

    @property
    def given(self) -> bool:
        """Whether results get another size than that of the model."""
        return self.scale is not None or self.width is not None or self.height is not None

    def mark(self, model_scale: int) -> str:
        """Return the text that is added to the name of a source if there is no output folder."""
        if self.width is not None or self.height is not None:
            return f"_{self.width or ''}x{self.height or ''}"
        return f"_x{model_scale if self.scale is None else self.scale:g}"

    def of_result(self) -> dict[str, float | int | str]:
        """Return the values that are set, as a journal records them."""
        found = {"scale": self.scale, "width": self.width, "height": self.height, "fit": self.fit}
        return {name: value for name, value in found.items() if value is not None}

    def of(self, source: tuple[int, int], model_scale: int) -> tuple[int, int]:
        """Return the width and height of a result.

        Args:
            source: width and height of the source in pixels.
            model_scale: scale of the model, which the result has if no size is given.
        """
        return self._plan(source, model_scale)[0]

    def box(self, source: tuple[int, int]) -> Box:
        """Return the part of a source that its result shows: left, top, right and bottom in pixels of the source."""
        return self._plan(source, 1)[1]

    def resized(self, image: DecodedImage, model_scale: int) -> DecodedImage:
        """Resize the result of the model.

        Args:
            image: the result of the model.
            model_scale: its scale.

        Returns:
            The image in its final size. If that is larger than the result of the model, its notes say so.
        """
        if not self.given:
            return image
        from gankit.images.resize import resize

        height, width = image.pixels.shape[:2]
        source = width // model_scale, height // model_scale
        size, part = self.of(source, model_scale), self.part(source, model_scale)
        result = resize(image, size, part)
        return replace(result, notes=(*result.notes, *self.notes(source, model_scale)))

    def resized_strips(
        self,
        strips: Generator[DecodedImage, None, None],
        source: tuple[int, int],
        model_scale: int,
        *,
        begin: int = 0,
        rows: tuple[int, int] | None = None,
    ) -> Generator[DecodedImage, None, None]:
        """Resize the result of the model while its strips arrive; the pixels are those of :meth:`resized`.

        Args:
            strips: the strips of the result of the model, from the top.
            source: width and height of the source in pixels.
            model_scale: scale of the model.
            begin: see :func:`gankit.images.resize.resize_strips`.
            rows: see there.
        """
        if not self.given:
            return strips
        from gankit.images.resize import resize_strips

        size, part = self.of(source, model_scale), self.part(source, model_scale)
        whole = source[0] * model_scale, source[1] * model_scale
        return resize_strips(strips, whole, size, part, begin=begin, rows=rows)

    def window_bytes(self, source: tuple[int, int], model_scale: int, pixel_bytes: int) -> int:
        """Estimate the memory that :meth:`resized_strips` takes; arguments as there, and the bytes of a pixel."""
        if not self.given:
            return 0
        from gankit.images.resize import window_bytes

        size, part = self.of(source, model_scale), self.part(source, model_scale)
        return window_bytes((source[0] * model_scale, source[1] * model_scale), size, part, "lanczos", pixel_bytes)

    def notes(self, source: tuple[int, int], model_scale: int) -> tuple[str, ...]:
        """Return a sentence for a result that is larger than that of the model.

        Args:
            source: width and height of the source in pixels.
            model_scale: scale of the model.
        """
        if not self.given:
            return ()
        width, height = self.of(source, model_scale)
        left, top, right, bottom = self.part(source, model_scale)
        if width <= math.ceil(right - left) and height <= math.ceil(bottom - top):
            return ()
        return (f"{width}×{height} is more than the model's ×{model_scale}; the rest is interpolated",)

    def part(self, source: tuple[int, int], model_scale: int) -> Box:
        """Return the part of the model's result that a result shows."""
        left, top, right, bottom = self.box(source)
        return left * model_scale, top * model_scale, right * model_scale, bottom * model_scale

    def _plan(self, source: tuple[int, int], model_scale: int) -> tuple[tuple[int, int], Box]:
        """Return the size of a result, and the part of its source that it shows."""
        width, height = source
        whole = (0.0, 0.0, float(width), float(height))
        if self.width is None and self.height is None:
            factor = model_scale if self.scale is None else self.scale
            return (max(1, round(factor * width)), max(1, round(factor * height))), whole
        if self.width is not None and self.height is not None and self.fit == "exact":
            return (self.width, self.height), whole
        factors = [wanted / have for wanted, have in ((self.width, width), (self.height, height)) if wanted is not None]
        if self.width is not None and self.height is not None and self.fit == "cover":
            shown = self.width / max(factors), self.height / max(factors)
            left, top = (width - shown[0]) / 2, (height - shown[1]) / 2
            return (self.width, self.height), (left, top, left + shown[0], top + shown[1])
        factor = min(factors)
        return (max(1, round(factor * width)), max(1, round(factor * height))), whole
