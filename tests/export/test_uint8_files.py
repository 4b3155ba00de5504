"""Files that take and give uint8 pixels: equal to the float file, whose values are rounded outside."""

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from gankit_export.pixel_edges import PixelEdges, pixel_batch
from PIL import Image

from gankit.backends.base import EngineSpec
from gankit.backends.pixels import from_values, to_values
from gankit.checkpoints import open_model
from gankit.cli import main
from gankit.models.facts import Facts
from tests.checkpoints.published_translation import UNet, shake
from tests.export.formats import exported, result, small_image, small_weights
from tests.latent_networks import weights as latent_weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bytes")
    weights = small_weights(folder)
    exported(weights, folder / "bytes.onnx", "--io", "uint8")
    exported(weights, folder / "float.onnx")
    return folder


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_the_edges_are_the_conversion_of_every_engine(value_range):
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 8, 32, 1)
    facts = Facts(task="translate", value_range=value_range, channels=1)
    module = PixelEdges(torch.nn.ReLU(), value_range)
    values = torch.relu(to_values(pixels.permute(0, 3, 1, 2), facts))
    assert torch.equal(module(pixels), from_values(values, facts, torch.uint8).permute(0, 2, 3, 1))
    np.testing.assert_array_equal(
        pixel_batch(to_values(pixels.permute(0, 3, 1, 2), facts).numpy(), value_range), pixels.numpy()
    )


def test_the_file_alone_is_the_float_file_rounded(made):
    pixels = np.random.default_rng(1).integers(0, 256, (2, 33, 18, 3), np.uint8)
    run = {
        name: onnxruntime.InferenceSession(str(made / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        for name in ("bytes", "float")
    }
    values = run["float"].run(None, {"input": (pixels / np.float32(255)).transpose(0, 3, 1, 2).astype(np.float32)})[0]
    wanted = (values.transpose(0, 2, 3, 1) * np.float32(255)).clip(0, 255).round().astype(np.uint8)
    found = run["bytes"].run(None, {"input": pixels})[0]
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - wanted).max() <= 1
    assert (found != wanted).mean() < 0.002, "only where a value lies between two levels"


def test_metadata_and_manifest(made):
    facts = {item.key: item.value for item in onnx.load(made / "bytes.onnx").metadata_props}
    assert (facts["dtype"], facts["layout"], facts["value_range"]) == ("uint8", "NHWC", "[0.0, 255.0]")
    content = json.loads((made / "bytes.onnx.json").read_text())
    assert content["input"] == {"name": "input", "dtype": "uint8", "layout": "NHWC"}
    assert content["dims"]["input"] == ["batch", "height", "width", 3]
    assert [item["shape"] for item in content["parity"]][1] == [1, 3, 32, 32]
    assert content["threshold"] == 60


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_gankit_reads_it_back(made, backend, manifest, tmp_path):
    pytest.importorskip(backend)
    shutil.copy(made / "bytes.onnx", tmp_path)
    if manifest:
        shutil.copy(made / "bytes.onnx.json", tmp_path)
    image = small_image(tmp_path)
    wanted = result("upscale", made / "float.onnx", tmp_path / "w", image, "--backend", backend)
    found = result("upscale", tmp_path / "bytes.onnx", tmp_path / "f", image, "--backend", backend)
    assert np.abs(found - wanted).max() <= 1
    assert (found != wanted).mean() < 0.002


def test_values_between_two_levels_are_rounded(made):
    """A float image, or one of 16 bits, is rounded to 8 bits and not cut off."""
    module = open_model(made / "bytes.onnx").generator
    whole = torch.full((1, 3, 8, 8), 100.0)
    assert torch.equal(module(whole - 0.4), module(whole))
    assert torch.equal(module(whole + 0.4), module(whole))


def test_translate(tmp_path):
    torch.save(shake(UNet(5)).state_dict(), tmp_path / "u.pth")
    exported(tmp_path / "u.pth", tmp_path / "u.onnx", "--io", "uint8", "--norm", "eval")
    image = small_image(tmp_path, (32, 64))
    options = (image, "--backend", "onnxruntime")
    wanted = result("translate", tmp_path / "u.pth", tmp_path / "w", *options, "--norm", "eval")
    assert np.abs(result("translate", tmp_path / "u.onnx", tmp_path / "f", *options) - wanted).max() <= 1


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize("io", ["float32", "uint8"])
def test_generate(tmp_path, io, manifest):
    weights = latent_weights(tmp_path, "cgan")
    file = exported(weights, tmp_path / "c.onnx", "--io", io)
    if not manifest:
        (tmp_path / "c.onnx.json").unlink()
    wanted = result("generate", weights, tmp_path / "w", "-n", 1, "--class", 3)
    for backend in ("onnxruntime", "auto"):
        found = result("generate", file, tmp_path / backend, "-n", 1, "--class", 3, "--backend", backend)
        assert np.abs(found - wanted).max() <= 1


def test_a_manifest_of_other_weights_is_refused(made, tmp_path, capsys):
    for name in ("bytes.onnx", "bytes.onnx.json"):
        shutil.copy(made / name, tmp_path)
    shutil.copy(made / "float.onnx", tmp_path / "bytes.onnx")
    image = small_image(tmp_path)
    assert main(["upscale", str(image), "--model", str(tmp_path / "bytes.onnx"), "--output", str(tmp_path / "o")]) == 2
    assert "differs from the checksum in its manifest" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "ncnn", "--io", "uint8"], "--io uint8 is not available"),
        (["--format", "ncnn", "--bf16"], "cannot be bf16; use --precision fp32 or fp16"),
        (["--format", "openvino", "--opset", "18"], "has no opset"),
        (["--format", "openvino", "--shapes", "1x8x8"], "takes every shape"),
        (["--format", "ncnn", "--device", "cpu"], "is not made for a device"),
        (["--format", "onnx", "--instances", "2"], "serving applies to --format tritonserver only"),
        (["--format", "openvino", "--output", "x.onnx"], "must end in .xml"),
    ],
)
def test_options_that_a_format_lacks(made, options, words, capsys):
    assert main(["export", "--model", str(made / "mine.safetensors"), *options]) == 2
    assert words in capsys.readouterr().err


def test_an_exported_file_is_not_exported_again(made, capsys):
    assert main(["export", "--model", str(made / "float.onnx"), "--format", "openvino"]) == 2
    assert "is an exported file already" in capsys.readouterr().err


def test_classes_of_pixels_are_no_pixels(tmp_path, capsys):
    torch.save(shake(UNet(5, outs=5)).state_dict(), tmp_path / "u.pth")
    assert main(["export", "--model", str(tmp_path / "u.pth"), "--io", "uint8"]) == 2
    assert "returns 5 channels, which are no pixels" in capsys.readouterr().err


def test_engines_take_16_bits(made):
    """A 16-bit image through a uint8 file has the levels of 8 bits, and no wrong ones."""
    from gankit.backends import get

    loaded = open_model(made / "bytes.onnx")
    engine = get("onnxruntime").load(EngineSpec(loaded.generator, loaded.facts))
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8)).astype(np.uint8))
    deep = (pixels.to(torch.int32) * 257).to(torch.uint16)
    assert torch.equal(engine.run(deep).to(torch.int32), engine.run(pixels).to(torch.int32) * 257)


def test_a_gray_file(tmp_path):
    """One channel has its axis, too."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "g.png")
    module = PixelEdges(torch.nn.Identity(), (-1.0, 1.0))
    assert torch.equal(module(torch.from_numpy(pixels)[None, ..., None])[0, ..., 0], torch.from_numpy(pixels))
