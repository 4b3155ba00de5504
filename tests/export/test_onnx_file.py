"""The ONNX file: valid, one file, really dynamic, really half."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from gankit_export.onnx import ExportError, default_opset, describe, dims, export_onnx, half_convolutions
from gankit_export.precision import typed
from gankit_export.rewrites import for_inference
from torch import nn

from tests.export.networks_export import Instance, small_srresnet


@pytest.fixture(scope="module")
def generator():
    return small_srresnet()


@pytest.fixture(scope="module", params=["fp32", pytest.param("fp16", marks=pytest.mark.slow)])
def exported(request, generator, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "x.onnx"
    export_onnx(typed(for_inference(generator), request.param), path, opset=default_opset(request.param))
    return request.param, path


def test_one_valid_file(exported):
    precision, path = exported
    assert list(path.parent.iterdir()) == [path]
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path, load_external_data=False)
    assert model.opset_import[0].version == 18
    assert dims(path) == {
        "input": ["batch", 3, "height", "width"],
        "output": ["batch", 3, "4*height", "4*width"],
    }
    float_types = {item.type.tensor_type.elem_type for item in (*model.graph.input, *model.graph.output)}
    assert float_types == {onnx.TensorProto.FLOAT}
    weights = Counter(item.data_type for item in model.graph.initializer if len(item.dims) == 4)
    assert weights == {onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.FLOAT: 9}
    assert half_convolutions(path) == ((9, 9) if precision == "fp16" else (0, 9))


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (3, 3, 17, 23), (1, 3, 40, 40), (2, 3, 5, 64)])
def test_really_dynamic(exported, generator, shape):
    precision, path = exported
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    batch = np.random.default_rng(0).random(shape, dtype=np.float32)
    result = session.run(["output"], {"input": batch})[0]
    wanted = generator(torch.from_numpy(batch)).numpy()
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, wanted, atol=1e-5 if precision == "fp32" else 4e-3)


@pytest.mark.slow
def test_multiples_and_instance_norm_in_fp32(tmp_path):
    path = tmp_path / "i.onnx"
    module = Instance().eval()
    export_onnx(typed(module, "fp16"), path, multiple=4)
    assert half_convolutions(path) == (4, 4)
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    norms = [n for n in model.graph.node if n.op_type in ("InstanceNormalization", "GroupNormalization")]
    assert norms
    assert all(types[n.input[0]] == onnx.TensorProto.FLOAT for n in norms)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for sides in ((8, 12), (24, 24), (20, 100)):
        batch = np.random.default_rng(0).random((2, 3, *sides), dtype=np.float32)
        np.testing.assert_allclose(
            session.run(None, {"input": batch})[0], module(torch.from_numpy(batch)).detach().numpy(), atol=1e-2
        )


@pytest.mark.slow
def test_bf16_file(tmp_path, generator):
    path = tmp_path / "b.onnx"
    export_onnx(typed(for_inference(generator), "bf16"), path, opset=default_opset("bf16"))
    onnx.checker.check_model(str(path), full_check=True)
    assert half_convolutions(path) == (9, 9)


class _Branch(nn.Module):
    def forward(self, x):
        return x if x.mean() > 0.5 else -x


class _Fixed(nn.Module):
    def forward(self, x):
        return x.reshape(2, 3, 48, 64)


@pytest.mark.parametrize("module", [_Branch(), _Fixed()])
def test_what_cannot_be_exported_leaves_nothing(tmp_path, module):
    with pytest.raises(ExportError) as caught:
        export_onnx(module, tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_example_must_fit(tmp_path, generator):
    with pytest.raises(ValueError, match="two different multiples of 4"):
        export_onnx(generator, tmp_path / "x.onnx", example_hw=(48, 50), multiple=4)


def test_ctrl_c_stays_ctrl_c(tmp_path, generator, monkeypatch):
    """The exporter catches what happens in its passes, Ctrl-C too, and reports a failure."""

    def export(*args, **kwargs):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise RuntimeError("decomposing failed") from error

    monkeypatch.setattr(torch.onnx, "export", export)
    with pytest.raises(KeyboardInterrupt):
        export_onnx(for_inference(generator), tmp_path / "x.onnx")
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_description_replaces_entries_and_keeps_the_others(tmp_path, generator):
    path = tmp_path / "d.onnx"
    export_onnx(generator, path)
    before = onnx.load(path).graph.SerializeToString(deterministic=True)
    describe(path, {"scale": "2", "name": "größe"})
    describe(path, {"scale": "4"})
    model = onnx.load(path)
    assert {"scale": "4", "name": "größe"}.items() <= {item.key: item.value for item in model.metadata_props}.items()
    assert [item.key for item in model.metadata_props].count("scale") == 1
    assert model.graph.SerializeToString(deterministic=True) == before
    assert [item.name for item in tmp_path.iterdir()] == ["d.onnx"]
