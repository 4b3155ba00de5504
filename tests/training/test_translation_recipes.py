"""pix2pix and CycleGAN: one step against the papers' formulas, what each option does, resume exact."""

import copy
import itertools

import pytest
import torch
from torch.nn import functional as F
from training_making import rows, same
from translation_making import blobs, cyclegan, pix2pix, tissue

from gankit.checkpoints import open_model
from gankit.datasets.crops import PairedCrops, UnpairedCrops
from gankit.datasets.options import Cut
from gankit.errors import UsageError
from gankit.training.fabric import fabric_for
from gankit.training.loader import batches
from gankit.training.loop import Plan, fit
from gankit.training.systems import adversary
from gankit.training.systems import cyclegan as recipes_cyclegan
from gankit.training.systems import pix2pix as recipes_pix2pix
from gankit.training.validators import CycleValidator

CUT = Cut(16, (1.0, 1.2))


def batch(seed=0, channels=(3, 1), count=2, side=16):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randint(0, 256, (count, each, side, side), generator=generator, dtype=torch.uint8) for each in channels
    )


def floats(images):
    return [each.float() / 127.5 - 1 for each in images]


def paired(start):
    masks = [blobs(seed) for seed in range(3)]
    return batches(PairedCrops([(tissue(mask, 0), mask[..., None]) for mask in masks], CUT, seed=1), 2, start)


def unpaired(start):
    masks = [blobs(seed) for seed in range(3)]
    first, second = [tissue(mask, 0) for mask in masks], [255 - tissue(mask, 0) for mask in masks]
    return batches(UnpairedCrops(first, second, CUT, seed=1), 1, start)


def distance(first, second):
    """The largest difference between two state dicts."""
    return max(float((value - second[name]).abs().max()) for name, value in first.items())


@pytest.fixture
def sgd(monkeypatch):
    """Plain gradient descent in place of Adam, which makes a step of the noise in a gradient of nothing."""

    def made(module, options=None, rate=None):
        return torch.optim.SGD(module.parameters(), lr=0.1)

    for recipe in (adversary, recipes_pix2pix, recipes_cyclegan):
        monkeypatch.setattr(recipe, "adam", made)
    return made


def test_a_step_of_pix2pix_is_the_papers(sgd):
    """Isola et al. 2017, equation 4, with the non-saturating generator, by plain torch."""
    system = pix2pix(model={"dropout": False})
    net, discriminator = copy.deepcopy(system.generator), copy.deepcopy(system.modules["discriminator"])
    before = copy.deepcopy(net.state_dict())
    images = batch()
    reported = system.step(images, 0)

    source, target = floats(images)
    made = net(source)
    optimiser = sgd(discriminator)
    real, fake = discriminator(torch.cat([source, target], 1)), discriminator(torch.cat([source, made.detach()], 1))
    loss = -(torch.sigmoid(real).log().mean() + (1 - torch.sigmoid(fake)).log().mean()) / 2
    loss.backward()
    optimiser.step()
    assert float(reported["discriminator"]) == pytest.approx(loss.item(), rel=1e-5)
    assert distance(system.modules["discriminator"].state_dict(), discriminator.state_dict()) < 1e-6

    optimiser = sgd(net)
    adversarial = -torch.sigmoid(discriminator(torch.cat([source, made], 1))).log().mean()
    content = (made - target).abs().mean()
    (adversarial + 100 * content).backward()
    optimiser.step()
    assert float(reported["adversarial"]) == pytest.approx(adversarial.item(), rel=1e-5)
    assert float(reported["content"]) == pytest.approx(content.item(), rel=1e-5)
    assert distance(system.generator.state_dict(), net.state_dict()) < 1e-5 < 0.01 < distance(before, net.state_dict())


