"""Odd EXIF, XMP and colour chunks: what can be kept is kept, and nothing of it costs the image."""

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from images_making import chunk, pattern, png_by_hand, srgb_profile
from PIL import Image

from gankit.errors import ImageError
from gankit.images import decode, encode, from_array, from_pil, to_pil
from gankit.images.metadata import parse_exif, upright
from gankit.images.xmp import read_xmp

ALL = (".png", ".jpg", ".webp", ".tif")
TURNED = np.rot90(pattern(), -1).shape


def raw_directory(entries, at):
    """A little-endian directory; entries are (tag, type, count, data)."""
    end, extra = at + 2 + 12 * len(entries) + 4, b""
    out = struct.pack("<H", len(entries))
    for tag, kind, count, data in sorted(entries):
        out += struct.pack("<HHI", tag, kind, count)
        if len(data) <= 4:
            out += data.ljust(4, b"\0")
        else:
            out += struct.pack("<I", end + len(extra))
            extra += data + b"\0" * (len(data) % 2)
    return out + bytes(4) + extra


def raw_block(main, sub=(), interoperability=()):
    """An EXIF block with whatever entries."""

    def pointed(entries, tag, place):
        return [*entries, (tag, 4, 1, struct.pack("<I", place))]

    second = 8 + len(raw_directory(pointed(main, 0x8769, 0), 8))
    third = second + len(raw_directory(pointed(sub, 0xA005, 0), second))
    parts = (
        raw_directory(pointed(main, 0x8769, second), 8),
        raw_directory(pointed(sub, 0xA005, third) if interoperability else list(sub), second),
        raw_directory(list(interoperability), third) if interoperability else b"",
    )
    return b"Exif\0\0II*\0\x08\0\0\0" + b"".join(parts)


def save_turned(path, block):
    """An image of its format with this block, as a camera writes it: lying on its side."""
    if path.suffix == ".png":
        path.write_bytes(png_by_hand(pattern(), before=chunk(b"eXIf", block[6:])))
    else:
        Image.fromarray(pattern()).save(path, exif=block)


MAKER = (0x010F, 2, 6, b"Maker\0")
SIDE = (0x0112, 3, 1, b"\6\0")
DATE = (0x9003, 2, 20, b"2024:05:06 07:08:09\0")
ODD_MAIN = (0x0107, 4, 1, struct.pack("<I", 70000))  # a SHORT by its name
ODD_SUB = (0x9209, 16, 1, b"\xff" * 8)  # of BigTIFF; Pillow writes it as a LONG, which it is too large for


