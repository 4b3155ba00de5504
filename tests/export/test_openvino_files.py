"""OpenVINO IR out and in: every task, bad files, and those of others."""

import json
import shutil

import numpy as np
import pytest
import torch

pytest.importorskip("openvino")

from gankit_export.openvino_core import openvino_core

from gankit.checkpoints import open_model
from gankit.cli import main
from tests.checkpoints.published_translation import ResNet, shake
from tests.export.formats import EXACT, exported, refusal, result, small_image, small_weights
from tests.latent_networks import weights as latent_weights


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Weights, an fp16 file and a uint8 file of an upscaler, each exported once."""
    folder = tmp_path_factory.mktemp("ir")
    weights = small_weights(folder)
    exported(weights, folder / "half.xml", "--format", "openvino", "--fp16")
    exported(weights, folder / "bytes.xml", "--format", "openvino", "--io", "uint8")
    return folder


@pytest.fixture
def copy(made, tmp_path):
    """A copy of the fp16 file that a test may damage."""
    for path in made.glob("half.*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "half.xml"


def test_the_manifest_says_what_the_file_is(made):
    content = json.loads((made / "half.xml.json").read_text())
    assert (content["kind"], content["precision"], content["runtime"]) == ("openvino", "fp16", "openvino")
    assert list(content["files"]) == ["half.bin"]
    half, every = content["half_convolutions"]
    assert half == every == 6
    assert min(float(item["psnr"]) for item in content["parity"]) >= 50
    assert content["metadata"]["task"] == "upscale"
    bytes_ = json.loads((made / "bytes.xml.json").read_text())
    assert bytes_["input"] == {"name": "input", "dtype": "uint8", "layout": "NHWC"}
    assert bytes_["value_range"] == [0, 255]
    assert [item["shape"] for item in bytes_["parity"]] == [item["shape"] for item in content["parity"]]


@pytest.mark.slow
def test_fp16_halves_the_weights(made, tmp_path):
    full = exported(made / "mine.safetensors", tmp_path / "full.xml", "--format", "openvino")
    assert (made / "half.bin").stat().st_size < 0.6 * full.with_suffix(".bin").stat().st_size


@pytest.mark.parametrize("name", ["half.xml", "bytes.xml"])
def test_upscale(made, name, tmp_path):
    image = small_image(tmp_path)
    wanted = result("upscale", made / "mine.safetensors", tmp_path / "w", image, *EXACT)
    for backend in ("openvino", "eager"):
        found = result("upscale", made / name, tmp_path / backend, image, "--backend", backend, "--precision", "fp32")
        assert np.abs(found - wanted).max() <= (2 if name == "half.xml" else 1)


@pytest.mark.slow
def test_translate(tmp_path):
    torch.save(shake(ResNet(4, 1).eval()).state_dict(), tmp_path / "net_G.pth")
    file = exported(tmp_path / "net_G.pth", tmp_path / "t.xml", "--format", "openvino")
    image = small_image(tmp_path, (24, 20))
    options = (image, "--precision", "fp32")
    wanted = result("translate", tmp_path / "net_G.pth", tmp_path / "w", *options, "--backend", "eager")
    found = result("translate", file, tmp_path / "f", *options)
    assert np.abs(found - wanted).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("io", ["float32", "uint8"])
def test_generate(tmp_path, io):
    weights = latent_weights(tmp_path, "cgan")
    file = exported(weights, tmp_path / "c.xml", "--format", "openvino", "--io", io)
    wanted = result("generate", weights, tmp_path / "w", "-n", 1, "--class", 2)
    for backend in ("openvino", "auto"):
        found = result("generate", file, tmp_path / backend, "-n", 1, "--class", 2, "--backend", backend)
        assert np.abs(found - wanted).max() <= 1


def changed(path, text=b"\n"):
    path.write_bytes(path.read_bytes() + text)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: changed(path), "differs from the checksum in its manifest"),
        (lambda path: changed(path.with_suffix(".bin")), "half.bin: differs from the checksum in its manifest"),
        (lambda path: path.with_suffix(".bin").unlink(), "half.bin: no such file"),
        (lambda path: path.with_name("half.xml.json").write_text("{"), "not a manifest"),
        (lambda path: path.with_name("half.xml.json").write_text('{"format": 2}'), "not a manifest"),
        (lambda path: path.unlink(), "no such file"),
        (
            lambda path: (path.with_name("half.xml.json").unlink(), path.write_bytes(path.read_bytes()[:900])),
            "OpenVINO cannot read it",
        ),
        (
            lambda path: (path.with_name("half.xml.json").unlink(), path.with_suffix(".bin").unlink()),
            "an OpenVINO IR has both files",
        ),
    ],
)
def test_damaged_files(copy, damage, words, capsys, tmp_path):
    damage(copy)
    image = small_image(tmp_path)
    assert words in refusal(capsys, "upscale", image, "--model", copy, "--output", tmp_path / "out")


def other_names(path, change):
    content = json.loads(path.with_name("half.xml.json").read_text())
    change(content)
    path.with_name("half.xml.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(files={"../half.bin": "0" * 64}),
        lambda content: content.update(scale=0, options={}),
        lambda content: content.update(options={"scale": 7}),
        lambda content: content.update(kind="ncnn"),
        lambda content: content.update(dims={}, options={}),
    ],
)
def test_edited_manifests(copy, change, capsys, tmp_path):
    other_names(copy, change)
    refusal(capsys, "upscale", small_image(tmp_path), "--model", copy, "--output", tmp_path / "out")


def test_a_file_without_a_manifest_is_found_by_running(copy):
    copy.with_name("half.xml.json").unlink()
    loaded = open_model(copy)
    assert (loaded.facts.scale, loaded.facts.channels) == (2, 3)
    assert loaded.recognised.startswith("running it: NCHW float32")


@pytest.mark.parametrize(("layout", "dtype", "full"), [("NHWC", np.float16, 1.0), ("NHWC", np.uint8, 255.0)])
def test_files_of_others(tmp_path, layout, dtype, full):
    """A graph of other edges gives the pixels that it gives alone."""
    import openvino
    from openvino import opset13 as ops

    given = ops.parameter(openvino.PartialShape([-1, -1, -1, 3]), dtype, name="x")
    values = ops.transpose(ops.convert(given, "f32"), np.array([0, 3, 1, 2]))
    large = ops.depth_to_space(ops.concat([values] * 4, 1), "blocks_first", 2)
    clamped = ops.transpose(ops.clamp(large, 0.0, full), np.array([0, 2, 3, 1]))
    made = ops.convert(clamped, {np.uint8: "u8", np.float16: "f16"}[dtype])
    openvino.save_model(openvino.Model([made], [given], "x"), tmp_path / "x.xml", compress_to_fp16=False)
    image = small_image(tmp_path)
    wanted = np.asarray(openvino_core().compile_model(str(tmp_path / "x.xml"), "CPU").inputs[0].partial_shape.rank)
    assert wanted == 4
    from PIL import Image

    with Image.open(image) as source:
        pixels = np.asarray(source)
    found = result("upscale", tmp_path / "x.xml", tmp_path / "o", image, "--backend", "openvino", "--precision", "fp32")
    np.testing.assert_array_equal(found, pixels.repeat(2, 0).repeat(2, 1))


@pytest.mark.slow
def test_failing_parity_leaves_nothing(made, tmp_path, capsys):
    target = tmp_path / "out"
    arguments = ["export", "--model", str(made / "mine.safetensors"), "--format", "openvino", "--fp16"]
    assert main([*arguments, "--threshold", "200", "--output", str(target / "x.xml")]) == 1
    assert "200 dB are needed" in capsys.readouterr().err
    assert list(target.iterdir()) == []


def test_gankit_models_describes_it(made, capsys):
    assert main(["models", str(made / "half.xml")]) == 0
    assert "×2" in capsys.readouterr().out
