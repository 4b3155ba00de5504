"""What photographs go through: real JPEGs, Gaussian blur, noise, and borders that are those of a larger image."""

import functools
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from gankit.datasets.conditions import jpeg
from gankit.datasets.degradations import PHOTO, Degradation, Degrader, turned, unturned
from gankit.datasets.patches import SuperResolutionPatches
from gankit.datasets.reduction import reduce
from gankit.evaluation.metrics import psnr
from gankit.images import decode

NOTHING = Degradation(clean=0, blur=(1e-3, 1e-3), noise=(0, 0), quality=(100, 100), subsampled=0, again=0)
SIDE = 48


@pytest.fixture(scope="module")
def photo(data):
    """The reduction of a Kodak image, (H, W, 3) uint8."""
    return reduce(decode(data / "kodak24" / "01.png").pixels, 4)[1]


@functools.cache
def degrader_of(options):
    return Degrader(options)


def drawn(options, index=0):
    degrader = degrader_of(options)
    return degrader, degrader.draw(np.random.default_rng(index), SIDE)


def whole(photo, options, index=0):
    """A patch from the middle of a photograph, degraded; the patch as it was; where it lies."""
    degrader, draw = drawn(options, index)
    top, bottom, left, right = draw.margins
    y, x = 40, 70
    planes = photo.transpose(2, 0, 1)
    region = planes[:, y - top : y + SIDE + bottom, x - left : x + SIDE + right]
    assert region.shape[1:] == (SIDE + top + bottom, SIDE + left + right)
    result = degrader.apply(region, draw.margins, draw)
    assert result.shape == (3, SIDE, SIDE)
    assert result.dtype == np.uint8
    return result.transpose(1, 2, 0), photo[y : y + SIDE, x : x + SIDE], draw


def by_pillow(pixels, quality, subsampling):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(buffer))


@pytest.mark.parametrize("subsampled", [0.0, 1.0])
@pytest.mark.parametrize("quality", [50, 90])
def test_a_patch_has_the_psnr_of_pillows_jpeg_of_the_whole_photo(photo, quality, subsampled):
    options = replace(NOTHING, quality=(quality, quality), subsampled=subsampled)
    stored = by_pillow(photo, quality, 2 if subsampled else 0)
    ours, theirs = [], []
    for index in range(12):
        result, patch, _ = whole(photo, options, index)
        ours.append(psnr(result, patch))
        theirs.append(psnr(stored[40 : 40 + SIDE, 70 : 70 + SIDE], patch))
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=0.35)  # other places of the grid


@pytest.mark.parametrize("subsampled", [False, True])
def test_the_border_of_a_patch_is_that_of_a_larger_jpeg(photo, subsampled):
    """Where the grid of the whole photograph lies as the patch's does, the pixels are the same, to the last row."""
    options = replace(NOTHING, quality=(60, 60), subsampled=float(subsampled))
    for index in range(20):
        result, _, draw = whole(photo, options, index)
        (top, _, left, _), (y, x) = draw.windows[0], (40, 70)
        shifted = photo[(y - top) % 16 :, (x - left) % 16 :]
        stored = jpeg(np.ascontiguousarray(shifted), 60, subsampled=subsampled)
        wanted = stored[y - (y - top) % 16 :, x - (x - left) % 16 :][:SIDE, :SIDE]
        assert np.array_equal(result, wanted)


def test_the_grid_of_the_jpeg_lies_anywhere(photo):
    places = {tuple(side % 8 for side in drawn(NOTHING, index)[1].windows[0][::2]) for index in range(600)}
    assert len(places) == 64


@pytest.mark.parametrize("deviation", [0.2, 0.5, 0.8, 1.2])
def test_blur_is_scipys(photo, deviation):
    result, _, _ = whole(photo, replace(NOTHING, blur=(deviation, deviation)))
    wanted = ndimage.gaussian_filter(photo.astype(np.float64), (deviation, deviation, 0), truncate=5)
    wanted = wanted[40 : 40 + SIDE, 70 : 70 + SIDE]
    assert np.abs(result - wanted).max() <= 5  # JPEG at 100 without subsampling rounds twice more
    assert np.abs(result - wanted).mean() < 0.7
    assert abs((result - wanted).mean()) < 0.1


def test_blur_at_the_end_of_the_photo_keeps_its_brightness():
    degrader, draw = drawn(replace(NOTHING, blur=(1.2, 1.2)))
    flat = np.full((3, SIDE, SIDE), 77, np.uint8)
    assert np.array_equal(degrader.apply(flat, (0, 0, 0, 0), draw), flat)


