"""EDSR: its weight init, its losses, its weights from run to run, and its adversarial stage."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from training_making import rows, same, score, stream

from gankit.checkpoints import open_model
from gankit.datasets.conditions import jpeg
from gankit.datasets.reduction import reduce
from gankit.datasets.synthetic import synthetic_image
from gankit.errors import UsageError
from gankit.evaluation.metrics import psnr_y
from gankit.models.edsr import EDSR
from gankit.training import losses
from gankit.training.fabric import Device, fabric_for
from gankit.training.loop import Plan
from gankit.training.superres import _adversarial, train_super_resolution
from gankit.training.superres_validation import INPUTS, UpscalingValidator
from gankit.training.systems.srgan import AdversarialSystem, ContentSystem
from gankit.training.systems.superres_options import AdversarialOptions, ContentOptions, PhotoData
from gankit.training.systems.upscalers import initialise_edsr

SMALL = {"blocks": 1, "channels": 8}
CPU = Device("cpu", "fp32")


def made(**options):
    torch.manual_seed(0)
    given = {"steps": 20, "network": "edsr", "model": SMALL, "warmup": 0, **options}
    return ContentSystem(ContentOptions(**given), fabric_for("cpu", "fp32"), score)


def run(folder, photos, recipe="edsr", steps=4, *, initial=None, degradation="photo", **options):
    data = PhotoData((photos,), photos, patch=8, batch=2, synthetic=0, degradation=degradation)
    own = {name: options.pop(name) for name in ("resume", "stop_after") if name in options}
    plan = Plan(steps, folder, validate_every=2, checkpoint_every=2, **own)
    fields = options if initial else {"model": SMALL, **options}
    return train_super_resolution(recipe, data, plan, device=CPU, initial=initial, options=fields)


def test_the_first_image_is_the_enlarged_input_and_residuals_are_small():
    torch.manual_seed(0)
    net = EDSR(EDSR.Options(channels=16, blocks=3))
    initialise_edsr(net)
    x = torch.rand(2, 3, 9, 7)
    with torch.no_grad():
        assert torch.equal(net(x), F.interpolate(x, scale_factor=4, mode="nearest"))
        features = net.head(x)
        for block in net.body:
            assert 0 < (block(features) - features).std() < 0.3 * features.std()


@pytest.mark.parametrize(
    ("tail", "share"), [("edsr", 0.6), pytest.param("direct", 0.9, marks=pytest.mark.slow)]
)  # one begins near, the other at black
def test_learns_what_it_is_shown(tail, share):
    """The loss of one batch falls, and every layer gets a gradient."""
    system = made(steps=120, mse_share=0.0, lr=2e-3, model={**SMALL, "tail": tail})
    batch = next(stream(batch=4, patch=12)(0))
    first, *_, last = (system.step(batch, index)["content"].item() for index in range(120))
    assert last < share * first
    system = made(model={**SMALL, "tail": tail})
    before = {name: value.clone() for name, value in system.generator.state_dict().items()}
    for index in range(3):
        system.step(batch, index)
    unchanged = [name for name, value in system.generator.state_dict().items() if torch.equal(value, before[name])]
    assert not unchanged


def test_the_last_tenth_learns_the_squared_error():
    system = made(mse_share=0.1)
    batch = next(stream()(0))
    low, high = (each.float() / 255 for each in batch)
    for index, wanted in ((0, F.l1_loss), (17, F.l1_loss), (18, F.mse_loss), (19, F.mse_loss)):
        with torch.no_grad():
            expected = wanted(system.generator(low), high)
        assert system.step(batch, index)["content"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_rate_ends_where_it_should():
    assert made(steps=100).schedules["generator"](100) == pytest.approx(0, abs=1e-12)
    rate = made(steps=100, final_rate=0.1, warmup=10).schedules["generator"]
    assert rate(0) == pytest.approx(0.1)
    assert rate(100) == pytest.approx(0.1)


def test_adam_is_fused_and_weights_are_channels_last():
    system = made()
    assert system.optimisers["generator"].defaults["fused"]
    assert system.generator.body[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_resumed_run_is_the_unbroken_one(tmp_path, photos):
    run(tmp_path / "whole", photos, steps=6)
    run(tmp_path / "parts", photos, steps=6, stop_after=0)
    whole, parts = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "parts"))
    assert (whole["step"], parts["step"]) == (6, 1)
    run(tmp_path / "parts", photos, steps=6, resume=True)
    parts = torch.load(tmp_path / "parts/last.pt", weights_only=True)
    for part in ("modules", "optimisers", "average"):
        assert same(whole[part], parts[part])


def test_the_weights_open_and_a_run_begins_from_them(tmp_path, photos):
    best = run(tmp_path / "clean", photos, degradation="clean")
    assert best["score"] > 5
    first = open_model(tmp_path / "clean/final.safetensors")
    assert isinstance(first.generator, EDSR)
    assert (first.facts.name, first.facts.options["channels"], first.facts.options["blocks"]) == ("edsr", 8, 1)
    run(tmp_path / "photo", photos, initial=tmp_path / "clean/final.safetensors", lr=1e-9)
    second = open_model(tmp_path / "photo/final.safetensors")
    for name, value in first.generator.state_dict().items():
        torch.testing.assert_close(second.generator.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    columns = {row[1] for row in rows(tmp_path / "photo/log.csv")}
    assert {f"validation_{name}" for name in ("score", "clean", "q50", "q75", "noise5_q75")} <= columns


def test_other_networks_are_refused(tmp_path, photos):
    with pytest.raises(UsageError, match="srresnet: is not an EDSR for RGB images, the only network"):
        run(tmp_path / "a", photos, initial="srresnet")
    run(tmp_path / "clean", photos, degradation="clean")
    weights = tmp_path / "clean/final.safetensors"
    with pytest.raises(UsageError, match="is not an SRResNet"):
        run(tmp_path / "b", photos, "srresnet", initial=weights)
    with pytest.raises(UsageError, match="its channels is 8, not 16: omit --channels"):
        run(tmp_path / "c", photos, initial=weights, model={"channels": 16})
    with pytest.raises(UsageError, match="which has no norms"):
        run(tmp_path / "d", photos, "srgan", initial=weights, norm="frozen")


def test_adversarial_training_of_an_edsr(tmp_path, photos):
    run(tmp_path / "clean", photos, degradation="clean")
    weights = tmp_path / "clean/final.safetensors"
    options = {"head_start": 1, "discriminator_channels": 4}
    assert run(tmp_path / "sharp", photos, "srgan", initial=weights, **options) == {}
    assert isinstance(open_model(tmp_path / "sharp/final.safetensors").generator, EDSR)
    content = torch.load(tmp_path / "sharp/last.pt", weights_only=True)
    assert content["settings"]["discriminator"] == "unet"
    assert content["settings"]["adversarial"] == "nonsaturating"
    assert content["settings"]["degradation"] == "photo"
    assert any("parametrizations" in name for name in content["modules"]["discriminator"])
    run(tmp_path / "sharp", photos, "srgan", steps=6, initial=weights, resume=True, **options)


def test_what_goes_with_the_network_and_the_discriminator_can_be_changed():
    assert _adversarial({"network": "edsr"}) == {
        "network": "edsr",
        "discriminator": "unet",
        "final_rate": 0.1,
        "adversarial": "nonsaturating",
        "adversarial_warmup": 1000,
    }
    assert _adversarial({}) == {}  # SRResNet stays as it was
    assert _adversarial({"discriminator": "unet", "adversarial": "hinge"})["adversarial"] == "hinge"
    assert _adversarial({"network": "edsr", "discriminator": "vgg"}) == {
        "network": "edsr",
        "discriminator": "vgg",
        "final_rate": 0.1,
    }


def adversarial(**options):
    torch.manual_seed(0)
    given = {"steps": 50, "head_start": 2, "discriminator_channels": 4, "network": "edsr", "model": SMALL, **options}
    return AdversarialSystem(AdversarialOptions(**given), fabric_for("cpu", "fp32"), score)


def test_the_adversarial_weight_rises_with_the_generators_steps():
    system = adversarial(adversarial_warmup=10, adversarial_weight=4e-3)
    assert system._adversarial_weight(2) == pytest.approx(4e-4)
    assert system._adversarial_weight(6) == pytest.approx(2e-3)
    assert system._adversarial_weight(11) == system._adversarial_weight(40) == pytest.approx(4e-3)
    assert adversarial()._adversarial_weight(2) == AdversarialOptions(steps=9).adversarial_weight


@pytest.mark.parametrize("degraded", [False, True])
def test_a_degraded_input_is_no_target(degraded):
    """The result is compared with what the input was before it was degraded."""
    system = adversarial(discriminator="unet", degraded=degraded)
    low, high = next(stream()(0))
    low = 255 - low  # a degradation if there ever was one
    with torch.no_grad():
        result = system.generator(low.float() / 255)
    target = losses.reduced(high.float() / 255, 4) if degraded else low.float() / 255
    wanted = F.l1_loss(losses.reduced(result, 4), target)
    reported = system.step((low, high), 2)
    assert reported["consistency"].item() == pytest.approx(wanted.item(), rel=1e-3)


def test_batchnorm_is_not_for_the_unet():
    with pytest.raises(UsageError, match="omit --discriminator-norm"):
        adversarial(discriminator="unet", discriminator_norm="batch")


class Nearest(nn.Module):
    def forward(self, x):
        return F.interpolate(x, scale_factor=4, mode="nearest")


def test_the_validation_is_psnr_y_of_each_input(tmp_path):
    images = [synthetic_image(seed, size=side) for seed, side in ((1, 96), (2, 131))]
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    found = UpscalingValidator(tmp_path, 4, fabric_for("cpu", "fp32"), "photo")(Nearest())
    assert list(found) == ["score", *INPUTS["photo"]]
    wanted = {"clean": [], "q50": []}
    for image in images:
        large, small = reduce(image, 4)
        for name, low in (("clean", small), ("q50", jpeg(small, 50, subsampled=True))):
            wanted[name].append(psnr_y(low.repeat(4, 0).repeat(4, 1), large, 4))
    for name, values in wanted.items():
        assert found[name] == pytest.approx(np.mean(values), abs=1e-4)
    assert found["score"] == pytest.approx(np.mean([found[name] for name in INPUTS["photo"]]))
    assert found["clean"] > found["q75"] > found["q50"]
    again = UpscalingValidator(tmp_path, 4, fabric_for("cpu", "fp32"), "photo")(Nearest())
    assert again == found
    clean = UpscalingValidator(tmp_path, 4, fabric_for("cpu", "fp32"))(Nearest())
    assert clean == {"score": pytest.approx(found["clean"])}
