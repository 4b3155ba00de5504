"""PixelShuffle's kernels with every factor, layout, order and flag, against float64."""

import pytest
import torch
from gankit_kernels import to_crd, to_dcr
from gankit_kernels.on_cuda.pixel_shuffle import PixelShuffleConfig, launch
from gankit_kernels.pixel_shuffle import ShuffleSpec

from tests.kernels.cases import DTYPES, LAYOUTS, assert_rounded, exact_shuffle, image, same_layout


def run(x, r, bias=None, prelu=None, activation="none", slope=0.01, dcr=False):
    result = launch(x, bias, prelu, ShuffleSpec(r, activation, slope, dcr))
    assert same_layout(result, x)
    return result


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("r", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dcr", [False, True])
def test_every_factor_and_order(layout, r, dcr):
    for samples, channels, height, width in ((1, 3, 3, 5), (2, 8, 2, 12)):
        shape = (samples, channels * r * r, height, width)
        for dtype in DTYPES if r == 2 else (torch.float16,):
            x, bias = image(shape, dtype, layout), torch.randn(shape[1])
            for prelu in (torch.tensor([0.25]), torch.rand(channels))[: 2 if r == 2 else 1]:
                assert_rounded(run(x, r, bias, prelu, dcr=dcr), exact_shuffle(x, r, bias, prelu, dcr=dcr), dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", ["none", "relu", "leaky_relu", "tanh"])
def test_activations(layout, activation):
    x = image((1, 32, 6, 9), layout=layout)
    for dcr in (False, True):
        result = run(x, 2, None, None, activation, 0.2, dcr)
        assert_rounded(result, exact_shuffle(x, 2, None, None, activation, 0.2, dcr), x.dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_shuffle_alone_moves_bits(layout):
    x = image((1, 32, 3, 12), torch.float16, layout)
    assert torch.equal(run(x, 2), torch.nn.functional.pixel_shuffle(x, 2))
    assert torch.equal(run(x, 4), torch.nn.functional.pixel_shuffle(x, 4))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_several_blocks_along_every_axis(layout):
    shape = (1, 4 * 2, 9, 130) if layout == "planes" else (1, 4 * 72, 3, 20)
    x = image(shape, torch.float16, layout)
    for dcr in (False, True):
        assert_rounded(run(x, 2, dcr=dcr), exact_shuffle(x, 2, dcr=dcr), x.dtype)


def test_nan_is_not_hidden():
    x = image((1, 16, 4, 4))
    x[0, 3, 1, 1] = torch.nan
    for layout in LAYOUTS.values():
        assert int(run(x.contiguous(memory_format=layout), 2, activation="relu").isnan().sum()) == 1


def test_orders_are_inverse():
    weight = image((36, 5, 3, 3))
    assert torch.equal(to_crd(to_dcr(weight, 3), 3), weight)
    x = image((1, 36, 4, 6), layout="channels_last")
    assert torch.equal(run(to_dcr(x.transpose(0, 1), 3).transpose(0, 1), 3, dcr=True), run(x, 3))


def test_slices_and_empty():
    wide = image((4, 16, 6, 8), torch.float16)
    for x in (wide[::2], wide[:, 4:8], wide[..., 1:6], wide.contiguous(memory_format=torch.channels_last)[:, :, 1:]):
        assert_rounded(launch(x, None, None, ShuffleSpec(2)), exact_shuffle(x, 2), x.dtype)
    assert run(torch.empty(0, 16, 4, 4), 2).shape == (0, 4, 8, 8)
    assert run(torch.empty(2, 16, 0, 4), 2).shape == (2, 4, 0, 8)


@pytest.mark.parametrize("r", [2, 3])
def test_the_first_channels_of_wider_images(r):
    """A convolution that was widened for tensor cores: its last channels are not read, and nothing is copied."""
    count = 3 * r * r
    wide = image((2, 32, 5, 7), torch.float16, "channels_last")
    x, bias = wide[:, :count], torch.randn(count)
    result = launch(x, bias, None, ShuffleSpec(r, dcr=True))
    assert_rounded(result, exact_shuffle(x, r, bias, dcr=True), x.dtype)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert_rounded(launch(x, bias, None, ShuffleSpec(r)), exact_shuffle(x, r, bias), x.dtype)
    below = wide[:, :, 1:, 1:][:, :count]  # rows that do not follow each other
    assert_rounded(launch(below, None, None, ShuffleSpec(r, dcr=True)), exact_shuffle(below, r, dcr=True), x.dtype)


def test_the_default_kernels():
    def kernel(channels, r, **flags):
        return PixelShuffleConfig.from_shape(channels, 64, r, 2, **flags).kernel

    assert kernel(64, 2, last=True, dcr=True) == "runs"
    assert kernel(64, 2, last=True, dcr=False) == "pixels"
    assert kernel(64, 4, last=False, dcr=False) == "planes"
    assert kernel(3, 2, last=True, dcr=False) == "gather"
    assert kernel(64, 3, last=False, dcr=False) == "gather"
