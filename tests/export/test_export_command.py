"""``gankit export`` as a user calls it."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from gankit.checkpoints import save, shipped
from gankit.cli import main
from tests.export.networks_export import small_srresnet


@pytest.fixture
def weights(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = tmp_path / "mine.safetensors"
    options = {"scale": 4, "channels": 16, "blocks": 2, "in_channels": 3}
    save(path, small_srresnet().state_dict(), "srgan", options)
    return path


def test_default_file_table_and_manifest(weights, tmp_path, capsys):
    assert main(["export", "--model", str(weights), "--fp16"]) == 0
    here = tmp_path / "here"
    assert sorted(item.name for item in here.iterdir()) == ["mine_x4_fp16.onnx", "mine_x4_fp16.onnx.json"]
    onnx.checker.check_model(str(here / "mine_x4_fp16.onnx"))
    content = json.loads((here / "mine_x4_fp16.onnx.json").read_text())
    shapes = [item["shape"] for item in content["parity"]]
    assert shapes == [[1, 3, 192, 256], [1, 3, 32, 32], [1, 3, 97, 131]]
    assert min(item["psnr"] for item in content["parity"]) > 50
    assert content["half_convolutions"] == [9, 9]
    assert content["images"] == ["parity.png"]
    text = capsys.readouterr().out
    for word in ("256×192", "32×32", "131×97", "9 of 9 convolutions in half", "mine_x4_fp16.onnx"):
        assert word in text


def test_overwrite_and_own_images(weights, tmp_path, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)).save(tmp_path / "p.png")
    arguments = ["export", "--model", str(weights), "--output", str(tmp_path / "out"), "--parity-images"]
    assert main([*arguments, str(tmp_path / "p.png")]) == 0
    path = tmp_path / "out" / "mine_x4_fp32.onnx"
    first = path.read_bytes()
    assert main([*arguments, str(tmp_path / "p.png")]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "none.png"), "--overwrite"]) != 0
    assert path.read_bytes() == first


def test_failing_parity_exits_1_and_leaves_nothing(weights, tmp_path, capsys):
    assert main(["export", "--model", str(weights), "--precision", "fp16", "--threshold", "200"]) == 1
    assert not list((tmp_path / "here").iterdir())
    captured = capsys.readouterr()
    assert "200 dB are needed" in captured.err
    assert "32×32" in captured.out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--fp16", "--bf16"], "contradict each other"),
        (["--fp16", "--precision", "fp32"], "contradict each other"),
        (["--threshold", "30"], "threshold"),
        (["--bf16", "--opset", "18"], "opset 22"),
        (["--output", "x.engine"], "must end in .onnx"),
        (["--format", "coreml"], "coreml"),
        (["--format", "tensorrt", "--opset", "18"], "no opset"),
        (["--format", "tensorrt", "--output", "x.onnx", "--device", "cpu"], "must end in .engine"),
        (["--format", "tensorrt", "--device", "cpu"], "use --device cuda"),
        (["--shapes", "1x8x8"], "use --shapes with --format tensorrt only"),
        (["--output", "../mine.safetensors/x.onnx"], "cannot be written"),
    ],
)
def test_wrong_use(weights, capsys, arguments, text):
    assert main(["export", "--model", str(weights), *arguments]) == 2
    assert text in capsys.readouterr().err


def test_unknown_model(capsys):
    assert main(["export", "--model", "srgn"]) == 2
    assert "did you mean 'srgan'" in capsys.readouterr().err


def test_without_onnx_runtime(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", "--model", str(weights)]) == 2
    assert "pip install onnxruntime" in capsys.readouterr().err
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.slow
def test_shipped_srgan(tmp_path, monkeypatch):
    if not shipped.weights_path("srgan").is_file():
        pytest.skip("no shipped srgan")
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--model", "srgan", "--fp16"]) == 0
    session = onnxruntime.InferenceSession("srgan_x4_fp16.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"input": np.zeros((2, 3, 8, 9), np.float32)})[0].shape == (2, 3, 32, 36)
    assert json.loads((tmp_path / "srgan_x4_fp16.onnx.json").read_text())["half_convolutions"] == [37, 37]
