"""``gankit train gan`` and the like, from the command line."""

import numpy as np
import pytest
import torch
from latent_making import write_idx
from PIL import Image

from gankit.checkpoints import open_model
from gankit.cli import main

TINY = ["--size", "8", "--latent", "4", "--steps", "2", "--batch", "4", "--device", "cpu", "--precision", "fp32"]
WIDTHS = {"gan": "8", "cgan": "8,6", "vae": None}


@pytest.fixture
def data(tmp_path):
    return write_idx(tmp_path / "data")


def train(recipe, data, output, *more):
    widths = WIDTHS.get(recipe, "8")
    given = ["--widths", widths] if widths else ["--hidden", "8"]
    return main(["train", recipe, "--data", str(data), "--output", str(output), *TINY, *given, "--quiet", *more])


@pytest.mark.parametrize("recipe", ["gan", "cgan", "dcgan", "wgan", "wgan-gp", "lsgan", "hinge", "vae"])
def test_every_recipe_trains_and_its_weights_generate(tmp_path, data, recipe):
    run = tmp_path / "run"
    assert train(recipe, data, run, "--grid-every", "2") == 0
    sample_grid = np.asarray(Image.open(run / "grids/step_0000002.png"))
    assert sample_grid.shape == (78, 18 if recipe == "cgan" else 78, 3)
    model = open_model(run / "final.safetensors")
    assert model.facts.output_size == (8, 8)
    out = tmp_path / "made"
    assert main(["generate", "--model", str(run / "final.safetensors"), "-n", "2", "--output", str(out)]) == 0


@pytest.mark.parametrize("recipe", ["gan", "wgan"])
def test_one_sample_is_too_few_for_batch_norm(tmp_path, data, recipe, capsys):
    more = ["--widths", "8,8", *(["--net", "gan"] if recipe == "wgan" else [])]
    run = tmp_path / "new" / "run"
    assert train(recipe, data, run, "--batch", "1", *more) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: --batch 1: the generator has BatchNorm over the samples of a step")
    assert not run.parent.exists()
    assert train(recipe, data, run, "--batch", "1", *more, "--norm", "none") == 0


@pytest.mark.parametrize("more", [[], ["--progressive", "0.9", "--steps", "5"]], ids=["whole", "growing"])
def test_conditional_norm_reaches_the_weights(tmp_path, data, more):
    run, out = tmp_path / "run", tmp_path / "made"
    size = ["--size", "16", "--widths", "8,6,5"] if more else []
    assert train("cgan", data, run, "--norm", "conditional", *more, *size) == 0
    model = open_model(run / "final.safetensors")
    assert model.facts.options["conditional_norm"] is True
    scales = {tuple(value.shape) for name, value in model.generator.state_dict().items() if "norm.scale" in name}
    assert (model.facts.classes, 8) in scales
    assert main(["generate", "--model", str(run / "final.safetensors"), "-n", "2", "--output", str(out)]) == 0


@pytest.mark.parametrize("recipe", ["hinge", "wgan-gp"])
def test_only_cgan_has_conditional_norms(tmp_path, data, recipe, capsys):
    assert train(recipe, data, tmp_path / "run", "--norm", "conditional") == 2
    assert "--norm conditional: only the generator of cgan knows the class" in capsys.readouterr().err


def test_other_networks_take_one_sample(tmp_path, data):
    for recipe in ("cgan", "dcgan", "vae"):
        assert train(recipe, data, tmp_path / recipe, "--batch", "1") == 0


def test_options_reach_the_run(tmp_path, data):
    run = tmp_path / "run"
    more = ["--lr", "0.003", "--adversarial", "minimax", "--smooth", "0.2", "--r1-weight", "1", "--norm", "none"]
    assert train("gan", data, run, *more, "--progressive", "0") == 0
    settings = torch.load(run / "last.pt", weights_only=True)["settings"]
    wanted = {"lr": 0.003, "adversarial": "minimax", "smooth": 0.2, "r1_weight": 1.0, "norm": "none", "widths": "8"}
    assert {name: settings[name] for name in wanted} == wanted
    assert settings["recipe"] == "gan"


def test_a_run_goes_on_with_its_own_options_only(tmp_path, data, capsys):
    run = tmp_path / "run"
    assert train("dcgan", data, run) == 0
    assert train("dcgan", data, run, "--resume", "--steps", "3") == 0
    assert train("dcgan", data, run, "--resume", "--steps", "4", "--adversarial", "lsgan") == 2
    assert "its adversarial is nonsaturating, not lsgan" in capsys.readouterr().err


def test_classes_are_needed_where_they_are_asked_for(tmp_path, data, capsys):
    (data / "train-labels-idx1-ubyte").unlink()
    assert train("cgan", data, tmp_path / "run") == 2
    assert "has no classes" in capsys.readouterr().err


def test_a_folder_of_images_in_colours(tmp_path):
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (12, 9), (200, 10, 30)).save(tmp_path / name / "1.png")
    assert train("cgan", tmp_path, tmp_path / "run", "--colours", "3") == 0
    assert open_model(tmp_path / "run/final.safetensors").facts.channels == 3


@pytest.mark.parametrize("widths", ["0", "8,", "a", "-3"])
def test_widths_that_are_none(tmp_path, data, widths, capsys):
    assert main(["train", "dcgan", "--data", str(data), "--output", str(tmp_path / "run"), "--widths", widths]) == 2
    assert "is not a list of whole numbers such as 256,128,64" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", ["gan", "cgan", "wgan-gp", "vae"])
def test_help_shows_the_presets(recipe, capsys):
    assert main(["train", recipe, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"gankit train {recipe} --data fashion_mnist/" in text
    assert ("--net" in text) == (recipe == "wgan-gp")
    assert ("Weight of the gradient penalty; 0 turns it off. [default: 10]" in text) == (recipe == "wgan-gp")
    assert ("--kl-warmup" in text) == (recipe == "vae")
