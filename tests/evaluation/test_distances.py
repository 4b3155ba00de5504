import sys

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from gankit.errors import BackendError, UsageError
from gankit.evaluation.distances import agreement, classifier_score, frechet_distance, kernel_distance


def points(count: int, mean: np.ndarray, covariance: np.ndarray, seed: int = 0) -> np.ndarray:
    """Points whose own mean and covariance (n - 1) are exactly these."""
    free = np.random.default_rng(seed).normal(size=(count, len(mean)))
    free -= free.mean(0)
    white = free @ np.linalg.inv(np.linalg.cholesky(np.cov(free, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_gaussians_along_the_axes():
    first, second = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 1.0])
    mean = np.array([1.0, -2.0, 0.5])
    real, fake = points(50, np.zeros(3), np.diag(first)), points(70, mean, np.diag(second), 1)
    wanted = (mean**2).sum() + ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    assert frechet_distance(real, fake) == pytest.approx(wanted, rel=1e-9)
    assert frechet_distance(fake, real) == pytest.approx(wanted, rel=1e-9)


def test_any_gaussians():
    rng = np.random.default_rng(2)
    turn = [matrix @ matrix.T + np.eye(6) for matrix in rng.normal(size=(2, 6, 6))]
    mean = rng.normal(size=6)
    root = sqrtm(turn[0] @ turn[1]).real
    wanted = mean @ mean + np.trace(turn[0] + turn[1] - 2 * root)
    real, fake = points(40, np.zeros(6), turn[0]), points(40, mean, turn[1], 3)
    assert frechet_distance(real, fake) == pytest.approx(wanted, rel=1e-6)


def test_equal_sets_are_not_apart():
    real = points(60, np.full(4, 30.0), np.diag([1.0, 2, 3, 4]))
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-6)


def cubic(x: np.ndarray, y: np.ndarray) -> float:
    return (x @ y / len(x) + 1) ** 3


def test_the_kernel_distance_is_the_unbiased_sum():
    rng = np.random.default_rng(4)
    real, fake = rng.normal(size=(12, 5)), rng.normal(0.5, 1, (12, 5))
    within = [
        sum(cubic(a, b) for i, a in enumerate(side) for j, b in enumerate(side) if i != j) for side in (real, fake)
    ]
    wanted = sum(within) / (12 * 11) - 2 * sum(cubic(a, b) for a in real for b in fake) / 144
    mean, deviation = kernel_distance(real, fake, subsets=3)
    assert mean == pytest.approx(wanted, rel=1e-9)
    assert deviation == pytest.approx(0, abs=1e-9)  # each subset is the whole


def test_the_kernel_distance_tells_sets_apart():
    rng = np.random.default_rng(5)
    real, same, other = rng.normal(size=(400, 8)), rng.normal(size=(400, 8)), rng.normal(0.5, 1, (300, 8))
    mean, deviation = kernel_distance(real, same, subsets=20, subset_size=100)
    assert abs(mean) < 3 * deviation
    assert kernel_distance(real, other, subsets=20, subset_size=100)[0] > 10 * abs(mean)


def test_seeds_decide_and_nothing_else_changes():
    rng = np.random.default_rng(6)
    real, fake = rng.normal(size=(50, 3)), rng.normal(size=(50, 3))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = kernel_distance(real, fake, 5, 20), classifier_score(real, 4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert (kernel_distance(real, fake, 5, 20), classifier_score(real, 4)) == first
    assert kernel_distance(real, fake, 5, 20, seed=1) != first[0]


def test_the_score_of_sure_and_equal_classes_is_their_number():
    logits = np.tile(60 * np.eye(4), (25, 1))
    assert classifier_score(logits, splits=1) == (pytest.approx(4), 0)


def test_the_score_of_one_class_or_of_no_idea_is_one():
    for logits in (np.tile([60.0, 0, 0], (30, 1)), np.zeros((30, 3))):
        mean, deviation = classifier_score(logits)
        assert mean == pytest.approx(1)
        assert deviation == pytest.approx(0, abs=1e-9)


def test_the_score_by_its_formula():
    logits = np.random.default_rng(7).normal(0, 2, (40, 5))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wanted = np.exp((p * np.log(p / p.mean(0))).sum(1).mean())
    assert classifier_score(logits, splits=1)[0] == pytest.approx(wanted)


def test_agreement_by_hand():
    logits = np.eye(3)[[0, 0, 1, 1]]
    assert agreement(logits, np.array([0, 1, 1, 1])) == (0.75, (1.0, pytest.approx(2 / 3), None))
    with pytest.raises(ValueError, match="4 logits and 3 classes"):
        agreement(logits, np.zeros(3, int))


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_one_image_is_no_set(distance):
    with pytest.raises(UsageError, match="at least two images"):
        distance(np.zeros((5, 2)), np.zeros((1, 2)))


def test_without_torchmetrics_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(BackendError, match=r"need torchmetrics \(.*\): pip install 'gankit\[evaluate\]'"):
        frechet_distance(np.zeros((5, 2)), np.zeros((5, 2)))
