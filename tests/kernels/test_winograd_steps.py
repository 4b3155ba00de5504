"""Convolutions that halve or double an image by Winograd's algorithm, against torch in float64."""

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("llvmlite")

from gankit_kernels.on_cpu import llvm, tiling, transforms
from gankit_kernels.winograd_steps import Doubling, Halving, suits

LANES = llvm.lanes()


def exact(kind, x, weight, bias=None, slopes=None):
    x, weight, bias = (None if values is None else values.double() for values in (x, weight, bias))
    if kind is Halving:
        y = F.conv2d(x, weight, bias, stride=2, padding=1)
    else:
        y = F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=4 - weight.shape[3])
    return y if slopes is None else torch.where(y < 0, y * slopes.double().view(1, -1, 1, 1), y)


def made(kind, channels, results, kernel, seed=0):
    """Weight, bias and slopes."""
    random = torch.Generator().manual_seed(seed)
    shape = (results, channels) if kind is Halving else (channels, results)
    weight = torch.randn(*shape, kernel, kernel, generator=random)
    return weight, torch.randn(results, generator=random), torch.rand(results, generator=random)


def check(y, wanted):
    assert y.dtype == torch.float32
    assert y.shape == wanted.shape
    assert (y - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.fixture(params=transforms.TILES[2])
def tile(request, monkeypatch):
    """Tiles of each size, whatever pays."""
    monkeypatch.setattr(tiling, "tile_of", lambda *sizes: request.param)
    return request.param


@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("kind", [Halving, Doubling])
@pytest.mark.parametrize("size", [(2, 2), (1, 7), (3, 2), (5, 9), (16, 16), (13, 22), (2, 70)])
def test_every_size(kind, size, kernel, tile):
    weight, bias, _ = made(kind, 2 * LANES, LANES, kernel)
    if kind is Halving and kernel == 4 and 1 in size:
        with pytest.raises(ValueError, match="1×7 pixels are too few for a 4×4 kernel"):
            Halving(weight)(torch.zeros(1, 2 * LANES, *size))
        return
    x = torch.randn(3, 2 * LANES, *size)
    y = kind(weight, bias)(x)
    check(y, exact(kind, x, weight, bias))
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", [Halving, Doubling])
@pytest.mark.parametrize("channels", [1, 3, 16])
@pytest.mark.parametrize("results", [1, 2, 3, 16])
def test_numbers_of_channels(kind, channels, results):
    weight, bias, slopes = made(kind, channels * LANES, results * LANES, 4)
    x = torch.randn(2, channels * LANES, 14, 18)
    check(kind(weight, bias, slopes)(x, threads=2), exact(kind, x, weight, bias, slopes))


@pytest.mark.parametrize("results", [LANES // 2, LANES // 4, 3 * LANES // 4])
@pytest.mark.parametrize("kernel", [3, 4])
def test_results_that_do_not_fill_registers(results, kernel):
    weight, bias, slopes = made(Doubling, LANES, results, kernel)
    x = torch.randn(2, LANES, 11, 6)
    check(Doubling(weight, bias, slopes)(x, threads=2), exact(Doubling, x, weight, bias, slopes))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("kind", [Halving, Doubling])
def test_images_share_threads_and_tiles(kind, count, threads):
    weight, bias, slopes = made(kind, LANES, LANES, 4)
    x = torch.randn(count, LANES, 8, 8)
    check(kind(weight, bias, slopes)(x, threads), exact(kind, x, weight, bias, slopes))


def test_weights_that_come_from_memory():
    """So many that they are fetched ahead, and that the tiles are computed in several turns."""
    weight, bias, _ = made(Halving, 32 * LANES, 16 * LANES, 4)
    x = torch.randn(1, 32 * LANES, 72, 60)
    check(Halving(weight, bias)(x, 2), exact(Halving, x, weight, bias))
    weight, bias, _ = made(Doubling, 32 * LANES, 32 * LANES, 4)
    x = torch.randn(1, 32 * LANES, 32, 34)
    check(Doubling(weight, bias)(x, 2), exact(Doubling, x, weight, bias))


@pytest.mark.parametrize("layout", ["planes", "rows", "columns"])
@pytest.mark.parametrize("kind", [Halving, Doubling])
def test_layouts(kind, layout):
    weight, bias, _ = made(kind, LANES, LANES, 4)
    last = torch.channels_last
    x = {
        "planes": torch.randn(1, LANES, 8, 8),
        "rows": torch.randn(1, LANES, 20, 8).contiguous(memory_format=last)[:, :, 3:11],
        "columns": torch.randn(1, LANES, 8, 20).contiguous(memory_format=last)[:, :, :, 3:11],
    }[layout]
    check(kind(weight, bias)(x), exact(kind, x, weight, bias))


@pytest.mark.parametrize("kind", [Halving, Doubling])
def test_what_is_not_finite_stays_visible(kind):
    """Where a direct convolution would show it, at least; at most so far as a tile reaches."""
    weight, _, _ = made(kind, LANES, LANES, 4)
    x = torch.zeros(1, LANES, 48, 48)
    x[0, 0, 24, 24] = torch.nan
    y, seen = kind(weight)(x), exact(kind, x, weight).isnan()
    assert y[seen].isnan().all()
    assert y[:, :, : y.shape[2] // 4].isfinite().all()


def test_what_suits():
    assert suits(LANES, LANES, doubles=False)
    assert not suits(LANES + 1, LANES, doubles=True)
    assert not suits(LANES, LANES // 2, doubles=False)
    assert suits(LANES, LANES // 2, doubles=True)
    assert suits(LANES, 1, doubles=True) == (LANES < 16)  # four of them in a register of sixteen leave too many empty


def test_small_images_do_not_pay():
    few, many = torch.zeros(1, LANES, 8, 8), torch.zeros(64, LANES, 8, 8)
    assert [Halving(made(Halving, LANES, LANES, 4)[0]).pays(x) for x in (few, many)] == [False, True]
    assert [Doubling(made(Doubling, LANES, LANES, 4)[0]).pays(x) for x in (few[:, :, :6], many)] == [False, True]


@pytest.mark.parametrize("kind", [Halving, Doubling])
def test_what_does_not_fit_is_refused(kind):
    weight, bias, _ = made(kind, LANES, LANES, 4)
    for given in ((weight[..., :2],), (torch.zeros(LANES, LANES, 5, 5),), (weight[0],)):
        with pytest.raises(ValueError, match="weight must be"):
            kind(*given)
    with pytest.raises(ValueError, match="bias must be"):
        kind(weight, bias[1:])
    with pytest.raises(TypeError, match="weight must be float32"):
        kind(weight.double())
    with pytest.raises(ValueError, match="x must be"):
        kind(weight)(torch.zeros(1, 2 * LANES, 8, 8))
    with pytest.raises(TypeError, match="x must be float32"):
        kind(weight)(torch.zeros(1, LANES, 8, 8).double())