@pytest.mark.parametrize(("share", "level"), [(0.0, 60), (0.0, 190), (1.0, 60), (1.0, 190)])
def test_noise_has_the_deviation_that_was_asked_for(share, level):
    """Gaussian noise has the same everywhere, the photons' that of the square root of the value."""
    degrader, draw = drawn(NOTHING)
    draw = replace(draw, gaussian=6.0 * (1 - share), shot=6.0 * share, gray=False)
    flat = np.full((3, 200, 200), level, np.float32)
    degrader._add_noise(flat, draw)
    wanted = 6 * np.sqrt(level / 128) if share else 6
    assert flat.std() == pytest.approx(wanted, rel=0.02)
    assert flat.mean() == pytest.approx(level, abs=0.1)
    colours = np.corrcoef(flat.reshape(3, -1))
    assert np.abs(colours - np.eye(3)).max() < 0.03


def test_gray_noise_is_the_same_in_all_colours():
    degrader, draw = drawn(NOTHING)
    flat = np.full((3, 64, 64), 100, np.float32)
    degrader._add_noise(flat, replace(draw, gaussian=5.0, gray=True))
    assert flat.std() > 4
    assert np.array_equal(flat[0], flat[1])
    assert np.array_equal(flat[0], flat[2])


def test_shares_and_ranges():
    draws = [drawn(PHOTO, index)[1] for index in range(4000)]
    made = [each for each in draws if each]
    assert 1 - len(made) / len(draws) == pytest.approx(0.3, abs=0.025)
    assert np.mean([len(each.jpegs) == 2 for each in made]) == pytest.approx(0.2, abs=0.025)
    assert np.mean([each.jpegs[0][1] for each in made]) == pytest.approx(0.5, abs=0.03)
    assert {each.jpegs[0][0] for each in made} == set(range(50, 96))
    assert {each.jpegs[1][0] for each in made if len(each.jpegs) > 1} == set(range(70, 96))
    blurs = [each.blur for each in made]
    assert (min(blurs), max(blurs)) == (pytest.approx(0.2, abs=0.01), pytest.approx(1.2, abs=0.01))
    noises = [np.hypot(each.gaussian, each.shot) for each in made]
    assert (min(noises), max(noises)) == (pytest.approx(0, abs=0.1), pytest.approx(8, abs=0.1))


def test_a_second_resize_and_jpeg_soften_the_patch_and_keep_its_place(photo):
    options = replace(NOTHING, again=1.0, factor=(0.7, 0.7), second_quality=(95, 95))
    for index in range(6):
        result, patch, draw = whole(photo, options, index)
        assert len(draw.jpegs) == 2
        there = psnr(result, patch, border=1)
        assert there > 24
        assert there > psnr(np.roll(result, 1, axis=0), patch, border=1)
        assert there > psnr(np.roll(result, 1, axis=1), patch, border=1)
        assert np.abs(np.diff(result.astype(int), axis=0)).mean() < np.abs(np.diff(patch.astype(int), axis=0)).mean()


def test_margins_follow_the_region():
    image = np.arange(7 * 9).reshape(7, 9)
    margins = (1, 2, 3, 4)
    inner = image[1:-2, 3:-4]
    for mirror in (False, True):
        for turns in range(4):
            there = np.rot90(image[:, ::-1] if mirror else image, turns)
            top, bottom, left, right = after = turned(margins, turns, mirror=mirror)
            found = there[top : there.shape[0] - bottom, left : there.shape[1] - right]
            assert np.array_equal(found, np.rot90(inner[:, ::-1] if mirror else inner, turns))
            assert unturned(after, turns, mirror=mirror) == margins


@pytest.fixture(scope="module")
def pair(photo):
    made = {"scale": 2, "patch": 24, "synthetic": 0, "reductions": (1.0, 0.7), "seed": 4}
    return tuple(SuperResolutionPatches([photo], **made, degradation=each) for each in (None, PHOTO))


def test_patches_are_those_of_a_clean_run_but_for_the_low_side(pair):
    clean, degraded = pair
    same = 0
    for index in range(60):
        (low, high), (worse, target) = clean[index], degraded[index]
        assert torch.equal(high, target)
        assert worse.shape == low.shape
        assert worse.dtype == torch.uint8
        same += torch.equal(low, worse)
        a, b = (each.permute(1, 2, 0).numpy() for each in (low, worse))
        assert torch.equal(low, worse) or psnr(a, b) > 18
    assert 8 <= same <= 30  # 30 % of 60


def test_degraded_items_depend_on_seed_and_index_alone(photo, pair):
    again = SuperResolutionPatches(
        [photo], scale=2, patch=24, synthetic=0, reductions=(1.0, 0.7), seed=4, degradation=PHOTO
    )
    backwards = [again[index] for index in reversed(range(20))][::-1]
    assert all(torch.equal(pair[1][index][0], backwards[index][0]) for index in range(20))


def test_an_image_that_is_no_larger_than_a_patch_can_be_degraded():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    patches = SuperResolutionPatches(
        [image], scale=2, patch=16, synthetic=0, reductions=(1.0,), degradation=replace(PHOTO, clean=0, again=0.5)
    )
    for index in range(40):
        low, _ = patches[index]
        assert low.shape == (3, 16, 16)
