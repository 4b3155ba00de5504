"""Patches, their reduction, and the order in which they come."""

import itertools
import logging
import os
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from gankit.datasets import ahead
from gankit.datasets.folders import fingerprint, image_files, read_images
from gankit.datasets.patches import SuperResolutionPatches, detail
from gankit.datasets.reduction import reduce
from gankit.datasets.synthetic import synthetic_image
from gankit.errors import UsageError
from gankit.evaluation.metrics import psnr
from gankit.images import decode
from gankit.training import loader
from gankit.training.loader import batches
from gankit.training.translation_data import write_held_out


def smooth(height, width, seed=0):
    """An image without sharp edges, every part of it different."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("name", "scale"), [("Set5", 2), ("Set5", 4), ("Set14", 4)])
def test_reduction_is_the_benchmarks(data, name, scale):
    folder = data / "benchmarks" / name / f"x{scale}"
    files = image_files(folder / "HR")
    for path in files:
        wanted = decode(folder / "LR" / path.name).pixels
        large, small = reduce(decode(path).pixels, scale)
        assert large.shape == (small.shape[0] * scale, small.shape[1] * scale, 3)
        assert psnr(small, wanted) >= 52, path.name
        assert psnr(small[:2], wanted[:2]) >= 50, f"{path.name}: border"


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_reduction_keeps_a_plain_colour_and_a_straight_gradient(scale):
    plain = np.full((40, 48, 3), (3, 130, 250), np.uint8)
    assert np.array_equal(reduce(plain, scale)[1], plain[: 40 // scale, : 48 // scale])
    ramp = np.broadcast_to(np.arange(128, dtype=np.uint8)[None, :, None] * 2, (32, 128, 3))
    small = reduce(ramp, scale)[1][2, 2:-2, 0].astype(float)
    centres = (np.arange(128 // scale)[2:-2] + 0.5) * scale - 0.5
    assert np.abs(small - 2 * centres).max() <= 1


def test_reduction_crops_to_a_multiple_and_refuses_what_is_too_small():
    large, small = reduce(smooth(43, 50), 4)
    assert large.shape == (40, 48, 3)
    assert small.shape == (10, 12, 3)
    with pytest.raises(ValueError, match="reduced"):
        reduce(smooth(3, 50), 4)


@pytest.fixture(scope="module")
def patches():
    images = [smooth(150, 130, seed) for seed in range(3)]
    return SuperResolutionPatches(images, patch=10, seed=5, synthetic=0, reductions=(1.0, 0.6))


def test_items_depend_on_seed_and_index_alone(patches):
    again = SuperResolutionPatches(
        [smooth(150, 130, seed) for seed in range(3)], patch=10, seed=5, synthetic=0, reductions=(1.0, 0.6)
    )
    other = SuperResolutionPatches(
        [smooth(150, 130, seed) for seed in range(3)], patch=10, seed=6, synthetic=0, reductions=(1.0, 0.6)
    )
    backwards = [patches[index] for index in reversed(range(8))][::-1]
    for index in range(8):
        for item, wanted in zip(again[index], backwards[index], strict=True):
            assert torch.equal(item, wanted)
    assert any(not torch.equal(other[index][0], patches[index][0]) for index in range(8))
    assert len({patches[index][0].numpy().tobytes() for index in range(50)}) > 45


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_high_patch_belongs_to_the_low_one(scale):
    """So the same flip and turn were applied to both: a wrong one is some other image, below 25 dB."""
    patches = SuperResolutionPatches([smooth(400, 320)], scale=scale, patch=16, synthetic=0)
    for index in range(24):
        low, high = (item.permute(1, 2, 0).numpy() for item in patches[index])
        assert low.shape == (16, 16, 3)
        assert high.shape == (16 * scale, 16 * scale, 3)
        assert low.dtype == high.dtype == np.uint8
        assert psnr(reduce(high, scale)[1], low, border=2) > 40


def test_all_flips_and_turns_come_up():
    """An image that is bright in one corner and brighter along one side tells all eight apart."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[:16, :16], image[:16, 16:] = 255, 100
    patches = SuperResolutionPatches([image], scale=2, patch=16, synthetic=0, reductions=(1.0,))
    seen = {patches[index][1].numpy().tobytes() for index in range(100)}
    assert len(seen) == 8


