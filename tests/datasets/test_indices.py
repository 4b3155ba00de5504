"""Masks and label maps are numbers of classes, whatever kind of file holds them."""

import logging

import numpy as np
import pytest
import tifffile
from PIL import Image

from gankit.datasets.indices import stored_values, to_masks
from gankit.datasets.pairs import read_aligned, read_results, read_side
from gankit.errors import UsageError

LABELS = np.zeros((6, 8), np.uint8)
LABELS[:2], LABELS[3:5, 2:6] = 1, 2
MASK = (LABELS == 2).astype(np.uint8)
DARK_RED_AND_BLUE = [0, 0, 0, 0, 0, 255, 97, 0, 0]  # both of luma 29


def palette_image(values, palette):
    image = Image.fromarray(values)
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette(palette)
    return image


def rgb(values):
    return np.repeat(values[..., None], 3, 2)


def labels_of(path, kind="labels", **options):
    return read_side(path.parent, kind, **options)[path.stem][..., 0]


@pytest.mark.parametrize("suffix", ["png", "gif", "bmp", "tif"])
def test_a_palette_gives_its_indices(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    palette_image(LABELS, DARK_RED_AND_BLUE).save(path)
    assert np.array_equal(labels_of(path), LABELS)


def test_a_palette_with_transparency_gives_its_indices(tmp_path):
    palette_image(LABELS, DARK_RED_AND_BLUE).save(tmp_path / "a.png", transparency=0)
    assert np.array_equal(labels_of(tmp_path / "a.png"), LABELS)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_stay(tmp_path, suffix):
    Image.fromarray((LABELS * 3).astype(np.uint16)).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(labels_of(tmp_path / f"a.{suffix}"), LABELS * 3)
    Image.fromarray(LABELS * np.uint16(200)).save(tmp_path / f"a.{suffix}")
    with pytest.raises(UsageError, match=rf"a\.{suffix}: has the label 400"):
        labels_of(tmp_path / f"a.{suffix}")
    assert np.array_equal(labels_of(tmp_path / f"a.{suffix}", "mask", mask_from=400), MASK * 255)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_one_bit_is_zero_and_one(tmp_path, suffix):
    Image.fromarray(MASK * 255).convert("1").save(tmp_path / f"a.{suffix}")
    assert np.array_equal(labels_of(tmp_path / f"a.{suffix}"), MASK)
    assert np.array_equal(labels_of(tmp_path / f"a.{suffix}", "mask"), MASK * 255)


def test_few_bits_are_not_stretched(tmp_path):
    """PNG's gray of 2 and 4 bits, which decoders bring to 255; TIFF's of 12 bits, which become 16."""
    import struct
    import zlib

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    for bits in (2, 4):
        single = np.unpackbits(LABELS[..., None], axis=2)[..., 8 - bits :]
        rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in single)
        header = struct.pack(">IIBBBBB", 8, 6, bits, 0, 0, 0, 0)
        parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
        assert np.array_equal(labels_of(tmp_path / "a.png"), LABELS)
    (tmp_path / "a.png").unlink()
    tifffile.imwrite(tmp_path / "a.tif", LABELS.astype(np.uint16) * 100, bitspersample=12)
    assert np.array_equal(stored_values(tmp_path / "a.tif"), LABELS.astype(np.uint16) * 100)


def test_colour_only_where_it_is_gray(tmp_path):
    Image.fromarray(rgb(LABELS)).save(tmp_path / "a.png")
    assert np.array_equal(labels_of(tmp_path / "a.png"), LABELS)
    Image.fromarray(rgb(LABELS) * np.array([3, 0, 0], np.uint8)).save(tmp_path / "a.png")
    for kind in ("labels", "mask"):
        with pytest.raises(UsageError, match=r"a\.png: is in colour, and a colour is no class"):
            labels_of(tmp_path / "a.png", kind)


def test_a_transparent_mask_is_refused(tmp_path):
    """As background removers write it: all white, and the mask in alpha."""
    Image.fromarray(np.dstack([np.full((6, 8, 3), 255, np.uint8), MASK * 255])).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"a\.png: .*cannot be transparent"):
        labels_of(tmp_path / "a.png", "mask")
    Image.fromarray(np.dstack([rgb(MASK), np.full((6, 8), 255, np.uint8)])).save(tmp_path / "a.png")
    assert np.array_equal(labels_of(tmp_path / "a.png", "mask"), MASK * 255)


