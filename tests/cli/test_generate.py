"""``gankit generate``: what it writes, prints and returns, and every bad input of its own."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from gankit import cli, models
from gankit.checkpoints import card
from gankit.models.cost import cost
from gankit.pipeline.sampler import Sampler
from tests.latent_networks import weights


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def run(*arguments):
    return cli.main(["generate", *map(str, arguments)])


def files(folder):
    """Every file but the journal."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".gankit.jsonl")
    return sorted(str(path.relative_to(folder)) for path in found)


def pixels(path):
    return np.asarray(Image.open(path))


def names(n, extension=".png"):
    return [f"{index:06d}{extension}" for index in range(n)]


def test_samples(tmp_path, out, capsys):
    path = weights(tmp_path, "gan")
    assert run("--model", path, "-n", 5, "--seed", 3, "--output", out, "--batch", 2) == 0
    printed = capsys.readouterr()
    assert files(out) == [*names(5), "samples.json"]
    wanted = Sampler(path, batch=2).sample(5, seed=3)
    assert all(np.array_equal(pixels(out / name), image) for name, image in zip(names(5), wanted, strict=True))
    assert "gan on eager fp32" in printed.out
    assert "5 done" in printed.out
    assert printed.err == ""
    record = json.loads((out / "samples.json").read_text())
    assert (record["model"], record["seed"], record["class"], record["truncation"]) == ("gan", 3, None, None)


def test_64_by_default_and_gray_files(tmp_path, out):
    assert run("--model", weights(tmp_path, "vae"), "--output", out, "--quiet") == 0
    assert len(files(out)) == 65
    assert pixels(out / "000063.png").shape == (8, 8)


def test_what_is_there_is_skipped(tmp_path, out, capsys):
    path = weights(tmp_path, "gan")
    assert run("--model", path, "-n", 3, "--output", out) == 0
    whole = pixels(out / "000001.png")
    (out / "000001.png").unlink()
    (out / "000000.png").write_bytes(b"mine")
    capsys.readouterr()
    assert run("--model", path, "-n", 4, "--output", out) == 0
    assert "2 done, 2 skipped (results exist)" in capsys.readouterr().out
    assert (out / "000000.png").read_bytes() == b"mine"
    assert np.abs(pixels(out / "000001.png").astype(int) - whole).max() <= 1
    assert run("--model", path, "-n", 4, "--output", out, "--overwrite") == 0
    assert "4 done" in capsys.readouterr().out
    assert pixels(out / "000000.png").shape == whole.shape
    assert run("--model", path, "-n", 4, "--output", out) == 0
    assert capsys.readouterr().out == "0 done, 4 skipped (results exist)\n"


def test_a_memory_limit(tmp_path, out, capsys):
    """Of the whole process, and large batches count."""
    path = weights(tmp_path, "dcgan")
    assert run("--model", path, "--output", out, "--max-memory", "50MB") == 1
    assert "takes about" in (said := capsys.readouterr().err)
    assert "use a larger --max-memory or a smaller --batch" in said
    assert run("--model", path, "--output", out, "-n", 2, "--batch", 100_000_000, "--max-memory", "900GB") == 1
    assert "a batch of 100000000 samples takes about" in capsys.readouterr().err
    assert run("--model", path, "--output", out, "-n", 2, "--max-memory", "900GB") == 0


def test_a_folder_holds_samples_of_one_thing(tmp_path, out, capsys):
    path = weights(tmp_path, "cgan")
    assert run("--model", path, "-n", 2, "--output", out) == 0
    before = pixels(out / "000000.png")
    for extra, word in (
        (["--seed", 1], "seed"),
        (["--class", 1], "class"),
        (["--truncation", 0.5], "truncation"),
        (["--interpolate", 3], "steps"),
    ):
        assert run("--model", path, "-n", 4, "--output", out, *extra) == 2
        assert f"samples of another {word}" in one_line(capsys)
    assert files(out) == [*names(2), "samples.json"]
    assert run("--model", path, "-n", 2, "--output", out, "--seed", 1, "--overwrite") == 0
    assert (pixels(out / "000000.png") != before).any()
    assert run("--model", path, "-n", 1, "--output", out, "--overwrite") == 2
    assert "samples of another seed (see samples.json), and 1 of them would remain" in one_line(capsys)


