"""Make the image at the top of the README: ``python -m bench.make_readme_image``, after the README's first command.

Each row shows a part of one example: the input enlarged by repeating pixels, Pillow's bicubic interpolation, and the
file that ``gankit upscale examples/ --output upscaled/`` wrote, one pixel to one pixel.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from bench.common import ROOT
from gankit.evaluation import Panel, bicubic, side_by_side
from gankit.evaluation.comparison import Box
from gankit.images import decode

SCALE = 4
CROPS: dict[str, Box] = {
    "cat.png": (130, 60, 280, 280),
    "coffee.jpg": (400, 200, 280, 280),
    "astronaut_alpha.png": (100, 100, 280, 280),
}


def rgb(path: Path) -> np.ndarray:
    """An image as (H, W, 3) uint8, over white where it is transparent."""
    image = decode(path).to_8bit()
    if image.alpha is None:
        return image.pixels
    share = image.alpha[..., None] / 255.0
    return (image.pixels * share + 255 * (1 - share)).round().astype(np.uint8)


def make(upscaled: Path, target: Path) -> None:
    """Write the image.

    Args:
        upscaled: the folder that the README's first command has written.
        target: the file to write.
    """
    strips = []
    for name, crop in CROPS.items():
        small = rgb(ROOT / "examples" / name)
        panels = [
            Panel("input", small.repeat(SCALE, axis=0).repeat(SCALE, axis=1)),
            Panel("bicubic", bicubic(SCALE)(small)),
            Panel("gankit upscale", rgb(upscaled / name)),
        ]
        strips.append(side_by_side(panels, crop))
    sample_grid = Image.new("RGB", (max(row.width for row in strips), sum(row.height for row in strips)), "white")
    top = 0
    for row in strips:
        sample_grid.paste(row, (0, top))
        top += row.height
    target.parent.mkdir(parents=True, exist_ok=True)
    sample_grid.save(target, optimize=True)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "upscaled", ROOT / "docs" / "before_after.png")