def test_a_step_of_cyclegan_is_the_papers(sgd):
    """Zhu et al. 2017, equations 1 to 3 with LSGAN and section 5.2's identity, by plain torch."""
    system = cyclegan(image_pool=0)
    pair = copy.deepcopy(system.generator)
    discriminator_a, discriminator_b = (copy.deepcopy(system.modules[f"discriminator_{side}"]) for side in "ab")
    images = batch(channels=(3, 3), count=1)
    reported = system.step(images, 0)

    a, b = floats(images)
    made_b, made_a = pair.a_to_b(a), pair.b_to_a(b)
    adversarial = (discriminator_b(made_b) - 1).square().mean() + (discriminator_a(made_a) - 1).square().mean()
    cycle = F.l1_loss(pair.b_to_a(made_b), a) + F.l1_loss(pair.a_to_b(made_a), b)
    identity = F.l1_loss(pair.a_to_b(b), b) + F.l1_loss(pair.b_to_a(a), a)
    optimiser, before = sgd(pair), copy.deepcopy(pair.state_dict())
    (adversarial + 10 * cycle + 5 * identity).backward()
    optimiser.step()
    assert float(reported["adversarial"]) == pytest.approx(adversarial.item() / 2, rel=1e-5)
    assert float(reported["cycle"]) == pytest.approx(cycle.item(), rel=1e-5)
    assert float(reported["identity"]) == pytest.approx(identity.item(), rel=1e-5)
    assert (
        distance(system.generator.state_dict(), pair.state_dict()) < 1e-5 < 0.01 < distance(before, pair.state_dict())
    )

    for side, discriminator, real, made in (("a", discriminator_a, a, made_a), ("b", discriminator_b, b, made_b)):
        discriminator.zero_grad()
        loss = ((discriminator(real) - 1).square().mean() + discriminator(made.detach()).square().mean()) / 2
        (loss / 2).backward()
        sgd(discriminator).step()
        assert float(reported[f"discriminator_{side}"]) == pytest.approx(loss.item() / 2, rel=1e-5)
        assert distance(system.modules[f"discriminator_{side}"].state_dict(), discriminator.state_dict()) < 1e-6


def test_no_identity_is_no_pass():
    system = cyclegan(identity_weight=0.0, model={"in_channels": 1, "out_channels": 3})
    assert set(system.step(batch(channels=(1, 3), count=1), 0)) == {
        "adversarial",
        "cycle",
        "discriminator_a",
        "discriminator_b",
    }
    with pytest.raises(UsageError, match="as many channels in A as in B, not 1 and 3"):
        cyclegan(model={"in_channels": 1, "out_channels": 3})


def test_batch_norm_has_the_statistics_of_one_kind_of_image():
    """Images of A and B, real and made, are then normalised apart, as published."""
    system = cyclegan(model={"norm": "batch"}, discriminator_norm="batch")
    seen = []
    discriminator = system.modules["discriminator_a"]
    discriminator.model[0].register_forward_hook(lambda layer, inputs, output: seen.append(len(inputs[0])))
    system.generator.a_to_b.model[1].register_forward_hook(lambda layer, inputs, output: seen.append(len(inputs[0])))
    system.step(batch(channels=(3, 3), count=2), 0)
    assert set(seen) == {2}


@pytest.mark.parametrize("loss", ["nonsaturating", "minimax", "lsgan", "wasserstein", "hinge"])
def test_every_game_can_be_played(loss):
    system = pix2pix(adversarial=loss)
    before = copy.deepcopy(system.modules["discriminator"].state_dict())
    found = [system.step(batch(), index) for index in range(2)]
    assert all(bool(torch.isfinite(value)) for each in found for value in each.values())
    assert distance(system.modules["discriminator"].state_dict(), before) > 1e-5


def test_unknown_names_are_reported():
    with pytest.raises(UsageError, match="choose from minimax, nonsaturating"):
        pix2pix(adversarial="ls")
    with pytest.raises(UsageError, match="choose from l1, mse"):
        pix2pix(content="l2")
    with pytest.raises(UsageError, match="no labels to smooth"):
        pix2pix(adversarial="hinge", smooth=0.1)


