"""How the adversarial stage is paced, validated and kept; Toy nets, real loop."""

import pytest
import torch
from torch import nn
from training_making import SMALL, Toy, ones, rows, stream, system

from gankit.errors import UsageError
from gankit.models.srgan import SRResNet
from gankit.training import losses
from gankit.training.fabric import Device
from gankit.training.loop import Plan, fit
from gankit.training.srresnet import freeze_norms, has_frozen_norms, initialise
from gankit.training.superres import train_super_resolution
from gankit.training.systems.superres_options import PhotoData


def test_generator_warms_up_after_the_head_start_and_both_end_at_nothing():
    made = system("srgan", 1100, head_start=100)
    generator, discriminator = made.schedules["generator"], made.schedules["discriminator"]
    assert generator(100) == pytest.approx(0.01)
    assert generator(149) == pytest.approx(0.5, rel=0.01)
    assert generator(600) == pytest.approx(0.5)
    assert discriminator(99) > 0.9
    assert generator(1100) == pytest.approx(0, abs=1e-12)
    assert discriminator(1100) == pytest.approx(0, abs=1e-12)


def test_adversarial_training_keeps_no_best_and_validates_after_the_head_start(tmp_path):
    best = fit(system("srgan", 12, head_start=8), stream(), Plan(12, tmp_path, validate_every=4))
    assert best == {}
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "log.csv", "final.safetensors"}
    assert [row[0] for row in rows(tmp_path / "log.csv") if row[1] == "validation_score"] == ["12"]


def test_steps_after_the_head_start_are_validated(tmp_path):
    toy = Toy()
    toy.head_start = 4
    fit(toy, ones, Plan(8, tmp_path, validate_every=2))
    assert len(toy.validated) == 2


def test_frozen_norms_are_reported():
    net = SRResNet(SRResNet.Options(scale=2, **SMALL))
    initialise(net, "frozen")
    nn.init.normal_(net.neck[1].bias)
    assert has_frozen_norms(net)
    net.neck[1].running_mean[0] = 1e-3
    assert not has_frozen_norms(net)
    freeze_norms(net)
    assert has_frozen_norms(net)
    initialise(other := SRResNet(SRResNet.Options(scale=2, **SMALL)), "batch")
    assert not has_frozen_norms(other)


@pytest.mark.parametrize("recipe", ["srresnet", "srgan"])
def test_workers_give_the_same_weights(tmp_path, recipe):
    states = []
    for workers in (0, 2):
        made = system(recipe, 6)
        fit(made, stream(workers=workers), Plan(6, tmp_path / str(workers), validate_every=100))
        states.append(made.generator.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("recipe", ["srresnet", "edsr", "srgan"])
def test_trains_and_resumes_on_cuda(tmp_path, photos, recipe):
    options = {"model": SMALL}
    if recipe == "srgan":
        options |= {"head_start": 1, "discriminator_channels": 4}
    for steps, resume in ((3, False), (6, True)):
        plan = Plan(steps, tmp_path / "run", validate_every=2, resume=resume)
        data = PhotoData((photos,), photos, patch=8, batch=2, synthetic=0)
        train_super_resolution(recipe, data, plan, device=Device("cuda"), options=options)
    content = torch.load(tmp_path / "run/last.pt", weights_only=True)
    assert content["step"] == 6
    values = content["modules"]["generator"].values()
    assert all(bool(torch.isfinite(value).all()) for value in values)
    assert (tmp_path / "run/final.safetensors").exists()


def gradients(**options):
    """Of the discriminator after one step, and what the step reported."""
    made = system("srgan", 20, head_start=0, **options)
    torch.manual_seed(3)
    reported = made.step(next(stream()(0)), 0)
    return [parameter.grad for parameter in made.modules["discriminator"].parameters()], reported


@pytest.mark.parametrize("loss", ["minimax", "nonsaturating", "lsgan", "wasserstein", "hinge"])
def test_the_game_is_the_named_one(loss):
    # without spectral norm, whose power iterations go on with every pass
    made = system("srgan", 20, head_start=0, adversarial=loss, discriminator_norm="batch")
    batch = next(stream()(0))
    low, high = (each.float() / 255 for each in batch)
    game = losses.ADVERSARIAL[loss]
    with torch.no_grad():
        fake = made.generator.eval()(low)  # whose frozen norms do nothing
        made.generator.train()
        net = made.modules["discriminator"]
        wanted = game.discriminator(net(high), net(fake))
    reported = made.step(batch, 0)
    assert reported["discriminator"].item() == pytest.approx(wanted.item(), rel=1e-3, abs=1e-4)
    with torch.no_grad():
        after = game.generator(net(fake))
    assert reported["adversarial"].item() == pytest.approx(after.item(), rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("option", ["r1_weight", "penalty_weight"])
def test_penalties_change_the_discriminator_and_are_reported(option):
    plain, without = gradients()
    changed, reported = gradients(**{option: 10.0})
    assert set(reported) - set(without) == {option.removesuffix("_weight")}
    assert any(not torch.allclose(a, b) for a, b in zip(plain, changed, strict=True))


def test_smoothing_and_noise_reach_the_discriminator():
    plain, _ = gradients(adversarial="lsgan")
    for options in ({"smooth": 0.3}, {"instance_noise": 0.2}):
        changed, _ = gradients(adversarial="lsgan", **options)
        assert any(not torch.allclose(a, b) for a, b in zip(plain, changed, strict=True))


def test_clipping_turns_and_rates():
    made = system("srgan", 20, head_start=0, clip=0.01, discriminator_steps=3, betas=(0.5, 0.8), weight_decay=0.1)
    made.step(next(stream()(0)), 0)
    assert max(float(each.detach().abs().max()) for each in made.modules["discriminator"].parameters()) <= 0.01 + 1e-6
    optimiser = made.optimisers["discriminator"]
    assert {int(state["step"]) for state in optimiser.state.values()} == {3}
    for group in (optimiser.param_groups[0], made.optimisers["generator"].param_groups[-1]):
        assert (group["betas"], group["weight_decay"]) == ((0.5, 0.8), 0.1)
    rate = system("srgan", 1000, head_start=0, schedule="linear", warmup=0).schedules["discriminator"]
    assert [rate(0), rate(500), rate(750)] == [1, 1, pytest.approx(0.5)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"smooth": 0.1}, "relativistic loss has no labels to smooth"),
        ({"smooth": 0.1, "adversarial": "hinge"}, "no labels to smooth"),
        ({"adversarial": "other"}, "unknown --adversarial 'other': choose from relativistic, minimax"),
        ({"penalty_weight": 1.0, "discriminator_norm": "batch"}, "BatchNorm mixes them"),
    ],
)
def test_options_that_do_not_go_together(options, words):
    with pytest.raises(UsageError, match=words):
        system("srgan", 20, head_start=0, **options)