def test_class_and_grid(tmp_path, out):
    path, sample_grid = weights(tmp_path, "cgan"), tmp_path / "grids" / "sample_grid.png"
    assert run("--model", path, "-n", 8, "--output", out, "--grid", sample_grid) == 0
    assert pixels(sample_grid).shape == (2 * 8 + 2, 4 * 8 + 3 * 2)  # a column for each class
    assert np.array_equal(pixels(sample_grid)[10:18, 10:18], pixels(out / "000005.png"))
    # the sample grid has them all, also where the images are there
    sample_grid.unlink()
    assert run("--model", path, "-n", 8, "--output", out, "--grid", sample_grid) == 0
    assert np.abs(pixels(sample_grid)[10:18, 10:18].astype(int) - pixels(out / "000005.png")).max() <= 1
    assert run("--model", path, "-n", 9, "--class", 2, "--output", tmp_path / "twos", "--grid", sample_grid) == 0
    assert pixels(sample_grid).shape == (3 * 8 + 2 * 2, 3 * 8 + 2 * 2)
    wanted = Sampler(path).sample(9, classes=2)
    assert all(np.array_equal(pixels(tmp_path / "twos" / n), p[..., 0]) for n, p in zip(names(9), wanted, strict=True))


def test_paths(tmp_path, out):
    path, sample_grid = weights(tmp_path, "gan"), tmp_path / "sample_grid.png"
    assert run("--model", path, "-n", 2, "--interpolate", 5, "--output", out, "--grid", sample_grid) == 0
    assert files(out) == [*names(10), "samples.json"]
    assert pixels(sample_grid).shape == (2 * 8 + 2, 5 * 12 + 4 * 2, 3)
    assert np.array_equal(pixels(out / "000004.png"), Sampler(path).interpolate(5, n=2)[4])


