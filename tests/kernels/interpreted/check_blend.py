"""Blended tiles against float64."""

import pytest
import torch
from gankit_kernels.on_cuda.blend import launch

from tests.kernels.cases import DTYPES, assert_rounded


def exact(tiles, tops, lefts, height, width, ramp):
    """Weighted tiles added up and divided by the sum of the weights, pixel by pixel of every tile."""
    _, channels, h, w = tiles.shape
    total, weight = torch.zeros(channels, height, width, dtype=torch.float64), torch.zeros(height, width)
    weight = weight.double()
    for number, tile in enumerate(tiles.double()):
        top, left = tops[number // len(lefts)], lefts[number % len(lefts)]
        for row in range(h):
            for column in range(w):
                here = min(row + 1, h - row, ramp) * min(column + 1, w - column, ramp)
                total[:, top + row, left + column] += here * tile[:, row, column]
                weight[top + row, left + column] += here
    return total / weight


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_blend(dtype, layout):
    tops, lefts = (0, 5, 9), (0, 6, 8, 11)
    tiles = torch.randn(12, 3, 8, 9).to(dtype).contiguous(memory_format=layout)
    for ramp in (1, 3, 100):
        result = launch(tiles, tops, lefts, 17, 20, ramp)
        assert_rounded(result, exact(tiles, tops, lefts, 17, 20, ramp), dtype)
        assert torch.equal(result, launch(tiles, tops, lefts, 17, 20, ramp))


def test_one_tile_and_touching_tiles_are_copied():
    tile = torch.randn(1, 3, 7, 600)
    assert torch.equal(launch(tile, (0,), (0,), 7, 600, 4), tile[0])
    tiles = torch.randn(2, 1, 4, 4)
    assert torch.equal(launch(tiles, (0, 4), (0,), 8, 4, 1), tiles.reshape(1, 8, 4))


def test_no_channels():
    assert launch(torch.empty(1, 0, 4, 4), (0,), (0,), 4, 4, 1).shape == (0, 4, 4)
