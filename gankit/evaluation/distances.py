"""How far two sets of images are apart in a network's features, by torchmetrics.

The network has run before: torchmetrics gets its features through a module that does nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gankit.errors import BackendError, UsageError

Matrix = NDArray[np.float64]
_SUBSET = 1000
_SPLITS = 10


class _AsGiven(nn.Module):
    """The feature network of torchmetrics' classes: gives what it gets."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> the same."""
        return x


def frechet_distance(real: Matrix, fake: Matrix) -> float:
    """Fréchet distance of two Gaussians, |μ - μ'|² + tr(Σ + Σ' - 2 (ΣΣ')^½) (Heusel et al. 2017, arXiv:1706.08500).

    It falls with the number of images: compare figures of the same number only.

    Args:
        real: (N, D) features, N at least 2.
        fake: (M, D).

    Returns:
        At least 0, but for rounding.

    Raises:
        UsageError: fewer than two images.
        BackendError: torchmetrics is not installed.
    """
    if min(len(real), len(fake)) < 2:
        raise UsageError("a Fréchet distance needs at least two images on each side")
    from_fid = _metrics("fid").FrechetInceptionDistance
    return float(_both(from_fid(_AsGiven(real.shape[1])).set_dtype(torch.float64), real, fake).compute())


def kernel_distance(
    real: Matrix, fake: Matrix, subsets: int = 100, subset_size: int = _SUBSET, seed: int = 0
) -> tuple[float, float]:
    """Squared maximum mean discrepancy with the kernel (x·y / D + 1)³, unbiased.

    Bińkowski et al. 2018, arXiv:1801.01401, section 3.

    Args:
        real: (N, D) features.
        fake: (M, D).
        subsets: drawn at random, without putting back within one.
        subset_size: images in each, of both sides; no more than there are.
        seed: of the subsets.

    Returns:
        Mean and standard deviation over the subsets; the mean is near 0, and may be below, for equal distributions.

    Raises:
        UsageError, BackendError: as :func:`frechet_distance`.
    """
    size = min(subset_size, len(real), len(fake))
    if size < 2:
        raise UsageError("a kernel distance needs at least two images on each side")
    with _seeded(seed):
        metric = _metrics("kid").KernelInceptionDistance(_AsGiven(real.shape[1]), subsets, size)
        mean, deviation = _both(metric, real, fake).compute()
    return float(mean), float(deviation)


def classifier_score(logits: Matrix, splits: int = _SPLITS, seed: int = 0) -> tuple[float, float]:
    """Exp E KL(p(y|x) ‖ p(y)): sure of each image, and all classes there (Salimans et al. 2016, arXiv:1606.03498).

    It is the Inception score if the logits are Inception's. It knows nothing of the real images.

    Args:
        logits: (N, K).
        splits: parts of the images, each of which gives a score.
        seed: of the parts.

    Returns:
        Mean and standard deviation (n - 1) over the splits, from 1 to K; the deviation of one split is 0.

    Raises:
        BackendError: torchmetrics is not installed.
    """
    with _seeded(seed):
        metric = _metrics("inception").InceptionScore(_AsGiven(logits.shape[1]), splits=min(splits, len(logits)))
        metric.update(torch.from_numpy(logits))
        mean, deviation = metric.compute()
    return float(mean), float(np.nan_to_num(float(deviation)))


def agreement(logits: Matrix, asked: NDArray[np.int64]) -> tuple[float, tuple[float | None, ...]]:
    """How often a classifier sees the class that was asked for.

    Args:
        logits: (N, K).
        asked: (N,) classes.

    Returns:
        The part of all images, and of each class (``None`` for a class that was not asked for).

    Raises:
        ValueError: not as many classes as logits, or none.
    """
    if len(logits) != len(asked) or not len(asked):
        raise ValueError(f"{len(logits)} logits and {len(asked)} classes")
    right = logits.argmax(axis=1) == asked
    each = [right[asked == label] for label in range(logits.shape[1])]
    return float(right.mean()), tuple(float(part.mean()) if len(part) else None for part in each)


def _both(metric: Any, real: Matrix, fake: Matrix) -> Any:
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    return metric


def _metrics(name: str) -> Any:
    """A module of torchmetrics."""
    from importlib import import_module

    try:
        return import_module(f"torchmetrics.image.{name}")
    except ImportError as error:
        raise BackendError(f"distances of sets need torchmetrics ({error}): pip install 'gankit[evaluate]'") from error


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers by a seed, and the caller's go on as they were; without the library's word on its memory."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.manual_seed(seed)
        yield
