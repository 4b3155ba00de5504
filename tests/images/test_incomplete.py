"""Files whose decoders make up missing pixels: refused by name. Files that only look cut: taken."""

import io
import struct

import numpy as np
import pytest
import tifffile
from images_making import pattern
from PIL import Image, JpegImagePlugin

from gankit.errors import ImageError
from gankit.images import decode

END = b"\xff\xd9"
KINDS = {
    "baseline": {},
    "gray": {"gray": True},
    "full colour": {"subsampling": 0},
    "restarts": {"restart_marker_blocks": 3},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "progressive gray": {"progressive": True, "gray": True},
}


def jpeg(height=61, width=83, gray=False, **options):
    buffer = io.BytesIO()
    Image.fromarray(pattern(height, width, 1 if gray else 3)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def pillows(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def refused(path, data, match="truncated"):
    path.write_bytes(data)
    with pytest.raises(ImageError, match=match) as caught:
        decode(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_that_is_whole(tmp_path, kind):
    """With and without its end marker, and whatever follows that."""
    data = jpeg(**KINDS[kind])
    want = pillows(data)
    for case in (data, data[:-1], data[:-2], data + bytes(300), data + data, data + b"\xff\xd8\xff"):
        (tmp_path / "a.jpg").write_bytes(case)
        assert np.array_equal(decode(tmp_path / "a.jpg").pixels, want)


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_cut_anywhere(tmp_path, kind):
    """Without an end marker every byte of the pixels counts."""
    data = jpeg(**KINDS[kind])
    for lost in [*range(3, 40), len(data) // 3, len(data) // 2]:
        refused(tmp_path / "a.jpg", data[:-lost])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.85])
def test_a_jpeg_cut_with_an_end_marker(tmp_path, kind, part):
    """As servers and recovery tools leave them; libjpeg fills the rest and Pillow says nothing."""
    data = jpeg(**KINDS[kind])
    start = data.index(b"\xff\xda")
    cut = data[: start + int((len(data) - start) * (1 - part))] + END
    assert not np.array_equal(pillows(cut), pillows(data))
    refused(tmp_path / "a.jpg", cut)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [1.4, 10])
def test_a_jpeg_of_false_height(tmp_path, kind, factor):
    data = bytearray(jpeg(**KINDS[kind]))
    at = next(data.index(bytes([0xFF, marker])) for marker in (0xC0, 0xC2) if bytes([0xFF, marker]) in data) + 5
    assert struct.unpack_from(">H", data, at) == (61,)
    struct.pack_into(">H", data, at, int(61 * factor))
    assert len(pillows(bytes(data))) == int(61 * factor)
    refused(tmp_path / "a.jpg", bytes(data))


def test_a_jpeg_less_its_last_scans(tmp_path):
    """Cut between two scans there is no filler, but an image that never became exact."""
    data = jpeg(progressive=True)
    starts = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    assert len(starts) > 5
    for at in starts[1:]:
        tables = data.rfind(b"\xff\xc4", 0, at)  # the last scan's tables stand before it
        refused(tmp_path / "a.jpg", data[: max(tables, data.rfind(b"\xff\xda", 0, at) + 20)] + END)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_whose_colours_are_missing(tmp_path, progressive):
    """A frame of three components, of which only the first is in a scan."""
    data = jpeg(gray=True, progressive=progressive)
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    frame = data[at + 4 : at + 10 + 3]
    assert frame[5] == 1
    wider = frame[:5] + b"\3" + frame[6:9] + b"\x0a" + frame[7:9] + b"\x0b" + frame[7:9]
    cut = data[: at + 2] + struct.pack(">H", len(wider) + 2) + wider + data[at + 4 + len(frame) :]
    assert pillows(cut).shape == (61, 83, 3)
    refused(tmp_path / "a.jpg", cut)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_small_jpeg_that_claims_millions_of_pixels(tmp_path, monkeypatch, mode, progressive):
    """Fewer bits than blocks: known before a gigabyte is taken."""
    buffer = io.BytesIO()
    Image.new(mode, (16, 16)).save(buffer, "JPEG", progressive=progressive)
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 15800, 15800)
    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", lambda self: pytest.fail("its pixels are decoded"))
    refused(tmp_path / "a.jpg", bytes(data))


