"""How an image is cut into parts that streams run at the same time, one on each core.

A part is a rectangle that is computed by itself, with the rows and columns around it that its pixels depend on. A part
that begins or ends inside the image costs half of these rows more: layer by layer fewer of them are needed, and a
stream computes no others. Columns are all computed by every layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SHARED = 1.06
"""Time of one image whose layers are shared by all cores, relative to the arithmetic: each layer ends in a barrier."""

_LEAST_ROWS = 16


@dataclass(frozen=True)
class Span:
    """Rows or columns of a part, in input pixels. It reads [start, end) and keeps [keep, stop)."""

    start: int
    keep: int
    stop: int
    end: int

    @property
    def width(self) -> int:
        """What it reads."""
        return self.end - self.start


@dataclass(frozen=True)
class Part:
    """Rows and columns of one part."""

    down: Span
    across: Span


@dataclass(frozen=True)
class Cutting:
    """How the images of one network are cut.

    Attributes:
        halo: pixels on each side that the network looks at; ``None`` for images that must not be cut.
        multiple: cuts lie at its multiples.
        streams: how many run at the same time.
        pixel_bytes: memory of one pixel in a layer.
        strip_bytes: memory of a strip in a layer, which its rows share.
    """

    halo: int | None
    multiple: int
    streams: int
    pixel_bytes: int
    strip_bytes: int

    def parts(self, height: int, width: int, images: int = 1) -> list[Part] | None:
        """Return the parts of each of some images of one size.

        Args:
            height: of an image.
            width: of an image.
            images: how many there are.

        Returns:
            The parts, top to bottom; ``None`` if the cores should rather share the layers of each whole image.
        """
        found: tuple[float, tuple[int, int]] | None = None
        for columns in range(1, self._most(width) + 1):
            for rows in range(1, min(self._most(height), 2 * self.streams) + 1):
                cost = self._cost(height, width, rows, columns, images)
                if found is None or cost < found[0]:
                    found = cost, (rows, columns)
        assert found is not None
        cost, (rows, columns) = found
        if self.streams > 1 and cost > self._shared_cost(height, width, images):
            return None
        halo = self.halo or 0
        return [
            Part(down, across)
            for down in spans(height, rows, halo, self.multiple)
            for across in spans(width, columns, halo, self.multiple)
        ]

    def _most(self, length: int) -> int:
        """Into how many pieces a side may be cut: each is longer than what it looks at."""
        return 1 if self.halo is None else max(1, length // max(2 * self.halo, self.multiple, 1))

    def _cost(self, height: int, width: int, rows: int, columns: int, images: int) -> float:
        """Time of the slowest stream."""
        halo = self.halo or 0
        tall = height / rows + halo * (rows > 1) / (1 if rows > 2 else 2)
        wide = width / columns + halo * min(2, columns - 1)
        turns = math.ceil(rows * columns * images / self.streams)
        return turns * tall * wide * self._strip_cost(wide, self.strip_bytes)

    def _shared_cost(self, height: int, width: int, images: int) -> float:
        together = self._strip_cost(width, self.strip_bytes * self.streams)
        return images * height * width / self.streams * SHARED * together

    def _strip_cost(self, width: float, strip_bytes: int) -> float:
        """Time relative to the arithmetic: blocks compute two rows of a strip again, and the cache holds so much."""
        rows = max(_LEAST_ROWS, strip_bytes // (self.pixel_bytes * width))
        beyond = rows * self.pixel_bytes * width / strip_bytes
        return 1 + 1.5 / rows + 0.05 * math.log2(max(1.0, beyond))


def spans(length: int, count: int, halo: int, multiple: int) -> list[Span]:
    """Cut a side into so many equal spans.

    Args:
        length: of the side.
        count: how many, at most ``length / multiple``.
        halo: what each reads on either side beyond what it keeps, as far as the image goes.
        multiple: spans start, and are cut, at its multiples.
    """
    halo = -(-halo // multiple) * multiple
    cuts = [length * index // count // multiple * multiple for index in range(count)]
    edges = zip(cuts, [*cuts[1:], length], strict=True)
    return [Span(max(0, keep - halo), keep, stop, min(length, stop + halo)) for keep, stop in edges if stop > keep]
