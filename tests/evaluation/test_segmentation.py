import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_f1_score, binary_jaccard_index

from gankit.evaluation import dice, iou, to_mask


def box(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros((20, 30), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def test_two_boxes():
    first, second = box(0, 0, 10, 10), box(5, 0, 10, 20)  # 100 and 200 pixels, 50 of them in both
    assert dice(first, second) == dice(second, first) == pytest.approx(2 * 50 / 300)
    assert iou(first, second) == iou(second, first) == pytest.approx(50 / 250)


def test_the_ends():
    mask, empty = box(2, 3, 4, 5), box(0, 0, 0, 0)
    assert dice(mask, mask) == iou(mask, mask) == 1
    assert dice(mask, ~mask) == iou(mask, ~mask) == dice(mask, empty) == iou(empty, mask) == 0
    assert math.isnan(dice(empty, empty))  # 0/0, and no perfect score
    assert math.isnan(iou(empty, empty))


def test_torchmetrics_agrees():
    rng = np.random.default_rng(0)
    ours, theirs = rng.random((40, 50)) < 0.3, rng.random((40, 50)) < 0.6
    tensors = torch.from_numpy(ours).long(), torch.from_numpy(theirs).long()
    assert dice(ours, theirs) == pytest.approx(float(binary_f1_score(*tensors)), abs=1e-6)
    assert iou(ours, theirs) == pytest.approx(float(binary_jaccard_index(*tensors)), abs=1e-6)
    assert iou(ours, theirs) == pytest.approx(dice(ours, theirs) / (2 - dice(ours, theirs)))


def test_masks_of_images():
    gray = np.array([[0, 63, 64], [127, 128, 255]], np.uint8)
    np.testing.assert_array_equal(to_mask(gray), [[0, 0, 0], [0, 1, 1]])
    np.testing.assert_array_equal(to_mask(gray, 64), [[0, 0, 1], [1, 1, 1]])
    np.testing.assert_array_equal(to_mask(gray[..., None].repeat(3, 2)), to_mask(gray))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.zeros((2, 2), np.uint8), box(0, 0, 1, 1), "result must be boolean, not uint8"),
        (box(0, 0, 1, 1), np.zeros((20, 30)), "target must be boolean, not float64"),
        (box(0, 0, 1, 1), np.zeros((20, 31), bool), "shapes differ"),
    ],
)
def test_wrong_masks_are_refused(first, second, message):
    for figure in (dice, iou):
        with pytest.raises(ValueError, match=message):
            figure(first, second)
