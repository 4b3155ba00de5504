"""``gankit export`` as a user calls it."""

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

import gankit
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
        (["--shapes", "1x8x8"], "use --shapes with --format tensorrt or aoti only"),
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


STRANGER = """
import json, sys
import numpy as np, onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
facts = session.get_modelmeta().custom_metadata_map
low, high = json.loads(facts["value_range"])
step = int(facts["multiple"])
image = np.asarray(Image.open(sys.argv[2]).convert({"RGB": "RGB", "gray": "L"}[facts["colour_order"]]))
image = image.reshape(*image.shape[:2], int(facts["channels"]))
height, width = (side // step * step for side in image.shape[:2])
batch = image[:height, :width].transpose(2, 0, 1)[None] / np.float32(255) * np.float32(high - low) + np.float32(low)
result = session.run(None, {session.get_inputs()[0].name: batch.astype(np.float32)})[0]
assert result.shape[2] == int(facts["scale"]) * height
pixels = ((result[0].transpose(1, 2, 0) - low) / (high - low) * 255).round().clip(0, 255).astype(np.uint8)
np.save(sys.argv[3], pixels)
"""


@pytest.mark.slow
@pytest.mark.parametrize("model", ["srgan", "nuclei-tissue"])
def test_a_script_that_knows_the_file_alone_is_right(tmp_path, model):
    """What a stranger's script makes of the file and its metadata is what gankit makes."""
    values = np.random.default_rng(0).choice(np.array([0, 128, 255], np.uint8), (8, 8)).repeat(16, 0).repeat(16, 1)
    Image.fromarray(values).save(tmp_path / "a.png")
    path = tmp_path / "x.onnx"
    gankit.export(model, path)
    facts = {item.key: item.value for item in onnx.load(path).metadata_props}
    card = shipped.card(model)
    assert (facts["weights_sha256"], facts["licence"]) == (card["sha256"], card["licence"])
    assert facts["gankit_version"] == gankit.__version__
    assert facts.get("input_kind") == ("labels" if model == "nuclei-tissue" else None)
    subprocess.run([sys.executable, "-c", STRANGER, path, tmp_path / "a.png", tmp_path / "r.npy"], check=True)
    kind = gankit.Upscaler if model == "srgan" else gankit.Translator
    image = values if model == "nuclei-tissue" else np.repeat(values[..., None], 3, axis=2)
    with kind(model, backend="eager", precision="fp32", device="cpu") as run:
        wanted = run(image)
    found = np.load(tmp_path / "r.npy").reshape(*np.load(tmp_path / "r.npy").shape[:2], -1)
    wanted = wanted.reshape(*wanted.shape[:2], -1)
    if model == "srgan":  # gankit makes the results of gray images gray again
        found = found.mean(axis=2, keepdims=True)
    assert np.abs(found.astype(float) - wanted).max() <= 1


@pytest.mark.slow
def test_latents_say_what_they_are(tmp_path):
    gankit.export("cgan", tmp_path / "x.onnx")
    facts = {item.key: item.value for item in onnx.load(tmp_path / "x.onnx").metadata_props}
    made = gankit.Sampler("cgan").facts
    assert (facts["latent"], facts["classes"]) == (str(made.latent), str(made.classes))
    assert (facts["task"], facts["colour_order"]) == ("generate", "gray")
    assert "scale" not in facts