@pytest.mark.parametrize("source", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("target", ALL)
def test_entries_that_cannot_be_written_are_left_out(tmp_path, source, target):
    save_turned(tmp_path / f"a{source}", raw_block([MAKER, SIDE, ODD_MAIN], [DATE, ODD_SUB]))
    image = decode(tmp_path / f"a{source}")
    assert image.pixels.shape == TURNED
    encode(image, tmp_path / f"b{target}")
    exif = parse_exif(decode(tmp_path / f"b{target}").exif)
    assert exif[0x010F] == "Maker"
    assert dict(exif.get_ifd(0x8769)) == {0x9003: "2024:05:06 07:08:09"}
    assert 0x0107 not in exif


def test_exif_given_by_hand_may_be_odd_too(tmp_path):
    """encode() takes any DecodedImage, not only decode()'s."""
    block = raw_block([MAKER, ODD_MAIN], [DATE, ODD_SUB])
    for suffix in ALL:
        encode(replace(from_array(pattern()), exif=block), tmp_path / f"a{suffix}")
        assert decode(tmp_path / f"a{suffix}").pixels.shape == (37, 53, 3)


@pytest.mark.parametrize("error", [struct.error("argument out of range"), TypeError(), KeyError("x"), SystemError("e")])
def test_what_encoders_raise_concerns_one_image(tmp_path, monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr("gankit.images.tiff_write.encode_tiff", fails)
    with pytest.raises(ImageError, match=r"a\.tif: cannot be written as tiff: .") as caught:
        encode(from_array(pattern()), tmp_path / "a.tif")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ALL)
def test_interoperability_is_a_directory_again(tmp_path, target):
    """Not the old file's offset: it tells Adobe RGB ("R03") in images without a profile."""
    block = raw_block([MAKER], [DATE], [(1, 2, 4, b"R03\0")])
    Image.fromarray(pattern()).save(tmp_path / "a.jpg", exif=block)
    encode(decode(tmp_path / "a.jpg"), tmp_path / f"b{target}")
    with Image.open(tmp_path / f"b{target}") as image:
        exif = image.getexif()
        assert exif.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"
        assert exif.get_ifd(0xA005) == {1: "R03"}
    broken = raw_block([MAKER], [DATE, (0xA005, 4, 1, b"\xff\xff\xff\x7f")])
    Image.fromarray(pattern()).save(tmp_path / "a.jpg", exif=broken)
    encode(decode(tmp_path / "a.jpg"), tmp_path / f"b{target}")
    with Image.open(tmp_path / f"b{target}") as image:
        assert dict(image.getexif().get_ifd(0x8769)) == {0x9003: "2024:05:06 07:08:09"}


def test_tiff_keeps_numbers_and_bytes_of_the_first_directory(tmp_path):
    title = "Tåg".encode("utf-16-le") + b"\0\0"
    block = raw_block([MAKER, (0x4746, 3, 1, b"\5\0"), (0x4749, 4, 1, struct.pack("<I", 70000)), (0x9C9B, 1, 8, title)])
    encode(replace(from_array(pattern()), exif=block), tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        tags = file.pages[0].tags
        assert (tags[0x4746].value, tags[0x4749].value, tags[0x9C9B].value) == (5, 70000, title)
    kept = parse_exif(decode(tmp_path / "a.tif").exif)
    assert (kept[0x010F], kept[0x4746], kept[0x4749], kept[0x9C9B]) == ("Maker", 5, 70000, title)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_do_not_exist(tmp_path, orientation):
    samples = pattern()
    extra = [(0x0112, 3, 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extratags=extra)
    save_turned(tmp_path / "a.png", raw_block([(0x0112, 3, 1, struct.pack("<H", orientation))]))
    for name in ("a.tif", "a.png"):
        assert np.array_equal(decode(tmp_path / name).pixels, samples)
    assert np.array_equal(upright(samples, orientation), samples)


def packet(inner="<dc:title>Fjord &amp; Tåg</dc:title>", attributes='tiff:Orientation="6" xmp:Rating="5"'):
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        f"{attributes}>{inner}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
    ).encode()


CLEAN = packet(attributes='xmp:Rating="5"')


def save_xmp(path, data):
    if path.suffix == ".png":
        body = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(data)
        path.write_bytes(png_by_hand(pattern(), before=chunk(b"iTXt", body)))
    elif path.suffix == ".tif":
        tifffile.imwrite(path, pattern(), photometric="rgb", extratags=[(700, 1, len(data), data, True)])
    else:
        Image.fromarray(pattern()).save(path, xmp=data)


@pytest.mark.parametrize("source", ALL)
@pytest.mark.parametrize("target", ALL)
def test_xmp_goes_along(tmp_path, source, target):
    save_xmp(tmp_path / f"a{source}", packet())
    encode(decode(tmp_path / f"a{source}"), tmp_path / f"b{target}")
    with Image.open(tmp_path / f"b{target}") as image:
        image.load()
        found = image.info["xmp"]
    assert (found.encode() if isinstance(found, str) else found) == CLEAN
    assert decode(tmp_path / f"b{target}").xmp == CLEAN


def test_xmp_loses_what_no_longer_holds():
    old = packet(
        inner="<tiff:Orientation>6</tiff:Orientation><exif:PixelXDimension>53</exif:PixelXDimension><dc:x>1</dc:x>",
        attributes="tiff:ImageWidth='53' exif:PixelYDimension = \"37\" xmp:Rating='5'",
    )
    assert read_xmp(old) == (packet(inner="<dc:x>1</dc:x>", attributes="xmp:Rating='5'"), ())
    assert read_xmp(CLEAN) == (CLEAN, ())
    for other in (None, "text", b"", b"junk", (b"x",), packet().decode().encode("utf-16")):
        assert read_xmp(other) == (None, ())


def test_xmp_through_pillow():
    pillow_image = Image.fromarray(pattern())
    pillow_image.info["xmp"] = packet()
    image = from_pil(pillow_image)
    assert image.xmp == CLEAN
    assert from_pil(to_pil(image)).xmp == CLEAN


def test_xmp_too_long_for_jpeg(tmp_path):
    long = packet(inner="<dc:x>" + "x" * 70000 + "</dc:x>", attributes="")
    for suffix in (".png", ".webp", ".tif", ".jpg"):
        encode(replace(from_array(pattern()), xmp=long), tmp_path / f"a{suffix}")
        assert decode(tmp_path / f"a{suffix}").xmp == (None if suffix == ".jpg" else long)


@pytest.mark.parametrize(
    "body", [b"", b"\0", b"\1\0\0\0junk", b"\1\0\0\0" + zlib.compress(b"x" * 100)[:-6], b"\0\0no end"]
)
def test_broken_xmp_in_a_png(tmp_path, body):
    (tmp_path / "a.png").write_bytes(png_by_hand(pattern(), before=chunk(b"iTXt", b"XML:com.adobe.xmp\0" + body)))
    image = decode(tmp_path / "a.png")
    assert image.xmp is None
    assert np.array_equal(image.pixels, pattern())


COLOUR = (
    (b"cICP", bytes([9, 16, 0, 1])),
    (b"sRGB", b"\0"),
    (b"gAMA", struct.pack(">I", 100000)),
    (b"cHRM", struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600)),
)


def chunks_of(data):
    """(name, body) of each chunk."""
    found, at = [], 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += size + 12
    return found


@pytest.mark.parametrize("colour", [*([one] for one in COLOUR), [COLOUR[2], COLOUR[3]], []])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_keeps_what_its_values_mean(tmp_path, colour, channels):
    """A linear 16-bit image (gAMA 1.0) that loses its chunk is far too dark."""
    samples = pattern(channels=channels, dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png_by_hand(samples, before=b"".join(chunk(*one) for one in colour)))
    image = decode(tmp_path / "a.png")
    assert np.array_equal(image.channels(), samples)  # no decoder applied it
    encode(image, tmp_path / "b.png")
    written = chunks_of((tmp_path / "b.png").read_bytes())
    assert [one for one in written if one[0] in dict(COLOUR)] == list(colour)
    names = [name for name, _ in written]
    assert names[0] == b"IHDR"
    assert all(names.index(name) < names.index(b"IDAT") for name, _ in colour)
    with Image.open(tmp_path / "b.png") as pillow_image:
        pillow_image.load()
        assert pillow_image.info.get("gamma") == (1.0 if COLOUR[2] in colour else None)


def test_png_colour_with_a_profile_and_in_other_formats(tmp_path):
    image = replace(from_array(pattern()), icc_profile=srgb_profile(), png_colour=(COLOUR[2],))
    for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp"):
        encode(image, tmp_path / f"a{suffix}")
        again = decode(tmp_path / f"a{suffix}")
        assert again.png_colour == (image.png_colour if suffix == ".png" else ())
    assert decode(tmp_path / "a.png").icc_profile == srgb_profile()


def test_damaged_colour_chunks_are_left_out(tmp_path):
    twice = chunk(*COLOUR[2]) + chunk(b"gAMA", struct.pack(">I", 45455))
    (tmp_path / "a.png").write_bytes(png_by_hand(pattern(), before=twice + chunk(b"cHRM", b"short")))
    assert decode(tmp_path / "a.png").png_colour == (COLOUR[2],)
    spoilt = bytearray(chunk(*COLOUR[1]))
    spoilt[-1] ^= 1
    (tmp_path / "a.png").write_bytes(png_by_hand(pattern(), before=bytes(spoilt)))
    assert decode(tmp_path / "a.png").png_colour == ()
