"""ESRGAN, SRVGG, EDSR, the MSRResNets and Fast-SRGAN: what holds for every upscaler."""

import pytest
import torch
from gankit_export.receptive_field import halo
from gankit_export.rewrites import for_inference
from torch import nn

from gankit import models
from gankit.backends.base import EngineSpec
from gankit.backends.choice.parity import compare, reference
from gankit.backends.cpu.instructions import bf16_on_cpu
from gankit.backends.cpu.streaming import Stream
from gankit.backends.eager import EagerBackend
from gankit.models.edsr import DIV2K_MEAN
from gankit.models.values import MEAN, STD, Standardise
from tests.models.test_receptive_field import seen

SMALL = {"channels": 8, "blocks": 2}
RRDB = {"channels": 6, "growth": 4, "blocks": 1}
NETS = {
    "esrgan": ("esrgan", RRDB),
    "esrgan ×2": ("esrgan", {**RRDB, "scale": 2, "unshuffle": 2}),
    "esrgan ×1": ("esrgan", {**RRDB, "scale": 1, "unshuffle": 4}),
    "esrgan ×3": ("esrgan", {**RRDB, "scale": 3}),
    "esrgan shuffled": ("esrgan", {**RRDB, "upsampler": "shuffle", "slope": 0.01, "values_in": "imagenet"}),
    "srvgg": ("srvgg", {"channels": 8, "convs": 3}),
    "srvgg leaky": ("srvgg", {"channels": 8, "convs": 3, "scale": 2, "activation": "leaky"}),
    "edsr": ("edsr", SMALL),
    "edsr ×3": ("edsr", {**SMALL, "scale": 3, "mean": [0.4, 0.5, 0.6]}),
    "edsr as published": ("edsr", {**SMALL, "tail": "edsr", "mean": DIV2K_MEAN}),
    "edsr as published ×3": ("edsr", {**SMALL, "scale": 3, "tail": "edsr", "mean": DIV2K_MEAN, "res_scale": 0.1}),
    "edsr as published ×1": ("edsr", {**SMALL, "scale": 1, "tail": "edsr"}),
    "msrresnet": ("msrresnet", SMALL),
    "msrresnet ×3": ("msrresnet", {**SMALL, "scale": 3}),
    "msrresnet of mmagic": ("msrresnet", {**SMALL, "scale": 2, "activated": False}),
    "msrresnet0": ("msrresnet0", {**SMALL, "slope": 0.2}),
    "msrresnet0 shuffled": ("msrresnet0", {**SMALL, "scale": 2, "upsampler": "shuffle"}),
    "fast_srgan": ("fast_srgan", {**SMALL, "norm": "batch"}),
    "srgan of leftthomas": ("srgan", {**SMALL, "scale": 2, "neck": "prelu", "slopes": "channel", "output": "tanh"}),
    "srgan of eriklindernoren": (
        "srgan",
        {**SMALL, "scale": 2, "bn_eps": 0.8, "values_in": "imagenet", "output": "tanh-imagenet"},
    ),
}


def built(key):
    """In eval mode, with weights large enough that every layer shows, and an output around 0.5."""
    name, options = NETS[key]
    torch.manual_seed(0)
    net = models.build(name, options).eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0, 0.7 * module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -0.1, 0.1)
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    return net, models.facts(name, options)


def streamed(module, image, scale, strip_bytes):
    """In strips, after another image that must leave nothing behind."""
    stream, rows = Stream(module, strip_bytes), []
    with torch.inference_mode():
        stream.run(torch.rand(1, 3, 36, 8), lambda part: part, lambda part, row: None)
        stream.run(image, lambda part: part, lambda part, row: rows.append((row, part.clone())))
    assert [row for row, _ in rows] == [sum(part.shape[2] for _, part in rows[:index]) for index in range(len(rows))]
    return torch.cat([part for _, part in rows], 2)