@pytest.fixture
def originals(tmp_path):
    """Three images that fit, in gray and in colour, one too large and one that is none."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise[0]).save(folder / "a.png")
    Image.fromarray(noise[1, ..., 0]).save(folder / "b.png")
    Image.fromarray(noise[2]).save(folder / "sub" / "c.bmp")
    return folder


def test_reconstructions(tmp_path, originals, out, capsys):
    path, sample_grid = weights(tmp_path, "vae"), tmp_path / "sample_grid.png"
    assert run("--model", path, "--reconstruct", originals, "--output", out, "--grid", sample_grid, "--batch", 2) == 0
    assert files(out) == ["a.png", "b.png", "sub/c.png"]
    assert "3 done" in capsys.readouterr().out
    colours = np.asarray(Image.open(originals / "a.png")).astype(float)
    luma = np.rint(colours @ (0.299, 0.587, 0.114)).astype(np.uint8)
    gray = np.stack([luma, pixels(originals / "b.png")])
    wanted = Sampler(path).reconstruct(gray)
    for name, image, index in (("a.png", wanted[0], 0), ("b.png", wanted[1], 1)):
        assert np.abs(pixels(out / name).astype(int) - image).max() <= 1
        left = index * 20
        assert np.array_equal(pixels(sample_grid)[:, left : left + 8], gray[index])
        assert np.array_equal(pixels(sample_grid)[:, left + 10 : left + 18], pixels(out / name))
    assert run("--model", path, "--reconstruct", originals, "--output", out) == 0
    assert capsys.readouterr().out == "0 done, 3 skipped (results exist)\n"


def test_reconstructions_of_edited_images_are_made_again(tmp_path, originals, out, capsys):
    path = weights(tmp_path, "vae")
    assert run("--model", path, "--reconstruct", originals, "--output", out) == 0
    before = pixels(out / "a.png")
    Image.fromarray(255 - pixels(originals / "a.png")).save(originals / "a.png")
    (out / "b.png").write_bytes(b"mine")
    capsys.readouterr()
    assert run("--model", path, "--reconstruct", originals, "--output", out) == 0
    printed = capsys.readouterr()
    assert "1 done, 2 skipped (results exist)" in printed.out
    assert printed.err.count("b.png, which was not made by gankit") == 1
    assert not np.array_equal(pixels(out / "a.png"), before)
    assert (out / "b.png").read_bytes() == b"mine"
    grid = tmp_path / "grid.png"
    assert run("--model", path, "--reconstruct", originals, "--output", out, "--grid", grid) == 0
    assert "0 done, 3 skipped (results exist)" in capsys.readouterr().out
    assert grid.exists()


def test_images_that_do_not_fit_fail_and_the_others_are_done(tmp_path, originals, out, capsys):
    Image.new("L", (9, 8)).save(originals / "wide.png")
    (originals / "torn.png").write_bytes((originals / "a.png").read_bytes()[:60])
    assert run("--model", weights(tmp_path, "vae"), "--reconstruct", originals, "--output", out) == 1
    printed = capsys.readouterr()
    assert "wide.png: is 9×8, but 'vae' takes 8×8" in printed.err
    assert "torn.png: " in printed.err
    assert printed.err.count("\n") == 2
    assert "3 done, 2 failed" in printed.out
    assert files(out) == ["a.png", "b.png", "sub/c.png"]


def one_line(capsys):
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("cgan", ["--class", 4], "class 4: 'cgan' has the classes 0 to 3"),
        ("cgan", ["--class", -1], "class -1: 'cgan' has the classes 0 to 3"),
        ("gan", ["--class", 0], "'gan' has no classes"),
        ("gan", ["-n", 0], "at least 1, not 0"),
        ("gan", ["--seed", -1], "seed must be from 0"),
        ("gan", ["--truncation", 0], "truncation must be at least"),
        ("gan", ["--interpolate", 1], "at least 2 steps"),
        ("gan", ["--interpolate", -3], "at least 2 steps"),
        ("gan", ["--format", "psd"], "unknown format 'psd'; choose from"),
        ("gan", ["--grid", "sample_grid.psd"], "unknown format '.psd' of the sample grid"),
        ("gan", ["-n", 10**11], "100,000,000,000 images are too many for one folder; the limit is 10,000,000"),
        ("gan", ["-n", 10**7, "--interpolate", 2], "20,000,000 images are too many"),
        ("gan", ["-n", 2_000_000, "--grid", "sample_grid.png"], "reduce -n, or omit --grid"),
        ("gan", ["--backend", "tensorrt"], "tensorrt"),
        ("gan", ["--backend", "onnxruntime", "--precision", "bf16"], "does not run bf16"),
        ("gan", ["--device", "tpu"], "unknown device"),
        ("gan", ["--reconstruct", "."], "no encoder"),
        ("vae", ["--reconstruct", "nowhere"], "no such file or folder"),
        ("vae", ["--reconstruct", ".", "-n", 3, "--seed", 1], "omit -n and --seed"),
    ],
)
def test_bad_input_is_one_line(tmp_path, out, capsys, monkeypatch, name, arguments, words):
    path = weights(tmp_path, name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Image.new("L", (8, 8)).save("a.png")
    assert run("--model", path, "--output", out, *arguments) == 2
    assert words in one_line(capsys)
    assert not out.exists()


def test_a_batch_is_a_number_or_auto(tmp_path, out, capsys):
    assert run("--model", weights(tmp_path, "gan"), "--output", out, "--batch", 0) == 2
    assert "'0' is neither 'auto' nor a whole number above 0" in capsys.readouterr().err
    assert not out.exists()


def test_wrong_models_are_one_line(tmp_path, out, capsys):
    torch.save(models.build("srgan", {"channels": 4, "blocks": 1}).state_dict(), tmp_path / "up.pth")
    assert run("--model", tmp_path / "up.pth", "--output", out) == 2
    assert "is a model to upscale, not to generate; use `gankit upscale`" in one_line(capsys)
    assert run("--model", "dcgna", "--output", out) == 2
    assert "did you mean 'dcgan'?" in one_line(capsys)
    assert run("--model", tmp_path / "none.pth", "--output", out) == 2
    assert "no such file" in one_line(capsys)
    assert run("--model", tmp_path / f"{'a' * 300}.pth", "--output", out) == 2
    assert "cannot be read: File name too long" in one_line(capsys)
    assert run("--model", "gan", "--output", "") == 2
    assert "empty name" in one_line(capsys)
    assert not out.exists()


@pytest.mark.parametrize("command", ["upscale", "translate"])
def test_commands_for_images_refuse_a_model_that_generates(tmp_path, out, capsys, command):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    path = weights(tmp_path, "gan")
    assert cli.main([command, str(tmp_path / "a.png"), "--model", str(path), "--output", str(out)]) == 2
    assert f"is a model to generate, not to {command}; use `gankit generate`" in one_line(capsys)


def test_an_output_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert run("--model", weights(tmp_path, "gan"), "--output", tmp_path / "file" / "out") == 2
    assert "the output folder cannot be written" in one_line(capsys)


def test_a_name_that_is_taken_by_a_folder_fails_alone(tmp_path, out, capsys):
    (out / "000001.png").mkdir(parents=True)
    assert run("--model", weights(tmp_path, "gan"), "-n", 3, "--output", out, "--overwrite") == 1
    printed = capsys.readouterr()
    assert "000001.png: cannot be written" in printed.err
    assert "2 done, 1 failed" in printed.out


@pytest.mark.parametrize("name", ["gan", "cgan", "dcgan", "wgan-gp", "vae"])
def test_the_card_of_a_model(name, capsys):
    assert cli.main(["models", name]) == 0
    shown = capsys.readouterr().out
    facts = models.facts(card(name)["model"], card(name)["options"])
    assert "generate" in shown
    assert f"{facts.latent} numbers" in shown
    assert f"{facts.output_size[1]}×{facts.output_size[0]}" in shown
    assert ("classes" in shown) == (name == "cgan")


def test_the_products_of_the_published_network():
    """As in the tables of pytorch/examples' network."""
    assert cost(models.build("dcgan"), (100,)).macs == pytest.approx(0.105e9, rel=0.01)


def test_help_loads_no_torch():
    code = "import sys; from gankit.cli import main; main(['generate', '--help']); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--interpolate" in out
    assert out.endswith("False\n")
