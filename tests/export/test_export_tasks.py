"""``gankit export`` for models that translate and models that generate: small nets through real sessions."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from gankit_export.latent import BATCHES, latent_samples
from gankit_export.parity import SHAPES, shapes
from torch import nn

from gankit.checkpoints import open_model
from gankit.cli import main
from tests.checkpoints.published_translation import ResNet, UNet, shake
from tests.latent_networks import OPTIONS, weights
from tests.variants import others_slow


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def manifest(path):
    return json.loads(path.with_name(path.name + ".json").read_text())


def at_test(net):
    """As the paper runs it: BatchNorm on the image's own statistics, no dropout."""
    net.train()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    return net


def test_shapes_are_three_whatever_the_multiple():
    assert shapes() == list(SHAPES)
    for multiple in (4, 32, 128, 256, 1024):
        found = shapes(multiple)
        assert len(set(found)) == 3
        assert all(side % multiple == 0 for sides in found for side in sides)
    assert shapes(256) == [(256, 256), (256, 512), (512, 256)]
    assert shapes(4, 200) == [(200, 256), (200, 200), (204, 200)]


TRANSLATION = {
    "resnet": (lambda: ResNet(4, 1).eval(), 4, 3, 3),
    "resnet of one channel": (lambda: ResNet(4, 1, ins=1, outs=3).eval(), 4, 1, 3),
    "unet 256": (lambda: at_test(UNet(8)), 256, 3, 3),
    "unet to 5 classes": (lambda: at_test(UNet(5, outs=5)), 32, 3, 5),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "precision"),
    [
        ("resnet", "fp32"),
        pytest.param("resnet of one channel", "fp16", marks=pytest.mark.slow),
        pytest.param("unet 256", "fp32", marks=pytest.mark.slow),
        pytest.param("unet 256", "fp16", marks=pytest.mark.slow),
        pytest.param("unet to 5 classes", "fp32", marks=pytest.mark.slow),
    ],
)
def test_a_model_that_translates(case, precision, here, tmp_path, capsys):
    make, multiple, taken, made = TRANSLATION[case]
    net = shake(make())
    torch.save(net.state_dict(), tmp_path / "net_G.pth")
    assert main(["export", "--model", str(tmp_path / "net_G.pth"), "--precision", precision]) == 0
    path = here / f"net_G_{precision}.onnx"
    assert sorted(item.name for item in here.iterdir()) == [path.name, f"{path.name}.json"]
    assert f"net_G_{precision}.onnx" in capsys.readouterr().out
    reported = manifest(path)
    assert (reported["takes"], reported["multiple"], reported["value_range"]) == ("images", multiple, [-1, 1])
    assert [item["shape"][2:] for item in reported["parity"]] == [list(sides) for sides in shapes(multiple)]
    batch, channels, *sides = reported["dims"]["input"]
    assert (channels, reported["dims"]["output"][1]) == (taken, made)
    assert batch == "batch"
    assert all(str(multiple) in side for side in sides), f"the multiple is in the file: {sides}"
    run = session(path)
    least = reported["minimum"]
    assert least == max(8, multiple)
    for count, high, wide in ((1, least, least), (2, 3 * multiple, 2 * multiple)):
        x = torch.rand(count, taken, high, wide) * 2 - 1
        result = run.run(None, {"input": x.numpy()})[0]
        with torch.no_grad():
            wanted = torch.cat([net(item[None]) for item in x]).numpy()
        assert wanted.std() > 0.05
        assert np.abs(result - wanted).mean() < (1e-4 if precision == "fp32" else 5e-3)


@pytest.mark.slow
def test_directions(here, tmp_path):
    nets = {side: shake(ResNet(4, 1).eval(), seed) for seed, side in enumerate("AB")}
    for side, net in nets.items():
        torch.save(net.state_dict(), tmp_path / f"latest_net_G_{side}.pth")
    torch.save({f"netG_{side}": net.state_dict() for side, net in nets.items()}, tmp_path / "pair.pth")
    cases = [
        ("latest_net_G_A.pth", "BtoA", "latest_net_G_B_fp32.onnx", "latest_net_G_B.pth", "B"),
        ("pair.pth", "BtoA", "pair_BtoA_fp32.onnx", "pair.pth", "B"),
    ]
    x = torch.rand(1, 3, 16, 20) * 2 - 1
    for given, direction, name, source, side in cases:
        assert main(["export", "--model", str(tmp_path / given), "--direction", direction]) == 0
        assert manifest(here / name)["weights"] == source
        result = session(here / name).run(None, {"input": x.numpy()})[0]
        with torch.no_grad():
            np.testing.assert_allclose(result, nets[side](x).numpy(), atol=1e-3)


@pytest.mark.slow
def test_norms(here, tmp_path):
    net = shake(UNet(5))
    torch.save(net.state_dict(), tmp_path / "u.pth")
    x = torch.rand(1, 3, 64, 32) * 2 - 1
    results = {}
    for norm, mode in (("eval", nn.Module.eval), ("instance", at_test)):
        with torch.no_grad():
            wanted = mode(net)(x).numpy()
        path = here / f"{norm}.onnx"
        assert main(["export", "--model", str(tmp_path / "u.pth"), "--norm", norm, "--output", path.name]) == 0
        assert manifest(path)["options"]["norm_at_test"] == norm
        results[norm] = session(path).run(None, {"input": x.numpy()})[0]
        np.testing.assert_allclose(results[norm], wanted, atol=2e-3)
    assert np.abs(results["eval"] - results["instance"]).mean() > 0.05


