"""ncnn models out and in, and the backend that runs them."""

import json
import shutil

import numpy as np
import pytest
import torch

pytest.importorskip("ncnn")
pytest.importorskip("pnnx")

from gankit_export.ncnn_build import foreign_layers
from gankit_export.ncnn_net import NcnnError, NcnnNet

from gankit.cli import main
from tests.checkpoints.published_translation import ResNet, shake
from tests.export.formats import EXACT, exported, refusal, result, small_image, small_weights
from tests.latent_networks import weights as latent_weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ncnn")
    exported(small_weights(folder), folder / "m.param", "--format", "ncnn", "--fp16")
    return folder


def test_the_manifest(made):
    content = json.loads((made / "m.param.json").read_text())
    assert (content["kind"], content["runtime"], content["precision"]) == ("ncnn", "ncnn", "fp16")
    assert list(content["files"]) == ["m.bin"]
    assert content["half_convolutions"] == [6, 6]
    assert {"ncnn", "pnnx"} <= set(content["versions"])
    assert sorted(item.name for item in made.iterdir()) == ["m.bin", "m.param", "m.param.json", "mine.safetensors"]


def test_upscale(made, tmp_path):
    image = small_image(tmp_path)
    wanted = result("upscale", made / "mine.safetensors", tmp_path / "w", image, *EXACT)
    file = result("upscale", made / "m.param", tmp_path / "f", image)
    backend = result("upscale", made / "mine.safetensors", tmp_path / "b", image, "--backend", "ncnn")
    assert np.abs(file - wanted).max() <= 2
    assert np.abs(backend - wanted).max() <= 1


def test_translate(tmp_path):
    torch.save(shake(ResNet(4, 1).eval()).state_dict(), tmp_path / "net_G.pth")
    file = exported(tmp_path / "net_G.pth", tmp_path / "t.param", "--format", "ncnn")
    image = small_image(tmp_path, (24, 20))
    wanted = result("translate", tmp_path / "net_G.pth", tmp_path / "w", image, *EXACT)
    assert np.abs(result("translate", file, tmp_path / "f", image) - wanted).max() <= 1


def test_generate(tmp_path):
    weights = latent_weights(tmp_path, "gan")
    file = exported(weights, tmp_path / "g.param", "--format", "ncnn")
    wanted = result("generate", weights, tmp_path / "w", "-n", 1)
    assert np.abs(result("generate", file, tmp_path / "f", "-n", 1) - wanted).max() <= 1
    assert np.abs(result("generate", weights, tmp_path / "b", "-n", 1, "--backend", "ncnn") - wanted).max() <= 1


def test_classes_are_refused(tmp_path, capsys):
    weights = latent_weights(tmp_path, "cgan")
    words = "ncnn has no layer that looks up a class"
    assert words in refusal(capsys, "export", "--model", weights, "--format", "ncnn")
    words = "does not run models with classes; use --backend eager"
    assert words in refusal(
        capsys, "generate", "--model", weights, "-n", 1, "--output", tmp_path / "o", "--backend", "ncnn"
    )


@pytest.mark.parametrize("name", ["m.param", "m.bin", "m.param.json"])
@pytest.mark.parametrize("cut", [True, False])
def test_damaged_files_are_refused_before_ncnn_reads_them(made, tmp_path, capsys, name, cut):
    for path in made.glob("m.*"):
        shutil.copy(path, tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2] if cut else b"")
    image = small_image(tmp_path)
    err = refusal(capsys, "upscale", image, "--model", tmp_path / "m.param", "--output", tmp_path / "out")
    assert "its manifest does not match" in err


def test_models_of_others_are_refused_with_the_way_out(made, tmp_path, capsys):
    shutil.copy(made / "m.param", tmp_path)
    shutil.copy(made / "m.bin", tmp_path)
    image = small_image(tmp_path)
    err = refusal(capsys, "upscale", image, "--model", tmp_path / "m.param", "--output", tmp_path / "out")
    assert "give the PyTorch file from which it was converted" in err


def test_another_precision_or_backend_is_refused(made, tmp_path, capsys):
    arguments = ["upscale", small_image(tmp_path), "--model", made / "m.param", "--output", tmp_path / "out"]
    assert "computes in fp32, not in bf16" in refusal(capsys, *arguments, "--precision", "bf16")
    assert "only ncnn does" in refusal(capsys, *arguments, "--backend", "openvino")
    assert "use --device cpu" in refusal(capsys, *arguments, "--device", "cuda")


def test_the_net_refuses_what_it_cannot_run(made, tmp_path, capfd):
    net = NcnnNet(made / "m.param", threads=1)
    with pytest.raises(NcnnError, match="takes 1 inputs, not 2"):
        net(np.zeros((1, 3, 8, 8), np.float32), np.zeros(1, np.int64))
    views = np.random.default_rng(0).random((2, 8, 9, 3), np.float32).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(net(views), net(views.copy()))
    (tmp_path / "m.param").write_text("7767517\n1 1\nNothing x 0 1 x\n")
    (tmp_path / "m.bin").write_bytes(b"")
    with pytest.raises(NcnnError, match="cannot load it"):
        NcnnNet(tmp_path / "m.param")


def test_layers_that_pnnx_leaves_are_found(tmp_path):
    (tmp_path / "a.param").write_text("7767517\n2 2\nInput in0 0 1 in0\npnnx.Expression e 1 1 in0 out0\n")
    assert foreign_layers(tmp_path / "a.param") == ["pnnx.Expression"]


def test_failing_parity_leaves_nothing(made, tmp_path, capsys):
    arguments = ["export", "--model", str(made / "mine.safetensors"), "--format", "ncnn", "--threshold", "300"]
    assert main([*arguments, "--output", str(tmp_path / "out" / "x.param")]) == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_without_the_packages_there_is_one_line(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gankit_export.ncnn_build.find_spec", lambda name: None)
    err = refusal(capsys, "export", "--model", made / "mine.safetensors", "--format", "ncnn", "--output", tmp_path)
    assert "pip install 'gankit[ncnn]'" in err
