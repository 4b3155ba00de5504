import math

import numpy as np
import pytest

from gankit.errors import UsageError
from gankit.evaluation import dice, evaluate_translations, iou, l1, psnr, ssim_y, to_mask
from gankit.evaluation.translation import as_rgb


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    return {
        name: (rng.integers(0, 256, (16, 20, 3), np.uint8), rng.integers(0, 256, (16, 20, channels), np.uint8))
        for name, channels in (("a", 3), ("b", 1))
    }


def test_l1_by_hand():
    black, gray = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 51, np.uint8)
    assert l1(black, gray) == l1(gray, black) == pytest.approx(0.2)
    assert l1(gray, gray) == 0


def test_colours(pairs):
    seen = []

    def negative(name, source):
        seen.append(name)
        return 255 - source

    table = evaluate_translations(negative, pairs)
    assert seen == ["a", "b"]
    for score, (source, target) in zip(table.scores, pairs.values(), strict=True):
        result, target = 255 - source, as_rgb(target)
        assert (score.l1, score.psnr, score.ssim_y) == (
            l1(result, target),
            psnr(result, target),
            ssim_y(result, target),
        )
        assert score.dice is None
    assert table.mean.psnr == pytest.approx(sum(score.psnr for score in table.scores) / 2)
    assert set(table.as_dict()["mean"]) == {"l1", "psnr", "ssim_y"}
    assert table.as_dict()["n"] == 2


def test_the_truth(pairs):
    table = evaluate_translations(lambda name, source: pairs[name][1], pairs, lpips=lambda a, b: float((a != b).sum()))
    assert table.mean.psnr == math.inf
    assert table.as_dict()["mean"] == {"l1": 0, "psnr": None, "ssim_y": pytest.approx(1), "lpips": 0}


def test_masks(pairs):
    rng = np.random.default_rng(1)
    made = {name: rng.integers(0, 256, (16, 20), np.uint8) for name in pairs}
    pairs = {name: (source, target[..., :1]) for name, (source, target) in pairs.items()}
    table = evaluate_translations(lambda name, source: made[name], pairs, masks=True, mask_from=64)
    for score, name in zip(table.scores, pairs, strict=True):
        ours, theirs = to_mask(made[name], 128), pairs[name][1][..., 0] >= 64
        assert (score.dice, score.iou, score.psnr) == (dice(ours, theirs), iou(ours, theirs), None)
    assert set(table.as_dict()["mean"]) == {"dice", "iou"}


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.bool_])
@pytest.mark.parametrize("high", [1, 7, 255])
def test_true_masks_have_any_two_values(kind, high):
    """Masks of 0 and 1 were all empty, and black results perfect."""
    mask = np.zeros((16, 20), bool)
    mask[4:8, 4:8] = True
    pairs = {"a": (np.zeros((16, 20, 3), np.uint8), (mask * high).astype(kind))}
    assert evaluate_translations(lambda name, source: mask * np.uint8(255), pairs, masks=True).mean.dice == 1
    assert evaluate_translations(lambda name, source: source, pairs, masks=True).mean.dice == 0


def test_true_masks_of_more_values_are_refused_by_name(pairs):
    with pytest.raises(UsageError, match=r"^b: is no mask: .*--mask-from N"):
        evaluate_translations(lambda name, source: source, {"b": pairs["b"]}, masks=True)
    with pytest.raises(UsageError, match=r"^a: is in colour"):
        evaluate_translations(lambda name, source: source, {"a": pairs["a"]}, masks=True)


def test_pairs_of_empty_masks_are_counted_and_not_averaged():
    empty, mask = np.zeros((2, 16, 20), np.uint8)
    mask[:4] = 1
    pairs = {"empty": (empty, empty), "half": (mask, mask), "missed": (empty, mask)}
    made = {"empty": empty, "half": np.where(np.arange(20) < 10, mask * np.uint8(255), 0), "missed": empty}
    table = evaluate_translations(lambda name, source: made[name].astype(np.uint8), pairs, masks=True)
    assert table.both_empty == 1
    assert table.mean.dice == pytest.approx((2 / 3 + 0) / 2)
    assert table.mean.iou == pytest.approx((1 / 2 + 0) / 2)
    report = table.as_dict()
    assert (report["n"], report["both_empty"]) == (3, 1)
    assert report["images"]["empty"] == {"dice": None, "iou": None}
    only = evaluate_translations(lambda name, source: source, {"empty": pairs["empty"]}, masks=True)
    assert math.isnan(only.mean.dice)
    assert only.as_dict()["mean"] == {"dice": None, "iou": None}


def test_small_images_have_no_ssim():
    pairs = {"a": (np.zeros((8, 30, 3), np.uint8),) * 2}
    table = evaluate_translations(lambda name, source: source, pairs)
    assert table.mean.ssim_y is None
    assert "ssim_y" not in table.as_dict()["mean"]


def test_other_sizes_and_no_pairs_are_refused(pairs):
    with pytest.raises(UsageError, match="a: the result is 20×15, the target 20×16"):
        evaluate_translations(lambda name, source: source[:-1], pairs)
    with pytest.raises(UsageError, match="no pairs"):
        evaluate_translations(lambda name, source: source, {})