def test_the_channels_come_in_every_order_and_the_same_in_both():
    image = np.zeros((32, 32, 3), np.uint8)
    image[...] = (10, 120, 240)
    patches = SuperResolutionPatches([image], scale=2, patch=16, synthetic=0, reductions=(1.0,))
    pairs = [patches[index] for index in range(100)]
    orders = [tuple(low[:, 0, 0].tolist()) for low, _ in pairs]
    assert set(orders) == set(itertools.permutations((10, 120, 240)))
    assert orders == [tuple(high[:, 0, 0].tolist()) for _, high in pairs]


def test_sizes_and_shares(patches):
    areas = {pair[0].shape[1:] for pair in patches._pairs}
    assert areas == {(148, 128), (88, 76)}
    assert patches._cumulative[-1] == pytest.approx(1)
    assert len(patches) > 10**12


def test_of_several_places_the_one_with_most_detail_is_taken():
    """Half of the image is flat: one candidate lands there half of the time, the best of six hardly ever."""
    image = np.full((64, 128, 3), 90, np.uint8)
    image[:, 64:] = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    flat = []
    for candidates in (1, 6):
        patches = SuperResolutionPatches(
            [image], scale=2, patch=8, synthetic=0, reductions=(1.0,), candidates=candidates
        )
        flat.append(sum(detail(patches[index][0][1].numpy()) < 1 for index in range(100)))
    assert flat[0] > 25
    assert flat[1] < 8


def test_detail_of_a_ramp():
    ramp = np.tile(np.arange(0, 60, 3, dtype=np.uint8), (5, 1))
    assert detail(ramp) == detail(ramp.T) == detail(ramp[:, ::-1]) == pytest.approx(3)
    assert detail(np.zeros((4, 4), np.uint8)) == 0.01


def test_images_smaller_than_a_patch(caplog):
    with pytest.raises(UsageError, match="every training image is smaller than one patch of 96×96"):
        SuperResolutionPatches([smooth(60, 60), smooth(2, 3)], synthetic=2)
    with caplog.at_level(logging.WARNING):
        SuperResolutionPatches([smooth(60, 60), smooth(200, 200)], synthetic=0)
    assert "1 of 2 training images are left out" in caplog.text
    with pytest.raises(UsageError, match="no training images"):
        SuperResolutionPatches([], synthetic=0)


def test_a_image_with_room_for_no_reduced_patch_is_used_as_it_is(caplog):
    with caplog.at_level(logging.WARNING):
        sizes = (0.75, 0.5)
        patches = SuperResolutionPatches([smooth(100, 96), smooth(200, 150)], synthetic=0, reductions=sizes)
    assert not caplog.text
    assert {large.shape[1:] for large, _ in patches._pairs} == {(100, 96), (148, 112)}
    with pytest.raises(UsageError, match="smaller than one patch of 96×96"):
        SuperResolutionPatches([smooth(100, 95)], synthetic=0)


def test_images_are_taken_a_few_at_a_time_and_forgotten(monkeypatch):
    monkeypatch.setattr(ahead, "_cores", lambda: 2)
    taken = []

    def images():
        for seed in range(9):
            alive = [reference for reference in taken if reference() is not None]
            assert len(alive) <= 3  # two at work and one that waits for its turn
            image = smooth(150, 130, seed).copy()
            taken.append(weakref.ref(image))
            yield image
            del image

    assert len(SuperResolutionPatches(images(), patch=10, synthetic=0, reductions=(0.6,))._pairs) == 9


def test_fingerprint_knows_the_images_wherever_they_lie(tmp_path):
    for name in ("here", "there"):
        (tmp_path / name / "sub").mkdir(parents=True)
        Image.fromarray(smooth(20, 24)).save(tmp_path / name / "sub" / "a.png")
    first = fingerprint(tmp_path / "here")
    assert first == fingerprint(tmp_path / "there")
    assert first.startswith("1 images (")
    Image.fromarray(smooth(20, 25)).save(tmp_path / "there" / "sub" / "a.png")
    assert first != fingerprint(tmp_path / "there")


