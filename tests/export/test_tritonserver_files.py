"""The model repository of the Triton Inference Server, read back as protobuf text of the documented fields."""

import importlib.util
import json
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from gankit_export.manifest import Manifest, read
from gankit_export.tritonserver import Serving, config, model_name
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from gankit.cli import main
from tests.export.formats import exported, small_weights
from tests.latent_networks import weights as latent_weights

# Names and numbers of https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
F = descriptor_pb2.FieldDescriptorProto
TYPES = {"TYPE_UINT8": 2, "TYPE_INT64": 9, "TYPE_FP16": 10, "TYPE_FP32": 11}
KINDS = {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2}
MESSAGES = {
    "ModelTensorReshape": [("shape", 1, F.TYPE_INT64, "many")],
    "ModelInput": [
        ("name", 1, F.TYPE_STRING, "one"),
        ("data_type", 2, "DataType", "one"),
        ("dims", 4, F.TYPE_INT64, "many"),
        ("reshape", 5, "ModelTensorReshape", "one"),
    ],
    "ModelOutput": [
        ("name", 1, F.TYPE_STRING, "one"),
        ("data_type", 2, "DataType", "one"),
        ("dims", 3, F.TYPE_INT64, "many"),
        ("reshape", 5, "ModelTensorReshape", "one"),
    ],
    "ModelInstanceGroup": [("count", 2, F.TYPE_INT32, "one"), ("kind", 4, "Kind", "one")],
    "Latest": [("num_versions", 1, F.TYPE_UINT32, "one")],
    "ModelVersionPolicy": [("latest", 1, "Latest", "one")],
    "ModelDynamicBatching": [
        ("preferred_batch_size", 1, F.TYPE_INT32, "many"),
        ("max_queue_delay_microseconds", 2, F.TYPE_UINT64, "one"),
    ],
    "ModelParameter": [("string_value", 1, F.TYPE_STRING, "one")],
    "ParametersEntry": [("key", 1, F.TYPE_STRING, "one"), ("value", 2, "ModelParameter", "one")],
    "WarmUpInput": [
        ("data_type", 1, "DataType", "one"),
        ("dims", 2, F.TYPE_INT64, "many"),
        ("zero_data", 3, F.TYPE_BOOL, "one"),
        ("random_data", 4, F.TYPE_BOOL, "one"),
    ],
    "InputsEntry": [("key", 1, F.TYPE_STRING, "one"), ("value", 2, "WarmUpInput", "one")],
    "ModelWarmup": [
        ("name", 1, F.TYPE_STRING, "one"),
        ("batch_size", 2, F.TYPE_UINT32, "one"),
        ("inputs", 3, "InputsEntry", "many"),
    ],
    "ModelConfig": [
        ("name", 1, F.TYPE_STRING, "one"),
        ("platform", 2, F.TYPE_STRING, "one"),
        ("version_policy", 3, "ModelVersionPolicy", "one"),
        ("max_batch_size", 4, F.TYPE_INT32, "one"),
        ("input", 5, "ModelInput", "many"),
        ("output", 6, "ModelOutput", "many"),
        ("instance_group", 7, "ModelInstanceGroup", "many"),
        ("dynamic_batching", 11, "ModelDynamicBatching", "one"),
        ("parameters", 14, "ParametersEntry", "many"),
        ("model_warmup", 16, "ModelWarmup", "many"),
    ],
}


