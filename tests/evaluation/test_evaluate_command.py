import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import gankit
from gankit import cli
from gankit.cli.evaluate import evaluate
from gankit.datasets.conditions import CONDITIONS
from gankit.datasets.reduction import reduce
from gankit.errors import GankitError
from gankit.evaluation import bicubic
from gankit.weights import DEFAULT_UPSCALER


@pytest.fixture
def benchmark_dir(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        for folder, side in (("HR", 64), ("LR", 16)):
            path = tmp_path / "set" / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(path)
    return tmp_path / "set"


@pytest.fixture
def run(monkeypatch):
    """The command, with an upscaler that repeats pixels in the place of every model; it notes its devices."""
    asked, given = [], []

    class Nearest:
        def __init__(
            self,
            model: str,
            backend: str,
            precision: str,
            device: str,
            max_memory,
            options: dict | None,
            strength: float | None,
            faithful: str | None,
        ) -> None:
            assert strength is faithful is None
            asked.append(device)
            given.append(options)
            self.scale = 2 if model == "twice" else 4
            self.facts = SimpleNamespace(scale=self.scale)

        def __call__(self, image: np.ndarray) -> np.ndarray:
            return image.repeat(self.scale, 0).repeat(self.scale, 1)

    monkeypatch.setitem(vars(gankit), "Upscaler", Nearest)

    def invoke(*words):
        return CliRunner().invoke(evaluate, [str(word) for word in words])

    invoke.devices, invoke.options = asked, given
    return invoke


def test_table_and_json(run, benchmark_dir, tmp_path):
    result = run("--model", "srresnet", "--model", "srgan", "--data", benchmark_dir, "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.output
    for word in ("bicubic", "srresnet", "srgan", "×4", "border 4", "n = 2", "mean"):
        assert word in result.output
    report = json.loads((tmp_path / "f.json").read_text())
    assert set(report["results"]) == {"bicubic", "srresnet", "srgan"}
    assert f"{report['results']['srgan']['mean']['psnr_y']:.2f}" in result.output
    assert report["results"]["srgan"] == report["results"]["srresnet"] != report["results"]["bicubic"]
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_device(run, benchmark_dir):
    for words in ((), ("--device", "cuda:1")):
        assert run("--data", benchmark_dir, *words).exit_code == 0
    assert run.devices == ["auto", "cuda:1"]


def test_a_memory_limit(benchmark_dir, capsys):
    arguments = ["evaluate", "--model", "srgan", "--data", str(benchmark_dir), "--max-memory", "50MB"]
    assert cli.main(arguments) == 1
    assert "takes about" in (said := capsys.readouterr().err)
    assert "use a larger --max-memory" in said


def test_the_name_of_the_task_may_be_left_out(run, benchmark_dir):
    outputs = [run(*words, "--data", benchmark_dir).output for words in ((), ("upscale",))]
    assert outputs[0] == outputs[1]
    assert "PSNR" in outputs[0]
    listed = CliRunner().invoke(evaluate, ["--help"])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in ("upscale", "translate", "generate", "classifier"))


def test_a_file_that_cannot_be_written_is_named_by_its_option(benchmark_dir, tmp_path, capsys):
    (tmp_path / "file").touch()
    for option in ("--json", "--comparison"):
        assert cli.main(["evaluate", "--data", str(benchmark_dir), option, str(tmp_path / "file" / "x.png")]) == 2
        assert f"use another {option}" in capsys.readouterr().err


def test_what_the_file_does_not_tell(run, benchmark_dir):
    assert run("--data", benchmark_dir, "--model-option", "activation=leaky").exit_code == 0
    assert run("--data", benchmark_dir).exit_code == 0
    assert run.options == [{"activation": "leaky"}, None]


def test_lpips_goes_into_the_table(run, benchmark_dir, tmp_path, monkeypatch):
    from gankit.evaluation import perceptual

    class Half:
        def __init__(self, backbone: str) -> None:
            assert backbone == "vgg"

        def __call__(self, result: np.ndarray, target: np.ndarray) -> float:
            assert result.shape == target.shape == (56, 56, 3), "without the border"
            return 0.5

    monkeypatch.setattr(perceptual, "Lpips", Half)
    result = run("--data", benchmark_dir, "--lpips", "vgg", "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.output
    assert "LPIPS" in result.output
    report = json.loads((tmp_path / "f.json").read_text())
    assert report["lpips"] == "vgg"
    assert report["results"][DEFAULT_UPSCALER]["mean"]["lpips"] == 0.5


def test_folders_by_hand_and_a_border(run, benchmark_dir, tmp_path):
    json_file = tmp_path / "new" / "f.json"
    result = run("--hr", benchmark_dir / "HR", "--lr", benchmark_dir / "LR", "--border", 0, "--json", json_file)
    assert result.exit_code == 0, result.output
    assert json.loads(json_file.read_text())["results"][DEFAULT_UPSCALER]["border"] == 0


def test_data_is_looked_for_in_the_data_folder(run, benchmark_dir, monkeypatch):
    monkeypatch.setenv("GANKIT_DATA", str(benchmark_dir.parent))
    file = benchmark_dir.parent / "f.json"
    assert run("--data", "set", "--json", file).exit_code == 0
    assert json.loads(file.read_text())["data"] == "set", "the JSON goes into cards: no paths of this machine"


def test_comparison_image(run, benchmark_dir, tmp_path):
    sample_grid = tmp_path / "sample_grid.png"
    result = run("--data", benchmark_dir, "--comparison", sample_grid, "--crop", "4,8,32,32", "--image", "b")
    assert result.exit_code == 0, result.output
    small = np.asarray(Image.open(benchmark_dir / "LR" / "b.png"))
    pixels = np.asarray(Image.open(sample_grid))[-32:]
    np.testing.assert_array_equal(pixels[:, :32], small.repeat(4, 0).repeat(4, 1)[8:40, 4:36])
    wanted = bicubic(4)(small)[8:40, 4:36]
    assert any(np.array_equal(pixels[:, x : x + 32], wanted) for x in range(32, pixels.shape[1] - 32))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give --data"),
        (("--lr", "x"), "give --data"),
        (("--data", "x", "--lr", "y"), "already names"),
        (("--data", "x", "--crop", "1,2,3,4"), "need --comparison"),
        (("--data", "x", "--comparison", "y", "--crop", "1,2,3"), "four whole numbers"),
        (("--data", "x", "--border", "-1"), "--border"),
        (("--data", "x", "--model", "srgan", "--model", "srgan"), "twice"),
    ],
)
def test_wrong_use_is_status_2(run, words, message):
    result = run(*words)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "twice"), "made 32×32 of a, the true image is 64×64"),
        (("--comparison", "{tmp}/s.png", "--image", "z"), "--image z: not in"),
        (("--comparison", "{tmp}/s.png", "--crop", "60,0,9,9"), "not inside an image of 64×64"),
        (("--json", "/proc/none/f.json"), "cannot be written"),
        (("--comparison", "{tmp}/sample_grid.xyz"), "no format writes '.xyz'"),
    ],
)
def test_errors_are_one_line(run, benchmark_dir, tmp_path, words, message):
    result = run("--data", benchmark_dir, *(word.format(tmp=tmp_path) for word in words))
    assert isinstance(result.exception, GankitError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "s.png").exists()


