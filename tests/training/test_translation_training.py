"""``gankit train pix2pix`` and ``cyclegan`` from folders to weights that ``gankit translate`` takes; validation."""

import csv
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn
from translation_making import write_pairs

import gankit
from gankit import cli
from gankit.evaluation import metrics
from gankit.evaluation.translation import as_rgb
from gankit.training.fabric import fabric_for
from gankit.training.validators import CycleValidator, PairShowcase, PairValidator, spread, translated

TINY = ["--steps", "4", "--size", "16", "--validate-every", "2", "--grid-every", "2", "--quiet"]
TINY += ["--discriminator-channels", "4", "--discriminator-layers", "1", "--device", "cpu", "--precision", "fp32"]
UNET = ["--channels", "4", "--downs", "3"]
RESNET = ["--channels", "4", "--blocks", "1"]


class Inverse(nn.Module):
    def forward(self, x):
        return -x


@pytest.fixture
def folders(tmp_path):
    return write_pairs(tmp_path / "data")


def train(*arguments):
    return CliRunner().invoke(cli.gankit, ["train", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def refused(capsys):
    def run(*arguments, status=2):
        assert cli.main(["train", *map(str, arguments)]) == status
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error.strip().splitlines()[-1]

    return run


def translate(model, image, output, *more):
    command = ["translate", str(image), "--model", str(model), "--output", str(output), "--backend", "eager"]
    return CliRunner().invoke(cli.gankit, [*command, *more], catch_exceptions=False)


def test_pix2pix_to_masks(folders, tmp_path):
    images, masks = folders
    run = tmp_path / "run"
    data = ["--data", images, "--target", masks, "--target-kind", "mask"]
    result = train("pix2pix", *data, "--output", run, *UNET, *TINY)
    assert result.exit_code == 0, result.output
    assert "best.safetensors" in result.output
    names = {path.name for path in run.iterdir()}
    assert {"last.pt", "best.safetensors", "final.safetensors", "log.csv", "held_out.txt", "grids"} <= names
    assert (run / "held_out.txt").read_text() == "04\n"
    with (run / "log.csv").open(newline="") as file:
        logged = {row[1] for row in csv.reader(file)}
    assert {"content", "discriminator", "adversarial", "validation_dice", "validation_iou", "validation_l1"} <= logged
    sample_grid = np.asarray(Image.open(run / "grids/step_0000004.png"))
    assert sample_grid.shape == (40, 3 * 48 + 4, 3)  # one pair: input | output | target
    assert np.array_equal(sample_grid[:, :48], np.asarray(Image.open(images / "04.png")))
    result = translate(run / "final.safetensors", images / "00.png", tmp_path / "made")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "made/00.png") as made:
        assert (made.size, made.mode) == ((48, 40), "L")


def test_masks_of_zero_and_one_teach_what_those_of_255_do(folders, tmp_path):
    images, masks = folders
    ones, sides = tmp_path / "ones", {}
    ones.mkdir()
    for path in masks.iterdir():
        Image.fromarray(np.asarray(Image.open(path)) // 255).save(ones / path.name)
    for name, target in (("a", masks), ("b", ones)):
        words = ["--data", images, "--target", target, "--target-kind", "mask", *UNET, *TINY]
        assert train("pix2pix", *words, "--output", tmp_path / name).exit_code == 0
        sides[name] = gankit.load(tmp_path / name / "final.safetensors").state_dict()
    assert all(torch.equal(value, sides["b"][name]) for name, value in sides["a"].items())


def test_masks_of_more_values_need_a_level(folders, tmp_path, refused):
    images, masks = folders
    mask = np.asarray(Image.open(masks / "03.png")).copy()
    mask[0, 0] = 128
    Image.fromarray(mask).save(masks / "03.png")
    words = ["--data", images, "--target", masks, "--target-kind", "mask", *UNET, *TINY, "--output", tmp_path / "run"]
    line = refused("pix2pix", *words)
    assert line.startswith(f"error: {masks / '03.png'}: is no mask: a mask has two values, and it has 0, 128, 255")
    assert train("pix2pix", *words, "--mask-from", 64).exit_code == 0


def test_pix2pix_from_masks_side_by_side(folders, tmp_path):
    images, masks = folders
    both = tmp_path / "both"
    both.mkdir()
    for path in images.iterdir():
        mask = Image.open(masks / path.name).convert("RGB")
        Image.fromarray(np.hstack([Image.open(path), mask])).save(both / path.name)
    run = tmp_path / "run"
    more = ["--direction", "BtoA", "--target-kind", "labels", "--norm", "instance", "--no-dropout", "--tensorboard"]
    result = train("pix2pix", "--aligned", both, "--output", run, *UNET, *TINY, *more)
    assert result.exit_code == 0, result.output
    assert not (run / "best.safetensors").exists()
    facts = gankit.checkpoints.open_model(run / "final.safetensors").facts
    assert (facts.channels, facts.out_channels, facts.options["norm"]) == (1, 3, "instance")
    assert (facts.input_kind, facts.labels) == ("labels", (0, 255))
    wrong = np.asarray(Image.open(masks / "00.png")).copy()
    wrong[0, 0] = 7
    Image.fromarray(wrong).save(tmp_path / "wrong.png")
    result = translate(run / "final.safetensors", tmp_path / "wrong.png", tmp_path / "made")
    assert "has the label 7, but 'pix2pix' was trained with the labels 0, 255" in result.output


def test_weights_trained_on_masks_take_masks_of_any_two_values(folders, tmp_path):
    images, masks = folders
    words = ["--data", masks, "--target", images, "--source-kind", "mask", *UNET, *TINY, "--output", tmp_path / "run"]
    assert train("pix2pix", *words).exit_code == 0
    weights = tmp_path / "run" / "final.safetensors"
    assert gankit.checkpoints.open_model(weights).facts.input_kind == "mask"
    mask = np.asarray(Image.open(masks / "00.png"))
    for name, values in (("full", mask), ("ones", mask // 255)):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
        assert translate(weights, tmp_path / f"{name}.png", tmp_path / "made").exit_code == 0
    full, ones = (np.asarray(Image.open(tmp_path / f"made/{name}.png")) for name in ("full", "ones"))
    assert np.array_equal(full, ones)
    (tmp_path / "ones").mkdir()
    for path in masks.iterdir():
        Image.fromarray(np.asarray(Image.open(path)) // 255).save(tmp_path / "ones" / path.name)
    means = []
    for index, (folder, more) in enumerate(((masks, ["--source-kind", "mask"]), (masks, []), (tmp_path / "ones", []))):
        words = ["evaluate", "translate", "--model", weights, "--data", folder, "--target", images, *more]
        report = tmp_path / f"{index}.json"
        assert cli.main([*map(str, words), "--json", str(report), "--backend", "eager", "--device", "cpu"]) == 0
        means.append(json.loads(report.read_text())["results"][str(weights)]["mean"])
    assert means[0] == means[1] == means[2]


def test_each_direction_of_cyclegan_knows_its_input(folders, tmp_path):
    images, masks = folders
    words = ["--data", images, "--target", masks, "--target-kind", "mask", "--identity-weight", "0", *RESNET, *TINY]
    assert train("cyclegan", *words, "--output", tmp_path / "run").exit_code == 0
    kinds = [gankit.checkpoints.open_model(tmp_path / f"run/final_G_{side}.safetensors").facts for side in "AB"]
    assert [(facts.input_kind, facts.labels) for facts in kinds] == [("image", ()), ("mask", ())]


def test_resume_and_begin_from(folders, tmp_path, refused):
    data = ["--data", folders[0], "--target", folders[1], *UNET, *TINY]
    run = tmp_path / "run"
    assert train("pix2pix", *data, "--output", run, "--stop-after", "0").exit_code == 0
    assert "holds a run already" in refused("pix2pix", *data, "--output", run)
    assert "its zoom is" in refused("pix2pix", *data, "--output", run, "--resume", "--zoom", "1", "2")
    assert train("pix2pix", *data, "--output", run, "--resume").exit_code == 0
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 4
    weights = run / "final.safetensors"
    result = train("pix2pix", *data, "--output", tmp_path / "more", "--init", weights, "--lr", "1e-9")
    assert result.exit_code == 0, result.output
    first, second = gankit.load(weights).state_dict(), gankit.load(tmp_path / "more/final.safetensors").state_dict()
    assert max(float((value - second[name]).abs().max()) for name, value in first.items()) < 1e-3
    line = refused("pix2pix", *data, "--output", tmp_path / "x", "--init", weights, "--channels", "5")
    assert "its channels is 4, not 5" in line


@pytest.mark.slow
def test_cyclegan_both_ways(folders, tmp_path, refused):
    data = ["--data", folders[1], "--target", folders[0], *RESNET, *TINY]
    assert "as many channels in A as in B" in refused("cyclegan", *data, "--output", tmp_path / "run")
    run = tmp_path / "run"
    result = train("cyclegan", *data, "--output", run, "--identity-weight", "0", "--image-pool", "2")
    assert result.exit_code == 0, result.output
    assert "final_G_A.safetensors" in result.output
    assert "final_G_B.safetensors" in result.output
    assert (run / "held_out.txt").read_text() == "A 04\nB 04\n"
    assert np.asarray(Image.open(run / "grids/step_0000002.png")).shape == (40, 6 * 48 + 10, 3)
    for direction, source, mode in (("AtoB", folders[1], "RGB"), ("BtoA", folders[0], "L")):
        made = tmp_path / direction
        result = translate(run / "final_G_A.safetensors", source / "00.png", made, "--direction", direction)
        assert result.exit_code == 0, result.output
        with Image.open(made / "00.png") as image:
            assert image.mode == mode
    more = ["--identity-weight", "0", "--init", run / "final_G_A.safetensors", "--lr", "1e-9", "--average", "0"]
    result = train("cyclegan", *data, "--output", tmp_path / "more", *more)
    assert result.exit_code == 0, result.output
    for name in ("final_G_A", "final_G_B"):
        first, second = (gankit.load(each / f"{name}.safetensors").state_dict() for each in (run, tmp_path / "more"))
        assert max(float((value - second[key]).abs().max()) for key, value in first.items()) < 1e-3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "20"], "--size 20: must be a multiple of 8"),
        (["--discriminator-layers", "3"], "the discriminator needs at least 24"),
        (["--holdout", "7"], "--holdout 7: 6 images are too few"),
        (["--zoom", "2", "1"], "give the lower factor first"),
        (["--adversarial", "hinge", "--smooth", "0.1"], "no labels to smooth"),
        (["--init", "srresnet"], "is a 'srresnet', which this recipe does not train"),
        (["--aligned", "."], "give it alone"),
        (["--flips", "up"], "--flips"),
        (["--resume"], "holds no last.pt to resume from"),
    ],
)
def test_wrong_use(folders, tmp_path, refused, arguments, words):
    data = ["--data", folders[0], "--target", folders[1], "--output", tmp_path / "run", *UNET, *TINY]
    assert words in refused("pix2pix", *data, *arguments)


def test_wrong_folders(folders, tmp_path, refused):
    assert "give --data and --target" in refused("pix2pix", "--output", tmp_path / "run", "--data", folders[0])
    (tmp_path / "empty").mkdir()
    line = refused("cyclegan", "--output", tmp_path / "run", "--data", folders[0], "--target", tmp_path / "empty")
    assert "no images there" in line


def test_options_reach_the_recipe(folders, tmp_path):
    given = {
        "--smooth": "0.1",
        "--discriminator-lr": "1e-3",
        "--content": "mse",
        "--instance-noise": "0.1",
        "--r1-weight": "0.5",
    }
    given |= {"--weight-init": "xavier", "--schedule": "step", "--warmup": "2", "--penalty-weight": "1"}
    given |= {"--content-weight": "5", "--weight-decay": "0.01", "--adversarial": "lsgan", "--discriminator-steps": "2"}
    data = ["--data", folders[0], "--target", folders[1], "--output", tmp_path / "run", *UNET, *TINY]
    result = train("pix2pix", *data, *[part for each in given.items() for part in each])
    assert result.exit_code == 0, result.output
    settings = torch.load(tmp_path / "run/last.pt", weights_only=True)["settings"]
    for option, value in given.items():
        name = option[2:].replace("-", "_")
        assert str(settings[name]) == value or float(settings[name]) == float(value), option
    assert settings["model_downs"] == 3


def test_pair_validation_by_hand():
    source = np.full((8, 8, 1), 100, np.uint8)
    target = np.full((8, 8, 1), 155, np.uint8)  # the inverse exactly
    fabric = fabric_for("cpu", "fp32")
    assert np.array_equal(translated(Inverse(), source, fabric), target)
    off = PairValidator([(source, target), (source, target - 10)], fabric, mask=False)(Inverse())
    assert off["l1"] == pytest.approx(5)
    worst = 10 * np.log10(255**2 / 100)
    assert off["psnr"] == off["score"] == pytest.approx((10 * np.log10(255**2 / 1e-3) + worst) / 2)
    assert PairValidator([], fabric, mask=False)(Inverse()) == {}


@pytest.mark.parametrize("channels", [1, 3])
def test_validation_has_the_figures_of_evaluation(channels):
    rng = np.random.default_rng(0)
    source, target = (rng.integers(0, 256, (9, 7, channels), np.uint8) for _ in range(2))
    found = PairValidator([(source, target)], fabric_for("cpu", "fp32"), mask=False)(Inverse())
    made, truth = as_rgb(255 - source), as_rgb(target)
    assert found["psnr"] == metrics.psnr(made, truth)
    assert found["l1"] == pytest.approx(255 * metrics.l1(made, truth))


def test_dice_by_hand():
    """Black where the source is white: 32 of 64 pixels are set, half of them truly."""
    source = np.zeros((8, 8, 1), np.uint8)
    source[:4] = 255
    target = np.zeros((8, 8, 1), np.uint8)
    target[6:] = 255
    found = PairValidator([(source, target)], fabric_for("cpu", "fp32"), mask=True)(Inverse())
    assert found["dice"] == found["score"] == pytest.approx(2 * 16 / (32 + 16))
    assert found["iou"] == pytest.approx(16 / 32)


def test_cycle_validation_by_hand():
    class Brighter(nn.Module):
        def __init__(self, levels):
            super().__init__()
            self.levels = levels

        def forward(self, x):
            return x + self.levels / 127.5

    pair = nn.Module()
    pair.a_to_b, pair.b_to_a = Brighter(20), Brighter(-15)
    rng = np.random.default_rng(0)
    first = rng.integers(50, 150, (8, 8, 3), np.uint8)
    fabric = fabric_for("cpu", "fp32")
    found = CycleValidator([first], [first + 20], fabric)(pair)
    assert found == {
        "cycle_a": pytest.approx(5),
        "cycle_b": pytest.approx(5),
        "values_a": pytest.approx(5),
        "values_b": pytest.approx(0),
    }
    assert CycleValidator([], [first], fabric)(pair) == {}


def test_spread():
    images = [np.full((4, 6, 3), level, np.uint8) for level in (0, 100)]
    assert spread(images) == 50
    assert spread(images[:1] * 2) == 0
    assert spread([images[0], np.full((8, 8, 3), 100, np.uint8)]) == 50
    fabric = fabric_for("cpu", "fp32")
    assert PairShowcase([(each, each) for each in images], fabric).diversity(Inverse()) == 50
