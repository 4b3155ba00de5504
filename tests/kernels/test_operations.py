"""The operations as part of torch: references, gradients, shapes, compilation, export, errors. No kernel runs here."""

import subprocess
import sys

import pytest
import torch
from gankit_kernels import blend_tiles, epilogue, from_uint8, group_norm, instance_norm, pixel_shuffle, to_dcr, to_uint8
from gankit_kernels.blend import BlendSpec
from gankit_kernels.convolution import ConvolutionSpec, conv_relu
from gankit_kernels.instance_norm import NormSpec
from gankit_kernels.pixel_shuffle import ShuffleSpec
from gankit_kernels.pixels import PixelsSpec, ValuesSpec
from gankit_kernels.specs import EpilogueSpec
from torch.library import opcheck
from torch.nn import functional as F

from tests.kernels.cases import (
    DTYPES,
    LAYOUTS,
    assert_rounded,
    exact_epilogue,
    exact_norm,
    exact_shuffle,
    image,
    same_layout,
)

OPS = torch.ops.gankit


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_norm_on_a_cpu(layout, dtype):
    x, residual = image((2, 6, 9, 14), dtype, layout), image((2, 6, 9, 14), dtype, layout, seed=1)
    weight, bias = torch.randn(6), torch.randn(6)
    flags = {"residual": residual, "activation": "leaky_relu", "slope": 0.2, "pad": 2}
    for norm, whole in ((instance_norm, False), (group_norm, True)):
        result = norm(x, weight, bias, **flags)
        assert_rounded(result, exact_norm(x, weight, bias, whole=whole, **flags), dtype)
        assert same_layout(result, x)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_shuffle_on_a_cpu(layout, dtype):
    for r in (1, 2, 3, 4):
        x, bias, prelu = image((2, 5 * r * r, 4, 6), dtype, layout), torch.randn(5 * r * r), torch.rand(5)
        result = pixel_shuffle(x, r, bias=bias, prelu=prelu)
        assert_rounded(result, exact_shuffle(x, r, bias, prelu), dtype)
        assert same_layout(result, x)
        turned = to_dcr(x.transpose(0, 1), r).transpose(0, 1).contiguous(memory_format=LAYOUTS[layout])
        assert torch.equal(pixel_shuffle(turned, r, bias=to_dcr(bias, r), prelu=prelu, order="dcr"), result)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_epilogue_on_a_cpu(layout, dtype):
    x, residual = image((2, 6, 9, 14), dtype, layout), image((2, 6, 9, 14), dtype, layout, seed=1)
    bias = torch.randn(6)
    for flags in (
        {"activation": "leaky_relu", "slope": 0.2, "scale": 0.2},
        {"activation": "tanh", "before": True, "pads": (0, 1, 2, 3)},
        {"prelu": torch.rand(6), "pads": (1, 1, 1, 1)},
    ):
        result = epilogue(x, bias, residual=residual, **flags)
        assert_rounded(result, exact_epilogue(x, bias, residual=residual, **flags), dtype)
        assert same_layout(result, x)
    copy = x.clone()
    assert epilogue(copy, bias, activation="relu", in_place=True) is copy
    assert_rounded(copy, exact_epilogue(x, bias, activation="relu"), dtype)


def test_against_torchs_modules():
    x = image((2, 4, 8, 8))
    torch.testing.assert_close(instance_norm(x), torch.nn.InstanceNorm2d(4)(x))
    torch.testing.assert_close(group_norm(x, activation="relu"), torch.nn.GroupNorm(1, 4)(x).relu())
    assert torch.equal(pixel_shuffle(x, 2), F.pixel_shuffle(x, 2))


