"""``--model-option`` reaches the weights file from every command that opens one."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from gankit import Upscaler, cli, models
from gankit.checkpoints import open_model
from tests.checkpoints.published import unlike_new
from tests.latent_networks import weights as latent_weights

LEAKY = ["--model-option", "activation=leaky"]


@pytest.fixture
def weights(tmp_path):
    """Of an SRVGG with LeakyReLUs, which leave no trace in the file."""
    net = unlike_new(models.build("srvgg", {"scale": 2, "channels": 8, "convs": 2, "activation": "leaky"}))
    torch.save(net.state_dict(), tmp_path / "n.pth")
    return tmp_path / "n.pth"


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_upscale(weights, image, tmp_path):
    command = ["upscale", image, "--model", weights, "--backend", "eager", "--precision", "fp32", "--quiet"]
    made = []
    for name, more in {"relu": [], "leaky": LEAKY}.items():
        assert cli.main([str(word) for word in [*command, "--output", tmp_path / name, *more]]) == 0
        made.append(np.asarray(Image.open(tmp_path / name / "a.png")))
    assert (made[0] != made[1]).any()
    with Upscaler(weights, backend="eager", precision="fp32", options={"activation": "leaky"}) as upscaler:
        assert (np.asarray(upscaler(Image.open(image))) == made[1]).all()


def test_the_report_tells_them(weights, image, tmp_path):
    command = ["upscale", image, "--model", weights, "--backend", "eager", "--precision", "fp32", "--quiet", *LEAKY]
    assert cli.main([str(word) for word in [*command, "-o", tmp_path / "o", "--report", tmp_path / "r.json"]]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["model"]["options"] == {"activation": "leaky"}


def test_generate(tmp_path, capsys):
    """The slope of a dense network's LeakyReLUs is in no key."""
    path = latent_weights(tmp_path, "gan")
    command = ["generate", "--model", str(path), "-n", "1", "--quiet", "--output"]
    assert cli.main([*command, str(tmp_path / "a")]) == 0
    assert cli.main([*command, str(tmp_path / "b"), "--model-option", "activation=leaky_relu"]) == 0
    made = [np.asarray(Image.open(tmp_path / name / "000000.png")) for name in "ab"]
    assert (made[0] != made[1]).any()
    assert cli.main([*command, str(tmp_path / "c"), "--model-option", "depth=3"]) == 2
    assert "'gan' has no option 'depth'" in capsys.readouterr().err


def test_convert_keeps_them(weights, tmp_path, capsys):
    assert cli.main(["convert", str(weights), *LEAKY]) == 0
    assert "activation leaky" in capsys.readouterr().out
    assert open_model(tmp_path / "n.safetensors").facts.options["activation"] == "leaky"


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("export", ["activation=swish"], "activation must be 'prelu', 'relu' or 'leaky', not 'swish'"),
        ("upscale", ["depth=3"], "'srvgg' has no option 'depth': the options of 'srvgg' are scale"),
        ("translate", ["depth=3"], "'srvgg' has no option 'depth'"),
        ("convert", ["activatoin=leaky"], "did you mean 'activation' ('prelu', 'relu' or 'leaky')?"),
        ("convert", ["channels=[1]"], "channels must be a whole number"),
        ("convert", ["scale"], "'scale' is not KEY=VALUE"),
        ("convert", ["=3"], "'=3' is not KEY=VALUE"),
        ("convert", ["scale=2", "scale=4"], "'scale' is given twice"),
    ],
)
def test_wrong_ones_are_one_line(weights, image, tmp_path, capsys, command, options, words):
    arguments = {
        "export": ["--model", weights, "--output", tmp_path / "n.onnx"],
        "upscale": [image, "--model", weights, "--output", tmp_path / "out"],
        "translate": [image, "--model", weights, "--output", tmp_path / "out"],
        "convert": [weights],
    }[command]
    more = [word for option in options for word in ("--model-option", option)]
    assert cli.main([str(word) for word in (command, *arguments, *more)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
