import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy.linalg import sqrtm

import gankit
from gankit.cli.evaluate import evaluate
from gankit.errors import GankitError
from gankit.evaluation.classifier import Classifier, save_classifier
from tests.evaluation.evaluation_making import onnx_file, write_idx
from tests.latent_networks import weights


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Small models, a classifier of four classes, real images as IDX and in a folder."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("gan", "cgan"):
        weights(folder, name)
    torch.manual_seed(0)
    classifier = Classifier((4, 6), classes=4)
    save_classifier(folder / "four.safetensors", classifier, {"accuracy": "0.5", "test": "the 2 images of x"})
    onnx_file(folder / "means.onnx", ["n", 3, "h", "w"])
    rng = np.random.default_rng(0)
    (folder / "idx").mkdir()
    (folder / "png").mkdir()
    write_idx(folder / "idx" / "train-images-idx3-ubyte", rng.integers(0, 256, (40, 28, 28), np.uint8))
    for index in range(30):
        pixels = rng.integers(0, 128 if index % 2 else 256, (9, 11, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "png" / f"{index}.png")
    return folder


def run(files, *words):
    return CliRunner().invoke(evaluate, ["generate", *(str(word).format(d=files) for word in words)])


def report(files, tmp_path, *words) -> dict:
    result = run(files, *words, "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.output
    return json.loads((tmp_path / "f.json").read_text()) | {"output": " ".join(result.output.split())}


def test_a_conditional_model_and_another(files, tmp_path):
    models = ("--model", "{d}/cgan.safetensors", "--model", "{d}/gan.safetensors")
    found = report(files, tmp_path, *models, "--reference", "{d}/idx", "--features", "{d}/four.safetensors", "-n", 50)
    assert found["reference"] == {"name": str(files / "idx" / "train-images-idx3-ubyte"), "n": 40, "resize": "none"}
    assert found["features"]["note"] == "50.00% right on the 2 images of x"
    for word in ("50.00% right", "n = 40", "class as", "Fréchet"):
        assert word in found["output"]
    assert "FID" not in found["output"], "that name is Inception's"
    with gankit.Sampler(files / "cgan.safetensors") as sampler:
        images = sampler.sample(50)
    small = [Image.fromarray(image[..., 0]).resize((28, 28), Image.Resampling.BICUBIC) for image in images]
    values = torch.from_numpy(np.stack([np.asarray(pillow_image) for pillow_image in small]))[:, None].float() / 255
    from gankit.evaluation.classifier import open_classifier

    right = open_classifier(files / "four.safetensors")[0](values).argmax(1).numpy() == np.arange(50) % 4
    row = found["results"][str(files / "cgan.safetensors")]
    assert row["class_agreement"] == pytest.approx(right.mean())
    assert row["class_agreement_by_class"][2] == pytest.approx(right[2::4].mean())
    assert (row["n"], row["resize"], row["seed"]) == (50, "antialiased bicubic to 28×28", 0)
    assert 1 <= row["classifier_score"] <= 4
    assert "class_agreement" not in found["results"][str(files / "gan.safetensors")]


def test_the_distance_of_two_folders(files, tmp_path):
    """Features are the channels' means, so that the figure can be had by hand."""
    words = ("--samples", "{d}/png", "--samples", "{d}/idx", "--reference", "{d}/png", "--features", "{d}/means.onnx")
    found = report(files, tmp_path, *words)
    same, other = (found["results"][str(files / name)] for name in ("png", "idx/train-images-idx3-ubyte"))
    assert same["frechet_distance"] == pytest.approx(0, abs=1e-6)
    paths = sorted((files / "png").iterdir())
    first = np.stack([np.asarray(Image.open(path)).mean((0, 1)) / 255 for path in paths])
    raw = np.frombuffer((files / "idx" / "train-images-idx3-ubyte").read_bytes()[16:], np.uint8)
    second = raw.reshape(40, -1).mean(1, keepdims=True).repeat(3, 1) / 255
    covariances = [np.cov(side, rowvar=False) for side in (first, second)]
    apart = first.mean(0) - second.mean(0)
    root = sqrtm(covariances[0] @ covariances[1]).real
    assert other["frechet_distance"] == pytest.approx(
        apart @ apart + np.trace(covariances[0] + covariances[1] - 2 * root), abs=1e-6
    )
    assert "classifier_score" not in other
    assert other["resize"] == "none"


def test_more_samples_of_the_same_seed(files, tmp_path):
    words = ("--model", "{d}/gan.safetensors", "--reference", "{d}/png", "--features", "{d}/means.onnx", "-n", 40)
    first, again = (report(files, tmp_path, *words) for _ in range(2))
    other = report(files, tmp_path, *words, "--seed", 5)
    name = str(files / "gan.safetensors")
    assert first["results"] == again["results"]
    assert first["results"][name]["frechet_distance"] != other["results"][name]["frechet_distance"]
    assert other["results"][name]["seed"] == 5


def test_the_sample_grid(files, tmp_path):
    sample_grid = tmp_path / "sample_grid.png"
    words = ("--model", "{d}/cgan.safetensors", "--reference", "{d}/idx", "--features", "{d}/four.safetensors")
    result = run(files, *words, "-n", 50, "--grid", sample_grid)
    assert result.exit_code == 0, result.output
    with gankit.Sampler(files / "cgan.safetensors") as sampler:
        images = sampler.sample(32)
    pixels = np.asarray(Image.open(sample_grid))
    np.testing.assert_array_equal(pixels[22:30, :8], images[0].repeat(3, 2))
    np.testing.assert_array_equal(pixels[32:40, 30:38], images[7].repeat(3, 2), "four columns: the classes")
    assert pixels.shape[0] == 22 + 8 * 10 - 2


def test_model_options_reach_the_model(files):
    words = ("--reference", "{d}/idx", "--features", "{d}/means.onnx", "-n", 10)
    result = run(files, "--model", "{d}/gan.safetensors", *words, "--model-option", "nonsense=1")
    assert isinstance(result.exception, GankitError)
    assert "'gan' has no option 'nonsense'" in str(result.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--reference", "x"), "give --model or --samples"),
        (("--model", "gan"), "--reference"),
        (("--model", "gan", "--model", "gan", "--reference", "x"), "twice"),
        (("--model", "gan", "--reference", "x", "--features", "f", "--inception", "i"), "each name a network"),
        (("--model", "gan", "--reference", "x", "-n", "1"), "-n"),
    ],
)
def test_wrong_use_is_status_2(files, words, message):
    result = run(files, *words)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--samples", "{d}/none"), "none: no such file or folder"),
        (("--samples", "{d}/means.onnx"), "give an IDX file"),
        (("--model", "srgan"), "is a model to upscale, not to generate"),
        (("--model", "gna"), "did you mean"),
        (("--samples", "{d}/idx", "--features", "{d}/gan.safetensors"), "is not a gankit classifier"),
        (("--samples", "{d}/idx", "--json", "/proc/none/f.json"), "cannot be written"),
    ],
)
def test_errors_are_one_line(files, words, message):
    known = () if "--features" in words else ("--features", "{d}/four.safetensors")
    result = run(files, *words, "--reference", "{d}/idx", *known)
    assert isinstance(result.exception, GankitError), result.output
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
