"""The small version of an image, as the benchmarks of super-resolution make it. Nothing here imports torch."""

from __future__ import annotations

import numpy as np
from PIL import Image


def reduce(image: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """The image cropped to a multiple of ``scale``, and its antialiased bicubic reduction.

    Bicubic with a = -0.5 and a support that grows with the factor, the outermost pixels repeated beyond the border,
    rounded to 8 bit: as the LR images of Set5 and Set14 were made (equal to them to 53 dB and more; where Pillow
    ignores what is beyond the border, the outermost two pixels differ by up to 14).

    Args:
        image: (H, W, 3) uint8, at least ``scale`` wide and high.
        scale: reduction factor.

    Returns:
        HR (h·scale, w·scale, 3) and LR (h, w, 3), uint8.

    Raises:
        ValueError: the image is smaller than one LR pixel.
    """
    height, width = (side // scale for side in image.shape[:2])
    if not height or not width:
        raise ValueError(f"an image of {image.shape[:2]} cannot be reduced {scale} times")
    large = image[: height * scale, : width * scale]
    reach = 2 * scale  # the kernel's
    wide = np.pad(large, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    box = (reach, reach, reach + width * scale, reach + height * scale)
    small = Image.fromarray(wide).resize((width, height), Image.Resampling.BICUBIC, box=box)
    return large, np.asarray(small)
