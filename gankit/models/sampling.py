"""The latents of samples: each from a random stream of its own, so that seed and index alone decide it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SMALLEST_TRUNCATION = 0.01  # below it nearly all draws are thrown away, and all images are the same


def latent(seed: int, index: int, size: int, truncation: float | None = None) -> np.ndarray:
    """One latent: standard normal, whatever else is sampled with it, on any machine.

    Philox is a counter-based generator with a key of 128 bits: seed and index are the key, and no two pairs share a
    stream. (PyTorch's generator on a CPU takes 32 bits of a seed, so that some of 50 000 samples would be twins, and
    its normal numbers differ in their last bits between processors.)

    Args:
        seed: from 0 to 2⁶⁴ - 1.
        index: of the sample.
        size: numbers in a latent.
        truncation: numbers beyond ± this are drawn again, as in BigGAN (Brock et al. 2019, arXiv:1809.11096): fewer
            odd images, and less variety. The numbers within are those of ``None``.

    Returns:
        (size,) float32.
    """
    stream = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))
    values = stream.standard_normal(size)
    if truncation is not None:
        while (outside := np.abs(values) > truncation).any():
            values[outside] = stream.standard_normal(np.count_nonzero(outside))
    return values.astype(np.float32)


def latents(seed: int, indices: Sequence[int], size: int, truncation: float | None = None) -> np.ndarray:
    """Several of :func:`latent`: (N, size)."""
    return np.stack([latent(seed, index, size, truncation) for index in indices])


def between(first: np.ndarray, second: np.ndarray, part: float) -> np.ndarray:
    """A latent on the arc from one to another (White 2016, arXiv:1609.04468).

    On a straight line the latents in the middle are shorter than any that the generator was trained on.

    Args:
        first: (size,).
        second: (size,).
        part: 0 for the first, 1 for the second.
    """
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    cosine = float(np.clip(np.dot(first, second) / lengths, -1, 1)) if lengths else 1.0
    angle = np.arccos(cosine)
    if np.sin(angle) < 1e-6:  # they point the same way, or away from each other: no arc, or too many
        return ((1 - part) * first + part * second).astype(np.float32)
    weights = np.sin((1 - part) * angle) / np.sin(angle), np.sin(part * angle) / np.sin(angle)
    result: np.ndarray = (weights[0] * first + weights[1] * second).astype(np.float32)
    return result