@pytest.mark.parametrize("key", NETS)
def test_the_halo_is_what_the_gradient_reaches(key):
    net, facts = built(key)
    size = 8 * (halo(net) // 4 + 2)  # wider than the halo on both sides of the middle, which begins a folded pixel
    assert seen(net, facts.scale, size) == halo(net)
    assert halo(net) == halo(for_inference(net))


@pytest.mark.parametrize("strip_bytes", [1, 3000, pytest.param(1 << 30, marks=pytest.mark.slow)])
@pytest.mark.parametrize("key", NETS)
def test_strips_equal_the_whole(key, strip_bytes):
    net, facts = built(key)
    image = torch.rand(1, 3, 68, 12)
    with torch.no_grad():
        expected = net(image)
    assert expected.std() > 0.01
    assert expected.shape == (1, 3, 68 * facts.scale, 12 * facts.scale)
    streams = streamed(for_inference(net), image, facts.scale, strip_bytes)
    torch.testing.assert_close(streams, expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("height", [1, 2, 3, 17, 33])
@pytest.mark.parametrize("key", ["msrresnet", "msrresnet ×3", "srvgg", "edsr", "edsr as published ×3"])
def test_low_images(key, height):
    net, facts = built(key)
    image = torch.rand(1, 3, height, 5)
    torch.testing.assert_close(streamed(for_inference(net), image, facts.scale, 1), net(image), rtol=0, atol=5e-6)


@pytest.mark.parametrize("key", NETS)
def test_the_eager_engine_streams_them(key):
    net, facts = built(key)
    image = torch.rand(2, 3, 36, 20)
    with EagerBackend().load(EngineSpec(net, facts)) as engine:
        assert engine.wants == "images"
        assert (engine.run(image) - reference(net, image)).abs().max() < 1e-5


@pytest.mark.skipif(not bf16_on_cpu(), reason="this CPU has no bf16")
@pytest.mark.parametrize("key", ["esrgan ×2", "edsr", "edsr as published", "msrresnet", "srgan of eriklindernoren"])
def test_bf16_is_near(key):
    net, facts = built(key)
    image = torch.rand(1, 3, 36, 20)
    with EagerBackend().load(EngineSpec(net, facts, "bf16")) as engine:
        assert compare(engine.run(image), reference(net, image)).psnr > 35


def test_whole_image_norms_are_reported():
    facts = models.facts("fast_srgan")
    assert facts.tileable is False
    net = models.build("fast_srgan", SMALL).eval()
    with pytest.raises(ValueError, match="InstanceNorm2d"):
        halo(net)
    with EagerBackend().load(EngineSpec(net, models.facts("fast_srgan", SMALL))) as engine:
        assert engine.wants == "tiles"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("esrgan", {"scale": 5}),
        ("esrgan", {"scale": 4.0}),
        ("esrgan", {"unshuffle": 3}),
        ("esrgan", {"unshuffle": 2, "scale": 3}),
        ("esrgan", {"growth": 0}),
        ("esrgan", {"blocks": 1025}),
        ("esrgan", {"upsampler": "bicubic"}),
        ("esrgan", {"slope": -0.1}),
        ("esrgan", {"slope": float("nan")}),
        ("esrgan", {"slope": True}),
        ("esrgan", {"values_in": "bgr"}),
        ("esrgan", {"in_channels": 1, "values_in": "imagenet"}),
        ("srvgg", {"scale": 17}),
        ("srvgg", {"convs": -1}),
        ("srvgg", {"activation": ["relu"]}),
        ("edsr", {"scale": 5}),
        ("edsr", {"tail": "shuffle"}),
        ("edsr", {"res_scale": 0}),
        ("edsr", {"mean": [0.4, 0.4]}),
        ("edsr", {"mean": [0.4, 0.4, 1.5]}),
        ("msrresnet", {"scale": 1}),
        ("msrresnet", {"activated": 1}),
        ("msrresnet", {"channels": "64"}),
        ("msrresnet0", {"upsampler": None}),
        ("fast_srgan", {"norm": "none"}),
        ("fast_srgan", {"depthwise": "yes"}),
        ("srgan", {"neck": "none"}),
        ("srgan", {"slopes": 64}),
        ("srgan", {"bn_eps": 0}),
        ("srgan", {"bn_eps": float("inf")}),
        ("srgan", {"output": "sigmoid"}),
    ],
)
def test_options_that_no_network_has_are_refused(name, options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} must be "):
        models.facts(name, options)


def test_options_of_another_model_are_refused():
    for name, options in (("msrresnet", {"upsampler": "nearest"}), ("msrresnet0", {"activated": True})):
        with pytest.raises(TypeError, match=f"'{name}' has no option '{next(iter(options))}'"):
            models.facts(name, options)


@pytest.mark.parametrize("key", NETS)
def test_the_options_of_the_facts_build_the_network_again(key):
    name, options = NETS[key]
    facts = models.facts(name, options)
    again = models.build(name, facts.options)
    shapes = {key: value.shape for key, value in models.build(name, options).state_dict().items()}
    assert {key: value.shape for key, value in again.state_dict().items()} == shapes
    assert models.facts(name, facts.options) == facts
    assert (facts.task, facts.value_range, facts.channels) == ("upscale", (0.0, 1.0), 3)


def test_fixed_values_stay_fixed_in_training():
    layer, image = Standardise(MEAN, STD).train(), torch.rand(2, 3, 5, 5)
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (MEAN, STD))
    for _ in range(2):
        torch.testing.assert_close(layer(image), (image - mean) / std, atol=1e-6, rtol=1e-6)
    assert not list(layer.parameters())
    assert not nn.Sequential(layer).train()[0].norm.training


def test_a_plain_srgan_is_written_as_before():
    assert set(models.facts("srgan").options) == {"scale", "channels", "blocks", "in_channels"}
    assert models.facts("srgan", {"output": "tanh"}).options["output"] == "tanh"
