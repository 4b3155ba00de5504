"""SRResNet and the discriminator are the published networks."""

import pytest
import torch
from torch import nn

from gankit import models
from gankit.errors import UsageError
from gankit.models.srgan import Discriminator, SRResNet


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_generator_has_the_published_size():
    # The widely used PyTorch implementation of the paper's ×4 generator has 1 547 350 parameters.
    assert count(SRResNet()) == 1_547_350


@pytest.mark.parametrize(("scale", "stages"), [(2, 1), (4, 2), (8, 3)])
def test_scale_is_one_argument(scale, stages):
    net = SRResNet(SRResNet.Options(scale=scale, channels=8, blocks=1)).eval()
    assert len(net.upsampler) == stages
    with torch.no_grad():
        assert net(torch.rand(2, 3, 7, 5)).shape == (2, 3, 7 * scale, 5 * scale)


def test_generator_layers_are_the_papers():
    net = SRResNet()
    assert len(net.body) == 16
    assert net.head[0].kernel_size == net.tail.kernel_size == (9, 9)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == 33
    assert sum(isinstance(module, nn.PixelShuffle) for module in net.modules()) == 2


def test_wrong_scale_is_refused():
    with pytest.raises(ValueError, match="2, 4 or 8"):
        SRResNet(SRResNet.Options(scale=3))


def test_discriminator_has_the_published_layers():
    net = Discriminator()
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert [conv.stride[0] for conv in convs] == [1, 2] * 4
    assert sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == 7
    assert net.classifier[0].in_features == 512 * 6 * 6
    assert net.classifier[0].out_features == 1024


def test_discriminator_takes_any_size():
    net = Discriminator(channels=4).eval()
    with torch.no_grad():
        assert net(torch.rand(2, 3, 96, 96)).shape == (2, 1)
        assert net(torch.rand(1, 3, 64, 80)).shape == (1, 1)


def test_pool_changes_nothing_at_96_pixels():
    net = Discriminator(channels=4).eval()
    x = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        features = net.forward_features(x)[-1]
        assert features.shape[2:] == (6, 6)
        assert torch.equal(net(x), net.classifier(features.flatten(1)))


def test_unknown_model_suggests_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'srgan'"):
        models.build("srgna")


@pytest.mark.parametrize(
    "options",
    [{"scale": 3}, {"scale": 4.0}, {"channels": 0}, {"blocks": 1025}, {"blocks": "4"}, {"in_channels": True}],
)
def test_options_that_no_network_has_are_refused(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} must be .*, not {next(iter(options.values()))!r}"):
        models.facts("srgan", options)


def test_facts_say_what_was_built():
    facts = models.facts("srgan", {"scale": 2})
    assert (facts.scale, facts.channels, facts.task, facts.options["scale"]) == (2, 3, "upscale", 2)
