"""ONNX files as models: gankit's own, and files as others write them."""

import copy
import json
import pickle
import shutil

import numpy as np
import onnx
import pytest
import torch
from gankit_export.receptive_field import halo
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from gankit.checkpoints import open_model, save
from gankit.cli import main
from gankit.errors import CheckpointError, UsageError
from tests.networks import small_srgan

pytest.importorskip("onnxruntime")


def enlarging(
    path,
    *,
    low=0.0,
    high=1.0,
    scale=2,
    layout="NCHW",
    dtype=np.float32,
    sides=("h", "w"),
    batch="n",
    channels=3,
    step=1,
):
    """A network that repeats each pixel ``scale`` times and clamps to its range, after a reshape into ``step``."""
    kind = {np.float32: TensorProto.FLOAT, np.float16: TensorProto.FLOAT16, np.uint8: TensorProto.UINT8}[dtype]
    number = np.float32 if dtype == np.uint8 else dtype
    shape = [batch, channels, *sides] if layout == "NCHW" else [batch, *sides, channels]
    nodes, name = [], "x"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [name], ["nchw"], perm=(0, 3, 1, 2)))
        name = "nchw"
    if dtype == np.uint8:
        nodes.append(helper.make_node("Cast", [name], ["float"], to=TensorProto.FLOAT))
        name = "float"
    if step > 1:  # only sides that are multiples of it can be cut so
        nodes += [
            helper.make_node("SpaceToDepth", [name], ["cut"], blocksize=step),
            helper.make_node("DepthToSpace", ["cut"], ["whole"], blocksize=step),
        ]
        name = "whole"
    nodes += [
        helper.make_node("Tile", [name, "times"], ["many"]),
        helper.make_node("DepthToSpace", ["many"], ["large"], blocksize=scale, mode="DCR"),
        helper.make_node("Clip", ["large", "low", "high"], ["clipped"]),
    ]
    name = "clipped"
    if dtype == np.uint8:
        nodes.append(helper.make_node("Cast", [name], ["bytes"], to=TensorProto.UINT8))
        name = "bytes"
    order = {"perm": (0, 2, 3, 1)} if layout == "NHWC" else {}
    nodes.append(helper.make_node("Transpose" if order else "Identity", [name], ["y"], **order))
    graph = helper.make_graph(
        nodes,
        "enlarging",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, [None] * 4)],
        [
            numpy_helper.from_array(np.array([1, scale**2, 1, 1]), "times"),
            numpy_helper.from_array(np.array(low, number), "low"),
            numpy_helper.from_array(np.array(high, number), "high"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, {"scale": 2, "value_range": (0, 1), "multiple": 1, "channels": 3}),
        ({"high": 255.0, "scale": 4}, {"scale": 4, "value_range": (0, 255)}),
        ({"low": -1.0}, {"value_range": (-1, 1)}),
        ({"layout": "NHWC"}, {"scale": 2, "value_range": (0, 1)}),
        ({"dtype": np.float16}, {"scale": 2, "value_range": (0, 1)}),
        ({"dtype": np.uint8, "layout": "NHWC", "high": 255.0}, {"value_range": (0, 255)}),
        ({"channels": 1}, {"channels": 1}),
        ({"step": 4}, {"multiple": 4, "minimum": 4}),
        ({"scale": 1}, {"scale": 1}),
        ({"sides": (64, 80), "batch": 1}, {"scale": 2, "multiple": 1}),
    ],
)
def test_facts_are_found_by_running(options, found, tmp_path):
    loaded = open_model(enlarging(tmp_path / "some.onnx", **options))
    assert {name: getattr(loaded.facts, name) for name in found} == found
    assert loaded.recognised.startswith("running it: ")
    assert loaded.assumed == ""
    low, high = loaded.facts.value_range
    image = torch.rand(1, loaded.facts.channels, 16, 20)
    result = (loaded.generator(image * (high - low) + low) - low) / (high - low)
    wanted = image.repeat_interleave(loaded.facts.scale, 2).repeat_interleave(loaded.facts.scale, 3)
    torch.testing.assert_close(result, wanted, rtol=0, atol=0.005)


