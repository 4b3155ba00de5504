"""The translation networks trace, keep their images through the rewrites, and leave as ONNX with free sides."""

import onnxruntime
import pytest
import torch
from gankit_export.onnx import dims, export_onnx
from gankit_export.precision import typed
from gankit_export.rewrites import for_inference
from torch import nn

from gankit.models import build, facts

CASES = {
    "cyclegan": ("cyclegan", {"channels": 4, "blocks": 2}),
    "cyclegan dropout": ("cyclegan", {"channels": 4, "blocks": 1, "dropout": 0.5, "clamp": True}),
    "cyclegan batch": ("cyclegan", {"channels": 4, "blocks": 1, "norm": "batch"}),
    "cut": ("cyclegan", {"channels": 4, "blocks": 1, "antialias": True, "antialias_up": True}),
    "separable": ("cyclegan", {"channels": 4, "blocks": 1, "separable": True, "dropout": 0.0}),
    "pix2pix": ("pix2pix", {"channels": 4, "downs": 5}),
    "pix2pix eval": ("pix2pix", {"channels": 4, "downs": 3, "norm_at_test": "eval"}),
    "animegan": ("animegan", {"channels": 4, "blocks": 2}),
    "animegan unaligned": ("animegan", {"channels": 4, "blocks": 2, "align_corners": False}),
    "cartoongan": ("cartoongan", {"channels": 4, "blocks": 1}),
}


def network(case):
    name, options = CASES[case]
    torch.manual_seed(0)
    net = build(name, options).eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    return net, facts(name, options)


@pytest.mark.parametrize("case", CASES)
def test_rewrites_keep_the_images(case):
    net, known = network(case)
    graph = for_inference(net)
    x = torch.rand(2, 3, 10 * known.multiple, 4 * known.multiple) * 2 - 1
    expected = net(x)
    assert expected.std() > 1e-2
    torch.testing.assert_close(graph(x), expected, rtol=0, atol=1e-5)
    norms = [module for module in graph.modules() if isinstance(module, nn.BatchNorm2d)]
    assert not norms


@pytest.mark.parametrize("case", CASES)
def test_narrow_precision_is_near(case):
    net, known = network(case)
    narrow = typed(for_inference(net), "bf16")
    x = torch.rand(1, 3, 8 * known.multiple, 4 * known.multiple) * 2 - 1
    difference = (narrow(x) - net(x)).abs()
    assert 0 < difference.mean() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_onnx_gives_the_same_images_at_any_multiple(case, tmp_path):
    net, known = network(case)
    path = tmp_path / "g.onnx"
    export_onnx(for_inference(net), path, channels=known.channels, multiple=known.multiple)
    assert len(set(map(str, dims(path)["input"]))) == 4
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for count, high, wide in ((1, 2, 3), (3, 6, 5)):
        x = torch.rand(count, 3, high * known.multiple, wide * known.multiple) * 2 - 1
        result = session.run(None, {"input": x.numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(result), net(x), rtol=0, atol=1e-3)
