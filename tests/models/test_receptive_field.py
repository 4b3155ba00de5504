"""The computed halo is the true one: no pixel beyond it counts, one at it does."""

import pytest
import torch
from gankit_export.receptive_field import halo
from torch import nn

from gankit.models import build
from tests.networks import small_srgan


def seen(net, scale, size=61):
    """How far from the middle input pixel its output pixels depend on the input, by the gradient."""
    x = torch.rand(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    middle = size // 2
    y = net.double()(x)[:, :, middle * scale : (middle + 1) * scale, middle * scale : (middle + 1) * scale]
    y.sum().backward()
    touched = x.grad.abs().sum((0, 1)).nonzero()
    return int((touched - middle).abs().max())


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_halo_is_what_the_gradient_reaches(scale):
    net = small_srgan(scale=scale, channels=4, blocks=2)
    assert seen(net, scale) == halo(net)


def test_srgan_needs_forty_pixels():
    assert halo(build("srgan").eval()) == 40


def test_dilation_counts():
    assert halo(nn.Sequential(nn.Conv2d(3, 4, 3, padding=2, dilation=2), nn.ReLU(), nn.Conv2d(4, 3, 5, padding=2))) == 4


def test_whole_image_norm_has_no_halo():
    with pytest.raises(ValueError, match="InstanceNorm2d"):
        halo(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.InstanceNorm2d(4)))
