import numpy as np
import pytest

from gankit.evaluation import Panel, bicubic, compare_upscalers, side_by_side


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8)


def holds(sample_grid, part: np.ndarray) -> bool:
    """Whether ``part`` stands somewhere in the sample grid, pixel for pixel."""
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(sample_grid), part.shape)[:, :, 0]
    corners = np.argwhere((windows[..., 0, 0, :] == part[0, 0]).all(-1))
    return any((windows[y, x] == part).all() for y, x in corners)


def test_pixels_are_one_to_one(image):
    sample_grid = side_by_side([Panel("a", image), Panel("b", 255 - image)], crop=(10, 20, 50, 40))
    assert holds(sample_grid, image[20:60, 10:60])
    assert holds(sample_grid, 255 - image[20:60, 10:60])
    assert sample_grid.size == (50 + 50 + 6, 40 + 22)


def test_the_default_crop_is_the_middle():
    image = np.random.default_rng(0).integers(0, 256, (300, 250, 3), np.uint8)
    assert holds(side_by_side([Panel("a", image)]), image[30:270, 5:245])


def test_small_images_are_shown_whole(image):
    assert holds(side_by_side([Panel("a", image)]), image)


def test_a_long_label_is_not_cut(image):
    assert side_by_side([Panel("a very long label " * 4, image)], crop=(0, 0, 20, 20)).width > 300


def test_order_and_labels_of_a_comparison():
    small = np.random.default_rng(1).integers(0, 256, (20, 20, 3), np.uint8)
    truth = bicubic(4)(small)
    sample_grid = compare_upscalers(
        small, {"black": lambda lr: np.zeros((80, 80, 3), np.uint8)}, 4, truth, (8, 8, 64, 64)
    )
    nearest = small.repeat(4, 0).repeat(4, 1)[8:72, 8:72]
    parts = [nearest, truth[8:72, 8:72], np.zeros((64, 64, 3), np.uint8), truth[8:72, 8:72]]
    pixels, lefts = np.asarray(sample_grid)[22:], []
    for part in parts:
        start = lefts[-1] + 64 if lefts else 0
        lefts.append(
            next(x for x in range(start, sample_grid.width - 63) if np.array_equal(pixels[:, x : x + 64], part))
        )
    assert lefts[0] == 0
    assert (np.asarray(sample_grid)[:22] < 128).any(), "no label is drawn"


@pytest.mark.parametrize("crop", [(-1, 0, 10, 10), (0, 0, 121, 10), (0, 95, 10, 6), (0, 0, 0, 10)])
def test_a_crop_outside_is_refused(image, crop):
    with pytest.raises(ValueError, match="not inside an image of 120×100"):
        side_by_side([Panel("a", image)], crop)


def test_images_of_different_sizes_are_refused(image):
    with pytest.raises(ValueError, match="different sizes"):
        side_by_side([Panel("a", image), Panel("b", image[:-1])])


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        side_by_side([])
