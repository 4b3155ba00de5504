"""int8 by NNCF: measured, searched, refused below the gate."""

import json
import math
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
from gankit_export import int8, manifest
from gankit_export.int8 import Attempt, Estimator, Int8RefusedError, Material, int8_convolutions, residual_additions
from gankit_export.parity import ShapeParity, open_file
from PIL import Image

from gankit.checkpoints import save
from gankit.cli import main
from gankit.errors import UsageError
from gankit.models import build
from gankit.models.facts import Facts
from gankit.pipeline import quantising
from gankit.pipeline.exporting import export
from tests.export.networks_export import small_srresnet

nncf = pytest.mark.skipif(find_spec("nncf") is None, reason="the extra 'int8' is not installed")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "mine.safetensors"
    save(path, small_srresnet().state_dict(), "srgan", {"scale": 4, "channels": 16, "blocks": 2, "in_channels": 3})
    return path


@pytest.fixture(scope="module")
def exact(weights):
    """The fp32 file of a small network, with its manifest."""
    return export(weights, weights.parent / "exact.onnx").path


def image(side, seed=0):
    """A smooth image with noise, (1, 3, side, side) float32 in [0, 1]."""
    rows, columns = np.mgrid[:side, :side] / side
    noise = np.random.default_rng(seed).normal(0, 0.05, (3, side, side))
    return np.clip(np.stack([rows, columns, rows * columns]) + noise, 0, 1).astype(np.float32)[None]


def test_residual_additions_are_told_from_biases():
    nodes = [
        onnx.helper.make_node("Add", ["x", "bias"], ["a"], "one"),
        onnx.helper.make_node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(np.ones(1, np.float32))),
        onnx.helper.make_node("Add", ["a", "c"], ["b"], "two"),
        onnx.helper.make_node("Add", ["a", "b"], ["y"], "three"),
    ]
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    bias = onnx.numpy_helper.from_array(np.ones(1, np.float32), "bias")
    graph = onnx.helper.make_graph(nodes, "graph", values[:1], values[1:], [bias])
    assert residual_additions(onnx.helper.make_model(graph)) == ["three"]


def attempts(monkeypatch, tmp_path, exact, results, **material):
    """Search with attempts whose PSNR is that of ``results`` in turn, and return how they were made."""
    made, given = [], iter(results)

    def quantised(library, model, images, kept, estimator):
        made.append((kept, estimator))
        return model

    def parity(result, truth, batch, value_range):
        return ShapeParity(batch.shape, psnr := next(given), 0.0, psnr)

    monkeypatch.setattr(int8, "nncf", lambda: None)
    monkeypatch.setattr(int8, "_quantised", quantised)
    monkeypatch.setattr(int8, "parity_of", parity)
    small = image(8)
    return made, lambda: int8.make_int8(exact, tmp_path / "out.onnx", Material([small], [small], ["a.png"], **material))


@pytest.mark.slow
def test_the_first_attempt_that_passes_is_taken(monkeypatch, tmp_path, exact):
    made, run = attempts(monkeypatch, tmp_path, exact, [20.0, 30.0, 25.0, 10.0, 37.9, 38.0])
    found = run()
    levels = [kept for kept, _ in made]
    assert levels == [(), (), (), (), ("residual additions",), ("first convolution", "residual additions")]
    assert [estimator for _, estimator in made[4:]] == [Estimator("mean")] * 2  # the best of the first level
    assert found.precision == "int8"
    assert found.quantised["kept_fp32"] == ["first convolution", "residual additions"]
    assert found.quantised["calibration"] == ["a.png"]
    assert manifest.read(tmp_path / "out.onnx") == found


@pytest.mark.slow
def test_below_the_gate_no_file_is_left(monkeypatch, tmp_path, exact):
    _, run = attempts(monkeypatch, tmp_path, exact, [20.0, 30.0, 25.0, 10.0, 31.0, 37.9, 33.0])
    with pytest.raises(Int8RefusedError, match=r"reaches 37\.9 dB with first convolution and .* 38 dB .* are needed"):
        run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_benchmark_that_loses_too_much_counts(monkeypatch, tmp_path, exact):
    scores = iter([30.0, 29.8, 29.86])  # of fp32 and two attempts; one below the gate is not measured
    made, run = attempts(monkeypatch, tmp_path, exact, [40.0, 20.0, 41.0], score=lambda run: next(scores))
    assert run().quantised["benchmark_loss_db"] == pytest.approx(0.14)
    assert len(made) == 3
    lossy = Attempt((), Estimator(), (ShapeParity((1, 3, 8, 8), 50.0, 0.0, 50.0),), 0.2)
    assert not lossy.passes(38)
    assert "0.20 dB lost" in str(Int8RefusedError([lossy], 38))


