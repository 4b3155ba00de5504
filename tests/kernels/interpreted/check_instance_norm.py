"""InstanceNorm's kernels, every layout, dtype and flag, against float64."""

import itertools
import math

import pytest
import torch
from gankit_kernels.on_cuda.instance_norm import InstanceNormConfig, launch
from gankit_kernels.on_cuda.tuning import candidates

from tests.kernels.cases import DTYPES, LAYOUTS, assert_rounded, exact_norm, picture, same_layout

# Cuts that make every kernel run on small pictures: parts of one block, several blocks, a last one that is not whole.
SPLIT = {
    "planes": InstanceNormConfig(False, 1, 256, 4, parts=3, chunk=512, out_parts=5, out_blocks=1),
    "channels_last": InstanceNormConfig(False, 16, 64, 4, parts=3, chunk=512, out_parts=3, out_blocks=8),
}
SHAPES = [(1, 3, 31, 37), (2, 2, 32, 40), (1, 18, 16, 18)]


@pytest.fixture(autouse=True)
def few_processors(monkeypatch):
    """The interpreter runs one program after the other: a small GPU gets fewer and larger ones."""
    monkeypatch.setattr("gankit_kernels.on_cuda.instance_norm.processors", lambda device: 4)


def run(
    x, weight=None, bias=None, residual=None, activation="none", slope=0.01, pad=0, eps=1e-5, whole=False, cut=None
):
    result = launch(x, weight, bias, residual, activation, slope, pad, eps, whole, cut)
    assert same_layout(result, x)
    return result


