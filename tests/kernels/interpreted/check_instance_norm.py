"""InstanceNorm's kernels in every layout and dtype and with every flag, against float64."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from gankit_kernels.instance_norm import NormSpec
from gankit_kernels.on_cuda.instance_norm import InstanceNormConfig, launch
from gankit_kernels.on_cuda.tuning import candidates

from tests.kernels.cases import DTYPES, LAYOUTS, assert_rounded, exact_norm, image, same_layout

# These configurations make every kernel run on small images: turns of four blocks, single blocks, a partial last one.
CUTS = {
    "planes": {
        "resident": None,
        "alone": InstanceNormConfig("alone", 1, 64, 2),
        "split": InstanceNormConfig("split", 1, 64, 2, chunk=512, out_block=128, out_blocks=2),
    },
    "channels_last": {
        "resident": None,
        "alone": InstanceNormConfig("alone", 16, 32, 4, out_block=64),
        "split": InstanceNormConfig("split", 16, 32, 4, chunk=160, out_block=64, out_blocks=3),
    },
}
KERNELS = [(layout, kernel) for layout, cuts in CUTS.items() for kernel in cuts]
SHAPES = [(1, 3, 31, 37), (2, 2, 32, 40), (1, 18, 16, 18)]


@pytest.fixture(autouse=True)
def few_processors(monkeypatch):
    """A small GPU, which gets few and large programs: the interpreter runs them one after the other."""
    monkeypatch.setattr("gankit_kernels.on_cuda.instance_norm.processors", lambda device: 4)


def run(
    x, weight=None, bias=None, residual=None, activation="none", slope=0.01, pad=0, eps=1e-5, whole=False, cut=None
):
    result = launch(x, weight, bias, residual, NormSpec(activation, slope, pad, eps, whole), cut)
    assert same_layout(result, x)
    return result


def cut_for(layout, kernel, shape):
    """A configuration for the kernel that covers the shape; the default, ``None``, is resident for these shapes."""
    cut = CUTS[layout][kernel]
    if cut is None or cut.kernel == "alone":
        return cut
    size = shape[2] * shape[3]
    return replace(cut, parts=-(-size // cut.chunk), out_parts=-(-size // (cut.out_block * cut.out_blocks)))


@pytest.mark.parametrize(("layout", "kernel"), KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_flag_and_odd_size(layout, kernel, dtype):
    for number, shape in enumerate(SHAPES if dtype == torch.float16 else SHAPES[:1]):
        x = image(shape, dtype, layout, seed=number)
        weight, bias = torch.randn(shape[1]), torch.randn(shape[1])
        residual = image(shape, dtype, layout, seed=7)
        cut = cut_for(layout, kernel, shape)
        everything = (weight, bias, residual, "leaky_relu", 0.2)
        assert_rounded(run(x, *everything, cut=cut), exact_norm(x, *everything), dtype)
        assert_rounded(run(x, cut=cut), exact_norm(x), dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_activations(layout, activation):
    x = image((1, 8, 12, 20), layout=layout)
    weight = torch.full((8,), 2.0)
    for kernel in CUTS[layout]:
        result = run(x, weight, activation=activation, cut=cut_for(layout, kernel, x.shape))
        assert_rounded(result, exact_norm(x, weight, activation=activation), x.dtype)


@pytest.mark.parametrize(("layout", "kernel"), KERNELS)
@pytest.mark.parametrize("kind", ["large mean", "constant", "outlier", "tiny", "huge"])
def test_numbers_that_ruin_naive_sums(layout, kernel, kind):
    x = image((1, 3, 33, 47), layout=layout, kind=kind)
    # the mean is rounded to float32: with mean 1000 and deviation 0.5 that is 2000 half units of the result
    extra = {"large mean": 2000, "huge": 10000}.get(kind, 0) * torch.finfo(torch.float32).eps
    result = run(x, eps=1e-9, cut=cut_for(layout, kernel, x.shape))
    if kind == "constant":
        assert float(result.abs().max()) == 0.0, "the mean of a constant plane is exactly its value"
    else:
        assert_rounded(result, exact_norm(x, eps=1e-9), x.dtype, extra=extra)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nan_and_infinity_are_not_hidden(layout):
    for kernel, bad in itertools.product(CUTS[layout], (math.nan, math.inf)):
        x = image((1, 3, 16, 16), layout=layout)
        x[0, 1, 5, 5] = bad
        result = run(x, activation="relu", cut=cut_for(layout, kernel, x.shape))
        assert result[0, 1].isnan().any()
        assert result[0, ::2].isfinite().all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_reflected_border_and_residual_in_a_padded_image(layout, dtype):
    for pad, shape in ((1, (2, 8, 14, 18)), (3, (1, 3, 9, 15))):
        x = image(shape, dtype, layout)
        bordered = (shape[0], shape[1], shape[2] + 2 * pad, shape[3] + 2 * pad)
        residual = image(bordered, dtype, layout, seed=3)[:, :, pad:-pad, pad:-pad]
        weight = torch.randn(shape[1])
        for flags in ({"pad": pad}, {"residual": residual}, {"pad": pad, "residual": residual}):
            for cut in (None, CUTS[layout]["alone"]):
                result = run(x, weight, activation="relu", cut=cut, **flags)
                assert_rounded(result, exact_norm(x, weight, activation="relu", **flags), dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_residual_of_the_other_layout(layout):
    other = next(name for name in LAYOUTS if name != layout)
    x, residual = image((2, 8, 9, 12), layout=layout), image((2, 8, 9, 12), layout=other, seed=2)
    assert_rounded(run(x, residual=residual), exact_norm(x, residual=residual), x.dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_group(layout):
    for shape in ((2, 6, 15, 20), (1, 16, 24, 48)):
        x, residual = image(shape, torch.float16, layout), image(shape, torch.float16, layout, seed=1)
        weight, bias = torch.randn(shape[1]), torch.randn(shape[1])
        x[:, 0] += 5  # channels differ, so that statistics per channel would be another result
        flags = {"residual": residual, "activation": "leaky_relu", "slope": 0.2, "whole": True}
        for pad in (0, 1):
            exact = exact_norm(x, weight, bias, pad=pad, **flags)
            assert_rounded(run(x, weight, bias, pad=pad, **flags), exact, x.dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (3, 100, 1, 1), (2, 5, 2, 1), (20, 3, 2, 2), (1, 1, 1, 300)])
def test_tiny_planes(layout, shape):
    x, bias = image(shape, layout=layout), torch.randn(shape[1])
    assert_rounded(run(x, bias=bias), exact_norm(x, bias=bias), x.dtype)


def test_empty():
    for shape in ((0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)):
        assert run(torch.empty(shape)).shape == shape


def test_slices_and_expanded_images():
    wide = image((4, 6, 10, 12))
    for x in (wide[::2], wide[:, 1:4], wide[..., 2:9], wide[:, :, ::2], wide[:1].expand(3, -1, -1, -1)):
        assert_rounded(launch(x, None, None, None, NormSpec()), exact_norm(x), x.dtype)
    last = image((4, 6, 10, 12), layout="channels_last")
    for x in (last[1::2], last[:, :4], last[..., 3:]):
        assert_rounded(launch(x, None, None, None, NormSpec()), exact_norm(x), x.dtype)


def test_the_same_bits_every_time():
    x = image((1, 2, 33, 67), torch.float16)
    first, second = (run(x, cut=cut_for("planes", "split", x.shape)) for _ in range(2))
    assert torch.equal(first, second)


def test_defaults_for_large_planes_cover_every_pixel():
    """For shapes that the interpreter is too slow to run."""
    sides = [(1, 1), (1, 5), (64, 64), (128, 256), (256, 256), (1080, 1920), (16384, 16384)]
    for samples, channels, (height, width), itemsize, sms in itertools.product(
        (1, 32), (1, 3, 64, 1024), sides, (2, 4), (46, 132)
    ):
        shape, size = (samples, channels, height, width), height * width
        for pad, whole in ((0, False), (1, False), (0, True)):
            rows, indexed = height + 2 * pad, pad > 0
            flags = {"indexed": indexed, "whole": whole}
            cut = InstanceNormConfig.of_planes(shape, pad, sms, **flags)
            if cut.kernel == "resident":
                assert not indexed
                assert not whole
                assert size <= cut.block <= 16384
            elif cut.kernel == "split":
                length = size * channels if whole else size
                assert (cut.parts - 1) * cut.chunk < length <= cut.parts * cut.chunk
                assert cut.chunk % cut.block == 0
                covered = cut.out_parts * cut.out_blocks
                assert covered >= rows if indexed else covered * cut.out_block >= size
            else:
                assert not whole
            last = InstanceNormConfig.of_pixels(shape, pad, itemsize, sms, **flags)
            if last.kernel == "resident":
                assert last.block >= size
            else:
                assert last.chunk % last.block == 0
                assert (last.parts - 1) * last.chunk < size <= last.parts * last.chunk
                assert last.out_parts * last.out_blocks * last.out_block >= rows * (width + 2 * pad)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_launch_as_it_is_cut_by_default(dtype):
    """Two images of three groups of channels, with every part, and pixels that no number of threads divides."""
    shape = (2, 48, 33, 67)
    cut = InstanceNormConfig.alone_pixels(shape, dtype.itemsize, 4)
    assert cut.kernel == "alone"
    x, residual = (image(shape, dtype, "channels_last", kind="outlier", seed=seed) for seed in (0, 1))
    affine = torch.randn(48), torch.randn(48)
    for pad in (0, 1):
        flags = {"residual": residual, "activation": "leaky_relu", "slope": 0.2, "pad": pad}
        assert_rounded(run(x, *affine, cut=cut, **flags), exact_norm(x, *affine, **flags), dtype)


def test_which_shapes_are_cut_for_one_launch():
    """On an H200: whole sectors of every pixel, planes beyond the registers, slices that the caches hold."""
    for shape in ((1, 256, 64, 64), (8, 256, 64, 64), (32, 256, 64, 64), (8, 128, 128, 128), (8, 256, 50, 41)):
        cut = InstanceNormConfig.alone_pixels(shape, 2, 132)
        assert (cut.kernel, cut.rows) == ("alone", 16)
    for shape in ((8, 24, 64, 64), (8, 256, 32, 32), (8, 64, 256, 256), (1, 64, 256, 256), (1, 256, 270, 480)):
        assert InstanceNormConfig.alone_pixels(shape, 2, 132) is None
    assert InstanceNormConfig.alone_pixels((8, 24, 64, 64), 4, 132).rows == 8


def test_many_parts_are_merged_once(monkeypatch):
    monkeypatch.setattr("gankit_kernels.on_cuda.instance_norm.MERGED_BY_ALL", 2)
    for shape in ((2, 18, 24, 33), (1, 3, 37, 31)):
        x = image(shape, torch.float16, "channels_last", kind="outlier")
        cut = cut_for("channels_last", "split", shape)
        assert cut.parts > 2
        assert_rounded(run(x, cut=cut), exact_norm(x), x.dtype)


@pytest.mark.parametrize("sms", [1, 4, 132])
def test_borders_of_every_kernel(monkeypatch, sms):
    """Few planes are split, and enough of them run alone; their sides are, and are not, multiples of a block."""
    monkeypatch.setattr("gankit_kernels.on_cuda.instance_norm.processors", lambda device: sms)
    for shape, pad in (((1, 2, 70, 31), 1), ((2, 2, 30, 62), 1), ((1, 3, 9, 100), 3), ((2, 1, 65, 3), 2)):
        x, residual = image(shape, torch.float16), image(shape, torch.float16, seed=1)
        flags = {"pad": pad, "residual": residual, "activation": "relu"}
        assert_rounded(run(x, **flags), exact_norm(x, **flags), x.dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_candidate_of_tuning(layout):
    x = image((1, 4, 24, 28), torch.float16, layout)
    for config in candidates(x):
        assert_rounded(run(x, cut=config), exact_norm(x), x.dtype)


def test_a_configuration_of_another_shape():
    """It is refused, because it would skip values; one whose kernel cannot serve the call gives way to the default."""
    cut = cut_for("planes", "split", (1, 2, 24, 28))
    for x in (image((1, 2, 48, 28)), image((1, 20, 48, 28), layout="channels_last")):
        with pytest.raises(ValueError, match="config is cut for another shape than"):
            run(x, cut=cut)
    with pytest.raises(ValueError, match="another shape"):
        run(image((1, 2, 24, 28)), cut=InstanceNormConfig("resident", 1, 256, 4))
    x = image((1, 20, 12, 14), layout="channels_last")
    assert_rounded(run(x, cut=InstanceNormConfig("alone", 1, 64, 2)), exact_norm(x), x.dtype)
    assert_rounded(run(x, pad=1, cut=InstanceNormConfig("resident", 16, 256, 4)), exact_norm(x, pad=1), x.dtype)
