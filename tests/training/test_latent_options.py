"""Every option of the recipes that begin with a latent does what it says."""

import math
from types import SimpleNamespace

import pytest
import torch
from latent_making import bars, latent_stream, latent_system
from torch import nn
from torch.nn.utils import parametrize

from gankit.training.losses import ADVERSARIAL
from gankit.training.penalties import gradient_penalty, r1_penalty
from gankit.training.recipes import recipe as recipe_named
from gankit.training.systems.latent_options import NORMS, from_preset
from gankit.training.systems.sampling import diversity, draw
from gankit.training.weight_init import INITS


@pytest.fixture
def images(tmp_path):
    return bars(tmp_path)


def stepped(system, images, steps=1, first=0):
    """What the last of some steps reports."""
    stream = latent_stream(system, images)(0)
    for index in range(first, first + steps):
        reported = system.step(next(stream), index)
    return {name: float(value) for name, value in reported.items()}


def steps_done(optimiser):
    return {int(state["step"]) for state in optimiser.state.values()}


def test_two_learning_rates_betas_and_weight_decay(images):
    system = latent_system("dcgan", images, lr=1e-3, discriminator_lr=3e-3, betas=(0.3, 0.8), weight_decay=0.1)
    groups = {name: optimiser.param_groups[0] for name, optimiser in system.optimisers.items()}
    assert (groups["generator"]["lr"], groups["discriminator"]["lr"]) == (1e-3, 3e-3)
    assert all((group["betas"], group["weight_decay"]) == ((0.3, 0.8), 0.1) for group in groups.values())
    same = latent_system("dcgan", images, lr=1e-3)
    assert all(optimiser.param_groups[0]["lr"] == 1e-3 for optimiser in same.optimisers.values())


def test_weight_decay_makes_weights_smaller(images):
    norms = []
    for decay in (0.0, 1.0):
        system = latent_system("gan", images, lr=1e-2, weight_decay=decay)
        stepped(system, images, 20)
        norms.append(sum(float(p.detach().square().sum()) for p in system.generator.parameters() if p.ndim > 1))
    assert norms[1] < norms[0] / 2


def test_the_optimiser(images):
    kinds = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}
    for name, kind in kinds.items():
        assert all(type(each) is kind for each in latent_system("gan", images, optimiser=name).optimisers.values())


@pytest.mark.parametrize("turns", [1, 3])
def test_discriminator_steps_for_each_of_the_generator(images, turns):
    system = latent_system("hinge", images, discriminator_steps=turns)
    stepped(system, images, 2)
    assert steps_done(system.optimisers["discriminator"]) == {2 * turns}
    assert steps_done(system.optimisers["generator"]) == {2}


def test_every_turn_has_its_own_images_and_latents(images):
    system = latent_system("wgan", images, discriminator_steps=2)
    given, drawn = [], []
    own, forward = system._discriminate, system._forward
    system._discriminate = lambda real, *rest: given.append(real) or own(real, *rest)
    system._forward = lambda latents, *rest: drawn.append(latents) or forward(latents, *rest)
    stepped(system, images)
    assert not torch.equal(*given)
    assert len({tuple(latents.flatten().tolist()) for latents in drawn}) == 3


def test_clip(images):
    system = latent_system("wgan", images, clip=0.01)
    stepped(system, images)
    assert max(float(p.detach().abs().max()) for p in system.modules["discriminator"].parameters()) <= 0.01


@pytest.mark.parametrize("recipe", ["gan", "cgan", "dcgan"])
def test_norms(images, recipe):
    for norm in NORMS[recipe]:
        net = latent_system(recipe, images, discriminator_norm=norm).modules["discriminator"]
        weighted = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        assert weighted
        assert all(parametrize.is_parametrized(layer, "weight") == (norm == "spectral") for layer in weighted)
    if recipe == "cgan":
        net = latent_system("cgan", images, discriminator_norm="spectral").modules["discriminator"]
        assert parametrize.is_parametrized(net.projection, "weight")


