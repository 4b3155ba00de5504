"""Labels above images."""

import numpy as np
import pytest
from PIL import ImageFont

from gankit.images.label import _drawable, labelled


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("input, ×4 nearest", "input, x4 nearest"),
        ("Crème brûlée", "Creme brulee"),
        ("e\u0301", "e"),
        ("漢字.png", "??.png"),
        ("21 °", "21 °"),
        ("", ""),
    ],
)
def test_what_the_font_lacks_is_replaced(text, shown):
    assert _drawable(text, ImageFont.load_default(14)) == shown


def test_the_image_is_below_the_label():
    pixels = np.full((5, 7, 3), 100, np.uint8)
    cell = labelled(pixels, "×2")
    assert cell.shape[0] == 5 + 22
    assert (cell[22:, :7] == 100).all()
    assert (cell[:22] < 128).any()
    assert np.array_equal(cell, labelled(pixels, "x2"))
    assert labelled(pixels, "a long label").shape[1] > labelled(pixels, "a").shape[1]
