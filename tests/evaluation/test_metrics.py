import math

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gankit.evaluation import luma, psnr, psnr_y, ssim_y
from gankit.evaluation.metrics import gray


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    """An image with structure and a noisy copy of it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:61, 0:83]
    waves = np.stack([np.sin(x / 5) + np.cos(y / 7), np.sin((x + y) / 9), np.cos(x * y / 400)], axis=-1)
    target = np.clip(128 + 60 * waves, 0, 255).astype(np.uint8)
    result = np.clip(target + rng.normal(0, 8, target.shape), 0, 255).astype(np.uint8)
    return result, target


def test_luma_is_matlabs(images):
    np.testing.assert_allclose(luma(images[0]), rgb2ycbcr(images[0])[..., 0], atol=1e-9)


@pytest.mark.parametrize(
    ("rgb", "y"), [((0, 0, 0), 16.0), ((255, 255, 255), 235.0), ((255, 0, 0), 81.481), ((0, 255, 0), 144.553)]
)
def test_luma_of_known_colours(rgb, y):
    assert luma(np.array([[rgb]], dtype=np.uint8))[0, 0] == pytest.approx(y, abs=1e-9)


def test_gray_is_the_full_range_luma(images):
    """Pillow's conversion is the same standard, computed in whole numbers."""
    made = gray(images[0])
    assert made.dtype == np.uint8
    assert np.abs(made.astype(int) - np.asarray(Image.fromarray(images[0]).convert("L"))).max() <= 1
    known = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert gray(known).tolist() == [[0, 255, 76, 150, 29]]


@pytest.mark.parametrize("border", [0, 4])
def test_psnr_agrees_with_skimage(images, border):
    result, target = images
    inner = (slice(border, -border or None),) * 2
    assert psnr(result, target, border) == pytest.approx(peak_signal_noise_ratio(target[inner], result[inner]))
    y_result, y_target = rgb2ycbcr(result)[inner][..., 0], rgb2ycbcr(target)[inner][..., 0]
    expected = peak_signal_noise_ratio(y_target, y_result, data_range=255)
    assert psnr_y(result, target, border) == pytest.approx(expected)


@pytest.mark.parametrize("border", [0, 4])
def test_ssim_agrees_with_skimage(images, border):
    result, target = images
    inner = (slice(border, -border or None),) * 2
    expected = structural_similarity(
        rgb2ycbcr(target)[inner][..., 0],
        rgb2ycbcr(result)[inner][..., 0],
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert 0.2 < expected < 0.99
    assert ssim_y(result, target, border) == pytest.approx(expected, abs=1e-9)


def test_psnr_of_a_constant_offset_has_a_closed_form():
    target = np.full((20, 20, 3), 100, np.uint8)
    result = target + np.uint8(10)
    assert psnr(result, target) == pytest.approx(20 * math.log10(255 / 10))
    assert psnr_y(result, target) == pytest.approx(20 * math.log10(255 / (10 * 219 / 255)))


def test_equal_images(images):
    target = images[1]
    assert psnr(target, target) == math.inf
    assert psnr_y(target, target) == math.inf
    assert ssim_y(target, target) == pytest.approx(1.0)


def test_the_border_is_not_measured(images):
    target = images[1]
    result = target.copy()
    result[:4] = 0
    result[:, -4:] = 255
    assert psnr_y(result, target, 4) == math.inf
    assert psnr_y(result, target, 3) < 40


@pytest.mark.parametrize("metric", [psnr, psnr_y, ssim_y])
@pytest.mark.parametrize(
    ("change", "border", "words"),
    [
        (lambda p: p[:-1], 0, "shapes differ"),
        (lambda p: p.astype(np.float32), 0, "uint8"),
        (lambda p: p[..., 0], 0, r"\(H, W, 3\)"),
        (lambda p: p[..., :1], 0, r"\(H, W, 3\)"),
        (lambda p: p, -1, "negative"),
        (lambda p: p, 31, "leaves nothing"),
    ],
)
def test_wrong_input_is_refused(images, metric, change, border, words):
    result, target = images
    with pytest.raises(ValueError, match=words):
        metric(change(result), target, border)


def test_ssim_needs_its_window(images):
    result, target = images
    with pytest.raises(ValueError, match="11×11"):
        ssim_y(result, target, border=26)
