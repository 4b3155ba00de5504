"""EDSR as the engines run it: ONNX Runtime and OpenVINO make the network's images, at any size."""

import onnx
import onnxruntime
import pytest
import torch
from gankit_export.onnx import default_opset, dims, export_onnx
from gankit_export.precision import typed
from gankit_export.rewrites import for_inference

from gankit import backends, models
from gankit.backends.base import EngineSpec
from gankit.backends.choice.parity import compare, reference
from gankit.models.edsr import DIV2K_MEAN

pytestmark = pytest.mark.slow

OPTIONS = {
    "direct": {"channels": 16, "blocks": 2},
    "direct, bounded": {"channels": 16, "blocks": 2, "overshoot": 0.5},
    "published ×3": {"channels": 16, "blocks": 2, "scale": 3, "tail": "edsr", "mean": DIV2K_MEAN, "res_scale": 0.1},
}


def built(case):
    torch.manual_seed(0)
    return models.build("edsr", OPTIONS[case]).eval().requires_grad_(False), models.facts("edsr", OPTIONS[case])


def image(height=37, width=29, count=1):
    torch.manual_seed(1)
    coarse = torch.rand(count, 3, height // 4 + 1, width // 4 + 1)
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("name", ["eager", "onnxruntime", "openvino"])
@pytest.mark.parametrize("case", OPTIONS)
def test_engines_make_the_same_images(case, name):
    net, facts = built(case)
    spec, backend = EngineSpec(net, facts), backends.get(name)
    if (why := backend.supports(spec)) is not None:
        pytest.skip(f"{name}: {why}")
    with backend.load(spec) as engine:
        for x in (image(), image(8, 50, 2), image(3, 2)):
            wanted = reference(net, x)
            assert wanted.std() > 0.01
            torch.testing.assert_close(engine.run(x), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("case", OPTIONS)
def test_narrow_precisions_keep_the_colours(case, precision):
    net, facts = built(case)
    for name in ("openvino", "onnxruntime", "eager"):
        backend, spec = backends.get(name), EngineSpec(net, facts, precision)
        if backend.supports(spec) is not None:
            continue
        with backend.load(spec) as engine:
            result, wanted = engine.run(image()), reference(net, image())
            assert compare(result, wanted).psnr > 45
            assert (result - wanted).mean((0, 2, 3)).abs().max() < 1e-3


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("case", OPTIONS)
def test_the_onnx_file(tmp_path, case, precision):
    net, facts = built(case)
    path = tmp_path / "x.onnx"
    export_onnx(typed(for_inference(net), precision), path, opset=default_opset(precision))
    onnx.checker.check_model(str(path), full_check=True)
    assert dims(path)["output"] == ["batch", 3, f"{facts.scale}*height", f"{facts.scale}*width"]
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("DepthToSpace") == (1 if "direct" in case or facts.scale == 3 else 2)
    assert kinds.count("Mul") == ("overshoot" in OPTIONS[case])  # the residuals' factor is in the weights
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for x in (image(), image(1, 1), image(5, 64, 2)):
        result = torch.from_numpy(session.run(["output"], {"input": x.numpy()})[0])
        torch.testing.assert_close(result, net(x), rtol=0, atol=1e-5 if precision == "fp32" else 4e-3)
