"""``gankit train`` from images to weights, with small nets."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from training_making import NET, SMALL, TINY

import gankit
from gankit import cli
from gankit.datasets.reduction import reduce
from gankit.datasets.synthetic import synthetic_image
from gankit.training import fabric, superres
from gankit.training.recipes import RECIPES


@pytest.fixture
def train(photos):
    """Run the command; returns its result, errors of the user raised."""

    def run(*arguments):
        command = ["train", *arguments[:1], "--data", str(photos), "--validation", str(photos), *TINY, *arguments[1:]]
        return CliRunner().invoke(cli.gankit, [str(part) for part in command], catch_exceptions=False)

    return run


@pytest.fixture
def refused(photos, tmp_path, capsys):
    """Run what must be refused; returns the one line."""

    def run(recipe, *arguments, status=2):
        command = ["train", recipe, "--data", photos, "--validation", photos, "--output", tmp_path / "out", *TINY]
        assert cli.main([str(part) for part in [*command, *arguments]]) == status
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error.strip().splitlines()[-1]

    return run


def test_both_stages(train, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    result = train("srresnet", "--output", first, *NET, "--validate-every", "2")
    assert result.exit_code == 0, result.output
    assert "dB at step" in result.output
    assert {path.name for path in first.iterdir()} == {"last.pt", "best.safetensors", "final.safetensors", "log.csv"}
    result = train(
        "srgan",
        "--output",
        second,
        "--init",
        first / "best.safetensors",
        "--head-start",
        1,
        "--discriminator-channels",
        4,
    )
    assert result.exit_code == 0, result.output
    assert {path.name for path in second.iterdir()} == {"last.pt", "final.safetensors", "log.csv"}
    assert f"weights of step 4: {second / 'final.safetensors'}" in result.output
    assert "dB at step" not in result.output
    net = gankit.load(second / "final.safetensors")
    assert len(net.body) == 1
    assert net(torch.rand(1, 3, 4, 4)).shape == (1, 3, 16, 16)
    first_net = gankit.load(first / "best.safetensors")
    change = (net.tail.weight - first_net.tail.weight).abs().max()
    assert 0 < change < 0.01


def test_resume_and_refusal(train, tmp_path, refused):
    folder = tmp_path / "out"
    result = train("srresnet", "--output", folder, *NET, "--stop-after", "0")
    assert result.exit_code == 0, result.output
    assert "stopped at step 1" in result.output
    assert "holds a run already" in refused("srresnet", *NET)
    assert "of another run" in refused("srresnet", "--blocks", "2", "--channels", "8", "--resume")
    result = train("srresnet", "--output", folder, *NET, "--resume")
    assert result.exit_code == 0, result.output
    assert "resumed at step 1" in result.stderr
    assert torch.load(folder / "last.pt", weights_only=True)["step"] == 4


def test_init_takes_a_name(train, tmp_path, monkeypatch):
    """The name goes to the registry as it is; a file of that name is not looked for."""
    result = train("srresnet", "--output", tmp_path / "a", *NET)
    asked = []

    def opened(name):
        asked.append(name)
        return real(tmp_path / "a" / "best.safetensors")

    real = superres.open_model
    monkeypatch.setattr(superres, "open_model", opened)
    result = train("srresnet", "--output", tmp_path / "b", "--init", "srresnet")
    assert result.exit_code == 0, result.output
    assert asked == ["srresnet"]


def test_inits_that_cannot_be(train, tmp_path, refused):
    assert "did you mean 'srresnet'" in refused("srgan", "--init", "srresnett", "--head-start", "1")
    assert "no such file" in refused("srgan", "--init", str(tmp_path / "none.safetensors"), "--head-start", "1")
    train("srresnet", "--output", tmp_path / "a", *NET)
    weights = tmp_path / "a" / "best.safetensors"
    for option, value in (("scale", "2"), ("blocks", "3"), ("channels", "16")):
        line = refused("srresnet", "--init", weights, f"--{option}", value)
        assert f"its {option} is" in line
        assert f"omit --{option}" in line
    gray = tmp_path / "gray.safetensors"
    options = {**SMALL, "in_channels": 1}
    gankit.checkpoints.save(gray, gankit.models.build("srgan", options).state_dict(), "srgan", options)
    assert "not an SRResNet for RGB" in refused("srresnet", "--init", gray)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["srresnet", "--adversarial-weight", "0.1"], "--adversarial-weight belongs to the srgan recipe"),
        (["srresnet", "--content-weight", "2"], "--content-weight belongs to the srgan recipe"),
        (["srresnet", "--discriminator-lr", "1"], "--discriminator-lr belongs to the srgan recipe"),
        (["srresnet", "--resume"], "holds no last.pt to resume from: omit --resume"),
        (["srresnet", "--vgg-weights", "x"], "--vgg-weights belongs to the srgan recipe"),
        (["srgan"], "leave none for the generator"),
        (["srgan", "--head-start", "1", "--vgg-weights", "none.pth"], "none.pth: no such file"),
        (["srresnet", "--steps", "0"], "--steps"),
        (["srresnet", "--batch", "0"], "--batch"),
        (["srresnet", "--validate-every", "0"], "--validate-every"),
        (["srresnet", "--lr", "-1"], "--lr"),
        (["srresnet", "--seed", "-1"], "--seed"),
        (["srresnet", "--patch", "25", *NET], "every training image is smaller than one patch of 100×100"),
        (["srresnet", "--data", __file__], "--data"),
    ],
)
def test_wrong_use(refused, arguments, words):
    assert words in refused(*arguments)


def test_cuda_without_cuda(refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in refused("srresnet", "--device", "cuda")


def test_validation_images_that_are_too_small(train, refused, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    Image.new("RGB", (3, 11)).save(folder / "tiny.png")
    assert "every image is smaller than 12×12" in refused("srresnet", *NET, "--validation", folder)
    Image.fromarray(synthetic_image(0, size=12)).save(folder / "enough.png")
    result = train("srresnet", *NET, "--validation", folder, "--output", tmp_path / "ran")
    assert result.exit_code == 0, result.output


def test_output_that_is_a_file(refused, tmp_path):
    (tmp_path / "out").write_text("")
    assert "cannot be written" in refused("srresnet", *NET)


@pytest.mark.parametrize(
    "options", [["--scale", "2"], ["--scale", "8", "--patch", "4"], ["--norm", "batch"], ["--content", "mse"]]
)
def test_variants(train, tmp_path, options):
    result = train("srresnet", "--output", tmp_path / "run", *NET, *options)
    assert result.exit_code == 0, result.output
    scale = int(options[1]) if options[0] == "--scale" else 4
    assert gankit.load(tmp_path / "run" / "final.safetensors")(torch.rand(1, 3, 4, 4)).shape[-1] == 4 * scale


def test_help_has_a_line_for_each_recipe():
    text = CliRunner().invoke(cli.gankit, ["train", "--help"]).output
    for name in RECIPES:
        assert f"gankit train {name} --data" in text


def test_batch_norm_is_not_begun_from_frozen_norms(train, refused, tmp_path):
    """Their statistics say nothing of the images: the batch's would be another function at once."""
    assert "trained with frozen norms" in refused("srresnet", "--init", "srresnet", "--norm", "batch")
    train("srresnet", "--output", tmp_path / "a", *NET, "--norm", "batch")
    weights = tmp_path / "a" / "final.safetensors"
    for norm in ("batch", "frozen"):
        result = train("srresnet", "--output", tmp_path / norm, "--init", weights, "--norm", norm)
        assert result.exit_code == 0, result.output


