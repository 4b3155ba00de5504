"""AOTInductor packages out and in on the CPU, with the real compiler: one compilation for each task."""

import json
import shutil

import numpy as np
import pytest
import torch
from gankit_export.aoti import Needs, Package, PackageError

from gankit.backends import get
from tests.checkpoints.published_translation import ResNet, shake
from tests.export.formats import EXACT, exported, refusal, result, small_image, small_weights
from tests.latent_networks import weights as latent_weights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs the C++ compiler that compiles packages"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aoti")
    exported(small_weights(folder), folder / "m.pt2", "--format", "aoti")
    return folder


@pytest.fixture
def copy(made, tmp_path):
    for path in made.glob("m.*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "m.pt2"


def test_upscale(made, tmp_path):
    content = json.loads((made / "m.pt2.json").read_text())
    assert (content["kind"], content["runtime"], content["opset"]) == ("aoti", "aoti", 0)
    assert content["engine"]["device"] == "cpu"
    assert content["dims"] == {
        "input": ["batch", 3, "height", "width"],
        "output": ["batch", 3, "2*height", "2*width"],
    }
    image = small_image(tmp_path)
    wanted = result("upscale", made / "mine.safetensors", tmp_path / "w", image, *EXACT)
    assert np.abs(result("upscale", made / "m.pt2", tmp_path / "f", image) - wanted).max() <= 1


def test_wrong_shapes_never_reach_the_code(made):
    content = json.loads((made / "m.pt2.json").read_text())
    package = Package(made / "m.pt2", Needs.from_json(content["engine"]))
    good = torch.rand(2, 3, 9, 7)
    assert package(good).shape == (2, 3, 18, 14)
    for wrong in (good[:, :1], good.double(), good[0], good[:0], good.to(memory_format=torch.channels_last)):
        with pytest.raises(PackageError):
            package(wrong)
    torch.testing.assert_close(package(good[1:].contiguous()), package(good)[1:])


def changed(path, **engine):
    content = json.loads(path.with_name("m.pt2.json").read_text())
    content["engine"] |= engine
    path.with_name("m.pt2.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "differs from the checksum in its manifest"),
        (lambda path: path.with_name("m.pt2.json").unlink(), "its manifest m.pt2.json is missing"),
        (lambda path: changed(path, torch="2.0.0"), "was compiled with torch 2.0.0, and this is torch"),
        (lambda path: changed(path, isa="AVX512 AMX_TILE"), "its manifest says 'AVX512 AMX_TILE'|which this one lacks"),
        (lambda path: changed(path, machine="riscv64"), "was compiled for riscv64"),
        (lambda path: changed(path, device="cuda"), "cuda"),
        (lambda path: changed(path, inputs=[]), "its manifest does not match"),
    ],
)
def test_packages_that_cannot_run_here(copy, damage, words, capsys, tmp_path):
    import re

    damage(copy)
    err = refusal(capsys, "upscale", small_image(tmp_path), "--model", copy, "--output", tmp_path / "out")
    assert re.search(words, err), err


def test_a_static_package(made, tmp_path, capsys):
    weights = made / "mine.safetensors"
    file = exported(weights, tmp_path / "s.pt2", "--format", "aoti", "--shapes", "2x64x64")
    assert json.loads((tmp_path / "s.pt2.json").read_text())["dims"]["input"] == [2, 3, 64, 64]
    image = small_image(tmp_path, (80, 100))
    wanted = result("upscale", weights, tmp_path / "w", image, *EXACT)
    assert np.abs(result("upscale", file, tmp_path / "f", image) - wanted).max() <= 1
    small = small_image(tmp_path, (9, 9), "small.png")
    arguments = ["upscale", str(small), "--model", str(file), "--output", str(tmp_path / "out")]
    from gankit.cli import main

    capsys.readouterr()
    assert main(arguments) == 2
    assert "'input' must be 2x3x64x64, not 2x3x9x9" in capsys.readouterr().err


def test_translate(tmp_path):
    torch.save(shake(ResNet(4, 1).eval()).state_dict(), tmp_path / "net_G.pth")
    file = exported(tmp_path / "net_G.pth", tmp_path / "t.pt2", "--format", "aoti")
    image = small_image(tmp_path, (24, 20))
    wanted = result("translate", tmp_path / "net_G.pth", tmp_path / "w", image, *EXACT)
    assert np.abs(result("translate", file, tmp_path / "f", image) - wanted).max() <= 1


def test_generate(tmp_path):
    weights = latent_weights(tmp_path, "cgan")
    file = exported(weights, tmp_path / "c.pt2", "--format", "aoti")
    wanted = result("generate", weights, tmp_path / "w", "-n", 1, "--class", 2)
    assert np.abs(result("generate", file, tmp_path / "f", "-n", 1, "--class", 2) - wanted).max() <= 1


def test_the_backend_compiles_once(made, tmp_path, monkeypatch):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    image = small_image(tmp_path)
    weights, options = made / "mine.safetensors", (image, "--precision", "fp32")
    wanted = result("upscale", weights, tmp_path / "w", *options, "--backend", "eager")
    assert np.abs(result("upscale", weights, tmp_path / "a", *options, "--backend", "aoti") - wanted).max() <= 1
    (file,) = (tmp_path / "cache" / "aoti").glob("*.pt2")
    monkeypatch.setattr("gankit.backends.aoti_engine.compile_package", lambda *a: pytest.fail("compiled again"))
    assert np.abs(result("upscale", weights, tmp_path / "b", *options, "--backend", "aoti") - wanted).max() <= 1
    assert get("aoti").name == "aoti"
    assert file.exists()