def cut_for(layout, split, shape):
    """A configuration that covers the shape, or the default."""
    if not split:
        return None
    size, cut = shape[2] * shape[3], SPLIT[layout]
    vars_ = {**vars(cut), "parts": -(-size // cut.chunk), "out_parts": -(-size // (cut.block * cut.out_blocks))}
    return InstanceNormConfig(**vars_)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_flag_and_odd_size(layout, split, dtype):
    for number, shape in enumerate(SHAPES if dtype == torch.float16 else SHAPES[:1]):
        x = picture(shape, dtype, layout, seed=number)
        weight, bias = torch.randn(shape[1]), torch.randn(shape[1])
        residual = picture(shape, dtype, layout, seed=7)
        cut = cut_for(layout, split, shape)
        everything = (weight, bias, residual, "leaky_relu", 0.2)
        assert_rounded(run(x, *everything, cut=cut), exact_norm(x, *everything), dtype)
        assert_rounded(run(x, cut=cut), exact_norm(x), dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_activations(layout, activation):
    x = picture((1, 8, 12, 20), layout=layout)
    weight = torch.full((8,), 2.0)
    for split in (False, True):
        result = run(x, weight, activation=activation, cut=cut_for(layout, split, x.shape))
        assert_rounded(result, exact_norm(x, weight, activation=activation), x.dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("kind", ["large mean", "constant", "outlier", "tiny"])
def test_numbers_that_ruin_naive_sums(layout, split, kind):
    x = picture((1, 3, 33, 47), layout=layout, kind=kind)
    # the mean itself is rounded to float32: with mean 1000 and deviation 0.5 that is 2000 half units of the result
    extra = 2000 * torch.finfo(torch.float32).eps if kind == "large mean" else 0.0
    result = run(x, eps=1e-9, cut=cut_for(layout, split, x.shape))
    if kind == "constant":
        assert float(result.abs().max()) == 0.0, "a constant plane has its value for mean, exactly"
    else:
        assert_rounded(result, exact_norm(x, eps=1e-9), x.dtype, extra=extra)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nan_and_infinity_are_not_hidden(layout):
    for split, bad in itertools.product((False, True), (math.nan, math.inf)):
        x = picture((1, 3, 16, 16), layout=layout)
        x[0, 1, 5, 5] = bad
        result = run(x, activation="relu", cut=cut_for(layout, split, x.shape))
        assert result[0, 1].isnan().any()
        assert result[0, ::2].isfinite().all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_reflected_border_and_residual_in_a_padded_picture(layout, dtype):
    for pad, shape in ((1, (2, 8, 14, 18)), (3, (1, 3, 9, 15))):
        x = picture(shape, dtype, layout)
        bordered = (shape[0], shape[1], shape[2] + 2 * pad, shape[3] + 2 * pad)
        residual = picture(bordered, dtype, layout, seed=3)[:, :, pad:-pad, pad:-pad]
        weight = torch.randn(shape[1])
        for flags in ({"pad": pad}, {"residual": residual}, {"pad": pad, "residual": residual}):
            result = run(x, weight, activation="relu", **flags)
            assert_rounded(result, exact_norm(x, weight, activation="relu", **flags), dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_residual_of_the_other_layout(layout):
    other = next(name for name in LAYOUTS if name != layout)
    x, residual = picture((2, 8, 9, 12), layout=layout), picture((2, 8, 9, 12), layout=other, seed=2)
    assert_rounded(run(x, residual=residual), exact_norm(x, residual=residual), x.dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_group(layout):
    for shape in ((2, 6, 15, 20), (1, 16, 24, 48)):
        x, residual = picture(shape, torch.float16, layout), picture(shape, torch.float16, layout, seed=1)
        weight, bias = torch.randn(shape[1]), torch.randn(shape[1])
        x[:, 0] += 5  # channels differ, so that statistics per channel would be another result
        flags = {"residual": residual, "activation": "leaky_relu", "slope": 0.2, "whole": True}
        for pad in (0, 1):
            exact = exact_norm(x, weight, bias, pad=pad, **flags)
            assert_rounded(run(x, weight, bias, pad=pad, **flags), exact, x.dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (3, 100, 1, 1), (2, 5, 2, 1), (20, 3, 2, 2), (1, 1, 1, 300)])
def test_tiny_planes(layout, shape):
    x, bias = picture(shape, layout=layout), torch.randn(shape[1])
    assert_rounded(run(x, bias=bias), exact_norm(x, bias=bias), x.dtype)


def test_empty():
    for shape in ((0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)):
        assert run(torch.empty(shape)).shape == shape


def test_slices_and_expanded_pictures():
    wide = picture((4, 6, 10, 12))
    for x in (wide[::2], wide[:, 1:4], wide[..., 2:9], wide[:, :, ::2], wide[:1].expand(3, -1, -1, -1)):
        assert_rounded(launch(x, None, None, None, "none", 0.0, 0, 1e-5, False), exact_norm(x), x.dtype)
    last = picture((4, 6, 10, 12), layout="channels_last")
    for x in (last[1::2], last[:, :4], last[..., 3:]):
        assert_rounded(launch(x, None, None, None, "none", 0.0, 0, 1e-5, False), exact_norm(x), x.dtype)


def test_the_same_bits_every_time():
    x = picture((1, 2, 33, 67), torch.float16)
    first, second = (run(x, cut=cut_for("planes", True, x.shape)) for _ in range(2))
    assert torch.equal(first, second)


def test_defaults_for_large_planes_cover_every_pixel():
    """Cuts of shapes that the interpreter is too slow for."""
    for planes, size, itemsize, sms in itertools.product(
        (1, 3, 64, 8192), (1, 5, 4096, 32768, 65536, 2073600, 268435456), (2, 4), (46, 132)
    ):
        cut = InstanceNormConfig.of_planes(planes, size, planes, size + 12, sms, fused=size % 2 == 0)
        if cut.resident:
            assert cut.block >= size
            assert cut.block <= 16384
        else:
            assert (cut.parts - 1) * cut.chunk < size <= cut.parts * cut.chunk
            assert cut.out_parts * cut.out_blocks * cut.block >= size + 12
        last = InstanceNormConfig.of_pixels(2, planes, size, size + 12, itemsize, sms, fused=size % 2 == 0)
        if last.resident:
            assert last.block >= size
        else:
            assert (last.parts - 1) * last.chunk < size <= last.parts * last.chunk
            assert last.out_parts * last.out_blocks * last.block >= size + 12


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_batch_too_large_for_the_cache_goes_in_groups(layout, monkeypatch):
    x, residual = picture((5, 4, 33, 34), layout=layout), picture((5, 4, 33, 34), layout=layout, seed=1)
    monkeypatch.setattr("gankit_kernels.on_cuda.instance_norm._KEPT", 2 * x[0].nbytes)
    for whole in (False, True):
        exact = exact_norm(x, residual=residual, pad=1, whole=whole)
        assert_rounded(run(x, residual=residual, pad=1, whole=whole), exact, x.dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_tuning_tries_is_right(layout):
    x = picture((1, 4, 24, 28), torch.float16, layout)
    for config in candidates(x):
        assert_rounded(run(x, cut=config), exact_norm(x), x.dtype)
