import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import gankit
from gankit.cli.evaluate import evaluate
from gankit.errors import GankitError, UsageError
from gankit.evaluation import psnr
from gankit.models.facts import Facts
from tests.checkpoints.published_translation import ResNet, shake


@pytest.fixture
def folders(tmp_path) -> Path:
    """Six inputs, their negatives as targets, masks of their bright halves, and pairs side by side."""
    rng = np.random.default_rng(0)
    for name in ("in", "out", "mask", "both"):
        (tmp_path / name).mkdir()
    for index in range(6):
        source = rng.integers(0, 256, (24, 32, 3), np.uint8)
        mask = np.where(source[..., 0] > 99, 255, 0).astype(np.uint8)
        parts = {"in": source, "out": 255 - source, "mask": mask, "both": np.hstack([source, 255 - source])}
        for name, pixels in parts.items():
            Image.fromarray(pixels).save(tmp_path / name / f"p{index}.png")
    return tmp_path


@pytest.fixture
def run(monkeypatch, folders):
    """The command, with negatives for the model ``negative``, red for ``red``; what each was opened with is kept."""
    opened = {}

    class Translator:
        def __init__(self, model, **options):
            opened[model] = options
            self.model = model
            kind = "mask" if model == "of masks" else "image"
            self.facts = Facts(task="translate", value_range=(-1, 1), input_kind=kind)

        def __call__(self, image):
            return 255 - image if self.model == "negative" else image[..., 0]

    monkeypatch.setitem(vars(gankit), "Translator", Translator)

    def invoke(*words):
        return CliRunner().invoke(evaluate, ["translate", *(str(word).format(d=folders) for word in words)])

    invoke.opened = opened
    return invoke


def test_models_of_different_inputs_are_evaluated_one_by_one(run):
    words = ("--model", "red", "--model", "of masks", "--data", "{d}/in", "--target", "{d}/out")
    with pytest.raises(UsageError, match=r"\(red reads image, of masks reads mask\): evaluate them one by one"):
        raise run(*words).exception


def test_colours(run, folders):
    out = folders / "f.json"
    words = ("--model", "negative", "--model", "red", "--data", "{d}/in", "--target", "{d}/out", "--json", out)
    result = run(*words, "--norm", "eval", "--model-option", "blocks=9", "--direction", "AtoB")
    assert result.exit_code == 0, result.output
    for word in ("n = 6", "resize none", "PSNR", "SSIM", "L1", "negative", "red"):
        assert word in result.output
    assert "Dice" not in result.output
    report = json.loads(out.read_text())
    assert report["n"] == 6
    assert report["results"]["negative"]["mean"] == {"l1": 0, "psnr": None, "ssim_y": pytest.approx(1)}
    source = np.asarray(Image.open(folders / "in" / "p3.png"))
    wanted = psnr(source[..., :1].repeat(3, 2), 255 - source)
    assert report["results"]["red"]["images"]["p3"]["psnr"] == pytest.approx(wanted)
    asked = run.opened["red"]
    assert (asked["norm"], asked["direction"], asked["options"]) == ("eval", "AtoB", {"blocks": 9})
    assert (asked["backend"], asked["precision"]) == ("eager", "fp32")


def test_masks_and_the_pairs_that_were_held_out(run, folders):
    out = folders / "f.json"
    words = ("--model", "red", "--data", "{d}/in", "--target", "{d}/mask", "--masks", "--holdout", 3, "--json", out)
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "every 3-th pair" in result.output
    images = json.loads(out.read_text())["results"]["red"]["images"]
    assert list(images) == ["p2", "p5"]
    red = np.asarray(Image.open(folders / "in" / "p5.png"))[..., 0]
    ours, theirs = red >= 128, red > 99
    assert images["p5"]["dice"] == pytest.approx(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))
    assert images["p5"]["iou"] == pytest.approx((ours & theirs).sum() / (ours | theirs).sum())


def save(folder, images):
    folder.mkdir(parents=True)
    for index, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize("high", [1, 255])
