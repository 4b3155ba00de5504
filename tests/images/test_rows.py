"""Images that are read and written a few rows at a time."""

import io
import zlib
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image

from gankit.errors import ImageError, OutputError
from gankit.images import DecodedImage, bleed, decode, encode, from_array, row_writers
from gankit.images.alpha import BleedByRows
from gankit.images.row_writers import encode_rows, even_strips
from gankit.images.rows import check_rows, header_of, open_rows

HEIGHT, WIDTH = 131, 57
FIELDS = ("gray", "icc_profile", "exif", "xmp", "png_colour", "iptc", "comment", "png_text", "notes", "format")
EXIF = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0e\x01\x02\0\x04\0\0\0abc\0\0\0\0\0"  # ImageDescription


def samples(channels, dtype=np.uint8, seed=0):
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top + 1, (HEIGHT, WIDTH, channels), dtype)


def rows_of(path):
    opened = header_of(path)
    assert opened is not None
    return open_rows(path, opened)


def stacked(image):
    return np.concatenate(list(image.read()))


def check_read(path):
    """The rows, the size and the metadata are those of the usual way, also in a second reading."""
    image, whole = rows_of(path), decode(path)
    wanted = whole.channels().reshape(HEIGHT, WIDTH, whole.samples)
    assert (image.width, image.height) == (WIDTH, HEIGHT)
    for _ in range(2):
        read = stacked(image)
        assert read.dtype == wanted.dtype
        np.testing.assert_array_equal(read, wanted)
    for name in FIELDS:
        assert getattr(image.head, name) == getattr(whole, name), name
    assert image.head.dpi == pytest.approx(whole.dpi) if whole.dpi else image.head.dpi is None
    assert (image.head.pixels.dtype, image.head.samples) == (whole.pixels.dtype, whole.samples)


@pytest.fixture
def vips():
    pytest.importorskip("pyvips", reason="pyvips reads PNG and JPEG by rows: pip install 'gankit[large]'")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jpg"])
def test_rows_are_those_of_the_whole_image(vips, tmp_path, suffix, channels, dtype):
    image = replace(from_array(samples(channels, dtype)), dpi=(300.0, 300.0), exif=EXIF)
    encode(image, tmp_path / f"a{suffix}")
    check_read(tmp_path / f"a{suffix}")


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (32, 16), "compression": "zlib"},
        {"rowsperstrip": 7, "compression": "lzw", "predictor": True},
        {"rowsperstrip": 1},
        {},
        {"bigtiff": True, "byteorder": ">", "tile": (64, 64)},
        {"byteorder": ">"},
        {"planarconfig": "separate", "rowsperstrip": 10},
        {"planarconfig": "separate", "tile": (16, 16), "compression": "zstd"},
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiffs_of_all_layouts(tmp_path, options, dtype):
    pixels = samples(3, dtype)
    if options.get("planarconfig") == "separate":
        pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", metadata=None, **options)
    check_read(tmp_path / "a.tif")


@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack"])
def test_tiffs_of_gray(tmp_path, photometric):
    tifffile.imwrite(tmp_path / "a.tif", samples(1)[..., 0], photometric=photometric, rowsperstrip=9)
    check_read(tmp_path / "a.tif")