def test_batch_and_instance_norm(tmp_path):
    images = bars(tmp_path, 16)
    kinds = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}
    for norm, kind in kinds.items():
        net = latent_system("dcgan", images, discriminator_norm=norm, widths=(8, 6)).modules["discriminator"]
        assert sum(isinstance(layer, kind) for layer in net.modules()) == 1
    generator = latent_system("gan", images, norm="none", widths=(8, 8)).generator
    assert not any(isinstance(layer, nn.BatchNorm1d) for layer in generator.modules())


def test_projection_and_dropout(images):
    for given in (True, False):
        net = latent_system("cgan", images, projection=given).modules["discriminator"]
        assert (net.projection is not None) == given
    for recipe in ("gan", "cgan", "dcgan"):
        net = latent_system(recipe, images, discriminator_dropout=0.25).modules["discriminator"]
        assert {layer.p for layer in net.modules() if isinstance(layer, nn.Dropout | nn.Dropout2d)} == {0.25}
        x, classes = images.first(8)
        given = [classes] if recipe == "cgan" else []
        assert not torch.equal(net(x, *given), net(x, *given))


@pytest.mark.parametrize("init", INITS)
def test_weight_init(images, init):
    net = latent_system("gan", images, weight_init=init, widths=(512,)).generator
    first = net.layers[0]  # 4 -> 512
    wanted = {"xavier": math.sqrt(2 / 516), "he": math.sqrt(2 / 4), "normal": 0.02}[init]
    assert first.weight.std().item() == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_losses(images, name):
    """What is reported is the loss of the logits."""
    system = latent_system("dcgan", images, adversarial=name, discriminator_norm="none")
    net, generator = system.modules["discriminator"], system.generator
    items = next(latent_stream(system, images)(0))
    with torch.no_grad():
        real = net(items[0][0])
        fake = net(generator(torch.from_numpy(draw(0, 0, 16, 4))))
    wanted = float(ADVERSARIAL[name].discriminator(real, fake))
    assert float(system.step(items, 0)["discriminator"]) == pytest.approx(wanted, abs=1e-5)


def test_smoothing_adds_its_part_of_the_mean_logit(images):
    losses = [
        stepped(latent_system("gan", images, discriminator_dropout=0.0, smooth=smooth), images) for smooth in (0.0, 0.2)
    ]
    net = latent_system("gan", images, discriminator_dropout=0.0)
    real = next(latent_stream(net, images)(0))[0][0]
    added = 0.2 * net.modules["discriminator"](real).mean().item()
    assert losses[1]["discriminator"] - losses[0]["discriminator"] == pytest.approx(added, abs=1e-5)


@pytest.mark.parametrize(("option", "weight"), [("penalty_weight", 10.0), ("r1_weight", 3.0)])
def test_penalties_join_the_loss_with_their_weight(images, option, weight):
    """The gradient is that without the penalty and ``weight`` times the penalty's own."""
    gradients, reported = [], {}
    for given in ({}, {option: weight}):
        system = latent_system("hinge", images, discriminator_norm="none", weight_init="he", **given)
        net = system.modules["discriminator"]
        own = [(value.clone(), value) for value in net.parameters()]
        items = next(latent_stream(system, images)(0))
        torch.manual_seed(5)
        reported = system.step(items, 0)
        gradients.append([value.grad.clone() for value in net.parameters()])
    with torch.no_grad():
        for before, value in own:
            value.copy_(before)
        fresh = latent_system("hinge", images, discriminator_norm="none", weight_init="he")
        fake = fresh.generator(fresh.draw(0, 16, 4))
    torch.manual_seed(5)
    real = items[0][0]
    term = gradient_penalty(net, real, fake) if option == "penalty_weight" else r1_penalty(net, real)
    assert reported[option.removesuffix("_weight")].item() == pytest.approx(term.item(), rel=1e-5)
    added = torch.autograd.grad(weight * term, [value for _, value in own], allow_unused=True, materialize_grads=True)
    for plain, both, extra in zip(*gradients, added, strict=True):
        torch.testing.assert_close(both, plain + extra, atol=1e-4, rtol=1e-4)
    assert max(float(extra.abs().max()) for extra in added) > 0.01