def test_names_that_are_no_text(tmp_path):
    name = os.fsdecode(b"a\xff")
    Image.fromarray(smooth(20, 24)).save(tmp_path / f"{name}.png", format="PNG")
    assert fingerprint(tmp_path).startswith("1 images (")
    write_held_out(tmp_path, {"": {name: None}})
    assert (tmp_path / "held_out.txt").read_bytes() == b"a\xff\n"


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_begin_where_asked_and_leave_the_random_state(patches, workers):
    state = torch.get_rng_state()
    found = list(itertools.islice(batches(patches, 3, 2, workers), 3))
    assert torch.equal(torch.get_rng_state(), state)
    for number, (low, high) in enumerate(found, start=2):
        assert low.shape == (3, 3, 10, 10)
        for place in range(3):
            wanted = patches[number * 3 + place]
            assert torch.equal(low[place], wanted[0])
            assert torch.equal(high[place], wanted[1])


@pytest.mark.parametrize("world", [1, 2])
def test_workers_that_hand_over_several_batches_at_once_give_the_same(patches, world):
    for rank in range(world):
        alone, several = (
            list(itertools.islice(batches(patches, 2, 3, workers, rank=rank, world=world, together=4), 7))
            for workers in (0, 2)
        )
        for wanted, found in zip(alone, several, strict=True):
            assert len(found) == 2
            assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))


def test_little_shared_memory_takes_less_at_once(patches, monkeypatch):
    size = sum(each.nbytes for each in patches[0])
    for batches_free, wanted in ((0, 1), (64, 8), (26, 3)):  # half of it is used, by two workers twice
        free = batches_free * size * 4
        monkeypatch.setattr(loader.shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        assert loader._fitting(patches, 4, 2, 8) == wanted


def test_workers_share_the_images(patches):
    """Linux forks them; nothing is pickled, which would copy all images for each."""
    patches.unpicklable = lambda: None
    try:
        assert len(next(batches(patches, 2, 0, 1))) == 2
    finally:
        del patches.unpicklable


def test_reading_a_folder(tmp_path, caplog):
    (tmp_path / "sub").mkdir()
    Image.fromarray(smooth(20, 24)).save(tmp_path / "b.png")
    Image.fromarray(smooth(20, 24)[..., 0]).save(tmp_path / "sub" / "gray.PNG")
    Image.fromarray(np.full((20, 24), 65535 // 2, np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.dstack([smooth(20, 24), smooth(20, 24)[..., 0]])).save(tmp_path / "alpha.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xffnothing")
    (tmp_path / "notes.txt").write_text("no image")
    with caplog.at_level(logging.WARNING):
        images = list(read_images(tmp_path))
    assert len(images) == 4
    assert all(image.shape == (20, 24, 3) and image.dtype == np.uint8 for image in images)
    assert "broken.jpg" in caplog.text
    assert any((image == 127).all() for image in images)


def test_several_folders_are_read_one_after_the_other(tmp_path):
    for number, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((8, 9 + number, 3), number, np.uint8)).save(tmp_path / name / "a.png")
    folders = (tmp_path / "one", tmp_path / "two")
    assert [image.shape[1] for image in read_images(*folders)] == [9, 10]
    assert [image.shape[1] for image in read_images(*folders[::-1])] == [10, 9]
    assert fingerprint(*folders).startswith("2 images")
    assert fingerprint(*folders) != fingerprint(folders[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: no images there"):
        list(read_images(*folders, tmp_path / "empty"))


def test_folders_without_images(tmp_path):
    with pytest.raises(UsageError, match="no images there"):
        list(read_images(tmp_path))
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(UsageError, match="none of its images can be read"):
        list(read_images(tmp_path))


@pytest.mark.parametrize("seed", range(6))
def test_synthetic_images(seed):
    image = synthetic_image(seed, size=160)
    assert image.shape == (160, 160, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(image, synthetic_image(seed, size=160))
    assert not np.array_equal(image, synthetic_image(seed + 3, size=160))
    assert image.std() > 10
    # Antialiased: between the few colours drawn there are many mixed ones, yet most pixels are plain.
    colours, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
    assert len(colours) > 30
    assert np.sort(counts)[-8:].sum() > 0.2 * counts.sum()
