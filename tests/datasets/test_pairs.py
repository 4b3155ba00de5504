"""Images to translate: what is read, what is left out and named, and what is cut."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from gankit.datasets.crops import PairedCrops, UnpairedCrops, middle
from gankit.datasets.holdout import held_out
from gankit.datasets.options import Cut
from gankit.datasets.pairs import read_aligned, read_pairs, read_side
from gankit.datasets.pixels import resized
from gankit.errors import UsageError
from gankit.training.loader import batches
from tests.training.translation_making import blobs, tissue, write_pairs


def pair(seed=0, size=(40, 48)):
    """An image whose values are its places, and the same as gray."""
    y, x = np.mgrid[: size[0], : size[1]]
    place = np.stack([y, x, np.full(size, seed)], -1).astype(np.uint8)
    return place, place[..., :1].copy()


def test_pairs_are_those_of_one_stem(tmp_path, caplog):
    images, masks = write_pairs(tmp_path, 4)
    (masks / "01.png").unlink()
    Image.open(masks / "02.png").save(masks / "02.tiff")
    (masks / "02.png").unlink()
    with caplog.at_level(logging.WARNING):
        pairs = read_pairs(images, masks)
    assert list(pairs) == ["00", "02", "03"]
    assert "1 images have no partner: 01" in caplog.text
    source, target = pairs["02"]
    assert (source.shape, target.shape) == ((40, 48, 3), (40, 48, 1))
    assert np.array_equal(target[..., 0], blobs(2))
    assert np.array_equal(source, tissue(blobs(2), 2))


def test_broken_and_unequal_images_are_named_and_left_out(tmp_path, caplog):
    images, masks = write_pairs(tmp_path, 4)
    data = (images / "00.png").read_bytes()
    (images / "00.png").write_bytes(data[: len(data) // 2])
    Image.fromarray(blobs(1, (30, 48))).save(masks / "01.png")
    with caplog.at_level(logging.WARNING):
        pairs = read_pairs(images, masks)
    assert list(pairs) == ["02", "03"]
    assert f"skipped {images / '00.png'}" in caplog.text
    assert "skipped 01: 48×40 and 48×30 pixels" in caplog.text


def test_folders_without_pairs(tmp_path):
    images, masks = write_pairs(tmp_path, 1)
    (masks / "00.png").rename(masks / "other.png")
    with pytest.raises(UsageError, match="no two images have the same stem and size"):
        read_pairs(images, masks)
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="no images there"):
        read_pairs(images, tmp_path / "none")
    (images / "00.png").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="none of its images can be read"):
        read_side(images)


def test_same_stem_twice(tmp_path, caplog):
    images, _ = write_pairs(tmp_path, 1)
    Image.open(images / "00.png").save(images / "00.jpg")
    with caplog.at_level(logging.WARNING):
        assert list(read_side(images)) == ["00"]
    assert "another image there has the same stem" in caplog.text


def test_kinds(tmp_path):
    levels = np.array([[0, 63, 64, 128, 255]], np.uint8)
    Image.fromarray(levels).save(tmp_path / "gray.png")
    assert read_side(tmp_path)["gray"].shape == (1, 5, 1)
    assert read_side(tmp_path, "mask", mask_from=64)["gray"][..., 0].tolist() == [[0, 0, 255, 255, 255]]
    assert read_side(tmp_path, "labels")["gray"][..., 0].tolist() == levels.tolist()
    assert read_side(tmp_path, "colour")["gray"].tolist() == np.repeat(levels[..., None], 3, 2).tolist()
    red = np.zeros((1, 5, 3), np.uint8)
    red[..., 0] = 255
    Image.fromarray(red).save(tmp_path / "red.png")
    both = read_side(tmp_path)
    assert both["gray"].shape == both["red"].shape == (1, 5, 3)
    assert read_side(tmp_path, "gray")["red"][0, 0, 0] == 76  # 0.299 · 255


def test_load_brings_the_shorter_side(tmp_path):
    images, masks = write_pairs(tmp_path, 1)
    source, target = read_pairs(images, masks, "colour", "mask", load=80)["00"]
    assert source.shape == (80, 96, 3)
    assert target.shape == (80, 96, 1)
    assert set(np.unique(target)) == {0, 255}


def test_aligned(tmp_path, caplog):
    mask = blobs(3)
    both = np.hstack([tissue(mask, 3), np.repeat(mask[..., None], 3, 2)])
    Image.fromarray(both).save(tmp_path / "a.png")
    Image.fromarray(both[:, 1:]).save(tmp_path / "odd.png")
    with caplog.at_level(logging.WARNING):
        pairs = read_aligned(tmp_path, target_kind="mask")
    assert "skipped odd" in caplog.text
    assert list(pairs) == ["a"]
    assert np.array_equal(pairs["a"][0], tissue(mask, 3))
    assert np.array_equal(pairs["a"][1][..., 0], mask)
    (tmp_path / "a.png").unlink()
    with pytest.raises(UsageError, match="no image there shows a pair"):
        read_aligned(tmp_path)


def test_every_fifth_is_held_out():
    stems = [f"{index:03d}" for index in range(107)]
    trained, held = held_out(stems[::-1], 5)
    assert held == stems[4::5]
    assert len(held) == 21
    assert sorted(trained + held) == stems
    assert held_out(stems, 0) == (stems, [])
    for count, every in ((4, 5), (3, 1)):
        with pytest.raises(UsageError, match="too few to train on and to hold out"):
            held_out(stems[:count], every)


def test_both_are_cut_at_the_same_place():
    crops = PairedCrops([pair()], Cut(16, (1.0, 1.0), "all"), seed=3)
    seen = set()
    for index in range(40):
        source, target = crops[index]
        assert source.shape == (3, 16, 16)
        assert source.dtype == torch.uint8
        assert torch.equal(source[:1], target)  # the rows' numbers
        down = int(source[0, 1, 0]) - int(source[0, 0, 0]), int(source[1, 1, 0]) - int(source[1, 0, 0])
        right = int(source[0, 0, 1]) - int(source[0, 0, 0]), int(source[1, 0, 1]) - int(source[1, 0, 0])
        seen.add((down, right))
    assert len(seen) == 8  # every way to lay a square


@pytest.mark.parametrize(("flips", "ways"), [("none", 1), ("mirror", 2)])
def test_flips(flips, ways):
    crops = PairedCrops([pair()], Cut(16, (1.0, 1.0), flips), seed=3)
    steps = {int(source[1, 0, 1]) - int(source[1, 0, 0]) for source, _ in (crops[index] for index in range(30))}
    assert steps == ({1, -1} if ways == 2 else {1})
    assert all((int(source[0, 1, 0]) - int(source[0, 0, 0])) == 1 for source, _ in (crops[i] for i in range(30)))


def test_zoom_is_within_its_range_and_labels_are_not_mixed():
    y, x = np.mgrid[:64, :64]
    chess = (((y // 8 + x // 8) % 2) * 255).astype(np.uint8)[..., None]
    ramp = np.repeat((x * 4).astype(np.uint8)[..., None], 3, 2)
    crops = PairedCrops([(ramp, chess)], Cut(32, (1.0, 2.0), "none"), seed=1, exact=(False, True))
    slopes = []
    for index in range(40):
        source, target = crops[index]
        assert set(target.unique().tolist()) <= {0, 255}
        slopes.append((int(source[0, 16, 28]) - int(source[0, 16, 4])) / 24 / 4)
    assert 0.45 < min(slopes) < 0.6
    assert 0.85 < max(slopes) < 1.05


def test_small_images_are_enlarged_to_the_square():
    source, target = PairedCrops([pair(size=(10, 12))], Cut(32))[0]
    assert source.shape == (3, 32, 32)
    assert target.shape == (1, 32, 32)


def test_candidates_take_the_place_with_contrast():
    flat = np.full((64, 64, 1), 10, np.uint8)
    flat[40:48, 40:48] = 200

    def share(candidates):
        crops = UnpairedCrops([flat], [flat], Cut(16, (1.0, 1.0), candidates=candidates))
        return np.mean([bool((crops[index][0] == 200).any()) for index in range(60)])

    assert share(1) < 0.45
    assert share(8) > 0.75


@pytest.mark.parametrize("kind", [PairedCrops, UnpairedCrops])
def test_an_item_depends_on_seed_and_number_alone(kind):
    pairs = [pair(seed) for seed in range(3)]
    args = ([pairs]) if kind is PairedCrops else ([a for a, _ in pairs], [b for _, b in pairs])
    first, second, other = (kind(*args, Cut(16), seed=seed) for seed in (1, 1, 2))
    wanted = [first[index] for index in range(12)]
    for index in (11, 3, 7, 0):
        assert all(torch.equal(a, b) for a, b in zip(second[index], wanted[index], strict=True))
    assert any(not torch.equal(other[index][0], wanted[index][0]) for index in range(12))
    loaded = next(batches(kind(*args, Cut(16), seed=1), 2, 3, workers=1))
    assert torch.equal(loaded[0], torch.stack([wanted[6][0], wanted[7][0]]))


def test_every_image_once_before_any_again():
    pairs = [pair(seed) for seed in range(5)]
    crops = UnpairedCrops([a for a, _ in pairs], [a for a, _ in pairs[:3]], Cut(8, (1.0, 1.0)))
    sides = [[int(crops[index][side][2, 0, 0]) for index in range(15)] for side in (0, 1)]
    assert all(sorted(sides[0][start : start + 5]) == list(range(5)) for start in (0, 5, 10))
    assert all(sorted(sides[1][start : start + 3]) == list(range(3)) for start in range(0, 15, 3))
    assert sides[0][:5] != sides[0][5:10] or sides[0][5:10] != sides[0][10:]


def test_middle():
    source, target = pair(size=(41, 50))
    first, second = middle([source, target], 16)
    assert first.shape == (32, 48, 3)
    assert (int(first[0, 0, 0]), int(first[0, 0, 1])) == (4, 1)
    assert np.array_equal(first[..., :1], second)
    assert middle([source], 64)[0].shape == (64, 64, 3)
    assert middle([np.zeros((600, 1100, 3), np.uint8)], 64)[0].shape == (512, 512, 3)


def test_resized_leaves_a_part_of_the_same_size_alone():
    source, _ = pair()
    assert np.array_equal(resized(source, (8, 9), (3, 4, 11, 13)), source[3:11, 4:13])
