"""Weights that only spandrel knows, by the contract of its 0.4; test_spandrel_networks.py runs the real one."""

import sys

import numpy as np
import pytest
import torch
from gankit_export.precision import typed

from gankit import Upscaler, cli
from gankit.backends.base import EngineSpec
from gankit.backends.cpu.instructions import bf16_on_cpu
from gankit.backends.eager import EagerBackend
from gankit.checkpoints import open_model
from gankit.errors import BackendError, CheckpointError
from tests.checkpoints import spandrel_fake
from tests.checkpoints.spandrel_fake import Branching, ImageModelDescriptor, Odd, Pair, SizeRequirements

IMAGE = torch.rand(2, 3, 12, 14, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """Makes a weights file of a network, and a spandrel that describes it; returns path and descriptor."""

    def make(net, **described):
        torch.manual_seed(2)
        for value in net.parameters():
            value.data.normal_(0, 0.3)
        torch.save({"params": net.state_dict()}, tmp_path / "odd.pth")
        descriptor = ImageModelDescriptor(type(net)(), **described)

        def describe(state):
            descriptor.model.load_state_dict(state)
            return descriptor

        seen = []
        monkeypatch.setitem(sys.modules, "spandrel", spandrel_fake.module(describe, seen))
        return tmp_path / "odd.pth", descriptor, seen

    return make


def images(descriptor):
    return torch.cat([descriptor(image) for image in IMAGE.split(1)])


def test_a_module_that_takes_and_gives_images_is_used_itself(odd):
    sizes = SizeRequirements(minimum=8, multiple_of=2)
    path, descriptor, seen = odd(Odd(), size_requirements=sizes, supports_half=False)
    loaded = open_model(path)
    assert loaded.generator is descriptor.model
    assert not loaded.generator.training
    assert not any(value.requires_grad for value in loaded.generator.parameters())
    torch.testing.assert_close(loaded.generator(IMAGE).clamp(0, 1), images(descriptor), atol=1e-6, rtol=0)
    facts = loaded.facts
    assert (facts.name, facts.task, facts.scale, facts.channels) == ("spandrel-Odd-Net-", "upscale", 2, 3)
    assert (facts.multiple, facts.minimum, facts.tileable, dict(facts.options)) == (2, 8, False, {})
    assert facts.precisions == ("fp32", "bf16")
    assert all(isinstance(value, torch.Tensor) for value in seen[0].values())  # no wrapper, no file


@pytest.mark.parametrize(
    ("net", "described"),
    [
        (Pair, {"call_fn": lambda model, image: model(image)[0]}),
        (Odd, {"call_fn": lambda model, image: model(image * 2 - 1)}),
        (Odd, {"size_requirements": SizeRequirements(square=True)}),
        (Odd, {"size_requirements": SizeRequirements(minimum=256)}),
    ],
)
def test_others_go_through_their_descriptor(odd, net, described):
    path, descriptor, _ = odd(net(), **described)
    loaded = open_model(path)
    assert loaded.generator is not descriptor.model
    wanted = images(descriptor)
    torch.testing.assert_close(loaded.generator(IMAGE), wanted, atol=1e-6, rtol=0)
    narrow = typed(loaded.generator, "bf16")  # a copy; the descriptor in it must call the module that was cast
    assert (narrow(IMAGE) - wanted).abs().max() < 0.05
    torch.testing.assert_close(loaded.generator(IMAGE), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("net", [Odd, Branching])
def test_upscaling(odd, net):
    path, descriptor, _ = odd(net(), size_requirements=SizeRequirements(multiple_of=4))
    pixels = np.random.default_rng(0).integers(0, 256, (13, 18, 3), dtype=np.uint8)
    with Upscaler(path, backend="eager", precision="fp32") as upscaler:
        assert upscaler(pixels).shape == (26, 36, 3)
        fitting = upscaler(pixels[:12, :16])
    values = torch.from_numpy(pixels[:12, :16].copy()).permute(2, 0, 1)[None].float() / 255
    wanted = (descriptor(values)[0].permute(1, 2, 0) * 255).round().numpy()
    assert np.abs(fitting.astype(int) - wanted).max() <= 1
    assert wanted.std() > 1


def test_only_its_precisions(odd):
    path, _, _ = odd(Odd(), supports_bfloat16=False)
    loaded = open_model(path)
    with pytest.raises(BackendError, match=r"does not run in bf16; use --precision fp32 or fp16"):
        EagerBackend().load(EngineSpec(loaded.generator, loaded.facts, "bf16"))
    if bf16_on_cpu():
        reported = []
        with Upscaler(path, backend="eager", precision="bf16", notify=reported.append) as upscaler:
            upscaler(np.zeros((8, 8, 3), np.uint8))
        assert any("fp32 instead" in line for line in reported)


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({"purpose": "FaceSR"}, "spandrel recognises it as OddNet for FaceSR"),
        ({"input_channels": 4}, "OddNet takes 4 channels and returns 3"),
        ({"call_fn": lambda model, image: model(image[:, :2])}, "spandrel cannot run it: Given groups=1"),
    ],
)
def test_what_is_of_no_use(odd, described, words):
    path, _, _ = odd(Odd(), **described)
    with pytest.raises(CheckpointError, match=rf"odd.pth: {words}") as caught:
        open_model(path)
    assert "\n" not in str(caught.value)


def _raise(error):
    raise error


@pytest.mark.parametrize(
    ("describe", "words"),
    [
        (lambda state: spandrel_fake.MaskedImageModelDescriptor(), "it as LaMa for Inpainting"),
        (lambda state: _raise(spandrel_fake.UnsupportedModelError()), "unknown architecture: .*spandrel does not know"),
        (lambda state: _raise(KeyError("conv")), "spandrel cannot load it: 'conv'"),
        (lambda state: _raise(RuntimeError("size\nmismatch")), "spandrel cannot load it: size"),
    ],
)
def test_what_it_does_not_load(odd, monkeypatch, describe, words):
    path, _, _ = odd(Odd())
    monkeypatch.setitem(sys.modules, "spandrel", spandrel_fake.module(describe))
    with pytest.raises(CheckpointError, match=words) as caught:
        open_model(path)
    assert "\n" not in str(caught.value)


def test_broken_weights_and_options(odd):
    path, descriptor, _ = odd(Odd())
    with pytest.raises(CheckpointError, match="--norm and --model-option work with these only"):
        open_model(path, options={"scale": 2})
    state = descriptor.model.state_dict()
    state["zag.bias"][0] = torch.nan
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"NaN or infinite weights in 'zag\.bias'"):
        open_model(path)


def test_without_it(odd, monkeypatch):
    path, _, _ = odd(Odd())
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(CheckpointError, match=r"unknown architecture: .*; pip install spandrel to load others$"):
        open_model(path)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise RuntimeError('operator torchvision::nms does not exist')", "operator torchvision::nms does not exist"),
        ("import no_such_torchvision", "No module named 'no_such_torchvision'"),
    ],
)
def test_one_that_does_not_import(odd, monkeypatch, tmp_path, code, words):
    path, _, _ = odd(Odd())
    (tmp_path / "spandrel.py").write_text(code)
    monkeypatch.delitem(sys.modules, "spandrel")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError, match=f"spandrel does not import: {words}$"):
        open_model(path)


def test_it_cannot_be_converted(odd, capsys):
    path, _, _ = odd(Odd())
    assert cli.main(["convert", str(path)]) == 2
    assert "OddNet, by spandrel: only gankit's own networks can be converted" in capsys.readouterr().err
    assert not path.with_suffix(".safetensors").exists()
