"""The sample grid: where each image stands."""

import numpy as np
import pytest

from gankit.pipeline.sample_grid import GAP, SampleGrid


@pytest.mark.parametrize(
    ("count", "columns", "rows", "across"),
    [(1, None, 1, 1), (64, None, 8, 8), (10, None, 3, 4), (7, 3, 3, 3), (2, 10, 1, 2)],
)
def test_layout(count, columns, rows, across):
    sample_grid = SampleGrid(count, (5, 8), 3, columns)
    assert sample_grid.shape == (rows * 5 + (rows - 1) * GAP, across * 8 + (across - 1) * GAP)
    for index in range(count):
        sample_grid.place(index, np.full((5, 8, 3), index, np.uint8))
    for index in range(count):
        row, column = divmod(index, across)
        top, left = row * (5 + GAP), column * (8 + GAP)
        assert (sample_grid.pixels[top : top + 5, left : left + 8] == index).all()
    white = (sample_grid.pixels == 255).all(axis=2).sum()
    assert white == sample_grid.pixels.shape[0] * sample_grid.pixels.shape[1] - count * 40