def test_a_dcr_convolution_gives_the_same_image():
    conv = torch.nn.Conv2d(5, 27, 3, padding=1)
    x = image((1, 5, 7, 6))
    wanted = F.pixel_shuffle(conv(x), 3)
    low = F.conv2d(x, to_dcr(conv.weight, 3), padding=1)
    torch.testing.assert_close(pixel_shuffle(low, 3, bias=to_dcr(conv.bias, 3), order="dcr"), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(layout):
    def grad(*shape):
        return image(shape, layout=layout).requires_grad_()

    x, vector = grad(2, 4, 6, 8), torch.randn(4, requires_grad=True)
    opcheck(OPS.instance_norm, (x, vector, vector, grad(2, 4, 6, 8)), vars(NormSpec("leaky_relu", 0.2, 1)))
    if layout == "planes":
        opcheck(OPS.blend_tiles, (grad(4, 2, 6, 6),), vars(BlendSpec((0, 4), (0, 3), 10, 9, 2)))
        opcheck(
            OPS.from_uint8,
            (torch.randint(0, 256, (1, 4, 5, 3)).byte(),),
            vars(ValuesSpec(0.0, 1.0, torch.float16, True)),
        )
    opcheck(OPS.instance_norm, (x, None, None, None), vars(NormSpec(whole=True)))
    opcheck(OPS.pixel_shuffle, (x, vector, torch.rand(1, requires_grad=True)), vars(ShuffleSpec(2, dcr=True)))
    opcheck(OPS.pixel_shuffle, (x, None, None), vars(ShuffleSpec(2, "tanh")))
    everything = (grad(2, 4, 6, 8), vector, vector, grad(2, 4, 6, 8))
    opcheck(OPS.epilogue, everything, vars(EpilogueSpec(scale=0.5, pads=(1, 0, 2, 1))))
    opcheck(OPS.epilogue, (x, vector, None, None), vars(EpilogueSpec("tanh")))
    opcheck(OPS.epilogue_, (image((2, 4, 6, 8), layout=layout), torch.ones(4), None, None), vars(EpilogueSpec("relu")))
    weight = torch.randn(5, 4, 3, 3)
    opcheck(OPS.conv_relu, (x.detach(), weight, torch.ones(5)), vars(ConvolutionSpec((2, 1), (1, 0), (1, 1), 1)))
    values = image((1, 3, 4, 5), layout=layout)
    opcheck(OPS.to_uint8, (values,), vars(PixelsSpec(-1.0, 1.0, torch.uint8)))


def test_gradients():
    def exact(*shape):
        return torch.randn(shape, dtype=torch.float64, requires_grad=True)

    inputs = exact(2, 2, 3, 4), exact(2), exact(2), exact(2, 2, 3, 4)
    for norm, activation, pad in (
        (instance_norm, "leaky_relu", 2),
        (instance_norm, "tanh", 1),
        (group_norm, "relu", 1),
        (group_norm, "none", 0),
    ):
        flags = {"activation": activation, "pad": pad}
        check = torch.autograd.gradcheck
        assert check(lambda *t, n=norm, f=flags: n(*t[:3], residual=t[3], **f), inputs)
    assert torch.autograd.gradcheck(instance_norm, inputs[:1])
    assert torch.autograd.gradgradcheck(lambda t: instance_norm(t, activation="tanh"), (exact(1, 2, 2, 3),))
    wide, long, slopes = exact(1, 8, 2, 2), exact(8), exact(2)
    for order in ("crd", "dcr"):
        assert torch.autograd.gradcheck(
            lambda *t, o=order: pixel_shuffle(t[0], 2, bias=t[1], prelu=t[2], order=o), (wide, long, slopes)
        )
        assert torch.autograd.gradcheck(lambda *t, o=order: pixel_shuffle(*t, 2, activation="tanh", order=o), (wide,))
    assert torch.autograd.gradcheck(lambda t: pixel_shuffle(wide, 2, prelu=t), (exact(1),))
    tensors = exact(2, 2, 4, 5), exact(2), exact(2), exact(2, 2, 4, 5)
    for flags in ({}, {"before": True, "scale": 0.3}, {"pads": (1, 2, 0, 3), "scale": 0.3}):
        assert torch.autograd.gradcheck(
            lambda *t, f=flags: epilogue(t[0], t[1], prelu=t[2], residual=t[3], **f), tensors
        )
        assert torch.autograd.gradcheck(lambda *t, f=flags: epilogue(*t, activation="tanh", **f), tensors[:2])
    assert torch.autograd.gradgradcheck(lambda t: epilogue(t, activation="tanh", scale=0.5), tensors[:1])
    assert torch.autograd.gradcheck(lambda t: blend_tiles(t, (0, 2), (0, 3), (6, 7), 2), (exact(4, 1, 4, 4),))


def test_one_graph_for_three_sizes():
    def network(x):
        y = instance_norm(x, activation="relu", pad=1)
        return pixel_shuffle(y, 2, activation="tanh")

    compiled = torch.compile(network, dynamic=True, fullgraph=True, backend="aot_eager")
    compiled(image((2, 8, 10, 12), layout="channels_last"))
    with torch.compiler.set_stance("fail_on_recompile"):
        for height, width in ((17, 9), (32, 24), (10, 12)):
            x = image((2, 8, height, width), layout="channels_last")
            result = compiled(x)
            torch.testing.assert_close(result, network(x))
            assert same_layout(result, x)


def test_exports_contain_torchs_operations(tmp_path):
    class Network(torch.nn.Module):
        def forward(self, x):
            y = instance_norm(x, torch.ones(8), torch.zeros(8), activation="leaky_relu", slope=0.2)
            return pixel_shuffle(y, 2, prelu=torch.tensor([0.25]))

    x = image((1, 8, 6, 10))
    program = torch.onnx.export(Network().eval(), (x,), dynamo=True, verbose=False)
    names = [node.op_type for node in program.model.graph]
    assert {"InstanceNormalization", "LeakyRelu", "DepthToSpace", "PRelu"} <= set(names)
    assert {node.domain for node in program.model.graph} <= {""}
    exported = torch.export.export(Network(), (x,))
    assert not any("gankit" in str(node.target) for node in exported.graph.nodes)
    torch.testing.assert_close(exported.module()(x), Network()(x))


@pytest.mark.slow
def test_triton_waits_for_cuda():
    code = "import sys, torch; before = 'triton' in sys.modules; from gankit_kernels import instance_norm; "
    code += "instance_norm(torch.rand(1, 3, 4, 4)); assert ('triton' in sys.modules) == before; assert not before"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pixels_on_a_cpu():
    pixels = torch.arange(48, dtype=torch.uint8).reshape(1, 4, 4, 3)
    values = from_uint8(pixels, low=-1.0, high=1.0, memory_format=torch.channels_last)
    assert torch.equal(values, pixels.permute(0, 3, 1, 2).float() * (2 / 255) - 1)
    assert values.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(to_uint8(values, low=-1.0), pixels)
    wide = from_uint8(pixels.to(torch.uint16) * 257)
    assert torch.equal(to_uint8(wide, dtype=torch.uint16), pixels.to(torch.uint16) * 257)
    assert to_uint8(torch.tensor([-9.0, 0.5 / 255, 1.5 / 255, 9.0]).reshape(1, 1, 2, 2)).flatten().tolist() == [
        0,
        0,
        2,
        255,
    ]


def test_blended_tiles_of_an_image_are_the_image():
    whole = torch.rand(3, 20, 26)
    tops, lefts = (0, 6, 12), (0, 9, 16)
    tiles = torch.stack([whole[:, top : top + 8, left : left + 10] for top in tops for left in lefts])
    for ramp in (1, 4):
        torch.testing.assert_close(blend_tiles(tiles, tops, lefts, (20, 26), ramp), whole)


X = torch.zeros(1, 4, 4, 4)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: instance_norm(X[0]), ValueError, r"x must be \(N, C, H, W\), not of shape \(4, 4, 4\)"),
        (lambda: instance_norm(X.int()), TypeError, "not torch.int32"),
        (lambda: instance_norm(X, torch.ones(3)), ValueError, r"weight must be of shape \(4,\), not \(3,\)"),
        (lambda: instance_norm(X, bias=torch.ones(4).int()), TypeError, "bias must be floating point"),
        (lambda: instance_norm(X, residual=X[:, :1]), ValueError, "residual must be of shape"),
        (lambda: instance_norm(X, bias=torch.ones(4, device="meta")), ValueError, "bias is on meta"),
        (lambda: instance_norm(X, pad=4), ValueError, "less than the sides of 4×4, not 4"),
        (lambda: instance_norm(X, activation="gelu"), ValueError, "not 'gelu'"),
        (lambda: epilogue(X, X[0, :3, 0, 0]), ValueError, r"bias must be of shape \(4,\), not \(3,\)"),
        (lambda: epilogue(X, prelu=X[0, 0, 0], activation="relu"), ValueError, "combined with 'relu'"),
        (lambda: epilogue(X, pads=(0, 0, 4, 0)), ValueError, "less than the sides of 4×4, not"),
        (lambda: epilogue(X, pads=(0, 1, 0, 1), in_place=True), ValueError, "in_place=False or pads of 0"),
        (lambda: conv_relu(X, X, None, (1, 1), "same", (1, 1), 1), ValueError, "two numbers, not 'same'"),
        (lambda: pixel_shuffle(X, 3), ValueError, "must divide 4 channels; it is 3"),
        (lambda: pixel_shuffle(X, 2, order="rcd"), ValueError, "'crd' or 'dcr'"),
        (lambda: pixel_shuffle(X, 2, prelu=torch.ones(1), activation="relu"), ValueError, "combined with 'relu'"),
        (lambda: from_uint8(X), TypeError, "uint8 or uint16"),
        (lambda: to_uint8(X, low=1.0), ValueError, "low must be less than high"),
        (lambda: to_uint8(X.double()), TypeError, "not torch.float64"),
        (lambda: blend_tiles(X, (0,), (0, 4), (4, 8), 1), ValueError, "do not match the 1 tiles given"),
        (lambda: blend_tiles(X, (0,), (0,), (4, 5), 1), ValueError, "lefts must begin with 0 and end with 1"),
        (lambda: blend_tiles(torch.zeros(2, 1, 2, 2), (0, 3), (0,), (5, 2), 1), ValueError, "tops must rise"),
        (lambda: blend_tiles(torch.zeros(5, 1, 8, 1), (0, 1, 2, 3, 4), (0,), (12, 1), 1), ValueError, "more than 4"),
    ],
)  # fmt: skip
def test_wrong_use(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_empty():
    assert instance_norm(torch.empty(0, 3, 4, 5), pad=1).shape == (0, 3, 6, 7)
    assert pixel_shuffle(torch.empty(1, 4, 0, 5), 2).shape == (1, 1, 0, 10)
