"""The Python side: NumPy and Pillow images in and out, and colours under transparency."""

import sys

import numpy as np
import pytest
from images_making import exif_block, pattern, profile_of, read_exif, srgb_profile
from PIL import Image, ImageOps

from gankit.errors import UsageError
from gankit.images import bleed, from_array, from_pil, to_array, to_pil
from gankit.images.alpha import flatten, unmultiply


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4)])
def test_arrays_come_back_as_they_came(dtype, shape):
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    image = from_array(array)
    assert image.pixels.shape == (5, 7, 3)
    assert image.gray == (len(shape) == 2 or shape[2] < 3)
    back = to_array(image, like=array)
    assert back.shape == shape
    assert np.array_equal(back, array)


def test_arrays_of_any_layout():
    array = pattern(dtype=np.uint16)
    for view in (array[::-1, ::2], array.transpose(1, 0, 2), array.astype(">u2"), np.asfortranarray(array)):
        image = from_array(view)
        assert image.pixels.flags.c_contiguous
        assert image.pixels.dtype.isnative
        assert np.array_equal(image.pixels, view)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 3)), np.zeros((4, 4, 3), np.int32), np.zeros(4, np.uint8), np.zeros((4, 4, 5), np.uint8),
     np.zeros((0, 4, 3), np.uint8), np.zeros((1, 4, 4, 3), np.uint8), np.zeros((4, 4), bool)],
)  # fmt: skip
def test_arrays_that_are_no_images(array):
    with pytest.raises(UsageError, match="is not an image; give"):
        from_array(array)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_pillow_images_come_back_as_they_came(mode):
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 1}[mode]
    image = Image.fromarray(pattern(channels=channels, dtype=np.uint16 if mode == "I;16" else np.uint8))
    assert image.mode == mode
    image.info["icc_profile"] = profile_of(b"GRAY") if channels < 3 else srgb_profile()
    image.info["dpi"] = (72, 72)
    back = to_pil(from_pil(image))
    assert back.mode == mode
    assert np.array_equal(np.asarray(back), np.asarray(image))
    assert back.info["icc_profile"] == image.info["icc_profile"]
    assert back.info["dpi"] == (72, 72)