def test_discriminator_options():
    """Learning rates apart, several steps, decay, weight init and width."""
    system = pix2pix(
        discriminator_lr=1e-3, lr=1e-4, discriminator_steps=3, weight_decay=0.1, betas=(0.0, 0.9), weight_init="he"
    )
    system.step(batch(), 0)
    discriminator, net = system.optimisers["discriminator"], system.optimisers["generator"]
    assert (discriminator.param_groups[0]["lr"], net.param_groups[0]["lr"]) == (1e-3, 1e-4)
    assert {float(state["step"]) for state in discriminator.state.values()} == {3}
    assert {float(state["step"]) for state in net.state.values()} == {1}
    assert net.param_groups[0]["weight_decay"] == discriminator.param_groups[0]["weight_decay"] == 0.1
    assert net.param_groups[0]["betas"] == (0.0, 0.9)
    first = system.modules["discriminator"].model[0].weight
    assert float(first.detach().std()) == pytest.approx((2 / (4 * 4 * 4)) ** 0.5, rel=0.2)  # he, of 4 channels and 4×4


def test_no_adversary():
    system = pix2pix(adversarial_weight=0.0)
    assert set(system.modules) == set(system.optimisers) == {"generator"}
    assert set(system.step(batch(), 0)) == {"content"}


def test_spectral_and_single_pixels():
    system = pix2pix(discriminator_norm="spectral")
    for index in range(20):
        system.step(batch(index), index)
    weights = [
        layer.weight.detach().flatten(1) for layer in system.modules["discriminator"].model if hasattr(layer, "weight")
    ]
    assert all(float(torch.linalg.matrix_norm(weight, 2)) == pytest.approx(1, abs=0.1) for weight in weights)
    discriminator = pix2pix(discriminator_layers=0).modules["discriminator"]
    assert discriminator(torch.rand(1, 4, 5, 7)).shape == (1, 1, 5, 7)


def test_smoothing_moves_the_target_of_real_images_only():
    plain, smoothed = (pix2pix(adversarial="lsgan", smooth=smooth, instance_noise=0.0) for smooth in (0.0, 0.25))
    source, target = floats(batch())
    real = torch.cat([source, target], 1)
    logits = plain.modules["discriminator"](real).detach()
    change = ((logits - 0.75).square().mean() - (logits - 1).square().mean()) / 4
    losses = [float(each._adversary.learn(real, torch.zeros_like(real), 0)) for each in (plain, smoothed)]
    assert losses[1] - losses[0] == pytest.approx(change.item(), abs=1e-6)


def test_penalties_add_to_the_loss():
    real = torch.cat(floats(batch()), 1)
    plain, r1, slope = (
        float(pix2pix(**weight)._adversary.learn(real, -real, 0))
        for weight in ({}, {"r1_weight": 100.0}, {"penalty_weight": 10.0})
    )
    discriminator = pix2pix().modules["discriminator"]
    x = real.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(x).sum(), x)
    wanted = 100 * gradient.square().sum((1, 2, 3)).mean().item() / 2
    assert wanted > 1e-3
    assert r1 - plain == pytest.approx(wanted, rel=1e-2)
    assert slope - plain > 1  # of slopes near 0, the penalty is 10 · (0 - 1)²


def test_noise_is_on_all_that_the_discriminator_sees_and_fades():
    system = pix2pix(steps=10, instance_noise=0.5)
    seen = []
    system.modules["discriminator"].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    x = torch.zeros(2, 4, 16, 16)
    for step, deviation in ((0, 0.5), (5, 0.25), (10, 0.0)):
        seen.clear()
        system._adversary.learn(x, x, step)
        system._adversary.fooled(x, step)
        assert [float(each.std()) for each in seen] == pytest.approx([deviation] * 2, rel=0.1)


def test_the_generators_gradient_leaves_the_discriminator_alone():
    system = pix2pix()
    made = torch.rand(2, 4, 16, 16, requires_grad=True)
    system._adversary.fooled(made, 0).backward()
    assert float(made.grad.abs().max()) > 0
    discriminator = system.modules["discriminator"]
    assert all(each.grad is None and each.requires_grad for each in discriminator.parameters())