def test_the_module_can_be_copied_and_pickled(tmp_path):
    generator = open_model(enlarging(tmp_path / "some.onnx")).generator
    image = torch.rand(1, 3, 8, 8)
    for other in (copy.deepcopy(generator), pickle.loads(pickle.dumps(generator))):
        torch.testing.assert_close(other(image), generator(image))


def test_what_cannot_be_found_is_said(tmp_path):
    negative = onnx.load(enlarging(tmp_path / "a.onnx"))
    negative.graph.node.insert(0, helper.make_node("Neg", ["x"], ["negative"]))
    negative.graph.node[1].input[0] = "negative"
    onnx.save(negative, tmp_path / "b.onnx")
    loaded = open_model(tmp_path / "b.onnx")
    assert loaded.facts.value_range == (0, 1)
    assert loaded.assumed == "values from 0 to 1"


def test_a_range_that_makes_no_difference_is_said(tmp_path):
    model = onnx.load(enlarging(tmp_path / "a.onnx"))
    model.graph.node[2].op_type = "Identity"
    del model.graph.node[2].input[1:]
    onnx.save(model, tmp_path / "b.onnx")
    loaded = open_model(tmp_path / "b.onnx")
    assert loaded.facts.value_range == (0, 1)
    assert "other ranges give the same image" in loaded.assumed


def fixed(path):
    model = onnx.load(enlarging(path, sides=(64, 64)))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 3, 64, 64]), "sixty-four"))
    model.graph.node.insert(0, helper.make_node("Reshape", ["x", "sixty-four"], ["fixed"]))
    model.graph.node[1].input[0] = "fixed"
    onnx.save(model, path)


def old(path):
    model = onnx.load(enlarging(path))
    model.opset_import[0].version = 7
    onnx.save(model, path)


def two_inputs(path):
    model = onnx.load(enlarging(path))
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1]))
    onnx.save(model, path)


def text(path):
    model = onnx.load(enlarging(path))
    del model.graph.input[0].type.tensor_type.shape.dim[3]
    onnx.save(model, path)


def not_a_number(path):
    model = onnx.load(enlarging(path))
    model.graph.initializer.append(numpy_helper.from_array(np.array(np.nan, np.float32), "nan"))
    model.graph.node.append(helper.make_node("Add", ["clipped", "nan"], ["sum"]))
    model.graph.node[-2].input[0] = "sum"
    nodes = [*model.graph.node[:-2], model.graph.node[-1], model.graph.node[-2]]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (fixed, "takes images of 64×64 only; export it with a dynamic height and width"),
        (old, "opset 7 is too old"),
        (two_inputs, "is no image network: it has 2 inputs and 1 outputs"),
        (text, "is no image network: its input has 3 axes"),
        (not_a_number, r"not finite \(NaN\); use an fp32 file"),
        (
            lambda path: path.write_bytes(enlarging(path).read_bytes()[:90]),
            "is no ONNX file, or is damaged|cannot open",
        ),
        (lambda path: path.write_bytes(b"\x89PNG"), "is no ONNX file, or is damaged"),
        (lambda path: path.write_bytes(b""), "opset 0 is too old|no ONNX file"),
        (lambda path: path.mkdir(), "directory"),
    ],
)
def test_files_that_are_no_image_networks(make, message, tmp_path):
    path = tmp_path / "some.onnx"
    make(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_model(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_options_of_weights_are_refused(tmp_path):
    with pytest.raises(UsageError, match="not to exported files"):
        open_model(enlarging(tmp_path / "some.onnx"), norm="eval")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "eager"])