def test_black_results_are_not_perfect(run, folders, tmp_path, high):
    """On masks of 0 and 1, as label tools write them, and the other way round: results of 0 and 1."""
    masks = [np.pad(np.full((6, 6), 1, np.uint8), (4 + index, 14 - index)) for index in range(3)]
    target = save(tmp_path / "t", [mask * np.uint8(high) for mask in masks])
    black = save(tmp_path / "black", [mask * np.uint8(0) for mask in masks])
    ones = save(tmp_path / "ones", masks)
    arguments = ("--results", black, "--results", ones, "--data", target, "--target", target, "--masks")
    result = run(*arguments, "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.output
    assert "empty mask" not in result.output
    found = json.loads((tmp_path / "f.json").read_text())["results"]
    assert [found[str(each)]["mean"]["dice"] for each in (black, ones)] == [0, 1]


def test_empty_masks_are_said(run, tmp_path):
    mask, empty = np.pad(np.ones((6, 6), np.uint8), 5), np.zeros((16, 16), np.uint8)
    target = save(tmp_path / "t", [mask, empty])
    words = ("--results", target, "--data", target, "--target", target, "--masks", "--json", tmp_path / "f.json")
    result = run(*words)
    assert "1 of 2 pairs have an empty mask and an empty result" in " ".join(result.output.split())
    report = json.loads((tmp_path / "f.json").read_text())["results"][str(target)]
    assert (report["both_empty"], report["mean"]["dice"]) == (1, 1)
    (target / "0.png").unlink()
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "–" in result.output


def test_masks_of_more_values(run, tmp_path):
    outlined = np.zeros((16, 16), np.uint8)
    outlined[4:10, 4:10], outlined[5:9, 5:9] = 128, 255
    target = save(tmp_path / "t", [outlined])
    words = ("--results", target, "--data", target, "--target", target, "--masks")
    refused = run(*words)
    assert str(refused.exception).startswith(f"{target / '0.png'}: is no mask")
    assert "0, 128, 255" in str(refused.exception)
    assert run(*words, "--mask-from", 64).exit_code == 0
    high = run(*words, "--mask-from", 300)
    assert "no mask here has a value of 300 or more (the highest is 255)" in str(high.exception)


def test_pairs_side_by_side_both_ways(run, folders):
    for more in ((), ("--swap",)):
        out = folders / "f.json"
        result = run("--model", "negative", "--aligned", "{d}/both", "--json", out, *more)
        assert result.exit_code == 0, result.output
        assert json.loads(out.read_text())["results"]["negative"]["mean"]["l1"] == 0


def test_results_that_are_there_already(run, folders):
    result = run("--results", "{d}/out", "--data", "{d}/in", "--target", "{d}/out", "--json", folders / "f.json")
    assert result.exit_code == 0, result.output
    report = json.loads((folders / "f.json").read_text())
    assert report["results"][str(folders / "out")]["mean"]["l1"] == 0
    (folders / "out" / "p4.png").rename(folders / "p4.png")
    result = run("--results", "{d}/out", "--data", "{d}/in", "--target", "{d}/in")
    assert isinstance(result.exception, GankitError)
    assert "has no image named p4" in str(result.exception)


def test_the_comparison(run, folders):
    sample_grid = folders / "sample_grid.png"
    words = ("--model", "red", "--data", "{d}/in", "--target", "{d}/mask", "--masks", "--comparison", sample_grid)
    assert run(*words, "--image", "p1", "--image", "p4").exit_code == 0
    pixels = np.asarray(Image.open(sample_grid))
    assert pixels.shape[0] == 2 * (24 + 22) + 6
    for index, top in ((1, 22), (4, 24 + 22 + 6 + 22)):
        source = np.asarray(Image.open(folders / "in" / f"p{index}.png"))
        mask = np.asarray(Image.open(folders / "mask" / f"p{index}.png"))
        row = pixels[top : top + 24]
        parts = (source, source[..., :1].repeat(3, 2), mask[..., None].repeat(3, 2))
        lefts = range(row.shape[1] - 31)
        places = [[x for x in lefts if np.array_equal(row[:, x : x + 32], part)] for part in parts]
        assert places[0] == [0]
        assert places[0] < places[1] < places[2]


def test_a_real_model(folders, tmp_path):
    torch.save(shake(ResNet(blocks=1)).state_dict(), tmp_path / "net_G_A.pth")
    words = ["--model", tmp_path / "net_G_A.pth", "--data", folders / "in", "--target", folders / "out"]
    result = CliRunner().invoke(evaluate, ["translate", *map(str, words), "--json", str(tmp_path / "f.json")])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "f.json").read_text())["results"][str(tmp_path / "net_G_A.pth")]["images"]
    made = gankit.Translator(tmp_path / "net_G_A.pth", backend="eager", precision="fp32")(
        np.asarray(Image.open(folders / "in" / "p0.png"))
    )
    assert figures["p0"]["psnr"] == pytest.approx(psnr(made, np.asarray(Image.open(folders / "out" / "p0.png"))))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "{d}/in", "--target", "{d}/out"), "give --model, or --results"),
        (("--model", "red"), "give --data DIR and --target DIR"),
        (("--model", "red", "--aligned", "{d}/both", "--data", "{d}/in"), "omit --data and --target"),
        (("--model", "red", "--model", "red"), "twice"),
        (("--model", "red", "--aligned", "x", "--image", "p1"), "need --comparison"),
        (("--model", "red", "--aligned", "x", "--masks", "--lpips", "alex"), "cannot be measured on masks"),
        (("--model", "red", "--aligned", "x", "--model-option", "blocks"), "KEY=VALUE"),
        (("--model", "red", "--aligned", "x", "--mask-from", "64"), "--mask-from needs --masks"),
    ],
)
def test_wrong_use_is_status_2(run, words, message):
    result = run(*words)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "{d}/in", "--target", "{d}/none"), "none"),
        (("--data", "{d}/in", "--target", "{d}/out", "--comparison", "{d}/s.png", "--image", "z"), "--image z"),
        (("--data", "{d}/in", "--target", "{d}/out", "--comparison", "{d}/s.png", "--crop", "30,0,9,9"), "--crop"),
        (("--data", "{d}/in", "--target", "{d}/out", "--json", "/proc/none/f.json"), "cannot be written"),
    ],
)
def test_errors_are_one_line(run, words, message):
    result = run("--model", "red", *words)
    assert isinstance(result.exception, GankitError), result.output
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_a_refused_evaluation_leaves_no_empty_folder(run, folders):
    words = ("--model", "red", "--data", "{d}/in", "--json", "{d}/new/deep/f.json", "--comparison", "{d}/other/c.png")
    result = run(*words, "--target", "{d}/none")
    assert isinstance(result.exception, GankitError)
    assert not (folders / "new").exists()
    assert not (folders / "other").exists()
    assert run(*words, "--target", "{d}/out").exit_code == 0
    assert (folders / "new/deep/f.json").exists()