def test_memory_is_asked_for_before_it_is_taken(tmp_path):
    """The estimate is that of the kind: CMYK takes more than gray."""
    Image.fromarray(pattern(100, 100)).convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(pattern(100, 100, 1)).save(tmp_path / "gray.jpg")
    with pytest.raises(ImageError, match=r"cmyk\.jpg: decoding 100×100 pixels takes about .* GB of memory, and"):
        decode(tmp_path / "cmyk.jpg", max_bytes=100_000)
    assert decode(tmp_path / "gray.jpg", max_bytes=100_000).gray
    assert decode(tmp_path / "cmyk.jpg", max_bytes=140_000).pixels.shape == (100, 100, 3)


LAYOUTS = {
    "raw strips": {"rowsperstrip": 8},
    "raw tiles": {"tile": (16, 16)},
    "lzw strips": {"rowsperstrip": 8, "compression": "lzw"},
    "zlib tiles": {"tile": (16, 16), "compression": "zlib"},
    "separate": {"rowsperstrip": 8, "planarconfig": "separate"},
}


def tiff(layout, dtype=np.uint8):
    buffer = io.BytesIO()
    samples = pattern(64, 80, dtype=dtype)
    if layout == "separate":
        samples = np.moveaxis(samples, -1, 0)
    tifffile.imwrite(buffer, samples, photometric="rgb", **LAYOUTS[layout])
    return buffer.getvalue()


def entry(data, tag):
    """Where a tag's count and value stand in the first directory."""
    start, count = struct.unpack_from("<I", data, 4)[0], 0
    (count,) = struct.unpack_from("<H", data, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, at)[0] == tag:
            return at + 4
    raise KeyError(tag)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_of_false_height(tmp_path, layout, dtype):
    """More rows than there are strips or tiles: readers fill them with black."""
    data = bytearray(tiff(layout, dtype))
    (tmp_path / "a.tif").write_bytes(data)
    assert np.array_equal(decode(tmp_path / "a.tif").pixels, pattern(64, 80, dtype=dtype))
    struct.pack_into("<I", data, entry(data, 257) + 4, 200)
    refused(tmp_path / "a.tif", bytes(data), r"80×200 pixels take \d+ (strips|tiles), and the file has \d+")


def test_a_tiff_with_one_strip_of_false_height(tmp_path):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pattern(64, 80), photometric="rgb")
    data = bytearray(buffer.getvalue())
    for tag in (257, 278):
        struct.pack_into("<I", data, entry(data, tag) + 4, 200)
    refused(tmp_path / "a.tif", bytes(data))


@pytest.mark.parametrize("layout", ["raw strips", "raw tiles", "lzw strips", "zlib tiles"])
def test_a_tiff_with_a_short_strip(tmp_path, layout):
    """A strip that says itself that it is too short."""
    data = bytearray(tiff(layout))
    tag = 325 if "tiles" in layout else 279
    at = entry(data, tag)
    width = {3: 2, 4: 4}[struct.unpack_from("<H", data, at - 2)[0]]
    place = struct.unpack_from("<I", data, at + 4)[0] + width
    size = int.from_bytes(data[place : place + width], "little")
    data[place : place + width] = (size // 2).to_bytes(width, "little")
    refused(tmp_path / "a.tif", bytes(data), "truncated|damaged")


@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_a_tiff_of_libtiff_with_a_short_strip(tmp_path, compression):
    image = Image.fromarray(pattern(64, 80))
    image = image if compression == "jpeg" else image.quantize(64)
    image.save(tmp_path / "a.tif", compression=compression)
    whole = decode(tmp_path / "a.tif").pixels
    assert np.array_equal(whole, pillows((tmp_path / "a.tif").read_bytes()))
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        start, size = file.pages[0].dataoffsets[-1], file.pages[0].databytecounts[-1]
    data[start + size // 2 : start + size] = bytes(size - size // 2)
    if compression == "jpeg":
        data[start + size // 2 : start + size // 2 + 2] = END
    refused(tmp_path / "a.tif", bytes(data), "truncated|damaged")
