"""What goes along with the pixels from file to file, and the line that names what cannot."""

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from images_making import SPACES, chunk, exif_block, pattern, png_by_hand, read_exif, xmp_packet
from PIL import Image, PngImagePlugin

from gankit.images import decode, encode, from_array, from_pil, to_pil
from gankit.images.iptc import pack_resources, read_resources
from gankit.images.xmp import xmp_orientation


def raw_profile(kind, data):
    """As ImageMagick writes it."""
    digits = data.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    return f"\n{kind}\n{len(data):8d}\n{lines}\n".encode()


def text_chunk(name, keyword, text):
    if name == "tEXt":
        return chunk(b"tEXt", keyword + b"\0" + text)
    if name == "zTXt":
        return chunk(b"zTXt", keyword + b"\0\0" + zlib.compress(text))
    return chunk(b"iTXt", keyword + b"\0\1\0\0\0" + zlib.compress(text))


def turned(orientation):
    """The pattern as Pillow turns it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(pattern())
    image.info["exif"] = exif.tobytes()
    image._exif = exif
    from PIL import ImageOps

    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["tEXt", "zTXt", "iTXt"])
@pytest.mark.parametrize("kind", ["exif", "APP1"])
def test_a_png_with_exif_in_hexadecimal(tmp_path, orientation, name, kind):
    """Upright, and its EXIF is kept in the chunk that PNG has for it now."""
    body = raw_profile(kind, exif_block(orientation))
    (tmp_path / "a.png").write_bytes(
        png_by_hand(pattern(), before=text_chunk(name, b"Raw profile type " + kind.encode(), body))
    )
    image = decode(tmp_path / "a.png")
    assert np.array_equal(image.pixels, turned(orientation))
    assert image.png_text == ()
    assert image.notes == ()
    encode(image, tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as again:
        main, sub, _ = read_exif(again.info["exif"])
    assert (main[0x0112], main[0x010F], sub[0x9003]) == (1, "Gankit Camera", "2024:05:06 07:08:09")
    assert np.array_equal(decode(tmp_path / "b.png").pixels, image.pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("form", ["attribute", "element", "other prefix"])
def test_orientation_in_xmp_alone(tmp_path, orientation, suffix, form):
    data = {
        "attribute": xmp_packet(f'tiff:Orientation="{orientation}"'),
        "element": xmp_packet(inner=f"<tiff:Orientation>{orientation}</tiff:Orientation>"),
        "other prefix": xmp_packet(f"t:Orientation='{orientation}'", spaces={"t": SPACES["tiff"], "dc": SPACES["dc"]}),
    }[form]
    path = tmp_path / f"a{suffix}"
    if suffix == ".png":
        path.write_bytes(png_by_hand(pattern(), before=text_chunk("iTXt", b"XML:com.adobe.xmp", data)))
    elif suffix == ".tif":
        tifffile.imwrite(path, pattern(), photometric="rgb", extratags=[(700, 1, len(data), data, True)])
    else:
        Image.fromarray(pattern()).save(path, xmp=data, **({"lossless": True} if suffix == ".webp" else {}))
    image = decode(path)
    assert image.pixels.shape == turned(orientation).shape
    if suffix != ".jpg":
        assert np.array_equal(image.pixels, turned(orientation))
    assert b"Orientation" not in image.xmp
    assert b'dc:source="kept"' in image.xmp


def test_exif_counts_before_xmp(tmp_path):
    """Each says something else: the EXIF block wins, as in JPEG readers."""
    before = chunk(b"eXIf", exif_block(1)[6:]) + text_chunk(
        "iTXt", b"XML:com.adobe.xmp", xmp_packet('tiff:Orientation="6"')
    )
    (tmp_path / "a.png").write_bytes(png_by_hand(pattern(), before=before))
    assert np.array_equal(decode(tmp_path / "a.png").pixels, pattern())


@pytest.mark.parametrize(
    "body", [b"", b"\nexif\n", b"\nexif\n  10\nzz", b"\nexif\n  999\n4578", b"\nexif\nten\n4578\n"]
)
def test_broken_hexadecimal(tmp_path, body):
    (tmp_path / "a.png").write_bytes(
        png_by_hand(pattern(), before=text_chunk("tEXt", b"Raw profile type exif", body) + chunk(b"zTXt", b"x\0\0junk"))
    )
    image = decode(tmp_path / "a.png")
    assert image.exif is None
    assert np.array_equal(image.pixels, pattern())


def test_xmp_orientation_that_is_none():
    for text in ('tiff:Orientation="9"', 'tiff:Orientation=""', 'tiff:Orientation="60"', 'dc:Orientation="6"'):
        assert xmp_orientation(xmp_packet(text)) == 1
    assert xmp_orientation(None) == 1


def test_png_text_stays(tmp_path):
    """What image generators, scanners and photographers write there, chunk for chunk, before or behind the pixels."""
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a castle\nSteps: 20, Seed: 1234")
    info.add_text("Author", "Å. Person")
    info.add_text("Comment", "hello", zip=True)
    info.add_itxt("workflow", '{"nodes": "é"}', lang="fr")
    info.add_text("exif:Orientation", "6")
    Image.fromarray(pattern()).save(tmp_path / "a.png", pnginfo=info)
    data = (tmp_path / "a.png").read_bytes()
    end = data.index(b"IEND") - 4
    (tmp_path / "a.png").write_bytes(data[:end] + text_chunk("tEXt", b"Behind", b"the pixels") + data[end:])
    encode(decode(tmp_path / "a.png"), tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as again:
        again.load()
        text = again.text
    assert text == {
        "parameters": "a castle\nSteps: 20, Seed: 1234",
        "Author": "Å. Person",
        "Comment": "hello",
        "workflow": '{"nodes": "é"}',
        "Behind": "the pixels",
    }
    assert text["workflow"].lang == "fr"
    notes = encode(decode(tmp_path / "a.png"), tmp_path / "b.jpg")
    assert notes == ("JPEG does not hold PNG text (parameters, Author, Comment, workflow, Behind)",)


def datasets(*entries):
    return b"".join(struct.pack(">BBBH", 0x1C, record, number, len(text)) + text for record, number, text in entries)


IPTC = datasets((2, 5, b"Title"), (2, 25, b"keyword one"), (2, 25, b"keyword two"), (2, 116, b"(c) Somebody"))


def resource(number, body, name=b""):
    name = bytes([len(name)]) + name
    name += bytes(len(name) % 2)
    return b"8BIM" + struct.pack(">H", number) + name + struct.pack(">I", len(body)) + body + bytes(len(body) % 2)


def pillows_iptc(path):
    """Independent readers: Pillow for JPEG and TIFF; for PNG the text is taken apart by hand."""
    with Image.open(path) as image:
        image.load()
        if image.format == "JPEG":
            return image.info["photoshop"].get(0x0404)
        if image.format == "TIFF":
            return bytes(image.tag_v2[33723])
        lines = image.text["Raw profile type iptc"].split("\n")
        data = bytes.fromhex("".join(lines[3:]))
        assert (lines[1], int(lines[2])) == ("iptc", len(data))
        assert data[:12] == b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC))
        return data[12 : 12 + len(IPTC)]


def save_with_iptc(path):
    if path.suffix == ".jpg":
        buffer = io.BytesIO()
        Image.fromarray(pattern()).save(buffer, "JPEG")
        block = resource(0x03ED, bytes(16)) + resource(0x0404, IPTC, b"a name") + resource(0x040C, b"thumbnail")
        parts = [block[:50], block[50:]]  # of a block too long for one segment
        segments = [b"Photoshop 3.0\0" + part for part in parts]
        data = buffer.getvalue()
        head = b"".join(b"\xff\xed" + struct.pack(">H", len(one) + 2) + one for one in segments)
        path.write_bytes(data[:2] + head + data[2:])
    elif path.suffix == ".tif":
        tifffile.imwrite(path, pattern(), photometric="rgb", extratags=[(33723, 7, len(IPTC), IPTC, True)])
    else:
        body = raw_profile("iptc", resource(0x0404, IPTC))
        path.write_bytes(png_by_hand(pattern(), before=text_chunk("zTXt", b"Raw profile type iptc", body)))


@pytest.mark.parametrize("source", [".jpg", ".tif", ".png"])
@pytest.mark.parametrize("target", [".jpg", ".tif", ".png", ".webp"])
def test_iptc_goes_along(tmp_path, source, target):
    save_with_iptc(tmp_path / f"a{source}")
    image = decode(tmp_path / f"a{source}")
    assert image.iptc == IPTC
    notes = encode(image, tmp_path / f"b{target}")
    if target == ".webp":
        assert notes == ("WebP does not hold IPTC",)
        return
    assert notes == ()
    assert pillows_iptc(tmp_path / f"b{target}") == IPTC
    assert decode(tmp_path / f"b{target}").iptc == IPTC


def test_damaged_iptc_costs_nothing_but_itself(tmp_path):
    for block in (b"", b"8BIM", b"8BIM\x04\x04", b"8BIM\x04\x04\xff", b"8BIM\x04\x04\0\0\0\0\0\x10", b"junk", IPTC):
        assert read_resources(block) in (None, b"")
    assert read_resources(pack_resources(IPTC)) == IPTC
    long = datasets(*((2, 25, b"x" * 1000) for _ in range(70)))
    notes = encode(replace(from_array(pattern()), iptc=long), tmp_path / "a.jpg")
    assert notes == ("JPEG does not hold IPTC above 63 kB",)


@pytest.mark.parametrize("comment", [b"a comment", "Straße".encode(), "Straße".encode("latin-1")])
def test_a_comment_goes_along(tmp_path, comment):
    Image.fromarray(pattern()).save(tmp_path / "a.jpg", comment=comment)
    image = decode(tmp_path / "a.jpg")
    assert image.comment == comment
    assert from_pil(to_pil(image)).comment == comment
    encode(image, tmp_path / "b.jpg")
    encode(image, tmp_path / "b.png")
    with Image.open(tmp_path / "b.jpg") as again:
        assert again.info["comment"] == comment
    with Image.open(tmp_path / "b.png") as again:
        again.load()
        assert again.text["Comment"] in ("a comment", "Straße")
