"""BatchNorm on the image's own statistics is affine InstanceNorm, exactly."""

import torch
from gankit_export.rewrites.batch_statistics import batch_norm_to_instance_norm
from torch import nn

from gankit.models import build


def unet():
    """A small U-Net on running statistics, every norm away from the identity."""
    torch.manual_seed(0)
    net = build("pix2pix", {"channels": 4, "downs": 5, "norm_at_test": "eval", "dropout": False})
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 2)
    return net.requires_grad_(False)


def test_one_image_as_in_training():
    net = unet()
    rewritten = batch_norm_to_instance_norm(net).eval()
    x = torch.rand(2, 3, 64, 96) * 2 - 1
    running = net.eval()(x)
    training = torch.cat([net.train()(x[:1]), net(x[1:])])
    assert training.std() > 0.01
    torch.testing.assert_close(rewritten(x), training, rtol=0, atol=1e-5)
    assert (running - training).abs().max() > 0.01
    assert (net(x) - training).abs().max() > 1e-3  # a batch of two is another thing in training


def test_it_is_what_the_option_builds():
    net = unet()
    built = build("pix2pix", {"channels": 4, "downs": 5, "dropout": False}).eval()
    built.load_state_dict(batch_norm_to_instance_norm(net).state_dict())
    x = torch.rand(1, 3, 32, 64)
    torch.testing.assert_close(built(x), net.train()(x), rtol=0, atol=1e-5)


def test_the_argument_stays_and_shares_nothing():
    net = unet()
    rewritten = batch_norm_to_instance_norm(net)
    assert any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in rewritten.modules())
    own = {item.data_ptr() for item in net.parameters()}
    assert not own & {item.data_ptr() for item in rewritten.parameters()}
    assert rewritten.training


def test_epsilon_and_missing_weights():
    for norm in (nn.BatchNorm2d(3, eps=0.8), nn.BatchNorm2d(3, affine=False)):
        x = torch.rand(1, 3, 5, 6)
        expected = norm.train()(x)
        torch.testing.assert_close(batch_norm_to_instance_norm(norm).eval()(x), expected, rtol=0, atol=1e-6)