def test_instance_noise_falls_to_nothing(images):
    system = latent_system("hinge", images, 10, discriminator_norm="none", instance_noise=0.5)
    seen = []
    system.modules["discriminator"].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    flat = [(torch.zeros(64, 1, 8, 8), torch.zeros(64, dtype=torch.int64))]
    for index, wanted in ((0, 0.5), (5, 0.25), (10, 0.0)):
        seen.clear()
        system.step(flat, index)
        assert len(seen) == 3  # real, made, made again
        assert seen[0].std().item() == pytest.approx(wanted, abs=0.02)
        assert any(x.abs().max() > 1 for x in seen) == bool(wanted)


def test_schedule_and_warmup(images):
    system = latent_system("gan", images, 100, schedule="linear", warmup=10)
    for schedule in system.schedules.values():
        assert [schedule(step) for step in (0, 4, 20, 75, 100)] == pytest.approx([0.1, 0.5, 1, 0.5, 0])


def test_the_vaes_terms(images):
    beta = latent_system("vae", images, kl_weight=4.0, kl_warmup=10)
    assert [beta.kl_weight(index) for index in (0, 4, 9, 50)] == pytest.approx([0.4, 2.0, 4.0, 4.0])
    assert latent_system("vae", images, kl_weight=2.0, kl_warmup=0).kl_weight(0) == 2.0
    half, ones = torch.full((3, 1, 8, 8), 0.5), torch.ones(3, 1, 8, 8)
    assert float(beta._distance(half, ones)) == pytest.approx(64 * math.log(2))
    assert float(latent_system("vae", images, loss="mse")._distance(half, ones)) == pytest.approx(64 * 0.125)


def test_a_larger_beta_says_less(images):
    """The latent of β = 20 holds less about the image."""
    ends = [stepped(latent_system("vae", images, kl_weight=b, lr=5e-3), images, 100)["kl"] for b in (0.1, 20.0)]
    assert ends[1] < ends[0] / 3


def test_presets():
    presets = {name: recipe_named(name).preset for name in ("dcgan", "wgan", "lsgan")}
    assert from_preset(presets["wgan"], {"steps": 1}).clip == 0.01
    assert from_preset(presets["dcgan"], {"steps": 1, "discriminator_norm": "none"}).discriminator_norm == "none"
    assert (
        from_preset(presets["lsgan"], {"steps": 1, "net": "gan"}).discriminator_norm == "none"
    )  # which has no BatchNorm


def test_draws_depend_on_seed_and_key():
    first = draw(1, 2, 1000, 20)
    assert (first == draw(1, 2, 1000, 20)).all()
    assert (draw(1, 2, 10, 20) == first[:10]).all()
    assert abs((first * draw(1, 3, 1000, 20)).mean()) < 0.03
    assert abs((first * draw(2, 2, 1000, 20)).mean()) < 0.03
    assert first.std() == pytest.approx(1, abs=0.02)


def test_diversity_is_the_distance_of_two_samples():
    samples = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    assert diversity(samples) == pytest.approx(1.0)
    random = torch.randn(200, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    pairs = (random[:, None] - random[None]).square().mean((2, 3, 4))
    wanted = math.sqrt(float(pairs.sum()) / (200 * 199))
    assert diversity(random) == pytest.approx(wanted, rel=1e-5)
    assert diversity(torch.ones(5, 1, 2, 2)) == 0


def test_devices_share_one_draw(images):
    system = latent_system("gan", images)
    whole = system.draw(7, 6, 4)
    parts = []
    for rank in (0, 1):
        system._fabric = SimpleNamespace(global_rank=rank, world_size=2, to_device=lambda x: x)
        parts.append(system.draw(7, 3, 4))
    assert torch.equal(torch.cat(parts), whole)
