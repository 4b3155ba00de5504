"""The blending kernel against float64."""

import pytest
import torch
from gankit_kernels.blend import BlendSpec
from gankit_kernels.on_cuda.blend import launch

from tests.kernels.cases import DTYPES, LAYOUTS, assert_rounded


def exact(tiles, tops, lefts, height, width, ramp):
    """Add up the weighted tiles pixel by pixel and divide by the sum of the weights."""
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


@pytest.mark.parametrize(
    ("dtype", "layout", "ramp"),
    [(DTYPES[0], "planes", 1), (DTYPES[0], "channels_last", 100), (DTYPES[1], "planes", 3), (DTYPES[2], "planes", 2)],
)
def test_blend(dtype, layout, ramp):
    """The last column of tiles is moved back into the image, so that three tiles overlap."""
    tops, lefts = (0, 3), (0, 4, 5)
    tiles = torch.randn(6, 2, 5, 6).to(dtype).contiguous(memory_format=LAYOUTS[layout])
    result = launch(tiles, BlendSpec(tops, lefts, 8, 11, ramp))
    assert_rounded(result, exact(tiles, tops, lefts, 8, 11, ramp), dtype)
    assert torch.equal(result, launch(tiles, BlendSpec(tops, lefts, 8, 11, ramp)))


def test_one_tile_and_touching_tiles_are_copied():
    tile = torch.randn(1, 1, 2, 600)
    assert torch.equal(launch(tile, BlendSpec((0,), (0,), 2, 600, 4)), tile[0])
    tiles = torch.randn(2, 1, 4, 4)
    assert torch.equal(launch(tiles, BlendSpec((0, 4), (0,), 8, 4, 1)), tiles.reshape(1, 8, 4))


def test_no_channels():
    assert launch(torch.empty(1, 0, 4, 4), BlendSpec((0,), (0,), 4, 4, 1)).shape == (0, 4, 4)
