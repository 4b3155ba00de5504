"""The layout of sample grids."""

import numpy as np
import pytest

from gankit.images.grid import GridLayout, grid


def plain(height, width, level, channels=3):
    return np.full((height, width, channels), level, np.uint8)


def test_equal_images():
    layout = GridLayout.of_equal(5, (3, 4), 2, gap=1)
    assert layout.shape == (3 * 3 + 2, 2 * 4 + 1)
    assert [layout.corner(index) for index in range(5)] == [(0, 0), (0, 5), (4, 0), (4, 5), (8, 0)]
    assert GridLayout.of_equal(1, (3, 4), 3).shape == (3, 3 * 4 + 2 * 2)
    for count, columns in ((0, 2), (3, 0)):
        with pytest.raises(ValueError, match="at least one image"):
            GridLayout.of_equal(count, (3, 4), columns)


def test_rows_are_as_high_and_columns_as_wide_as_their_largest_image():
    made = grid([[plain(4, 6, 100), plain(2, 3, 50, 1)], [plain(5, 2, 10)]], gap=2)
    assert made.shape == (4 + 2 + 5, 6 + 2 + 3, 3)
    assert made.dtype == np.uint8
    wanted = np.full_like(made, 255)
    wanted[:4, :6], wanted[:2, 8:11], wanted[6:11, :2] = 100, 50, 10
    assert np.array_equal(made, wanted)


def test_one_column_keeps_every_images_height():
    made = grid([[plain(3, 5, 1)], [plain(1, 2, 2)]], gap=6)
    assert made.shape == (3 + 6 + 1, 5, 3)
    assert (made[9, :2] == 2).all()
    assert (made[9, 2:] == 255).all()


@pytest.mark.parametrize("rows", [[], [[]]])
def test_no_images(rows):
    with pytest.raises(ValueError, match="at least one image"):
        grid(rows)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2), (3, 4, 4)])
def test_images_that_are_neither_gray_nor_rgb(shape):
    with pytest.raises(ValueError, match="needs 1 or 3 channels"):
        grid([[np.zeros(shape, np.uint8)]])
