"""The epilogue, and networks that have it, on a real GPU; references in float64 on the same GPU."""

import itertools

import pytest
import torch
from gankit_export.rewrites import for_inference
from gankit_kernels import epilogue, fuse, pixel_shuffle, spread
from gankit_kernels.convolution import conv_relu
from torch.nn import functional as F

from gankit import models
from gankit.backends.cuda import kernels
from tests.kernels.cases import DTYPES, LAYOUTS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


def noise(*shape, dtype=torch.float16, layout=torch.channels_last):
    x = torch.randn(shape, device="cuda", dtype=torch.float32).to(dtype)
    return x.contiguous(memory_format=layout) if x.ndim == 4 else x


def exact(x, bias, prelu, residual, activation, scale, before, pads):
    result = x.double() + (0.0 if bias is None else bias.double()[:, None, None])
    added = 0.0 if residual is None else residual.double()
    result = result * scale + added if before else result
    if prelu is not None:
        result = torch.where(result > 0, result, result * prelu.double().reshape(-1, 1, 1))
    result = {"none": lambda x: x, "relu": F.relu, "tanh": torch.tanh, "leaky_relu": lambda x: F.leaky_relu(x, 0.2)}[
        activation
    ](result)
    result = result if before else result * scale + added
    return F.pad(result, pads, mode="reflect") if any(pads) else result


def assert_close(result, wanted):
    tolerance = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}[result.dtype]
    worst = ((result.double() - wanted).abs() - tolerance * (wanted.abs() + 1)).max()
    assert worst.item() <= 0, f"{worst.item()} beyond the tolerance"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_part(layout, dtype):
    """Every activation for one shape and dtype; otherwise a selection, because each combination is a compilation."""
    for (samples, channels, height, width), activation, slopes in itertools.product(
        ((2, 64, 61, 67), (1, 3, 128, 96), (1, 12, 33, 40), (3, 320, 8, 8), (2, 48, 1, 1)),
        ("none", "relu", "leaky_relu", "tanh"),
        (0, 1, 2),
    ):
        every = channels == 64 and dtype == torch.float16
        if (slopes and activation != "none") or not (every or activation == "relu" or slopes == 2):
            continue
        if dtype != torch.float16 and channels > 64:
            continue
        shape = samples, channels, height, width
        x, other = (noise(*shape, dtype=dtype, layout=LAYOUTS[layout]) for _ in range(2))
        bias = noise(channels, dtype=dtype)
        prelu = (None, torch.full((1,), 0.25, device="cuda"), torch.rand(channels, device="cuda"))[slopes]
        for residual, before, scale, pads in (
            (None, False, 1.0, (0, 0, 0, 0)),
            (other, False, 0.2, (0, 0, 0, 0)),
            (other, True, 1.0, (0, 0, 0, 0)),
            (other, False, 1.0, (1, 2, 0, 3)),
        ):
            if (any(pads) and height == 1) or not (every or scale == 0.2 or any(pads)):
                continue
            flags = {"activation": activation, "slope": 0.2, "scale": scale, "before": before}
            wanted = exact(x, bias, prelu, residual, activation, scale, before, pads)
            given = {"prelu": prelu, "residual": residual, **flags}
            result = epilogue(x, bias, pads=pads, **given)
            assert_close(result, wanted)
            if not any(pads):
                copy = x.clone(memory_format=torch.preserve_format)
                assert epilogue(copy, bias, in_place=True, **given) is copy
                assert torch.equal(copy, result)


def test_views():
    wide = noise(2, 64, 34, 50)
    x = noise(2, 64, 32, 48)
    inside = wide[:, :, 1:-1, 1:-1]
    wanted = x.double() + inside.double()
    assert_close(epilogue(x, residual=inside), wanted)
    assert_close(epilogue(x, residual=inside, in_place=True), wanted)
    assert_close(epilogue(wide[:, :3], activation="tanh"), wide[:, :3].double().tanh())
    source = noise(2, 16, 30, 44)
    result = pixel_shuffle(source[:, :12], 2, order="dcr")
    assert torch.equal(
        result, pixel_shuffle(source[:, :12].contiguous(memory_format=torch.channels_last), 2, order="dcr")
    )