@cache
def schema():
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    for name, values in (("DataType", TYPES | {"TYPE_INVALID": 0}), ("Kind", KINDS)):
        enum = file.enum_type.add(name=name)
        for key, number in sorted(values.items(), key=lambda item: item[1]):
            enum.value.add(name=key, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, count in fields:
            own = message.field.add(name=field, number=number)
            own.label = F.LABEL_REPEATED if count == "many" else F.LABEL_OPTIONAL
            if isinstance(kind, str):
                own.type = F.TYPE_ENUM if kind in ("DataType", "Kind") else F.TYPE_MESSAGE
                own.type_name = f".inference.{kind}"
            else:
                own.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


@cache
def servers_own():
    """The server's own schema, from its client if that is installed. Its package wants gRPC; the schema does not."""
    package = importlib.util.find_spec("tritonclient")
    file = Path(package.origin).with_name("grpc") / "model_config_pb2.py" if package and package.origin else None
    if file is None or not file.is_file():
        return None
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ModelConfig


def parsed(text):
    """The configuration by the fields above and, where it is installed, by the server's own schema."""
    found = text_format.Parse(text, schema()())
    own = servers_own()
    if own is None:
        return found
    real = text_format.Parse(text, own())
    again = schema().FromString(real.SerializeToString())
    assert values(again) == values(found)
    for item in (again, found):
        item.ClearField("parameters")  # a map, which has no order
    assert again == found, "the fields above are the server's"
    return real


def values(found):
    parameters = found.parameters
    if hasattr(parameters, "items"):
        return {key: item.string_value for key, item in parameters.items()}
    return {item.key: item.value.string_value for item in parameters}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    options = ("--format", "tritonserver", "--fp16", "--io", "uint8", "--max-batch", 4, "--instances", 2)
    return exported(small_weights(folder), folder / "models", *options)


def test_the_folder(repository):
    files = sorted(str(item.relative_to(repository)) for item in repository.rglob("*") if item.is_file())
    name = "srgan_x2_fp16"
    assert files == [f"{name}/1/model.onnx", f"{name}/1/model.onnx.json", f"{name}/config.pbtxt"]
    assert [item.name for item in repository.parent.iterdir() if item.name.startswith(".")] == []
    assert read(repository / name / "1" / "model.onnx").precision == "fp16"


def test_the_configuration(repository):
    found = parsed((repository / "srgan_x2_fp16" / "config.pbtxt").read_text())
    assert (found.name, found.platform, found.max_batch_size) == ("srgan_x2_fp16", "onnxruntime_onnx", 4)
    (given,), (made,) = found.input, found.output
    assert (given.name, given.data_type, list(given.dims)) == ("input", TYPES["TYPE_UINT8"], [-1, -1, 3])
    assert (made.name, made.data_type, list(made.dims)) == ("output", TYPES["TYPE_UINT8"], [-1, -1, 3])
    (group,) = found.instance_group
    assert (group.count, group.kind) == (2, KINDS["KIND_GPU"])
    assert list(found.dynamic_batching.preferred_batch_size) == [2, 4]
    assert found.dynamic_batching.max_queue_delay_microseconds == 2000
    assert found.version_policy.latest.num_versions == 1
    assert (found.model_warmup[0].batch_size, len(found.model_warmup[0].inputs)) == (1, 1)
    assert values(found)["cudnn_conv_algo_search"] == "1"
    assert values(found)["value_range"] == "[0.0, 255.0]"


def test_it_agrees_with_the_file(repository):
    """Names, types and axes are those of the file that the server opens, without its batch axis."""
    folder = repository / "srgan_x2_fp16"
    found = parsed((folder / "config.pbtxt").read_text())
    session = onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"), providers=["CPUExecutionProvider"])
    for stated, real in ((found.input, session.get_inputs()), (found.output, session.get_outputs())):
        assert [item.name for item in stated] == [item.name for item in real]
        for one, other in zip(stated, real, strict=True):
            assert [None if isinstance(side, str) else side for side in other.shape[1:]] == [
                None if side == -1 else side for side in one.dims
            ]
    assert session.run(None, {"input": np.zeros((4, 8, 8, 3), np.uint8)})[0].shape == (4, 16, 16, 3)


@pytest.mark.slow
def test_classes_are_one_number_each(tmp_path):
    weights = latent_weights(tmp_path, "cgan")
    folder = exported(weights, tmp_path / "models", "--format", "tritonserver", "--device", "cpu")
    found = parsed((folder / "cgan_fp32" / "config.pbtxt").read_text())
    latents, classes = found.input
    assert (latents.name, list(latents.dims), latents.data_type) == ("latents", [5], TYPES["TYPE_FP32"])
    assert (classes.name, list(classes.dims), classes.data_type) == ("classes", [1], TYPES["TYPE_INT64"])
    assert classes.HasField("reshape")
    assert list(classes.reshape.shape) == []
    assert found.instance_group[0].kind == KINDS["KIND_CPU"]
    assert "cudnn_conv_algo_search" not in values(found)
    assert values(found)["task"] == "generate"


def manifest(**changes):
    facts = {
        "model": "mine", "weights": "w", "weights_sha256": "0" * 64, "options": {}, "precision": "fp32", "opset": 18,
        "input": {"name": "input", "dtype": "float32"}, "output": {"name": "output", "dtype": "float32"},
        "dims": {"input": ["batch", 3, "height", "width"], "output": ["batch", 3, "height", "width"]},
        "value_range": (0.0, 1.0), "scale": 1, "multiple": 96, "sha256": "1" * 64, "half_convolutions": (0, 1),
        "threshold": 80.0, "runtime": "onnxruntime", "parity": (),
    }  # fmt: skip
    return Manifest(**(facts | changes))


def test_texts_are_escaped():
    odd = 'a "quoted"\\ name\nof two lines, ü'
    found = parsed(config("m", manifest(metadata={"licence": odd}), Serving()))
    assert values(found)["licence"] == odd.replace("\n", " ")
    assert model_name(manifest(model="my model/ü")) == "my_model_fp32"


def test_an_engine_and_one_image_at_a_time():
    found = parsed(config("m", manifest(), Serving(backend="tensorrt", max_batch=1)))
    assert found.platform == "tensorrt_plan"
    assert list(found.dynamic_batching.preferred_batch_size) == []
    (entry,) = found.model_warmup[0].inputs
    item = found.model_warmup[0].inputs[entry] if isinstance(entry, str) else entry.value
    assert list(item.dims) == [3, 96, 96], "a multiple of what the network needs"


@pytest.mark.slow
def test_replacing(repository, capsys, tmp_path):
    arguments = ["export", "--model", str(repository.parent / "mine.safetensors"), "--format", "tritonserver"]
    assert main([*arguments, "--output", str(repository)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    other = tmp_path / "photos"
    other.mkdir()
    (other / "a.png").write_bytes(b"")
    assert main([*arguments, "--output", str(other), "--overwrite"]) == 2
    assert "is no model repository, so that it is not replaced" in capsys.readouterr().err
    assert main([*arguments, "--output", str(repository), "--overwrite"]) == 0
    assert [item.name for item in repository.iterdir()] == ["srgan_x2_fp32"]
    assert json.loads((repository / "srgan_x2_fp32" / "1" / "model.onnx.json").read_text())["precision"] == "fp32"


@pytest.mark.slow
def test_failing_parity_leaves_nothing(repository, tmp_path):
    arguments = ["export", "--model", str(repository.parent / "mine.safetensors"), "--format", "tritonserver"]
    target = tmp_path / "new" / "models"
    assert main([*arguments, "--threshold", "300", "--output", str(target)]) == 1
    assert list((tmp_path / "new").iterdir()) == []


def test_tensorrt_without_a_gpu_is_one_line(repository, tmp_path, capsys):
    arguments = ["export", "--model", str(repository.parent / "mine.safetensors"), "--format", "tritonserver"]
    assert main([*arguments, "--server-backend", "tensorrt", "--output", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
