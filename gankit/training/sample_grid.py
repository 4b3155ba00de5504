"""The sample grids of a run: what its generator makes, laid out and written every N steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gankit.errors import ImageError, OutputError
from gankit.images import encode, from_array
from gankit.images.grid import GridLayout


def tensor_grid(images: Tensor, columns: int, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    """Lay equal images out row by row, with a white gap between them.

    Args:
        images: (N, C, H, W) with 1 or 3 channels; values beyond the range are clipped.
        columns: images in a row.
        low: black.
        high: white.

    Returns:
        (rows·(H + 2) - 2, columns·(W + 2) - 2, 3) uint8.

    Raises:
        ValueError: there are no images, or they have neither 1 nor 3 channels.
    """
    count, channels, height, width = images.shape
    if not count or channels not in (1, 3):
        raise ValueError(f"images of {tuple(images.shape)} make no sample grid")
    scaled = (images.detach().float().cpu() - low) / (high - low)
    levels = (scaled.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    layout = GridLayout.of_equal(count, (height, width), columns)
    pixels = layout.blank(3)
    for index, image in enumerate(levels):
        layout.paste(pixels, index, image)
    return pixels


def write_sample_grid(folder: Path, step: int, pixels: np.ndarray) -> Path:
    """Write (H, W, 3) uint8 as ``grids/step_0000500.png`` below the folder of a run.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / "grids" / f"step_{step:07d}.png"
    try:
        path.parent.mkdir(exist_ok=True)
        encode(from_array(pixels), path)
    except ImageError as error:
        raise OutputError(str(error)) from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path