def test_schedules_reach_all_optimisers():
    system = cyclegan(steps=100)
    assert {name: (each(0), each(75)) for name, each in system.schedules.items()} == {
        name: (1.0, pytest.approx(0.5)) for name in ("generator", "discriminator_a", "discriminator_b")
    }
    assert pix2pix(steps=100, schedule="cosine", warmup=10).schedules["generator"](4) == pytest.approx(0.5, abs=0.01)


def test_the_pool_gives_old_images_to_the_discriminators():
    system = cyclegan(image_pool=2)
    seen = []
    learn = system._adversaries["b"].learn
    system._adversaries["b"].learn = lambda real, made, step: seen.append(made) or learn(real, made, step)
    images = [batch(index, (3, 3), 1) for index in range(12)]
    own = []
    for index, each in enumerate(images):
        with torch.no_grad():
            own.append(system.generator.a_to_b(floats(each)[0]))
        system.step(each, index)
    new = [torch.allclose(ours, shown, atol=1e-5) for ours, shown in zip(own, seen, strict=True)]
    assert all(new[:2])
    assert not all(new)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "stream"),
    [
        (pix2pix, paired),
        (cyclegan, unpaired),
        (lambda: pix2pix(instance_noise=0.2, r1_weight=0.1, discriminator_norm="spectral"), paired),
        (lambda: cyclegan(image_pool=3, model={"dropout": 0.5}), unpaired),
    ],
)
def test_ten_and_ten_steps_are_twenty(tmp_path, make, stream):
    fit(make(), stream, Plan(20, tmp_path / "whole", validate_every=10))
    fit(make(), stream, Plan(10, tmp_path / "parts", validate_every=10))
    fit(make(), stream, Plan(20, tmp_path / "parts", validate_every=10, resume=True))
    whole, parts = (torch.load(tmp_path / each / "last.pt", weights_only=True) for each in ("whole", "parts"))
    assert whole["step"] == 20
    assert same(whole, parts)
    assert rows(tmp_path / "whole/log.csv") == rows(tmp_path / "parts/log.csv")


@pytest.mark.slow
def test_pix2pix_learns(tmp_path):
    """Violet discs on lilac to masks: an L1 of 1 is what gray everywhere has."""
    system = pix2pix(120, lr=2e-3, model={"channels": 8})
    seen = []
    fit(system, paired, Plan(120, tmp_path), lambda progress: seen.append(progress.losses["content"]))
    assert sum(seen[:5]) / 5 > 0.6
    assert sum(seen[-20:]) / 20 < 0.3


@pytest.mark.slow
def test_cyclegan_learns(tmp_path):
    """The way back keeps more of an image than gray would, and the colours come nearer to the other side's."""
    system = cyclegan(120, lr=2e-3)
    first = [tissue(blobs(seed), 0) for seed in range(3)]
    validator = CycleValidator(first, [255 - each for each in first], fabric_for("cpu", "fp32"))
    before = validator(system.generator.eval())
    system.generator.train()
    seen = []
    fit(system, unpaired, Plan(120, tmp_path, average=0), lambda progress: seen.append(progress.losses["cycle"]))
    assert sum(seen[-20:]) / 20 < 0.6 * seen[0]
    after = validator(system.generator.eval())
    assert after["values_a"] + after["values_b"] < 0.7 * (before["values_a"] + before["values_b"]), (before, after)


def test_both_directions_are_saved_and_opened(tmp_path):
    system = cyclegan(model={"in_channels": 1, "out_channels": 3}, identity_weight=0.0)
    system.save_generator(tmp_path / "final.safetensors", system.generator.state_dict(), {"score": "1"})
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["final_G_A.safetensors", "final_G_B.safetensors"]
    nets = {"AtoB": system.generator.a_to_b, "BtoA": system.generator.b_to_a}
    for file, (direction, net) in itertools.product(files, nets.items()):
        loaded = open_model(tmp_path / file, direction=direction)
        x = torch.rand(1, 1 if direction == "AtoB" else 3, 16, 16)
        assert loaded.generator(x).shape[1] == (3 if direction == "AtoB" else 1)
        assert torch.allclose(loaded.generator(x), net(x), atol=2e-3)