def test_what_contradicts_itself_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", MASK * 255, photometric="miniswhite")
    with pytest.raises(UsageError, match=r"a\.tif: stores white as 0"):
        labels_of(tmp_path / "a.tif", "mask")
    (tmp_path / "a.tif").unlink()
    palette_image(MASK, [255, 255, 255, 0, 0, 0]).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"a\.png: its palette has white before black"):
        labels_of(tmp_path / "a.png", "mask")


def test_they_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by a quarter
    palette_image(LABELS, DARK_RED_AND_BLUE).save(tmp_path / "palette.png", exif=exif)
    Image.fromarray(LABELS).save(tmp_path / "gray.png", exif=exif)
    found = read_side(tmp_path, "labels")
    assert np.array_equal(found["palette"][..., 0], np.rot90(LABELS, -1))
    assert np.array_equal(found["gray"], found["palette"])


@pytest.mark.parametrize("values", [(0, 1), (0, 255), (0, 3), (1, 2), (127, 255)])
def test_two_values_are_a_mask(tmp_path, values):
    Image.fromarray(np.where(MASK > 0, *np.array(values[::-1], np.uint8))).save(tmp_path / "a.png")
    Image.fromarray(np.full((6, 8), values[0], np.uint8)).save(tmp_path / "background.png")
    found = read_side(tmp_path, "mask")
    assert np.array_equal(found["a"][..., 0], MASK * 255)
    assert not found["background"].any()


def test_masks_of_one_folder_may_have_other_values(tmp_path):
    for value in (1, 7, 255):
        Image.fromarray(MASK * np.uint8(value)).save(tmp_path / f"{value}.png")
    assert all(np.array_equal(each[..., 0], MASK * 255) for each in read_side(tmp_path, "mask").values())


def test_values_between_are_refused_with_name_and_way_out(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(MASK).save(tmp_path / "a/good.png")
    Image.fromarray(LABELS).save(tmp_path / "a/three.png")
    with pytest.raises(UsageError, match=r"three\.png: is no mask: .*has 0, 1, 2; give --mask-from N .*labels"):
        read_side(tmp_path / "a", "mask")
    assert np.array_equal(read_side(tmp_path / "a", "mask", mask_from=2)["three"][..., 0], MASK * 255)
    with pytest.raises(UsageError, match="value of 64 or more"):
        read_side(tmp_path / "a", "mask", mask_from=64)


def test_the_rule_of_single_values():
    for value, wanted in ((0, False), (1, True), (255, True)):
        assert (to_masks({"a": np.full((2, 2), value)})["a"] == wanted).all()
    assert not to_masks({"a": np.zeros((2, 2))}, 64)["a"].any()


def test_halves_side_by_side(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(np.hstack([colours, rgb(MASK)])).save(tmp_path / "a.png")
    source, target = read_aligned(tmp_path, "colour", "mask")["a"]
    assert np.array_equal(source, colours)
    assert np.array_equal(target[..., 0], MASK * 255)
    with pytest.raises(UsageError, match=r"a\.png: is in colour"):
        read_aligned(tmp_path, "labels", "mask")


def test_results_may_be_masks_or_certainties(tmp_path):
    Image.fromarray(MASK).save(tmp_path / "a.png")
    assert np.array_equal(read_results(tmp_path)["a"][..., 0], MASK * 255)
    certain = (LABELS * 70).astype(np.uint8)
    Image.fromarray(certain).save(tmp_path / "b.png")
    assert np.array_equal(read_results(tmp_path)["b"][..., 0], certain)


@pytest.mark.parametrize(("top", "said"), [(0, False), (1, True), (7, True), (16, False)])
def test_images_as_dark_as_masks_are_said(tmp_path, caplog, top, said):
    Image.fromarray(MASK * np.uint8(top)).save(tmp_path / "a.png")
    with caplog.at_level(logging.WARNING):
        read_side(tmp_path)
    assert ("--target-kind" in caplog.text) is said


@pytest.mark.parametrize(("value", "word"), [(0, "empty"), (1, "full")])
def test_masks_that_teach_nothing_are_said(tmp_path, caplog, value, word):
    for name in "ab":
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / f"{name}.png")
    with caplog.at_level(logging.WARNING):
        read_side(tmp_path, "mask")
    assert f"every one of 2 masks is {word}" in caplog.text
    caplog.clear()
    Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "c.png")
    read_side(tmp_path, "mask")
    assert not caplog.records


def test_a_label_map_in_a_jpeg_is_said(tmp_path, caplog):
    Image.fromarray(LABELS).save(tmp_path / "a.jpg")
    with caplog.at_level(logging.WARNING):
        read_side(tmp_path, "labels")
    assert "a.jpg: JPEG changes the numbers of a label map" in caplog.text
