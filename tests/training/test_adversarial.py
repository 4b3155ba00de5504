"""The losses of a game against closed forms, torch's own and the solutions of the papers."""

import math

import pytest
import torch
from torch.nn import functional as F

from gankit.errors import UsageError
from gankit.training import losses
from gankit.training.losses import ADVERSARIAL


@pytest.fixture(params=[(6,), (3, 1), (2, 1, 4, 5)])
def logits(request):
    torch.manual_seed(0)
    return tuple(torch.randn(request.param, dtype=torch.float64) * 3 for _ in range(2))


@pytest.mark.parametrize("smooth", [0.0, 0.1])
def test_bce_is_torchs(logits, smooth):
    real, fake = logits
    wanted = F.binary_cross_entropy_with_logits(real, torch.full_like(real, 1 - smooth))
    wanted = wanted + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    torch.testing.assert_close(losses.bce_discriminator(real, fake, smooth), wanted)


def test_smoothing_moves_the_best_logit_of_real_images_alone():
    """The minimum of -(1 - s)·log σ(x) - s·log(1 - σ(x)) is where σ(x) = 1 - s; that of made ones stays at -∞."""
    best = torch.tensor([math.log(0.9 / 0.1)], requires_grad=True)
    fake = torch.tensor([0.0], requires_grad=True)
    losses.bce_discriminator(best, fake, 0.1).backward()
    assert best.grad.item() == pytest.approx(0, abs=1e-6)
    assert fake.grad.item() == pytest.approx(0.5)
    best = torch.tensor([0.9], requires_grad=True)
    losses.lsgan_discriminator(best, fake, 0.1).backward()
    assert best.grad.item() == pytest.approx(0, abs=1e-7)


def test_generators_are_the_papers(logits):
    _, fake = logits
    sigma = torch.sigmoid(fake)
    torch.testing.assert_close(losses.minimax_generator(fake), torch.log(1 - sigma).mean())
    torch.testing.assert_close(losses.nonsaturating_generator(fake), -torch.log(sigma).mean())
    torch.testing.assert_close(losses.lsgan_generator(fake), 0.5 * F.mse_loss(fake, torch.ones_like(fake)))
    for loss in (losses.wasserstein_generator, losses.hinge_generator):
        torch.testing.assert_close(loss(fake), -fake.mean())


def test_lsgan_wasserstein_and_hinge_by_hand():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, -0.5, 1.0])
    assert losses.lsgan_discriminator(real, fake).item() == pytest.approx(
        0.5 * (1 + 0.25 + 4) / 3 + 0.5 * (4 + 0.25 + 1) / 3
    )
    assert losses.lsgan_discriminator(real, fake, 0.5).item() == pytest.approx(
        0.5 * (2.25 + 0 + 2.25) / 3 + 0.5 * (4 + 0.25 + 1) / 3
    )
    assert losses.wasserstein_discriminator(real, fake).item() == pytest.approx(-0.5 - 0.5)
    assert losses.hinge_discriminator(real, fake).item() == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 0.5 + 2) / 3)


def test_the_saturating_gradient_vanishes_where_the_discriminator_has_won():
    slopes = {}
    for name in ("minimax", "nonsaturating"):
        fake = torch.tensor([-8.0], requires_grad=True)
        ADVERSARIAL[name].generator(fake).backward()
        slopes[name] = fake.grad.item()
    assert slopes["minimax"] == pytest.approx(-1 / (1 + math.exp(8)))
    assert slopes["nonsaturating"] == pytest.approx(-1 / (1 + math.exp(-8)))


@pytest.mark.parametrize("name", sorted(ADVERSARIAL))
def test_every_game_pulls_apart_and_together(name):
    """Discriminators want real above fake, generators want fake higher; extreme logits stay finite."""
    loss = ADVERSARIAL[name]
    assert loss.name == name
    real, fake = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    loss.discriminator(real, fake).backward()
    assert (real.grad < 0).all()
    assert name == "lsgan" or (fake.grad > 0).all()
    fake = torch.zeros(3, requires_grad=True)
    loss.generator(fake).backward()
    assert (fake.grad < 0).all()
    high, low = torch.full((3,), 300.0), torch.full((3,), -300.0)
    assert math.isfinite(loss.discriminator(low, high).item())
    assert math.isfinite(loss.generator(low).item())


def test_smoothed_games():
    for name in ("minimax", "nonsaturating", "lsgan"):
        loss = ADVERSARIAL[name]
        real, fake = torch.tensor([1.5]), torch.tensor([-0.5])
        assert loss.smoothed(0.1).discriminator(real, fake) != loss.discriminator(real, fake)
        assert loss.smoothed(0.1).generator(fake) == loss.generator(fake)
        assert loss.smoothed(0.0) == loss
        for wrong in (1.0, -0.1):
            with pytest.raises(UsageError, match=r"smoothing of .* is out of range"):
                loss.smoothed(wrong)
    for name in ("wasserstein", "hinge"):
        with pytest.raises(UsageError, match=rf"the {name} loss has no labels to smooth.*lsgan"):
            ADVERSARIAL[name].smoothed(0.1)
        assert ADVERSARIAL[name].smoothed(0.0) is ADVERSARIAL[name]


def test_kl_against_torchs_distributions():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    ours = torch.distributions.Normal(mean, (log_variance / 2).exp())
    wanted = torch.distributions.kl_divergence(ours, torch.distributions.Normal(0.0, 1.0)).sum(dim=1).mean()
    torch.testing.assert_close(losses.kl_standard_normal(mean, log_variance), wanted)
    assert losses.kl_standard_normal(torch.zeros(2, 3), torch.zeros(2, 3)) == 0


def test_bce_of_pixels():
    result, target = torch.tensor([[0.5, 0.9], [0.1, 1.0]]), torch.tensor([[0.0, 1.0], [0.3, 1.0]])
    wanted = math.log(2) - math.log(0.9) - 0.3 * math.log(0.1) - 0.7 * math.log(0.9)
    assert losses.bce_pixels(result, target).item() == pytest.approx(wanted / 2, rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert losses.bce_pixels(result.bfloat16(), target).dtype == torch.float32
    assert losses.bce_pixels(torch.zeros(1, 1), torch.ones(1, 1)).item() == 100  # torch's bound on the logarithm