def test_options_reach_the_recipe(train, tmp_path):
    given = [
        "--content-weight",
        "2",
        "--discriminator-lr",
        "3e-4",
        "--discriminator-norm",
        "batch",
        "--head-start",
        "1",
    ]
    result = train("srgan", "--output", tmp_path / "a", *NET, *given, "--discriminator-channels", 4)
    assert result.exit_code == 0, result.output
    settings = torch.load(tmp_path / "a/last.pt", weights_only=True)["settings"]
    assert (settings["content_weight"], settings["discriminator_lr"], settings["discriminator_norm"]) == (
        2,
        3e-4,
        "batch",
    )


def test_sample_grids_show_bicubic_result_and_truth(train, tmp_path, photos):
    result = train("srresnet", "--output", tmp_path / "a", *NET, "--grid-every", "2", "--average", "0")
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in (tmp_path / "a" / "grids").iterdir())
    assert names == ["step_0000002.png", "step_0000004.png"]
    sample_grid = np.asarray(Image.open(tmp_path / "a" / "grids" / names[-1]))
    side = 96  # the whole image: it is smaller than what would be shown
    assert sample_grid.shape == (2 * side + 2, 3 * side + 4, 3)
    truth = np.asarray(Image.open(photos / "0.png"))
    assert np.array_equal(sample_grid[:side, -side:], truth)
    bicubic = Image.fromarray(reduce(truth, 4)[1]).resize((side, side), Image.Resampling.BICUBIC)
    gap = np.abs(sample_grid[:side, :side].astype(int) - np.asarray(bicubic)).mean()
    assert gap < 3  # torch's kernel is another bicubic
    assert torch.load(tmp_path / "a/last.pt", weights_only=True)["average"] is None


def test_of_large_validation_images_the_middle_is_used(tmp_path):
    from gankit.training.fabric import fabric_for
    from gankit.training.superres_validation import UpscalingValidator

    rng = np.random.default_rng(0)
    for name, shape in (("kodak", (512, 768, 3)), ("tall", (768, 512, 3)), ("large", (801, 1000, 3))):
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / f"{name}.png")
    validator = UpscalingValidator(tmp_path, 4, fabric_for("cpu", "fp32"))
    assert [large.shape[:2] for large, _ in validator._pairs] == [(512, 768), (768, 768), (768, 512)]
    whole = np.asarray(Image.open(tmp_path / "large.png"))
    assert np.array_equal(validator._pairs[1][0], whole[16:784, 116:884])


def test_emulated_bf16_is_not_chosen(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: asked.append(1) or including_emulation
    )
    assert not fabric.has_bf16("auto")
    assert not fabric.has_bf16("cuda")
    fabric.has_bf16("cpu")
    assert len(asked) == 2


@pytest.mark.slow
def test_several_folders_and_pillow_alone(tmp_path, photos):
    """``--data`` twice, in a Python that has no decoder but Pillow."""
    other = tmp_path / "other"
    other.mkdir()
    image = Image.open(photos / "0.png").convert("RGB")
    for name in ("a.jpg", "b.webp"):
        image.save(other / name)
    image.quantize(16).save(other / "palette.png")
    code = (
        "import sys\n"
        "for name in ('imagecodecs', 'tifffile', 'isal', 'onnx', 'openvino', 'onnxruntime', 'scipy'):\n"
        "    sys.modules[name] = None\n"
        "from gankit.cli import gankit\n"
        "gankit()\n"
    )
    words = ["train", "edsr", "--data", photos, "--data", other, "--validation", photos, *NET, *TINY]
    words += ["--degradation", "photo", "--output", tmp_path / "run"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "skipped" not in done.stderr
    settings = torch.load(tmp_path / "run/last.pt", weights_only=True)["settings"]
    assert settings["data"].startswith("5 images")
    assert settings["degradation"] == "photo"
