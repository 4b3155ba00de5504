"""int8 as OpenVINO IR and for TensorRT: the real file is measured, and what a runtime cannot read is refused."""

import json
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
from gankit_export import int8, manifest
from gankit_export.int8 import SIGNED, Attempt, Estimator, Int8RefusedError, Material
from gankit_export.int8_formats import QuantisationError, int8_layers, make_int8_ir
from gankit_export.int8_signed import unreadable_by_tensorrt
from gankit_export.parity import open_file
from gankit_export.tensorrt.inspector import int8_layers as engine_layers
from onnx import TensorProto, helper, numpy_helper

from gankit.checkpoints import save
from gankit.pipeline.exporting import export
from tests.export.formats import result, small_image
from tests.export.networks_export import small_srresnet

nncf = pytest.mark.skipif(find_spec("nncf") is None, reason="the extra 'int8' is not installed")


def image(side, seed=0):
    rows, columns = np.mgrid[:side, :side] / side
    noise = np.random.default_rng(seed).normal(0, 0.05, (3, side, side))
    return np.clip(np.stack([rows, columns, rows * columns]) + noise, 0, 1).astype(np.float32)[None]


MATERIAL = Material([image(24, seed) for seed in range(3)], [image(32, 7)], ["a", "b", "c"])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "mine.safetensors"
    save(path, small_srresnet().state_dict(), "srgan", {"scale": 4, "channels": 16, "blocks": 2, "in_channels": 3})
    return path


@pytest.fixture(scope="module")
def exact(weights):
    return export(weights, weights.parent / "exact.onnx").path


@pytest.fixture(scope="module")
def quantised(exact):
    path = exact.with_name("int8.onnx")
    int8.make_int8(exact, path, MATERIAL)
    return path


@nncf
@pytest.mark.slow
def test_an_ir_has_int8_layers_and_runs_back(quantised, exact, tmp_path):
    made = make_int8_ir(quantised, exact, tmp_path / "m.xml", MATERIAL)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["m.bin", "m.xml", "m.xml.json"]
    count, every = int8_layers(tmp_path / "m.xml")
    assert (every, made.quantised["convolutions"]) == (9, [count, every])
    assert count >= 7
    assert (tmp_path / "m.bin").stat().st_size < 0.5 * exact.stat().st_size, "the weights are stored in int8"
    truth = open_file(exact, "onnxruntime")(MATERIAL.test[0])
    found = open_file(tmp_path / "m.xml", "openvino")(MATERIAL.test[0])
    mse = np.square(found.clip(0, 1).astype(float) - truth.clip(0, 1)).mean()
    assert -10 * np.log10(mse) == pytest.approx(made.parity[0].psnr, abs=0.5)
    assert manifest.read(tmp_path / "m.xml") == made
    picture = small_image(tmp_path)
    wanted = result("upscale", exact, tmp_path / "w", picture, "--backend", "onnxruntime")
    shown = result("upscale", tmp_path / "m.xml", tmp_path / "f", picture, "--backend", "openvino")
    assert np.abs(shown - wanted).mean() < 4


@nncf
@pytest.mark.slow
def test_an_ir_below_the_gate_is_refused_and_leaves_nothing(quantised, exact, tmp_path):
    given = manifest.read(quantised)
    copy = tmp_path / "in" / "int8.onnx"
    copy.parent.mkdir()
    copy.write_bytes(quantised.read_bytes())
    manifest.write(replace(given, threshold=99.0), copy)
    with pytest.raises(Int8RefusedError, match="99 dB at the worst image"):
        make_int8_ir(copy, exact, tmp_path / "out" / "m.xml", MATERIAL)
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(QuantisationError, match="none of the 9 convolutions"):
        make_int8_ir(exact, exact, tmp_path / "out" / "m.xml", MATERIAL)


@nncf
@pytest.mark.slow
def test_signed_estimators_make_what_tensorrt_reads(exact):
    library, model = int8.nncf(), onnx.load(exact)
    for estimator in SIGNED[:1]:
        made = int8._quantised(library, model, MATERIAL.calibration, (), estimator)
        assert unreadable_by_tensorrt(made) is None
        onnx.checker.check_model(made, full_check=True)
        onnx.save(made, exact.with_name("signed.onnx"))
        count, _ = int8.int8_convolutions(exact.with_name("signed.onnx"))
        assert count >= 7
        run, truth = (open_file(exact.with_name(name), "onnxruntime") for name in ("signed.onnx", "exact.onnx"))
        batch = MATERIAL.test[0]
        assert int8.parity_of(run(batch), truth(batch), batch, (0, 1)).psnr > 34
    usual = int8._quantised(library, model, MATERIAL.calibration, (), Estimator())
    assert "not INT8" in unreadable_by_tensorrt(usual) or "is not 0" in unreadable_by_tensorrt(usual)


@pytest.mark.parametrize(
    ("zero", "words"),
    [
        (np.int8(0), None),
        (np.int8(3), "'q' has a zero point that is not 0"),
        (np.uint8(0), "'q' has UINT8 values, not INT8"),
        (None, "'q' has no constant zero point"),
    ],
)
def test_zero_points(zero, words):
    names = ["x", "scale", *([] if zero is None else ["zero"])]
    node = helper.make_node("QuantizeLinear", names, ["y"], "q")
    given = [numpy_helper.from_array(np.float32(1), "scale")]
    given += [] if zero is None else [numpy_helper.from_array(zero, "zero")]
    edges = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([node], "g", edges[:1], edges[1:], given)
    assert unreadable_by_tensorrt(helper.make_model(graph)) == words


def test_layers_of_an_engine_in_the_words_of_both_versions():
    old = {"Inputs": [{"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}]}
    new = {"Inputs": [{"Format": "N", "DataType": "Int8"}], "Outputs": [{"Format": "N", "DataType": "Float"}]}
    other = {"Inputs": [{"Format": "N", "DataType": "UInt8"}], "Outputs": [{"DataType": "Int8"}]}
    assert engine_layers(json.dumps({"Layers": [old, new, other, {"Inputs": []}, "name only"]})) == (2, 3)


def test_signed_estimators_are_named():
    assert str(SIGNED[0]) == "extreme ranges, symmetric, signed"
    assert all(item.signed and item.symmetric for item in SIGNED)
    assert "signed" not in str(Attempt((), Estimator(), ()).estimator)