@pytest.mark.parametrize("precision", ["fp32", pytest.param("fp16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", others_slow(["dcgan", "cgan", "gan", "vae"]))
def test_a_model_that_generates(name, precision, here, tmp_path, capsys):
    file = weights(tmp_path, name)
    assert main(["export", "--model", str(file), "--precision", precision]) == 0
    path = here / f"{name}_{precision}.onnx"
    assert sorted(item.name for item in here.iterdir()) == [path.name, f"{path.name}.json"]
    said = capsys.readouterr().out
    assert "1 latent " in said
    assert "16 latents" in said
    loaded, reported = open_model(file), manifest(path)
    classes = OPTIONS[name].get("classes", 0)
    assert (reported["takes"], reported["latent"], reported["classes"]) == ("latents", OPTIONS[name]["latent"], classes)
    assert reported["input"] == {"name": "latents", "dtype": "float32"}
    assert list(reported["dims"]) == ["latents", *(["classes"] if classes else []), "output"]
    assert {shape[0] for shape in reported["dims"].values()} == {"batch"}
    assert reported["value_range"] == list(loaded.facts.value_range)
    assert [item["shape"] for item in reported["parity"]] == [[size, loaded.facts.latent] for size in BATCHES]
    assert all(
        min(float(item["psnr"]), float(item["eager_psnr"])) >= reported["threshold"] for item in reported["parity"]
    )
    half, layers = reported["half_convolutions"]
    assert half == (layers if precision == "fp16" else 0)
    assert layers >= 2
    run = session(path)
    for count in (2, 7):
        given = [torch.randn(count, loaded.facts.latent), *([torch.arange(count) % classes] if classes else [])]
        names = ("latents", "classes")[: len(given)]
        result = run.run(None, {key: value.numpy() for key, value in zip(names, given, strict=True)})[0]
        wanted = loaded.generator(*given).numpy()
        assert wanted.std() > 0.05
        assert np.abs(result - wanted).max() < (1e-5 if precision == "fp32" else 0.05)


@pytest.mark.slow
def test_in_bf16(here, tmp_path):
    pytest.importorskip("openvino")
    assert main(["export", "--model", str(weights(tmp_path, "cgan")), "--bf16", "--output", "c.onnx"]) == 0
    assert manifest(here / "c.onnx")["runtime"] == "openvino"


def test_seeded_latents_are_normal_and_the_same_again():
    first, again = latent_samples(500, 3), latent_samples(500, 3)
    assert all(np.array_equal(a, b) for x, y in zip(first, again, strict=True) for a, b in zip(x, y, strict=True))
    values = np.concatenate([x[0] for x in first])
    assert abs(values.mean()) < 0.05
    assert abs(values.std() - 1) < 0.05
    assert first[1][1].tolist() == [0, 1, 2, 0, 1]
    assert [len(x) for x in latent_samples(4)] == [1, 1, 1]


def test_failing_parity_leaves_nothing(here, tmp_path, capsys):
    file = weights(tmp_path, "gan")
    assert main(["export", "--model", str(file), "--fp16", "--threshold", "200"]) == 1
    captured = capsys.readouterr()
    assert "latents, 200 dB are needed" in captured.err or "latent, 200 dB are needed" in captured.err
    assert captured.err.count("\n") == 1
    assert not list(here.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist_gan_mlp.ckpt", "mnist_cwgan_gp.pth", "mnist_vae.pth"])
def test_real_files(name, here, data):
    file = data / "checkpoints" / name
    if not file.is_file():
        pytest.skip(f"no {name}")
    assert main(["export", "--model", str(file), "--fp16", "--output", "real.onnx"]) == 0
    assert min(float(item["psnr"]) for item in manifest(here / "real.onnx")["parity"]) >= 50


def test_wrong_use_is_one_line(here, tmp_path, capsys):
    torch.save(shake(UNet(5, ins=4)).state_dict(), tmp_path / "four.pth")
    torch.save(shake(ResNet(blocks=1)).state_dict(), tmp_path / "net.pth")
    noise = weights(tmp_path, "gan")
    for model, extra, words in (
        (noise, ["--parity-images", "a.png"], "omit --parity-images"),
        (noise, ["--norm", "eval"], "no BatchNorm with a choice of statistics"),
        (noise, ["--direction", "AtoB"], "omit --direction"),
        (tmp_path / "four.pth", [], "takes 4 channels, but the parity check needs 1 or 3, as in images"),
        (tmp_path / "net.pth", ["--direction", "BtoA"], "omit --direction"),
        (tmp_path / "net.pth", ["--norm", "instance"], "omit --norm"),
    ):
        assert main(["export", "--model", str(model), *extra]) == 2
        err = capsys.readouterr().err
        assert words in err
        assert err.count("\n") == 1
    assert not list(here.iterdir())
