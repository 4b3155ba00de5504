"""A new model is one file and one line of the registry: everything else finds it."""

import json
from dataclasses import asdict
from types import MappingProxyType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from gankit import Upscaler, cli, models
from gankit.checkpoints import open_model, save
from gankit.errors import CheckpointError, UsageError
from tests.models.tiny_model import Tiny, TinyOptions

LINE = models.Entry("tests.models.tiny_model", "Tiny", "×2/×3/×4 upscaling, for tests")
OPTIONS = {"scale": 3, "channels": 4}


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setattr(models, "MODELS", MappingProxyType({**models.MODELS, "tiny": LINE}))


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "t.safetensors"
    save(path, models.build("tiny", OPTIONS).state_dict(), "tiny", OPTIONS, dtype=torch.float32)
    return path


def test_build_and_facts():
    net, facts = models.build("tiny", OPTIONS), models.facts("tiny", OPTIONS)
    assert isinstance(net, Tiny)
    assert net(torch.rand(1, 3, 5, 4)).shape == (1, 3, 15, 12)
    assert (facts.name, facts.scale, facts.tileable) == ("tiny", 3, True)
    assert facts.options == {"scale": 3, "channels": 4, "depth": 2}
    assert models.known_options("tiny") == asdict(TinyOptions())
    with pytest.raises(UsageError, match="did you mean 'tiny'"):
        models.build("tinny")


def test_the_commands_list_it(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert cli.main(["models"]) == 0
    assert any(line.split()[:2] == ["tiny", "×2/×3/×4"] for line in capsys.readouterr().out.splitlines())
    assert cli.main(["models", "tiny"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Nobody 2024" in said
    assert "depth 2 a whole number from 1 to 1024 Convolutions of the body" in said
    assert "3 input pixels on each side" in said


def test_checkpoint_round_trip(weights):
    loaded = open_model(weights)
    assert (loaded.facts.name, loaded.facts.scale) == ("tiny", 3)
    image = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        expected = Tiny.forward(loaded.generator, image)
    again = weights.with_name("again.safetensors")
    save(again, loaded.generator.state_dict(), "tiny", loaded.facts.options, dtype=torch.float32)
    torch.testing.assert_close(open_model(again).generator(image), expected, atol=0, rtol=0)


def test_model_option(weights, capsys):
    output = weights.with_name("o.safetensors")
    assert cli.main(["convert", str(weights), "-o", str(output), "--model-option", "activation=tanh"]) == 0
    with safe_open(output, "pt") as file:
        assert json.loads(file.metadata()["options"]) == {"scale": 3, "channels": 4, "depth": 2, "activation": "tanh"}
    for given, words in (
        ("deepth=3", "'tiny' has no option 'deepth': did you mean 'depth' (a whole number from 1 to 1024)?"),
        ("colour=3", "'tiny' has no option 'colour': the options of 'tiny' are scale, channels, depth, activation"),
        ("activation=sine", "activation must be 'relu' or 'tanh', not 'sine'"),
    ):
        assert cli.main(["convert", str(weights), "-o", str(output), "--overwrite", "--model-option", given]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert len(error.strip().splitlines()) == 1
    with pytest.raises(CheckpointError, match=r"missing|should be|unexpected"):
        open_model(weights, options={"depth": 3})


def test_an_image_goes_through_it(weights):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    with Upscaler(weights, backend="eager", precision="fp32") as upscaler:
        result = np.asarray(upscaler(Image.fromarray(pixels)))
    values = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    expected = (open_model(weights).generator(values)[0].clamp(0, 1).permute(1, 2, 0) * 255).round().numpy()
    assert result.shape == (27, 33, 3)
    assert np.abs(result.astype(int) - expected).max() <= 1