def test_tiff_with_multiplied_alpha(tmp_path):
    pixels = samples(4)
    pixels[..., :3] = np.minimum(pixels[..., :3], pixels[..., 3:])
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["assocalpha"], rowsperstrip=9)
    check_read(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA"])
def test_pngs_of_other_kinds(vips, tmp_path, mode):
    Image.fromarray(samples(3)).convert(mode).save(tmp_path / "a.png")
    check_read(tmp_path / "a.png")


def test_two_pages_are_noted(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for seed in (0, 1):
            file.write(samples(3, seed=seed), photometric="rgb", metadata=None)
    check_read(tmp_path / "a.tif")
    assert rows_of(tmp_path / "a.tif").head.notes == ("only the first of 2 pages is used",)


def saved(tmp_path, name, image, **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize(
    ("name", "mode", "options", "reason"),
    [
        ("a.jpg", "CMYK", {"progressive": True}, "save it as a baseline JPEG"),
        ("a.jpg", "RGB", {"progressive": True}, "save it as a baseline JPEG"),
        ("a.jpg", "RGB", {"exif": Image.Exif()}, "its EXIF orientation is 6"),
        ("a.png", "RGB", {"exif": Image.Exif()}, "its EXIF orientation is 6"),
        ("a.tif", "CMYK", {"compression": "jpeg"}, "convert it to RGB"),
        ("a.tif", "1", {}, "convert it to RGB"),
    ],
)
def test_kinds_that_have_no_rows_say_so(vips, tmp_path, name, mode, options, reason):
    if "exif" in options:
        options["exif"][0x0112] = 6
    path = saved(tmp_path, name, Image.fromarray(samples(3)).convert(mode), **options)
    with pytest.raises(ImageError, match=reason):
        rows_of(path)


def test_an_interlaced_png_says_so(tmp_path):
    path = saved(tmp_path, "a.png", Image.fromarray(samples(3)))
    data = bytearray(path.read_bytes())
    data[28] = 1
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(ImageError, match="an interlaced PNG cannot be read by strips"):
        rows_of(path)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jpg"])
def test_a_truncated_file_is_one_error(vips, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    encode(from_array(samples(3)), path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    opened = header_of(path)
    if opened is None:  # the directory of a TIFF is behind its pixels
        assert suffix == ".tiff"
        return
    with pytest.raises(ImageError, match=r"a\.\w+: (the file|[^/]*truncated)"):
        stacked(open_rows(path, opened))


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0\x08\0\0\0"])
def test_other_and_damaged_files_are_left_to_the_usual_way(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    assert header_of(tmp_path / "a") is None
    assert header_of(tmp_path / "missing") is None


def test_the_limit_of_pixels_holds(tmp_path):
    path = saved(tmp_path, "a.png", Image.fromarray(samples(3)))
    opened = header_of(path)
    check_rows(path, opened, HEIGHT * WIDTH)
    with pytest.raises(ImageError, match=r"more than the limit of .*raise the limit \(--max-pixels\)"):
        check_rows(path, opened, HEIGHT * WIDTH - 1)


def strips_of(image, rows):
    """Strips that share their memory, as those of a run do."""
    memory = np.empty((rows, *image.pixels.shape[1:]), image.pixels.dtype)
    alphas = np.empty(memory.shape[:2], image.pixels.dtype)
    for top in range(0, HEIGHT, rows):
        part = image.pixels[top : top + rows]
        memory[: len(part)] = part
        if image.alpha is not None:
            alphas[: len(part)] = image.alpha[top : top + rows]
        yield replace(image, pixels=memory[: len(part)], alpha=None if image.alpha is None else alphas[: len(part)])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jpg"])
def test_written_rows_are_those_of_the_whole_image(tmp_path, suffix, channels, dtype):
    if suffix == ".jpg":
        pytest.importorskip("pyvips", reason="pyvips writes JPEG by rows: pip install 'gankit[large]'")
    image = replace(from_array(samples(channels, dtype)), dpi=(300.0, 300.0), exif=EXIF)
    notes = encode(image, tmp_path / f"whole{suffix}")
    for rows in (HEIGHT, 50, 1):
        path = tmp_path / f"rows{suffix}"
        assert encode_rows(image, (WIDTH, HEIGHT), strips_of(image, rows), path) == notes
        written, whole = decode(path), decode(tmp_path / f"whole{suffix}")
        np.testing.assert_array_equal(written.channels(), whole.channels())
        assert written.dpi == pytest.approx(whole.dpi, rel=1e-4)
        for name in FIELDS if suffix != ".jpg" else ("gray", "icc_profile", "iptc", "notes"):
            assert getattr(written, name) == getattr(whole, name), name


def test_a_format_without_rows_names_one_that_has_them(tmp_path):
    with pytest.raises(ImageError, match="WebP cannot be written by strips; use --format png or tiff"):
        encode_rows(from_array(samples(3)), (WIDTH, HEIGHT), [], tmp_path / "a.webp")


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jpg"])
def test_a_full_disk_is_one_error_and_leaves_no_file(vips, tmp_path, monkeypatch, suffix):
    whole_file = row_writers.whole_file

    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > 4000:
                raise OSError(28, "No space left on device")
            return super().write(data)

    @contextmanager
    def full(path):
        with whole_file(path) as file, Full(file.name, "r+") as small:
            yield small

    monkeypatch.setattr(row_writers, "whole_file", full)
    image = from_array(samples(3))
    with pytest.raises(OutputError, match="cannot be written: No space left on device; free some space"):
        encode_rows(image, (WIDTH, HEIGHT), strips_of(image, 10), tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_an_error_between_the_rows_leaves_no_file(vips, tmp_path):
    image = from_array(samples(3))

    def broken():
        yield from list(strips_of(image, 10))[:3]
        raise RuntimeError("the engine broke")

    for suffix in (".png", ".tiff", ".jpg"):
        with pytest.raises(RuntimeError, match="the engine broke"):
            encode_rows(image, (WIDTH, HEIGHT), broken(), tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_even_strips_cut_and_join(rows):
    whole = np.arange(40)[:, None]
    for sizes in ([40], [1] * 40, [3, 11, 1, 25], [7, 7, 7, 7, 7, 5]):
        parts = np.split(whole, np.cumsum(sizes)[:-1])
        made = list(even_strips(parts, rows))
        assert {len(part) for part in made[:-1]} <= {rows}
        np.testing.assert_array_equal(np.concatenate(made), whole)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("visible", ["some", "corner", "all", "none"])
def test_colours_below_transparent_pixels_are_the_same_by_rows(dtype, visible):
    pixels = samples(4, dtype)
    colours, alpha = np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3])
    if visible in ("none", "corner"):
        alpha[:] = 0
    if visible == "corner":
        alpha[-3:, 5] = 9
    if visible == "all":
        alpha[alpha == 0] = 1
    if visible == "some":
        alpha[20:110, 3:50] = 0
    by_rows = BleedByRows()
    tops = range(0, HEIGHT, 2 * by_rows.rows)
    parts = [slice(top, top + 2 * by_rows.rows) for top in tops]
    for part in parts:
        by_rows.add(colours[part], alpha[part])
    by_rows.complete()
    made = [by_rows.bled(colours[part], alpha[part], part.start) for part in parts]
    np.testing.assert_array_equal(np.concatenate(made), bleed(colours, alpha))


def test_pyvips_is_asked_for(tmp_path, monkeypatch):
    path = saved(tmp_path, "a.png", Image.fromarray(samples(3)))
    monkeypatch.setattr("gankit.images.rows.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImageError, match=r"pyvips reads a PNG by strips: pip install 'gankit\[large\]'"):
        rows_of(path)
    with pytest.raises(ImageError, match=r"pyvips writes a JPEG by strips: pip install 'gankit\[large\]'"):
        encode_rows(from_array(samples(3)), (WIDTH, HEIGHT), [], tmp_path / "a.jpg")


def test_the_head_is_one_pixel(tmp_path):
    head = rows_of(saved(tmp_path, "a.tif", Image.fromarray(samples(3)))).head
    assert isinstance(head, DecodedImage)
    assert head.pixels.shape == (1, 1, 3)