def test_a_graph_replays_it():
    """No synchronisation and no allocation outside torch's, so that a CUDA graph can hold it."""
    x, bias, other = noise(2, 64, 32, 48), noise(64), noise(2, 64, 32, 48)
    epilogue(x.clone(memory_format=torch.preserve_format), bias, residual=other, activation="relu", in_place=True)
    epilogue(x, bias, pads=(1, 1, 1, 1))
    static = x.clone(memory_format=torch.preserve_format)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = epilogue(static, bias, residual=other, activation="relu", in_place=True)
        padded = epilogue(result, bias, pads=(1, 1, 1, 1))
    static.copy_(x * 2)
    graph.replay()
    torch.cuda.synchronize()
    wanted = F.relu((x * 2).double() + bias.double()[:, None, None]) + other.double()
    assert_close(static, wanted)
    assert_close(padded, F.pad(static.double() + bias.double()[:, None, None], (1,) * 4, mode="reflect"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cudnns_relu_does_not_read_what_its_result_held_before(dtype):
    x, weight, bias = noise(2, 64, 40, 56, dtype=dtype), noise(64, 64, 3, 3, dtype=dtype) * 0.05, noise(64, dtype=dtype)
    arguments = (bias, (1, 1), (1, 1), (1, 1), 1)
    wanted = F.relu(F.conv2d(x.double(), weight.double(), bias.double(), padding=1))
    torch.cuda.empty_cache()
    for _ in range(3):
        # the allocator returns this memory for the result
        poison = torch.full_like(x, torch.nan)
        del poison
        result = conv_relu(x, weight, *arguments)
        assert not result.isnan().any()
        assert ((result.double() - wanted).abs() <= 1e-2 * (wanted.abs() + 1)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_spreads(dtype, layout):
    """Into one to five tensors, in place and apart; what lies beside the written channels stays."""
    form = LAYOUTS[layout]
    for channels, first, widths in ((32, 64, (96, 128, 160, 192, 224)), (64, 0, (96,)), (6, 2, (9, 8))):
        x, residual = (noise(2, channels, 31, 45, dtype=dtype, layout=form) for _ in range(2))
        bias = noise(channels, dtype=dtype)
        wanted = exact(x, bias, None, residual, "leaky_relu", 1.0, False, (0, 0, 0, 0))
        for own in ("in place", "apart", "nowhere"):
            source = x.clone(memory_format=torch.preserve_format)
            targets = [noise(2, wide, 31, 45, dtype=dtype, layout=form) for wide in widths]
            before = [target.clone() for target in targets]
            result = {"in place": source, "apart": torch.empty_like(source), "nowhere": None}[own]
            spread(source, targets, first, bias, residual=residual, result=result, activation="leaky_relu", slope=0.2)
            for item in [target[:, first : first + channels] for target in targets] + [result][: own != "nowhere"]:
                assert_close(item, wanted)
            for target, old in zip(targets, before, strict=True):
                assert torch.equal(target[:, :first], old[:, :first])
                assert torch.equal(target[:, first + channels :], old[:, first + channels :])


OPTIONS = {
    "srgan": {"blocks": 2},
    "esrgan": {"blocks": 1},
    "msrresnet": {"blocks": 2},
    "srvgg": {"convs": 4},
    "cyclegan": {"blocks": 2, "norm": "batch"},
    "pix2pix": {"downs": 6},
    "animegan": {"blocks": 2},
}


WIDER = {"pad_outputs": 8, "pad_inputs": 8}


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        *((name, flags) for name in OPTIONS for flags in ({}, WIDER)),
        ("msrresnet", {"cudnn_relu": True}),
        ("esrgan", {"dense": True}),
    ],
    ids=str,
)
def test_fused_networks(name, flags):
    """In fp16: fused, the error against float64 is not larger than without."""
    torch.manual_seed(0)
    net = for_inference(models.build(name, OPTIONS[name]).eval()).cuda()
    x = torch.rand(2, 3, 128, 192, device="cuda").contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        wanted = net.double()(x.double())
        half = net.half().to(memory_format=torch.channels_last)
        fused = fuse(half, kernels._norm_inside, **flags).to(memory_format=torch.channels_last)
        plain, result = half(x.half()), fused(x.half())
    assert result.dtype == torch.float16
    before, after = ((item.double() - wanted).square().mean().sqrt().item() for item in (plain, result))
    assert after <= max(1.3 * before, 1e-5), f"RMSE {after:.3g} fused, {before:.3g} not"
