"""Transparency: colours under transparent pixels, flattening, and multiplied alpha."""

from __future__ import annotations

import numpy as np

from gankit.images.strips import by_strips


def bleed(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Spread the visible colours under the fully transparent pixels.

    What lies under alpha 0 is arbitrary, often black; a generator or a resampler mixes it into the border, which
    then shows as a dark fringe. Here every such pixel takes the alpha-weighted mean colour of the smallest block
    of 2, 4, 8, … pixels around it that holds anything visible (the pull and push of Gortler et al. 1996).
    Visible pixels stay exactly as they are.

    Args:
        pixels: (H, W, 3) uint8, uint16, or float32 from 0 to 1.
        alpha: (H, W), the same dtype.

    Returns:
        (H, W, 3), the same dtype; ``pixels`` itself where nothing, or everything, is transparent.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return pixels
    return _filled(pixels, hidden, _pull_push(*_weighted(pixels, alpha)))


class BleedByRows:
    """Does what :func:`bleed` does for an image whose rows come one strip after the other, and exactly the same.

    Blocks of up to 32 pixels lie within a strip. The image is read twice: the first time for the means of these blocks,
    from which those of larger ones are computed.
    """

    rows = 1 << 5
    """Each strip begins at a multiple of it, and has as many rows or a multiple of them; the last one may have less."""

    def __init__(self) -> None:
        self._levels = self.rows.bit_length() - 1
        self._blocks: list[tuple[np.ndarray, np.ndarray]] = []
        self._means: np.ndarray | None = None
        self._hidden = self._visible = False

    def add(self, pixels: np.ndarray, alpha: np.ndarray) -> None:
        """Take a strip for the first time; arrays as for :func:`bleed`."""
        hidden = alpha == 0
        self._hidden |= bool(hidden.any())
        self._visible |= not hidden.all()
        colour, weight = _weighted(pixels, alpha)
        for _ in range(self._levels):
            colour, weight = _halved(colour, weight)
        self._blocks.append((colour, weight))

    def complete(self) -> None:
        """Take note that all strips were added."""
        if self._hidden and self._visible:
            colours, weights = zip(*self._blocks, strict=True)
            self._means = _pull_push(np.concatenate(colours), np.concatenate(weights))
        self._blocks.clear()

    def bled(self, pixels: np.ndarray, alpha: np.ndarray, top: int) -> np.ndarray:
        """Return the rows of the result that begin at row ``top`` of the image; arrays as for :func:`bleed`."""
        hidden = alpha == 0
        if self._means is None or not hidden.any():
            return pixels
        first = top // self.rows
        means = self._means[first : first - (-len(alpha) // self.rows)]
        return _filled(pixels, hidden, _pull_push(*_weighted(pixels, alpha), means, self._levels))


def _weighted(pixels: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the colours multiplied by alpha, and alpha from 0 to 1, as float32."""
    weight = alpha.astype(np.float32) / (1 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max)
    return pixels.astype(np.float32) * weight[..., None], weight


def _filled(pixels: np.ndarray, hidden: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """Return a copy of the pixels, of which the hidden ones are filled."""
    out = pixels.copy()
    out[hidden] = filled[hidden] if pixels.dtype.kind == "f" else np.rint(filled[hidden]).astype(pixels.dtype)
    return out


def _pull_push(
    colour: np.ndarray, weight: np.ndarray, means: np.ndarray | None = None, levels: int | None = None
) -> np.ndarray:
    """Mean colour of each pixel, or of the smallest block around it with any weight.

    Args:
        colour: (H, W, 3) float32, multiplied by weight.
        weight: (H, W) float32, not all zero.
        means: the result for the blocks of a level, if it is known.
        levels: number of levels below it.

    Returns:
        (H, W, 3) float32.
    """
    if means is not None and levels == 0:
        return means
    empty = weight <= 0
    mean = colour / np.where(empty, 1, weight)[..., None]
    if not empty.any():
        return mean
    coarse = _pull_push(*_halved(colour, weight), means, None if levels is None else levels - 1)
    rows, columns = np.nonzero(empty)
    mean[rows, columns] = coarse[rows // 2, columns // 2]
    return mean


def _halved(colour: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum blocks of 2 × 2 pixels."""
    height, width = weight.shape
    pad = ((0, height % 2), (0, width % 2))
    colour, weight = np.pad(colour, (*pad, (0, 0))), np.pad(weight, pad)
    return (
        colour[::2, ::2] + colour[1::2, ::2] + colour[::2, 1::2] + colour[1::2, 1::2],
        weight[::2, ::2] + weight[1::2, ::2] + weight[::2, 1::2] + weight[1::2, 1::2],
    )


def flatten(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Composite the image on white, for formats that hold no transparency.

    Args:
        pixels: (H, W, 3) uint8 or uint16.
        alpha: (H, W), the same dtype.

    Returns:
        (H, W, 3), the same dtype, rounded to nearest.
    """
    top = int(np.iinfo(alpha.dtype).max)

    def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        part = alpha[..., None].astype(np.uint32)
        # At most 65535 * 65535 + 32767, which uint32 still holds.
        mixed: np.ndarray = (colour * part + (top - part) * top + top // 2) // top
        return mixed

    return by_strips(on_white, np.empty_like(pixels), pixels, alpha)


def unmultiply(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Straight colours of samples that are stored multiplied by their alpha ("associated").

    Args:
        colour: (H, W, C) uint8 or uint16, each at most alpha in a valid file.
        alpha: (H, W), the same dtype.

    Returns:
        (H, W, C), the same dtype; 0 where alpha is 0.
    """
    top = int(np.iinfo(alpha.dtype).max)
    part = alpha[..., None].astype(np.uint32)
    straight = (colour * np.uint32(top) + part // 2) // np.maximum(part, 1)
    return np.where(part == 0, 0, np.minimum(straight, top)).astype(colour.dtype)


def unmultiply_linear(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Straight colours of linear light that is stored multiplied by its alpha; 0 where alpha is 0 or less.

    Args:
        colour: (H, W, C) float32.
        alpha: (H, W) float32.
    """
    part = alpha[..., None]
    return np.where(part > 0, colour / np.where(part > 0, part, 1), 0).astype(np.float32)