def test_conditions(run, benchmark_dir, tmp_path):
    """One row for each; the small images are made where none are given, and degraded as the names say."""
    words = ("--model", "any", "--hr", benchmark_dir / "HR", "--condition", "all", "--json", tmp_path / "f.json")
    result = run(*words)
    assert result.exit_code == 0, result.output
    table = [line.split("│")[1].strip() for line in result.output.splitlines() if line.startswith("│")]
    assert table == ["clean", "q90", "q75", "q50", "noise5", "noise5_q75"]
    found = json.loads((tmp_path / "f.json").read_text())["conditions"]
    for name, score in found.items():
        psnrs = []
        for number, stem in enumerate("ab"):
            true = np.asarray(Image.open(benchmark_dir / "HR" / f"{stem}.png"))
            small = CONDITIONS[name](reduce(true, 4)[1], number)
            levels = (
                (true.astype(float) - small.repeat(4, 0).repeat(4, 1))[4:-4, 4:-4] @ (65.481, 128.553, 24.966) / 255
            )
            psnrs.append(10 * np.log10(255**2 / np.mean(levels**2)))
        assert score["any"]["mean"]["psnr_y"] == pytest.approx(np.mean(psnrs), abs=1e-6)
    assert len({score["any"]["mean"]["psnr_y"] for score in found.values()}) == 6


def test_a_condition_of_given_small_images(run, benchmark_dir):
    result = run("--data", benchmark_dir, "--condition", "q50", "--condition", "q50")
    assert result.exit_code == 0, result.output
    assert result.output.count("q50") == 1
    refused = run("--data", benchmark_dir, "--condition", "q5")
    assert refused.exit_code == 2
