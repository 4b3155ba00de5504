"""Spectral normalisation of the discriminator."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from training_making import same, stream, system

from gankit.models.srgan import Discriminator
from gankit.training.spectral import add_spectral_norm, weights_once


@pytest.fixture
def discriminator():
    torch.manual_seed(0)
    net = Discriminator(channels=4, norm=False)
    add_spectral_norm(net)
    return net


def normalised(net):
    return [layer for layer in net.modules() if parametrize.is_parametrized(layer, "weight")]


def test_every_largest_singular_value_is_one(discriminator):
    x = torch.rand(1, 3, 32, 32)
    for _ in range(30):  # a power iteration each
        discriminator(x)
    layers = normalised(discriminator.eval())
    assert len(layers) == 10
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


def test_steeper_weights_give_the_same_logit(discriminator):
    """What a discriminator that wins would grow is divided out again."""
    discriminator.eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        before = discriminator(x)
        for layer in normalised(discriminator):
            layer.parametrizations.weight.original.mul_(100)
        torch.testing.assert_close(discriminator(x), before)


def test_weights_once_is_the_same_function(discriminator):
    x = torch.rand(2, 3, 32, 32)
    discriminator.eval()
    gradients = []
    for once in (False, True):
        discriminator.zero_grad()
        if once:
            with weights_once(discriminator):
                logits = discriminator(x) - discriminator(x.flip(0))
        else:
            logits = discriminator(x) - discriminator(x.flip(0))
        logits.square().sum().backward()
        gradients.append({name: value.grad.clone() for name, value in discriminator.named_parameters()})
    for name, wanted in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], wanted, rtol=1e-4, atol=1e-9, msg=name)


def test_weights_once_makes_one_power_iteration_in_fp32(discriminator):
    layer = normalised(discriminator)[0]
    calls = []
    layer.parametrizations.weight[0].register_forward_hook(lambda module, inputs, output: calls.append(output.dtype))
    with weights_once(discriminator), torch.autocast("cpu", torch.bfloat16):
        for _ in range(3):
            discriminator(torch.rand(1, 3, 32, 32))
    assert calls == [torch.float32]
    weight = layer.weight
    assert weight is not layer.weight, "the weights were kept beyond the block"


@pytest.mark.parametrize(("norm", "spectral", "batch"), [("spectral", 10, 0), ("batch", 0, 7)])
def test_recipe_has_one_norm_or_the_other(norm, spectral, batch):
    net = system("srgan", 20, discriminator_norm=norm).modules["discriminator"]
    assert len(normalised(net)) == spectral
    assert sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == batch


def test_generator_step_moves_no_discriminator_weight():
    made = system("srgan", 20, head_start=0)
    batch = next(stream()(0))
    made.step(batch, 0)
    net, rate = made.modules["discriminator"], made.optimisers["discriminator"].param_groups[0]
    rate["lr"] = 0.0
    before = {name: value.clone() for name, value in net.named_parameters()}
    made.step(batch, 1)
    assert same(before, dict(net.named_parameters()))
