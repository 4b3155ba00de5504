"""A user's own nn.Module: the same choice, parity check, tiling and export as the built-in models."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import gankit
from gankit.errors import UsageError


class Upscale(nn.Module):
    """×2 with a residual block, in [0, 1]."""

    def __init__(self, scale=2, channels=3):
        super().__init__()
        torch.manual_seed(3)
        self.head = nn.Conv2d(channels, 8, 3, padding=1)
        self.body = nn.Conv2d(8, 8, 5, padding=2)
        self.tail = nn.Conv2d(8, channels * scale**2, 3, padding=1)
        self.up = nn.PixelShuffle(scale)

    def forward(self, x):
        y = torch.relu(self.head(x))
        return self.up(self.tail(y + torch.relu(self.body(y))))


class Style(nn.Module):
    """Translation by an InstanceNorm, in [-1, 1]."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.InstanceNorm2d(6), nn.ReLU(), nn.Conv2d(6, 3, 1))

    def forward(self, x):
        return torch.tanh(self.layers(x))


class Noise(nn.Module):
    """8×12 gray from 5 numbers and one of 3 classes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.embed, self.dense = nn.Embedding(3, 5), nn.Linear(5, 96)

    def forward(self, z, classes):
        return torch.tanh(self.dense(z * self.embed(classes))).view(-1, 1, 8, 12)


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def by_hand(module, image, low=0.0, high=1.0):
    """The module's own image of (H, W, 3) uint8."""
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 * (high - low) + low
    with torch.inference_mode():
        y = (module.eval()(x) - low) / (high - low)
    return (y * 255).round().clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("backend", ["eager", "onnxruntime", "openvino"])
def test_an_upscaler_of_ones_own(backend):
    module = Upscale()
    image = noise(37, 53, 3)
    with gankit.Upscaler(module, scale=2, value_range=(0, 1), backend=backend, precision="fp32", tile=24) as upscaler:
        result = upscaler(image)
        assert upscaler.facts.tileable
        assert upscaler.facts.halo == 1 + 2 + 1
        assert upscaler.facts.name == "Upscale"
    assert np.abs(result.astype(int) - by_hand(module, image)).max() <= 1


def test_the_module_stays_as_it_was():
    module = Upscale().double().train()
    gankit.Upscaler(module, value_range=(0, 1), backend="eager", device="cpu")(noise(9, 9, 3))
    assert module.training
    assert module.head.weight.dtype == torch.float64
    assert module.head.weight.requires_grad


@pytest.mark.slow
def test_auto_measures_and_remembers_the_very_module(tmp_path, monkeypatch):
    """Another weight, or another constant in the code, is another model."""
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path))

    def run(module):
        with gankit.Upscaler(module, value_range=(0, 1), precision="fp32", device="cpu", backend="onnxruntime") as it:
            it(noise(8, 8, 3))
        return len(list((tmp_path / "choices").iterdir())), len(list((tmp_path / "onnx").iterdir()))

    assert run(Upscale()) == (1, 1)
    assert run(Upscale()) == (1, 1)
    other = Upscale()
    other.head.bias.data += 0.1
    assert run(other) == (2, 2)


def test_a_translator_needs_the_whole_image():
    module = Style()
    image = noise(21, 34, 3)
    with gankit.Translator(module, value_range=(-1, 1), backend="eager", precision="fp32") as translator:
        result = translator(image)
        assert translator.facts.tileable is False
    assert np.abs(result.astype(int) - by_hand(module, image, -1, 1)).max() <= 1


@pytest.mark.parametrize("backend", ["eager", "openvino"])
def test_a_sampler_of_ones_own(backend):
    module = Noise()
    with gankit.Sampler(module, latent=5, classes=3, value_range=(-1, 1), backend=backend) as sampler:
        images = sampler.sample(4, seed=1)
        assert images.shape == (4, 8, 12, 1)
        assert sampler.parity.psnr > 90
    again = gankit.Sampler(module, latent=5, classes=3, value_range=(-1, 1)).sample(4, seed=1)
    assert np.abs(images.astype(int) - again).max() <= 1


def test_an_export_of_ones_own(tmp_path):
    module = Upscale()
    done = gankit.export(module, tmp_path / "mine.onnx", scale=2, value_range=(0, 1))
    assert min(item.worst for item in done.manifest.parity) > 90
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    x = torch.rand(2, 3, 12, 17)
    (result,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(result), module.eval()(x), atol=1e-5, rtol=0)


class Data(nn.Module):
    """Goes by its data, so that it has no graph."""

    def forward(self, x):
        return x if x.mean() > 0.5 else x.flip(3)


@pytest.mark.parametrize(
    ("module", "stated", "words"),
    [
        (Upscale(), {"scale": 4, "value_range": (0, 1)}, r"Upscale makes 3×96×144 of 3×48×72, .*with scale=4"),
        (Upscale(channels=1), {"value_range": (0, 1)}, r"Upscale does not run on \(1, 3, 48, 72\): .*state channels="),
        (Data(), {"value_range": (0, 1)}, r"receptive field cannot be traced .*state tileable=False, or halo="),
        (nn.Flatten(), {"value_range": (0, 1)}, r"returns torch.float32 \(1, 10368\) .*must return one \(N, C, H, W\)"),
        (Upscale(), {"scale": 2}, "value_range"),
    ],
)
def test_what_does_not_agree_is_one_line(module, stated, words):
    with pytest.raises(UsageError, match=words) as caught:
        gankit.Upscaler(module, **stated)(noise(8, 8, 3))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_an_export_wants_to_know_the_task(tmp_path):
    with pytest.raises(UsageError, match="state the task of your module"):
        gankit.export(Style(), tmp_path / "mine.onnx", value_range=(-1, 1))
    done = gankit.export(Style(), tmp_path / "mine.onnx", task="translate", value_range=(-1, 1))
    assert done.manifest.value_range == (-1, 1)


def test_what_a_sampler_makes_must_be_what_is_stated():
    with pytest.raises(UsageError, match=r"Noise makes 1×8×12, which is not what its facts say"):
        gankit.Sampler(Noise(), latent=5, classes=3, value_range=(-1, 1), output_size=(8, 8)).sample(1)


def test_a_stated_halo_or_no_tiles_for_what_cannot_be_traced():
    image = noise(30, 40, 3)
    for stated in ({"tileable": False}, {"halo": 0}):
        with gankit.Upscaler(Data(), scale=1, value_range=(0, 1), backend="eager", precision="fp32", **stated) as it:
            assert it(image).shape == image.shape


def test_a_translator_keeps_the_size():
    with pytest.raises(UsageError, match="Upscale changes the size by 2: use Upscaler"):
        gankit.Translator(Upscale(), value_range=(0, 1))(noise(8, 8, 3))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scale": 2}, "'srgan' has its own facts"),
        ({"facts": gankit.Facts(task="upscale", scale=4, value_range=(0, 1))}, "'srgan' has its own facts"),
    ],
)
def test_facts_are_for_modules(arguments, words):
    with pytest.raises(UsageError, match=words):
        gankit.Upscaler("srgan", **arguments)


def test_a_wrong_keyword_is_pythons_own_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'sacle'"):
        gankit.Upscaler(Upscale(), sacle=2)


def test_facts_whole():
    module, image = Upscale(), noise(16, 16, 3)
    facts = gankit.Facts(task="upscale", scale=2, value_range=(0, 1), name="mine")
    with gankit.Upscaler(module, facts=facts, backend="eager", precision="fp32") as upscaler:
        assert np.abs(upscaler(image).astype(int) - by_hand(module, image)).max() <= 1
        assert upscaler.facts.name == "mine"
