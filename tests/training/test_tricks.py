"""Penalties, clipping, pools, noise and weight init: each does what it says."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from gankit.errors import UsageError
from gankit.training.noise import fading, instance_noise
from gankit.training.penalties import clip_weights, gradient_penalty, r1_penalty
from gankit.training.pool import ImagePool
from gankit.training.spectral import add_spectral_norm
from gankit.training.weight_init import initialise


@pytest.mark.parametrize(("slope", "target"), [(1.0, 1.0), (3.0, 1.0), (2.0, 0.0)])
def test_gradient_penalty_of_a_plane(slope, target):
    """A linear discriminator has the same slope everywhere: (‖w‖ - target)²."""
    torch.manual_seed(0)
    weight = torch.randn(1, 3, 4, 4)
    weight = (weight / weight.norm() * slope).requires_grad_(True)
    real, fake = torch.randn(5, 3, 4, 4), torch.randn(5, 3, 4, 4)
    penalty = gradient_penalty(lambda x: (x * weight).sum(dim=(1, 2, 3)), real, fake, target)
    assert penalty.item() == pytest.approx((slope - target) ** 2, abs=1e-6)
    penalty.backward()
    wanted = 2 * (slope - target) * weight.detach() / slope
    torch.testing.assert_close(weight.grad, wanted, atol=1e-5, rtol=1e-4)


def test_gradient_penalty_looks_between_the_images():
    seen = []

    def discriminator(x):
        seen.append(x.detach().clone())
        return x.square().sum(dim=1)

    torch.manual_seed(0)
    gradient_penalty(discriminator, torch.zeros(200, 2), torch.ones(200, 2))
    (between,) = seen
    assert torch.equal(between[:, 0], between[:, 1])  # one share a pair
    assert 0 <= between.min() < 0.05
    assert 0.95 < between.max() <= 1
    assert between.mean().item() == pytest.approx(0.5, abs=0.06)


def test_gradient_penalty_is_that_of_finite_differences():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Softplus(), nn.Linear(8, 1)).double()
    x = torch.randn(3, 6, dtype=torch.float64)
    step = 1e-6
    slopes = torch.stack(
        [(net(x + step * e) - net(x - step * e)).squeeze(1) / (2 * step) for e in torch.eye(6).double()], dim=1
    )
    found = gradient_penalty(net, x, x)  # everything between an image and itself is that image
    assert found.item() == pytest.approx((slopes.norm(dim=1) - 1).square().mean().item(), rel=1e-5)
    assert r1_penalty(net, x).item() == pytest.approx(slopes.square().sum(1).mean().item() / 2, rel=1e-5)


def test_r1_of_a_parabola():
    x = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    assert r1_penalty(lambda x: x.square().sum(dim=1) / 2, x).item() == pytest.approx((5 + 9) / 2 / 2)
    assert not x.requires_grad


def test_penalties_send_nothing_to_the_generator():
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    real, fake = torch.randn(3, 2), torch.randn(3, 2, requires_grad=True)
    (gradient_penalty(net, real, fake) + r1_penalty(net, real)).backward()
    assert fake.grad is None
    assert net[0].weight.grad.abs().sum() > 0


def test_clip_weights():
    net = nn.Linear(3, 3)
    with torch.no_grad():
        net.weight.copy_(torch.linspace(-1, 1, 9).view(3, 3))
    clip_weights(net, 0.5)
    assert net.weight.abs().max() == 0.5
    assert net.weight[1, 2].item() == pytest.approx(0.25)
    assert net.weight.requires_grad


def numbered(first, count):
    return torch.arange(first, first + count, dtype=torch.float32).view(-1, 1, 1, 1)


def test_a_pool_fills_then_gives_half_of_the_old():
    pool = ImagePool(50, seed=1)
    assert torch.equal(pool(numbered(0, 50)), numbered(0, 50))
    kept = set(range(50))
    new = old = 0
    for start in range(50, 1050, 4):
        for place, value in enumerate(pool(numbered(start, 4)).flatten().tolist()):
            if value == start + place:
                new += 1
            else:
                old += 1
                assert value in kept  # given once, then it has left
                kept.remove(value)
                kept.add(start + place)
    assert len(pool) == 50
    assert new / (new + old) == pytest.approx(0.5, abs=0.05)


def test_a_pool_goes_on_from_its_state():
    pool = ImagePool(3)
    pool(numbered(0, 5))
    state = copy.deepcopy(pool.state_dict())
    wanted = [pool(numbered(start, 4)) for start in range(10, 40, 4)]
    other = ImagePool(3, seed=9)
    other.load_state_dict(state)
    assert all(torch.equal(other(numbered(10 + 4 * i, 4)), want) for i, want in enumerate(wanted))
    with pytest.raises(ValueError, match="larger than 2"):
        ImagePool(2).load_state_dict(state)


def test_a_pool_of_nothing_passes_through_without_gradients():
    images = numbered(0, 4).requires_grad_(True)
    for size in (0, 2):
        assert not ImagePool(size)(images).requires_grad
    assert torch.equal(ImagePool(0)(images), images)
    with pytest.raises(ValueError, match="-1"):
        ImagePool(-1)


def test_a_pool_leaves_the_global_random_numbers():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    pool = ImagePool(1)
    pool(numbered(0, 20))
    assert torch.equal(torch.get_rng_state(), before)


def test_instance_noise_and_its_end():
    torch.manual_seed(0)
    x = torch.zeros(200, 200)
    assert instance_noise(x, 0.0) is x
    assert instance_noise(x, 0.3).std().item() == pytest.approx(0.3, rel=0.02)
    deviation = fading(0.4, 100)
    assert [deviation(step) for step in (0, 50, 100, 1000)] == pytest.approx([0.4, 0.2, 0.0, 0.0])
    assert fading(0.4, 0)(0) == 0


def layers():
    torch.manual_seed(0)
    return nn.ModuleList(
        [
            nn.Conv2d(32, 64, 3),
            nn.Conv2d(64, 64, 5, groups=4),
            nn.ConvTranspose2d(64, 32, 4, stride=2),
            nn.Linear(300, 200),
        ]
    )


@pytest.mark.parametrize("how", ["xavier", "he", "normal"])
def test_deviations_of_weight_init(how):
    net = layers()
    initialise(net, how)
    fans = [(32 * 9, 64 * 9), (16 * 25, 16 * 25), (64 * 16 / 4, 32 * 16), (300, 200)]
    for layer, (fan_in, fan_out) in zip(net, fans, strict=True):
        wanted = {"xavier": math.sqrt(2 / (fan_in + fan_out)), "he": math.sqrt(2 / fan_in), "normal": 0.02}[how]
        assert layer.weight.std().item() == pytest.approx(wanted, rel=0.03)
        assert layer.weight.mean().item() == pytest.approx(0, abs=0.02 * wanted * 3)
        assert not layer.bias.any()


def test_he_keeps_the_size_of_signals_through_relu():
    torch.manual_seed(0)
    for layer in (nn.Conv2d(64, 64, 3), nn.ConvTranspose2d(64, 64, 4, stride=2), nn.Linear(400, 400)):
        initialise(layer, "he")
        shape = (8, 400) if isinstance(layer, nn.Linear) else (4, 64, 24, 24)
        x = torch.relu(torch.randn(shape))
        result = layer(x) if x.ndim == 2 else layer(x)[:, :, 4:-4, 4:-4]  # the border sees fewer inputs
        assert result.square().mean().item() == pytest.approx(2 * x.square().mean().item(), rel=0.1)


def test_norms_become_the_identity_or_near_it():
    net = nn.Sequential(nn.BatchNorm2d(256), nn.InstanceNorm2d(256, affine=True), nn.InstanceNorm2d(8))
    with torch.no_grad():
        net[0].weight.fill_(7)
        net[0].bias.fill_(7)
    initialise(net, "he")
    assert (net[0].weight == 1).all()
    assert (net[0].bias == 0).all()
    initialise(net, "normal", gain=0.1)
    assert net[1].weight.mean().item() == pytest.approx(1, abs=0.03)
    assert net[1].weight.std().item() == pytest.approx(0.1, rel=0.15)


def test_weight_init_below_spectral_norm():
    net = nn.Linear(300, 200)
    add_spectral_norm(net)
    initialise(net, "normal", gain=0.5)
    assert parametrize.is_parametrized(net, "weight")
    assert net.parametrizations.weight.original.std().item() == pytest.approx(0.5, rel=0.03)


def test_a_rule_that_is_none():
    with pytest.raises(UsageError, match="no weight init 'orthogonal': choose from xavier, he, normal"):
        initialise(nn.Linear(1, 1), "orthogonal")
