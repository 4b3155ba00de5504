"""The training arrangement of SRResNet is SRResNet."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gankit.models.srgan import SRResNet
from gankit.training.activations import shared_prelu
from gankit.training.srresnet import TrainingForward, freeze_norms, initialise


def random_net(scale, norm):
    """A net in which nothing is zero that could hide a fault."""
    torch.manual_seed(0)
    net = SRResNet(SRResNet.Options(scale=scale, channels=6, blocks=2))
    initialise(net, norm)
    for module in net.modules():
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0.05, 0.5)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
            if norm == "batch":
                nn.init.uniform_(module.weight, 0.5, 1.5)
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.1)
    return net


@pytest.mark.parametrize("norm", ["frozen", "batch"])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_training_forward_is_the_forward(scale, norm):
    net = random_net(scale, norm).train(norm == "batch")
    x = torch.rand(2, 3, 7, 5, generator=torch.Generator().manual_seed(1))
    target = torch.rand(2, 3, 7 * scale, 5 * scale, generator=torch.Generator().manual_seed(2))
    results, gradients = [], []
    for forward in (net, TrainingForward(net, norm)):
        net.zero_grad()
        result = forward(x)
        F.mse_loss(result, target).backward()
        results.append(result.detach())
        gradients.append({n: p.grad.clone() for n, p in net.named_parameters() if p.requires_grad})
    torch.testing.assert_close(results[1], results[0], atol=1e-5, rtol=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    for name, wanted in gradients[0].items():
        assert wanted.abs().sum() > 0, name
        torch.testing.assert_close(gradients[1][name], wanted, atol=1e-6, rtol=1e-4, msg=name)


def test_first_image_is_gray_and_residuals_are_nothing():
    net = SRResNet(SRResNet.Options(scale=2, channels=6, blocks=2))
    initialise(net, "frozen")
    net.eval()
    with torch.no_grad():
        assert abs(net(torch.rand(1, 3, 16, 16)).mean().item() - 0.5) < 0.5
        x = torch.rand(1, 6, 5, 5)
        torch.testing.assert_close(net.body(x), x)


def test_freezing_keeps_what_batchnorm_learnt():
    torch.manual_seed(3)
    net = random_net(2, "batch")
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.2, 3)
    x = torch.rand(1, 3, 9, 8)
    with torch.no_grad():
        wanted = net.eval()(x)
        freeze_norms(net)
        torch.testing.assert_close(net(x), wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(TrainingForward(net, "frozen")(x), wanted, atol=1e-5, rtol=1e-5)
    assert not any(m.weight.requires_grad for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def test_freezing_twice_changes_no_bit():
    net = random_net(2, "frozen")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    freeze_norms(net)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
@pytest.mark.parametrize("slope", [0.25, 0.0, 1.5, -0.3])
def test_shared_prelu(dtype, tolerance, slope):
    torch.manual_seed(0)
    first = torch.randn(2, 3, 5, 4).to(dtype)
    first[0, 0, 0, 0] = 0
    layer = nn.PReLU(init=slope).to(torch.promote_types(dtype, torch.float32))
    upstream = torch.randn(2, 3, 5, 4).to(dtype)
    results = []
    for function in (lambda x: F.prelu(x, layer.weight.to(dtype)), lambda x: shared_prelu(x, layer)):
        x = first.clone().requires_grad_()
        layer.zero_grad()
        y = function(x)
        y.backward(upstream)
        assert y.dtype == dtype
        assert layer.weight.grad.dtype == layer.weight.dtype
        results.append((y.detach(), x.grad, layer.weight.grad.clone()))
    for ours, torchs in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, torchs, atol=tolerance * 10, rtol=tolerance)


def test_shared_prelu_passes_gradcheck():
    layer = nn.PReLU().double()
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x, weight: shared_prelu(x, layer), (x, layer.weight))


def test_prelu_with_a_slope_for_each_channel():
    layer = nn.PReLU(3)
    nn.init.uniform_(layer.weight)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(shared_prelu(x, layer), layer(x))