@pytest.mark.parametrize("options", [{}, {"high": 255.0, "layout": "NHWC", "dtype": np.float16, "step": 4}])
def test_upscale_with_a_file_of_others(backend, options, tmp_path, capsys):
    pytest.importorskip(backend if backend != "eager" else "torch")
    pixels = np.random.default_rng(0).integers(0, 256, (19, 22, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    path = enlarging(tmp_path / "some.onnx", **options)
    arguments = ["upscale", str(tmp_path / "a.png"), "--output", str(tmp_path / "out"), "--model", str(path)]
    assert main([*arguments, "--backend", backend]) == 0, capsys.readouterr().err
    (made,) = (tmp_path / "out").glob("*.png")
    np.testing.assert_array_equal(np.asarray(Image.open(made)), pixels.repeat(2, 0).repeat(2, 1))


@pytest.mark.slow
def test_upscale_with_gankits_own_export(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = {"scale": 2, "channels": 8, "blocks": 1}
    save(tmp_path / "mine.safetensors", small_srgan(**options).state_dict(), "srgan", options)
    assert main(["export", "--model", "mine.safetensors", "--output", "mine.onnx"]) == 0
    wanted = halo(small_srgan(**options))
    assert json.loads((tmp_path / "mine.onnx.json").read_text())["metadata"]["halo"] == str(wanted)
    shutil.copy("mine.onnx", "alone.onnx")  # without its manifest
    assert [open_model(tmp_path / name).facts.halo for name in ("mine.onnx", "alone.onnx")] == [wanted, wanted]
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (19, 22, 3), np.uint8)).save("a.png")
    both = []
    for model in ("mine.safetensors", "mine.onnx"):
        target = tmp_path / model.replace(".", "_")
        arguments = ["upscale", "a.png", "--model", model, "--output", str(target), "--precision", "fp32"]
        assert main([*arguments, "--backend", "onnxruntime", "--report", f"{model}.json"]) == 0, capsys.readouterr().err
        (made,) = target.glob("*.png")
        both.append(np.asarray(Image.open(made)).astype(int))
    assert np.abs(both[0] - both[1]).max() <= 1
    assert json.loads((tmp_path / "mine.onnx.json").read_text())


def test_what_was_found_is_said(tmp_path, gankit_log):
    open_model(enlarging(tmp_path / "some.onnx", high=255.0))
    assert "NCHW float32, ×2, values from 0 to 255, sides in multiples of 1" in gankit_log.text


def test_what_gankit_wrote_into_a_file_counts(tmp_path):
    model = onnx.load(enlarging(tmp_path / "a.onnx", scale=1))
    helper.set_model_props(model, {"value_range": "[-1.0, 1.0]", "task": "translate"})
    onnx.save(model, tmp_path / "b.onnx")
    loaded = open_model(tmp_path / "b.onnx")
    assert (loaded.facts.value_range, loaded.facts.task, loaded.assumed) == ((-1, 1), "translate", "")
    helper.set_model_props(model, {"value_range": "[1, 0]"})
    onnx.save(model, tmp_path / "b.onnx")
    assert open_model(tmp_path / "b.onnx").facts.value_range == (0, 1)


@pytest.mark.parametrize(("stated", "found"), [("7", (True, 7)), ("0", (True, 0)), ("-1", (False, None))])
def test_the_halo_that_gankit_wrote_lets_images_be_cut(stated, found, tmp_path):
    model = onnx.load(enlarging(tmp_path / "a.onnx", scale=2))
    helper.set_model_props(model, {"halo": stated})
    onnx.save(model, tmp_path / "b.onnx")
    facts = open_model(tmp_path / "b.onnx").facts
    assert (facts.tileable, facts.halo) == found


def test_gankit_models_describes_it(tmp_path, capsys):
    assert main(["models", str(enlarging(tmp_path / "some.onnx", scale=3))]) == 0
    assert "×3" in capsys.readouterr().out
