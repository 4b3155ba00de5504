"""The comparison of a result that is made by strips: the same as of a whole one. Imports no torch.

The whole result is shown by what is kept of its strips while they are written. Which part of it has the most detail is
known at the end only, and the strips of that part run a second time.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace

import numpy as np

from gankit.images import DecodedImage
from gankit.images.comparison import Overview, before_and_after, plain, source_part
from gankit.images.resize import resize_strips, rows_behind
from gankit.images.row_image import RowImage
from gankit.models.facts import Facts
from gankit.pipeline.processor import Processor
from gankit.pipeline.resize import OutputSize
from gankit.pipeline.strips import Looked, parted, read_strips, run_strips, strips_of_rows
from gankit.pipeline.tiles import Plan

_PLAIN_BYTES = 16  # of a pixel of a strip while it is brought to 8 bits and to means
_ROWS = 256


class StripComparison:
    """Watches the strips of a result, and makes its comparison.

    Args:
        size: the size of the results.
        out: width and height of the result in pixels.
    """

    def __init__(self, size: OutputSize, out: tuple[int, int]) -> None:
        self._size, self._out = size, out
        self._after = Overview(out)

    @property
    def bytes(self) -> int:
        """Estimate of the memory that it takes."""
        return _PLAIN_BYTES * _ROWS * self._out[0]

    def watch(self, strips: Generator[DecodedImage, None, None]) -> Generator[DecodedImage, None, None]:
        """Yield the strips of the result, and keep a little of each."""
        with closing(strips):
            for strip in strips:
                for top in range(0, len(strip.pixels), _ROWS):
                    self._after.add(plain(_rows(strip, top, top + _ROWS)).pixels)
                yield strip

    def made(self, processor: Processor, image: RowImage, looked: Looked, cut: Plan) -> np.ndarray:
        """Return the comparison, (H, W, 3) uint8, once all strips were watched.

        Args:
            processor: the processor that ran the strips.
            image: the source.
            looked: what was found of it.
            cut: the plan of the strips.
        """
        box, part = self._size.box((image.width, image.height)), self._after.detail()
        before = Overview((image.width, image.height), self._after.shown, box)
        with closing(_plain_strips(image)) as strips:
            for strip in strips:
                before.add(strip.pixels)
        there, wanted = source_part(part, self._out, box), (part[2] - part[0], part[3] - part[1])
        with closing(_plain_strips(image)) as strips:
            made = resize_strips(strips, (image.width, image.height), wanted, there, "bicubic")
            before_part = np.concatenate([strip.pixels for strip in made])
        after_part = self._again(processor, image, looked, cut, part[1], part[3])[:, part[0] : part[2]]
        images = before.image("bicubic"), self._after.image("lanczos"), before_part, after_part
        return before_and_after(*images, processor.facts.name)

    def _again(
        self, processor: Processor, image: RowImage, looked: Looked, cut: Plan, top: int, bottom: int
    ) -> np.ndarray:
        """Return some rows of the result, (n, W, 3) uint8."""
        scale, source = processor.facts.scale, (image.width, image.height)
        first, last, begin = self._behind(source, processor.facts, top, bottom)
        again = strips_of_rows(cut, first // scale, -(-last // scale))
        start = again.boxes[0].down.keep * scale
        kept: list[np.ndarray] = []
        arriving = read_strips(image, looked, again)
        with closing(run_strips(processor, image, looked, again, arriving)) as strips:
            if self._size.given:
                strips = self._size.resized_strips(strips, source, scale, begin=start, rows=(top, bottom))
            else:
                begin = start
            for strip in strips:
                rows = _rows(strip, max(0, top - begin), max(0, bottom - begin))
                kept.append(plain(rows).pixels.copy())
                begin += len(strip.pixels)
        return np.concatenate(kept)

    def _behind(self, source: tuple[int, int], facts: Facts, top: int, bottom: int) -> tuple[int, int, int]:
        """Return which rows of the model's result some rows of the result need, and where its strips begin."""
        if not self._size.given:
            return top, bottom, top
        scale = facts.scale
        large = source[0] * scale, source[1] * scale
        return rows_behind(large, self._out, self._size.part(source, scale), "lanczos", (top, bottom))


def _rows(image: DecodedImage, top: int, bottom: int) -> DecodedImage:
    alpha = None if image.alpha is None else image.alpha[top:bottom]
    return replace(image, pixels=image.pixels[top:bottom], alpha=alpha)


def _plain_strips(image: RowImage) -> Generator[DecodedImage, None, None]:
    """Yield the strips of a source in 8 bits, on white."""
    with closing(image.read()) as chunks:
        for rows in chunks:
            pixels, alpha = parted(rows, image.head)
            yield plain(replace(image.head, pixels=pixels, alpha=alpha))
