"""The kernels on a real GPU, where the machine has one."""

from dataclasses import replace

import pytest
import torch
from gankit_kernels import blend_tiles, from_uint8, group_norm, instance_norm, pixel_shuffle, to_uint8

from gankit import models
from gankit.backends import get
from gankit.backends.base import EngineSpec
from tests.kernels.cases import DTYPES, LAYOUTS, assert_rounded, exact_norm, exact_shuffle, image, same_layout

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_norms(layout, dtype):
    # these shapes are resident, alone, split, and split into parts that a kernel merges once
    for shape in ((2, 5, 31, 37), (8, 256, 64, 64), (8, 64, 256, 256), (1, 64, 256, 256), (1, 3, 1, 1)):
        x, residual = (image(shape, dtype, layout, seed=seed).cuda() for seed in (0, 1))
        weight, bias = torch.randn(2, shape[1]).cuda()
        for norm, whole in ((instance_norm, False), (group_norm, True)):
            for pad in (0, 1) if shape[2] > 1 else (0,):
                flags = {"activation": "leaky_relu", "slope": 0.2, "pad": pad}
                result = norm(x, weight, bias, residual=residual, **flags)
                assert same_layout(result, x)
                exact = exact_norm(x, weight, bias, residual, whole=whole, **flags)  # torch's own kernels, in float64
                assert_rounded(result, exact, dtype, extra=1e-5)


ONCE = (8, 256, 64, 64), (2, 256, 50, 41), (8, 128, 128, 128)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ONCE, ids=str)
def test_norms_in_one_launch(dtype, shape):
    from gankit_kernels.on_cuda.instance_norm import InstanceNormConfig

    x, residual = (image(shape, dtype, "channels_last", seed=seed).cuda() for seed in (0, 1))
    weight, bias = torch.randn(2, shape[1]).cuda()
    config = InstanceNormConfig.alone_pixels(shape, 2, 132)
    config = replace(config, rows=32 // dtype.itemsize)
    for pad in (0, 1):
        flags = {"activation": "leaky_relu", "slope": 0.2, "pad": pad, "residual": residual}
        result = instance_norm(x, weight, bias, config=config, **flags)
        assert same_layout(result, x)
        assert_rounded(result, exact_norm(x, weight, bias, **flags), dtype, extra=1e-5)


def test_the_faster_way_is_measured_outside_graphs_and_kept(monkeypatch):
    from gankit_kernels.on_cuda import instance_norm as norms
    from gankit_kernels.on_cuda.norm_choice import VARIABLE, Choice

    monkeypatch.delenv(VARIABLE, raising=False)
    norms.plan.cache_clear()
    measured, before = [], Choice.measure
    monkeypatch.setattr(Choice, "measure", lambda *given: measured.append(before(*given)) or measured[-1])
    x = image(ONCE[0], torch.float16, "channels_last").cuda()
    exact = exact_norm(x, activation="relu")
    instance_norm(x[:, :16].contiguous(memory_format=torch.channels_last))  # the libraries load
    measured.clear()
    for turn in range(2):  # the first graph is recorded before anything was measured
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = instance_norm(x, activation="relu")
        graph.replay()
        assert_rounded(result, exact, x.dtype, extra=1e-5)
        assert len(measured) == turn
        assert_rounded(instance_norm(x, activation="relu"), exact, x.dtype, extra=1e-5)
        assert len(measured) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shuffles(layout):
    for r in (2, 3, 4):
        x = image((2, 16 * r * r, 30, 44), torch.float16, layout)
        for dcr in (False, True):
            order = "dcr" if dcr else "crd"
            result = pixel_shuffle(x.cuda(), r, activation="leaky_relu", slope=0.2, order=order)
            assert_rounded(result.cpu(), exact_shuffle(x, r, activation="leaky_relu", slope=0.2, dcr=dcr), x.dtype)


def test_pixels_bit_for_bit():
    pixels = torch.randint(0, 256, (2, 40, 52, 3), dtype=torch.uint8)
    for layout in LAYOUTS.values():
        for dtype in DTYPES:
            values = from_uint8(pixels.cuda(), low=-1.0, dtype=dtype, memory_format=layout)
            assert torch.equal(values.cpu(), from_uint8(pixels, low=-1.0, dtype=dtype))
            assert torch.equal(to_uint8(values * 1.1, low=-1.0).cpu(), to_uint8((values * 1.1).cpu(), low=-1.0))


def test_tiles():
    tiles = torch.rand(6, 3, 64, 80)
    wanted = blend_tiles(tiles, (0, 40), (0, 70, 100), (104, 180), 16)
    torch.testing.assert_close(blend_tiles(tiles.cuda(), (0, 40), (0, 70, 100), (104, 180), 16).cpu(), wanted)


def test_nan_is_not_hidden():
    x = image((1, 4, 32, 32)).cuda()
    x[0, 2, 3, 3] = torch.nan
    assert instance_norm(x, activation="relu")[0, 2].isnan().all()


@pytest.mark.parametrize("backend", ["eager", pytest.param("compile", marks=pytest.mark.slow)])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_with_and_without(backend, precision):
    torch.manual_seed(0)
    options = {"channels": 16, "blocks": 2}
    net, facts = models.build("cyclegan", options).eval(), models.facts("cyclegan", options)
    batch = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    results = []
    for kernels in (False, True):
        with get(backend).load(EngineSpec(net, facts, precision, "cuda", kernels=kernels)) as engine:
            results.append(engine.run(batch).int())
    assert (results[0] - results[1]).abs().max() <= (1 if precision == "fp32" else 3)
