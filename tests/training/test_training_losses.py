"""Losses against closed forms and torch."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gankit.datasets.reduction import reduce
from gankit.datasets.synthetic import synthetic_image
from gankit.training import losses


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return torch.randn(5, 1, dtype=torch.float64) * 3, torch.randn(5, 1, dtype=torch.float64) * 3


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_content_losses_of_known_differences():
    x, y = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.3, 0.5, 0.6])
    assert losses.l1(x, y).item() == pytest.approx(0.7 / 3)
    assert losses.mse(x, y).item() == pytest.approx(0.25 / 3)
    wanted = (math.hypot(0.3, 1e-3) + 1e-3 + math.hypot(0.4, 1e-3)) / 3
    assert losses.charbonnier(x, y).item() == pytest.approx(wanted)


def test_charbonnier_has_a_gradient_where_l1_has_a_corner():
    x = torch.zeros(1, requires_grad=True)
    losses.charbonnier(x, torch.zeros(1)).backward()
    assert x.grad.item() == 0


def test_undecided_discriminator():
    zeros = torch.zeros(4, 1)
    assert losses.relativistic_discriminator(zeros, zeros).item() == pytest.approx(math.log(2))


def test_relativistic_by_hand(logits):
    real, fake = (x.flatten().tolist() for x in logits)
    mean_real, mean_fake = np.mean(real), np.mean(fake)
    wanted = -np.mean([math.log(sigmoid(x - mean_fake)) for x in real])
    wanted -= np.mean([math.log(1 - sigmoid(x - mean_real)) for x in fake])
    assert losses.relativistic_discriminator(*logits).item() == pytest.approx(wanted / 2)
    exchanged = -np.mean([math.log(sigmoid(x - mean_real)) for x in fake])
    exchanged -= np.mean([math.log(1 - sigmoid(x - mean_fake)) for x in real])
    assert losses.relativistic_generator(*logits).item() == pytest.approx(exchanged / 2)


def test_adversarial_losses_stay_finite_when_one_side_has_won():
    high, low = torch.full((3, 1), 300.0), torch.full((3, 1), -300.0)
    for loss in (losses.relativistic_discriminator, losses.relativistic_generator):
        assert math.isfinite(loss(high, low).item())
        assert math.isfinite(loss(low, high).item())
    assert losses.relativistic_discriminator(high, low).item() == pytest.approx(0)
    assert losses.relativistic_generator(high, low).item() == pytest.approx(600)


def test_feature_matching_by_hand():
    ours = [torch.tensor([1.0, 2.0]), torch.tensor([[10.0]])]
    theirs = [torch.tensor([2.0, -2.0]), torch.tensor([[5.0]])]
    wanted = ((1 + 4) / 2 / 2 + 5 / 5) / 2
    assert losses.feature_matching(ours, theirs).item() == pytest.approx(wanted)
    assert losses.feature_matching(theirs, theirs).item() == 0


def test_feature_matching_is_blind_to_the_scale_of_a_layer():
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    small = losses.feature_matching([ours], [theirs])
    torch.testing.assert_close(losses.feature_matching([ours * 1000], [theirs * 1000]), small)


def test_feature_matching_sends_no_gradient_to_the_target():
    ours, theirs = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    losses.feature_matching([ours], [theirs]).backward()
    assert theirs.grad is None
    assert ours.grad.abs().sum() > 0


@pytest.mark.parametrize("count", [0, 2])
def test_feature_matching_wants_as_many_layers(count):
    with pytest.raises(ValueError, match="layers"):
        losses.feature_matching([torch.ones(1)] * count, [torch.ones(1)] * (count // 2))


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_consistency_of_a_image_and_its_reduction(scale):
    # Contrast low enough that no value is clipped: the 8-bit reduction has a ceiling, torch's has none.
    large, small = reduce(synthetic_image(3, size=128) // 2 + 64, scale)
    high, low = (torch.from_numpy(item.copy()).permute(2, 0, 1)[None] / 255 for item in (large, small))
    assert losses.consistency(high, low, scale) < 1 / 255  # the 8 bits of the second, and its border
    assert (
        losses.consistency(high, F.interpolate(high, scale_factor=1 / scale, mode="bicubic", antialias=True), scale)
        == 0
    )
    assert losses.consistency(high + 0.1, low, scale).item() == pytest.approx(0.1, abs=2 / 255)
