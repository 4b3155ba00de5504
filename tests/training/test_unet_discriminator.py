"""The U-Net discriminator: its shapes, its width, and that its layers stretch nothing."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from gankit.training.unet_discriminator import UNetDiscriminator


@pytest.mark.parametrize("size", [(32, 32), (96, 64), (33, 47), (8, 8)])
def test_there_is_a_logit_for_every_pixel(size):
    net = UNetDiscriminator(channels=4)
    logits = net(torch.rand(2, 3, *size))
    assert logits.shape == (2, 1, *size)
    features = net.forward_features(torch.rand(1, 3, 32, 48))
    shapes = [tuple(each.shape[1:]) for each in features]
    assert shapes == [(4, 32, 48), (8, 16, 24), (16, 8, 12), (32, 4, 6), (4, 32, 48)]


def test_it_is_as_large_as_published():
    """Real-ESRGAN's UNetDiscriminatorSN has 4 376 897 weights for 3 colours and a width of 64."""
    net = UNetDiscriminator()
    assert sum(parameter.numel() for parameter in net.parameters()) == 4_376_897


def normalised(net):
    return [m for m in net.modules() if isinstance(m, nn.Conv2d) and parametrize.is_parametrized(m, "weight")]


def test_the_spectral_norm_of_every_inner_layer_is_one():
    torch.manual_seed(0)
    net = UNetDiscriminator(channels=4).train()
    x = torch.rand(1, 3, 16, 16)
    for _ in range(200):  # a step of the power iteration each
        net(x)
    net.eval()
    layers = normalised(net)
    assert len(layers) == 8
    for layer in layers:
        with torch.no_grad():
            largest = torch.linalg.svdvals(layer.weight.flatten(1))[0]
        assert largest.item() == pytest.approx(1, abs=5e-3)
    assert not {id(net.first), id(net.last)} & {id(layer) for layer in layers}
    assert not normalised(UNetDiscriminator(channels=4, spectral=False))


def test_every_weight_gets_a_gradient():
    net = UNetDiscriminator(channels=4)
    net(torch.rand(1, 3, 32, 32)).mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