@pytest.mark.parametrize("mode", ["1", "P", "PA", "La", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I"])
def test_other_pillow_modes(mode):
    pillow_image = Image.fromarray(pattern(channels=4)) if mode in ("PA", "RGBa") else Image.fromarray(pattern())
    if mode in ("PA", "La"):
        pillow_image = pillow_image.convert("LA")
    if mode == "LAB":
        from PIL import ImageCms

        lab = ImageCms.createProfile("LAB")
        pillow_image = ImageCms.profileToProfile(pillow_image, ImageCms.createProfile("sRGB"), lab, outputMode="LAB")
        want = np.asarray(Image.fromarray(pattern())).astype(int)
    else:
        pillow_image = pillow_image.convert("L").convert("I") if mode == "I" else pillow_image.convert(mode)
        final = {"1": "RGB", "I": "RGB", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}.get(mode, "RGB")
        want = np.asarray((pillow_image.convert("L") if mode == "I" else pillow_image).convert(final)).astype(int)
    image = from_pil(pillow_image)
    got = image.pixels.astype(int)
    want = np.repeat(want[..., :1], 3, -1) if want.shape[-1] == 2 else want[..., :3]
    # Eight bits of Lab are coarse in dark saturated colours; on the whole it is the same image.
    assert np.abs(got - want).max() <= (40 if mode == "LAB" else 0)
    assert np.abs(got - want).mean() < 1
    assert (image.alpha is not None) == (mode in ("PA", "La", "RGBa"))


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_pillow_transparent_colour(tmp_path, mode):
    pillow_image = Image.fromarray(pattern(channels=1)) if mode == "L" else Image.fromarray(pattern())
    pillow_image = pillow_image.quantize(16) if mode == "P" else pillow_image
    key = pillow_image.getpixel((3, 4))
    pillow_image.save(tmp_path / "a.png", transparency=key)
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.mode == mode
        image = from_pil(opened)
        want = np.asarray(opened.convert("RGBA"))
    assert np.array_equal(image.pixels, want[..., :3])
    assert np.array_equal(image.alpha, want[..., 3])
    assert image.alpha[4, 3] == 0


def test_pillow_numbers_without_a_range():
    with pytest.raises(UsageError, match="floating-point"):
        from_pil(Image.new("F", (4, 4)))
    with pytest.raises(UsageError, match="32-bit"):
        from_pil(Image.new("I", (4, 4), 70000))


def test_pillow_orientation(tmp_path):
    Image.fromarray(pattern()).save(tmp_path / "a.jpg", exif=exif_block(6))
    with Image.open(tmp_path / "a.jpg") as pillow_image:
        image = from_pil(pillow_image)
        assert np.array_equal(image.pixels, np.asarray(ImageOps.exif_transpose(pillow_image)))
        assert np.array_equal(from_pil(ImageOps.exif_transpose(pillow_image)).pixels, image.pixels)
    assert image.format == "JPEG"
    assert read_exif(to_pil(image).info["exif"])[0][0x0112] == 1


def test_16_bit_colour_for_pillow_is_rounded():
    array = pattern(channels=4, dtype=np.uint16)
    image = to_pil(from_array(array))
    assert image.mode == "RGBA"
    assert np.array_equal(np.asarray(image), np.rint(array / 257.0))


# --- transparency ---


def disc(size=64, centre=31.3, radius=20.0, dtype=np.uint8, factor=1):
    """Alpha of an antialiased disc, and whether a pixel is visible at all."""
    y, x = (np.mgrid[: size * factor, : size * factor] + 0.5) / factor
    distance = np.hypot(x - centre, y - centre)
    alpha = np.clip((radius - distance) * factor + 0.5, 0, 1)
    return np.rint(alpha * np.iinfo(dtype).max).astype(dtype)


def enlarge(samples, factor=4):
    """A stand-in for a generator: bicubic, plane by plane, in float."""
    planes = samples if samples.ndim == 3 else samples[..., None]
    size = (planes.shape[1] * factor, planes.shape[0] * factor)
    out = [
        np.asarray(Image.fromarray(planes[..., c].astype(np.float32)).resize(size, Image.Resampling.BICUBIC))
        for c in range(planes.shape[2])
    ]
    return np.stack(out, -1) if samples.ndim == 3 else out[0]


def compose(pixels, alpha, ground, top):
    share = np.clip(alpha / top, 0, 1)[..., None]
    return np.clip(pixels, 0, top) * share + ground * (1 - share)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_no_fringe(dtype):
    """A red disc on transparent black, enlarged: on white and on black as if all of it had been red."""
    top = np.iinfo(dtype).max
    alpha = disc(dtype=dtype)
    pixels = np.zeros((64, 64, 3), dtype)
    pixels[alpha > 0] = (top, top // 10, top // 10)
    red = np.full_like(pixels, (top, top // 10, top // 10))
    wide = enlarge(alpha)
    naive = fixed = 0.0
    for ground in (0, top):
        want = compose(enlarge(red), wide, ground, top)
        fixed = max(fixed, np.abs(compose(enlarge(bleed(pixels, alpha)), wide, ground, top) - want).max() / top)
        naive = max(naive, np.abs(compose(enlarge(pixels), wide, ground, top) - want).max() / top)
    assert naive > 0.05  # else this test sees nothing
    assert fixed < 0.002


def test_little_fringe_of_a_gradient():
    """Where colours vary the spread ones are near: the rim stays within a few levels of the true image."""
    alpha = disc()
    y, x = np.mgrid[:64, :64]
    whole = np.stack([3 * x, 3 * y, 255 - 3 * x], -1).astype(np.uint8)
    pixels = np.where(alpha[..., None] > 0, whole, 0).astype(np.uint8)
    wide = enlarge(alpha)
    for ground in (0, 255):
        want = compose(enlarge(whole), wide, ground, 255)
        got = compose(enlarge(bleed(pixels, alpha)), wide, ground, 255)
        assert np.abs(got - want).max() <= 6


def test_bleed_leaves_visible_pixels_alone():
    samples = pattern(channels=4)
    samples[..., 3][samples[..., 3] < 100] = 0
    pixels, alpha = samples[..., :3], samples[..., 3]
    before = pixels.copy()
    out = bleed(pixels, alpha)
    assert np.array_equal(out[alpha > 0], pixels[alpha > 0])
    assert np.array_equal(pixels, before)
    hidden = out[alpha == 0]
    assert hidden.min() >= pixels[alpha > 0].min()
    assert hidden.max() <= pixels[alpha > 0].max()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (17, 16)])
def test_bleed_from_a_single_pixel(shape):
    alpha = np.zeros(shape, np.uint8)
    pixels = np.zeros((*shape, 3), np.uint8)
    alpha[-1, -1], pixels[-1, -1] = 7, (200, 100, 50)
    assert (bleed(pixels, alpha) == (200, 100, 50)).all()


def test_bleed_with_nothing_to_do():
    pixels = pattern()
    for value in (0, 255):
        assert bleed(pixels, np.full((37, 53), value, np.uint8)) is pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_flatten_and_unmultiply_against_floats(dtype):
    top = np.iinfo(dtype).max
    pixels, alpha = pattern(dtype=dtype), pattern(channels=1, dtype=dtype, seed=5)
    share = alpha[..., None] / top
    assert np.abs(flatten(pixels, alpha) - (pixels * share + top * (1 - share))).max() <= 0.5001
    colour = np.rint(pixels * share).astype(dtype)
    want = np.where(alpha[..., None] > 0, colour / np.maximum(share, 1e-9), 0)
    assert np.abs(unmultiply(colour, alpha) - np.minimum(want, top)).max() <= 0.5001


def test_this_room_needs_no_torch():
    """Seen in a fresh interpreter: another test may have imported it here."""
    import subprocess

    code = "import gankit.images, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