@nncf
@pytest.mark.slow
def test_a_real_network(tmp_path, exact):
    """The convolutions really are int8, the figures are those of the file, and not-a-number is no success."""
    material = Material([image(24, seed) for seed in range(3)], [image(32, 7)], ["a", "b", "c"])
    made = int8.make_int8(exact, tmp_path / "q.onnx", material)
    onnx.checker.check_model(str(tmp_path / "q.onnx"))
    count, every = int8_convolutions(tmp_path / "q.onnx")
    assert every == 9
    assert count >= 7
    assert int8_convolutions(exact) == (0, 9)
    wanted = open_file(exact, "onnxruntime")(material.test[0])
    result = open_file(tmp_path / "q.onnx", "onnxruntime")(material.test[0])
    mse = np.square(result.clip(0, 1).astype(float) - wanted.clip(0, 1)).mean()
    psnr = math.inf if mse == 0 else -10 * math.log10(mse)
    assert min(psnr, made.parity[0].psnr) >= 38  # they differ: another runtime, another rounding
    props = {item.key: item.value for item in onnx.load(str(tmp_path / "q.onnx")).metadata_props}
    assert props["precision"] == "int8"


def test_the_images(tmp_path):
    facts = Facts(task="upscale", value_range=(-1, 1), scale=4, channels=1, multiple=4)
    shipped = quantising.material(facts, None)
    assert {batch.shape for batch in shipped.calibration} == {(1, 1, 96, 96)}
    assert len(shipped.calibration) == 12
    assert min(batch.min() for batch in shipped.test) == -1
    assert all(batch.shape[2] % 4 == batch.shape[3] % 4 == 0 for batch in shipped.test)
    for index in range(11):
        Image.fromarray(np.full((30, 20, 3), 20 * index, np.uint8)).save(tmp_path / f"{index:02}.png")
    own = quantising.material(facts, tmp_path)
    assert list(own.names) == [f"{index:02}.png" for index in range(11) if index not in (4, 9)]
    assert len(own.test) == len(shipped.test) + 2  # those two


def test_wrong_use(tmp_path, capsys, weights):
    export = ["export", "--model", str(weights), "--int8"]
    for extra, words in (
        (["--fp16"], "omit the other precisions"),
        (["--io", "uint8"], "omit the other precisions"),
        (["--format", "ncnn"], "an ncnn model cannot be int8; use --int8 with --format onnx or openvino or tensorrt"),
        (["--format", "openvino", "--shapes", "1x8x8"], "omit --shapes and --device"),
        (["--output", str(tmp_path / "a.txt")], "must end in .onnx"),
    ):
        assert main([*export, *extra]) == 2
        assert words in capsys.readouterr().err
    assert main(["export", "--model", str(weights), "--calibration", str(tmp_path)]) == 2
    assert "add --int8" in capsys.readouterr().err
    with pytest.raises(UsageError, match="at least 38 dB"):
        quantising.export_int8(weights, threshold=30.0)
    save(tmp_path / "gan.safetensors", build("gan").state_dict(), "gan", {})
    assert main(["export", "--model", str(tmp_path / "gan.safetensors"), "--int8"]) == 2
    assert "generates from noise" in capsys.readouterr().err


def test_without_nncf_one_line_says_so(monkeypatch, capsys, weights, tmp_path):
    def missing():
        raise ImportError("No module named 'nncf'", name="nncf")

    monkeypatch.setattr(int8, "nncf", missing)
    assert main(["export", "--model", str(weights), "--int8", "--output", str(tmp_path / "a.onnx")]) == 2
    assert "nncf is required but not installed: pip install 'gankit[int8]'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command(monkeypatch, capsys, weights, exact, tmp_path):
    """The whole command with a stand-in for NNCF that leaves the file in fp32."""
    monkeypatch.setattr(int8, "nncf", lambda: None)
    monkeypatch.setattr(int8, "_quantised", lambda library, model, *rest: model)
    monkeypatch.setattr(quantising, "export_fp32", lambda *rest, **options: type("Made", (), {"path": exact}))
    monkeypatch.delenv("GANKIT_DATA", raising=False)
    path = tmp_path / "a.onnx"
    assert main(["export", "--model", str(weights), "--int8", "--output", str(path)]) == 0
    shown = capsys.readouterr()
    for words in ("0 of 9 convolutions in int8", "OpenVINO dB", "Set5 was not measured", "times the speed of fp32"):
        assert words in shown.out
    assert "all layers in int8" in shown.err
    assert json.loads((tmp_path / "a.onnx.json").read_text())["precision"] == "int8"
    assert main(["export", "--model", str(weights), "--int8", "--output", str(path)]) == 2
    assert "--overwrite" in capsys.readouterr().err
