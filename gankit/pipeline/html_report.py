"""The report of a run as one HTML page: what was done, before and after, and what failed. Imports no torch."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from gankit.errors import ImageError
from gankit.pipeline.output import write_whole
from gankit.pipeline.report import ImageReport, Report

if TYPE_CHECKING:
    import numpy as np

MOST_SHOWN = 100
MOST_PIXELS = 60_000_000
_QUALITY = 88
_OTHER = 0.02  # more than a side that was rounded changes the ratio of the sides


@dataclass(frozen=True)
class Shown:
    """One image of the page.

    Attributes:
        item: its report.
        before: the part of the source with the most detail, enlarged by bicubic interpolation to the size of the
            result, as a ``data:`` address; empty if it cannot be shown.
        after: the same part of the result, one pixel to one pixel.
        width: width of the part in pixels.
        height: height of the part in pixels.
        why: why nothing is shown; empty if something is.
    """

    item: ImageReport
    before: str = ""
    after: str = ""
    width: int = 0
    height: int = 0
    why: str = ""


def write_html(report: Report, path: str | Path) -> None:
    """Write a report as one page that needs no other file and no network.

    The first 100 images that are done, or were done before, are shown with a slider between the source and the result.
    Images of more than 60 megapixels and clips are listed only. The file appears complete or not at all.

    Args:
        report: the report of a run. Its images are read again from their files.
        path: the file.

    Raises:
        OutputError: If the file cannot be written.
    """
    from jinja2 import Environment, StrictUndefined

    template = (files("gankit.pipeline") / "report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["name"] = _name
    page = environment.from_string(template).render(
        report=report, totals=report.totals, shown=list(_shown(report)), most=MOST_SHOWN, infinity=math.inf
    )
    write_whole(Path(path), page)


def is_html(path: str | Path) -> bool:
    """Whether a report of this name is a page."""
    return Path(path).suffix.lower() in (".html", ".htm")


def _name(value: object) -> str:
    """Text with each byte of a file name that is no UTF-8 as a question mark, which a page can hold."""
    return str(value).encode("utf-8", "replace").decode()


def _shown(report: Report) -> Iterator[Shown]:
    left = MOST_SHOWN
    for item in report.images:
        if item.status not in ("done", "skipped"):
            continue
        if not left:
            return
        left -= 1
        yield _pair(item)


def _pair(item: ImageReport) -> Shown:
    """Read an image and its result again, and cut out the part that the page shows."""
    from gankit.images import decode
    from gankit.images.comparison import detail

    if item.video is not None:
        return Shown(item, why="a clip")
    try:
        result = decode(item.target, max_pixels=MOST_PIXELS)
        source = decode(item.source, max_pixels=MOST_PIXELS)
    except ImageError as error:
        return Shown(item, why=str(error))
    (tall, wide), (height, width) = source.pixels.shape[:2], result.pixels.shape[:2]
    if abs(wide * height - tall * width) > _OTHER * tall * width + max(height, width):
        return Shown(item, why="the result shows a part of the source")
    before, after = detail(source, result)
    height, width = after.shape[:2]
    return Shown(item, _address(before), _address(after), width, height)


def _address(pixels: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
