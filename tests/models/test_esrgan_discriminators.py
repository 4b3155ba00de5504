"""ESRGAN's and Real-ESRGAN's discriminators are the published networks."""

import torch
from torch import nn
from torch.nn.utils import parametrize

from gankit.models.esrgan import Discriminator
from gankit.models.srvgg import UNetDiscriminator


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_layers_of_esrgans():
    net = Discriminator()
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == [64, 64, 128, 128, 256, 256, 512, 512, 512, 512]
    assert [(conv.kernel_size[0], conv.stride[0]) for conv in convs] == [(3, 1), (4, 2)] * 5
    assert [conv.bias is not None for conv in convs] == [True] + [False] * 9
    assert sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == 9
    assert [net.classifier[0].in_features, net.classifier[0].out_features] == [512 * 4 * 4, 100]


def test_pool_changes_nothing_at_128_pixels_and_lets_others_in():
    net = Discriminator(channels=4).eval()
    with torch.no_grad():
        features = net.features(x := torch.rand(2, 3, 128, 128))
        assert features.shape[2:] == (4, 4)
        assert torch.equal(net(x), net.classifier(features.flatten(1)))
        assert net(torch.rand(1, 3, 96, 160)).shape == (1, 1)


class Published(nn.Module):
    """Real-ESRGAN's U-Net, unrolled, with the weights of ours after their normalisation."""

    def __init__(self, ours):
        super().__init__()
        layers = [ours.first, *ours.down, *ours.up, *ours.refine, ours.last]
        self.weights = [(layer.weight.detach().clone(), layer.bias) for layer in layers]

    def forward(self, x):
        def conv(x, index, stride=1, act=True):
            y = nn.functional.conv2d(x, *self.weights[index], stride=stride, padding=1)
            return nn.functional.leaky_relu(y, 0.2) if act else y

        def larger(x):
            return nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

        x0 = conv(x, 0)
        x1 = conv(x0, 1, 2)
        x2 = conv(x1, 2, 2)
        x3 = conv(x2, 3, 2)
        x4 = conv(larger(x3), 4) + x2
        x5 = conv(larger(x4), 5) + x1
        x6 = conv(larger(x5), 6) + x0
        return conv(conv(conv(x6, 7), 8), 9, act=False)


def test_the_u_net_is_real_esrgans():
    # 4 376 897 parameters: counted on the published layers
    widths = [(3, 64, 3, 1), (64, 128, 4, 0), (128, 256, 4, 0), (256, 512, 4, 0), (512, 256, 3, 0), (256, 128, 3, 0)]
    widths += [(128, 64, 3, 0), (64, 64, 3, 0), (64, 64, 3, 0), (64, 1, 3, 1)]
    assert count(UNetDiscriminator()) == sum(i * o * k * k + bias * o for i, o, k, bias in widths) == 4_376_897
    torch.manual_seed(0)
    net = UNetDiscriminator(channels=4).eval()
    x = torch.rand(2, 3, 32, 40)
    with torch.no_grad():
        assert net(x).shape == (2, 1, 32, 40)
        torch.testing.assert_close(net(x), Published(net)(x), atol=1e-5, rtol=0)


def test_all_but_the_ends_are_spectrally_normalised():
    net = UNetDiscriminator(channels=8).train()
    for _ in range(30):
        net(torch.rand(1, 3, 16, 16))
    net.eval()
    inner = [*net.down, *net.up, *net.refine]
    assert all(parametrize.is_parametrized(layer) for layer in inner)
    assert not any(parametrize.is_parametrized(layer) for layer in (net.first, net.last))
    for layer in inner:
        assert abs(float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) - 1) < 0.05


def test_skips_can_be_left_out():
    net = UNetDiscriminator(channels=4, skip=False).eval()
    with torch.no_grad():
        assert net(torch.rand(1, 3, 16, 16)).shape == (1, 1, 16, 16)
