"""What goes along with the pixels from file to file, and the line that names what cannot."""

import io
import struct
import zlib
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from images_making import chunk, exif_block, pattern, png_by_hand, read_exif, srgb_profile
from PIL import Image, PngImagePlugin

from gankit.images import decode, encode, from_array, from_pil, mark_ai, strip_metadata, to_pil
from gankit.images.iptc import pack_resources, read_resources
from gankit.images.xmp import read_xmp, with_source_type, xmp_orientation

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
SPACES = {
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
    "GCamera": "http://ns.google.com/photos/1.0/camera/",
    "Container": "http://ns.google.com/photos/1.0/container/",
    "Item": "http://ns.google.com/photos/1.0/container/item/",
    "GPano": "http://ns.google.com/photos/1.0/panorama/",
    "GDepth": "http://ns.google.com/photos/1.0/depthmap/",
    "dcterms": "http://purl.org/dc/terms/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
}


def packet(attributes="", inner="", spaces=SPACES):
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in spaces.items())
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about="" {declared} '
        f'dc:source="kept" {attributes}>{inner}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


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
        "attribute": packet(f'tiff:Orientation="{orientation}"'),
        "element": packet(inner=f"<tiff:Orientation>{orientation}</tiff:Orientation>"),
        "other prefix": packet(f"t:Orientation='{orientation}'", spaces={"t": SPACES["tiff"], "dc": SPACES["dc"]}),
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
        "iTXt", b"XML:com.adobe.xmp", packet('tiff:Orientation="6"')
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
        assert xmp_orientation(packet(text)) == 1
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


PARTS = {
    "gain map": ('hdrgm:Version="1.0" hdrgm:GainMapMax="2.5"', "<hdrgm:Gamma><rdf:Seq/></hdrgm:Gamma>", "the gain map"),
    "container": (
        "",
        '<Container:Directory><rdf:Seq><rdf:li Item:Mime="image/jpeg"/></rdf:Seq></Container:Directory>',
        "",
    ),
    "motion photo": ('GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1"', "", "the film of the motion photo"),
    "panorama": (
        'GPano:FullPanoWidthPixels="53"',
        "<GPano:ProjectionType>cylindrical</GPano:ProjectionType>",
        "the pan",
    ),
    "depth map": ('GDepth:Near="1.2"', "", "the depth map"),
    "manifest": ('dcterms:provenance="self#jumbf=c2pa/x"', "", "the C2PA manifest"),
    "extension": ('xmpNote:HasExtendedXMP="0123"', "", "the extended part"),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("prefixes", ["usual", "others"])
def test_xmp_is_kept_less_what_no_longer_holds(part, prefixes):
    """Not the whole packet: who took the photograph still holds. Namespaces count, not prefixes."""
    attributes, inner, note = PARTS[part]
    spaces = SPACES
    if prefixes == "others":
        spaces = {f"x{prefix}" if prefix != "dc" else prefix: uri for prefix, uri in SPACES.items()}
        for prefix in SPACES.keys() - {"dc"}:
            attributes = attributes.replace(f"{prefix}:", f"x{prefix}:")
            inner = inner.replace(f"{prefix}:", f"x{prefix}:").replace("xx", "x")
    kept, notes = read_xmp(packet(attributes, inner + "<dc:rights>mine</dc:rights>", spaces))
    tree = ElementTree.fromstring(kept)
    description = tree[0][0]
    assert description.attrib == {f"{{{RDF}}}about": "", f"{{{SPACES['dc']}}}source": "kept"}
    assert [child.tag for child in description] == [f"{{{SPACES['dc']}}}rights"]
    assert [one.startswith(note) for one in notes] == ([True] if note else [])


def test_a_packet_that_cannot_be_edited_is_named():
    """An element of this name inside of itself, which no XMP writer makes."""
    inner = "<hdrgm:A><hdrgm:A>1</hdrgm:A></hdrgm:A>"
    assert read_xmp(packet(inner=inner)) == (None, ("the XMP packet is not kept: it cannot be edited",))


def jpeg_with(*segments):
    buffer = io.BytesIO()
    Image.fromarray(pattern()).save(buffer, "JPEG")
    data = buffer.getvalue()
    head = b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments)
    return data[:2] + head + data[2:]


def mpf(*kinds):
    """An index of several images (CIPA DC-007), big-endian: version, number, one entry of 16 bytes each."""
    place = 8 + 2 + 3 * 12 + 4
    entries = b"".join(struct.pack(">IIIHH", kind, 1000, 0, 0, 0) for kind in kinds)
    directory = struct.pack(">H", 3) + struct.pack(">HHI4s", 0xB000, 7, 4, b"0100")
    directory += struct.pack(">HHII", 0xB001, 4, 1, len(kinds)) + struct.pack(">HHII", 0xB002, 7, len(entries), place)
    return b"MPF\0MM\0*\0\0\0\x08" + directory + bytes(4) + entries


def test_parts_of_a_jpeg_that_are_dropped_are_named(tmp_path):
    manifest = b"JP\0\1\0\0\0\1" + struct.pack(">I", 40) + b"jumb" + struct.pack(">I", 32) + b"jumdc2pa"
    cases = {
        "the gain map (HDR) is not kept": [(0xE2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4))],
        "the C2PA manifest is not kept: it does not hold for a changed image": [(0xEB, manifest)],
        "only the first of 2 frames is used": [(0xE2, mpf(0x20030000, 0x020002))],
        "": [(0xE2, mpf(0x20030000, 0x010001)), (0xE2, b"MPF\0MM\0*\xff\xff\xff\xff"), (0xEB, b"JP something else")],
    }
    for note, segments in cases.items():
        (tmp_path / "a.jpg").write_bytes(jpeg_with(*segments))
        image = decode(tmp_path / "a.jpg")
        assert image.notes == ((note,) if note else ())
        assert encode(image, tmp_path / "b.jpg") == ()
        written = (tmp_path / "b.jpg").read_bytes()
        assert b"c2pa" not in written
        assert b"MPF\0" not in written
        assert b"21496" not in written


def test_manifests_of_other_formats(tmp_path):
    note = "the C2PA manifest is not kept: it does not hold for a changed image"
    (tmp_path / "a.png").write_bytes(png_by_hand(pattern(), before=chunk(b"caBX", b"c2pa" * 9)))
    tifffile.imwrite(tmp_path / "a.tif", pattern(), photometric="rgb", extratags=[(52545, 7, 36, b"c2pa" * 9, True)])
    Image.fromarray(pattern()).save(tmp_path / "a.webp", exif=exif_block())
    data = (tmp_path / "a.webp").read_bytes() + b"C2PA" + struct.pack("<I", 36) + b"c2pa" * 9
    (tmp_path / "a.webp").write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
    for suffix in (".png", ".tif", ".webp"):
        image = decode(tmp_path / f"a{suffix}")
        assert image.notes == (note,)
        encode(image, tmp_path / f"b{suffix}")
        assert b"c2pa" not in (tmp_path / f"b{suffix}").read_bytes()


def test_frames_and_pages_are_counted(tmp_path):
    frames = [Image.fromarray(pattern(seed=seed)) for seed in range(4)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "still.png", save_all=True, append_images=frames[1:], default_image=True)
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    with tifffile.TiffWriter(tmp_path / "thumbnail.tif") as writer:
        writer.write(pattern(), photometric="rgb")
        writer.write(pattern(9, 9), photometric="rgb", subfiletype=1)
    tifffile.imwrite(tmp_path / "imagej.tif", pattern(channels=1, dtype=np.uint16)[None].repeat(5, 0), imagej=True)
    want = {
        "a.webp": ("only the first of 4 frames is used",),
        "a.png": ("only the first of 4 frames is used",),
        "a.gif": ("only the first of 4 frames is used",),
        "still.png": ("only the still image is used, not the 3 frames of the animation",),
        "a.tif": ("only the first of 4 pages is used",),
        "thumbnail.tif": (),
        "imagej.tif": ("only the first of 5 pages is used",),
    }
    for name, notes in want.items():
        image = decode(tmp_path / name)
        assert image.notes == notes
        first = pattern(channels=1, dtype=np.uint16) if image.gray else pattern()
        if name == "a.gif":
            with Image.open(tmp_path / name) as pillow_image:
                first = np.asarray(pillow_image.convert("RGB"))
        assert np.array_equal(image.channels(), first)


def everything():
    return replace(
        from_array(pattern(channels=4)),
        icc_profile=srgb_profile(),
        exif=exif_block(),
        dpi=(300.0, 300.0),
        xmp=packet(),
        iptc=IPTC,
        comment=b"a comment",
        png_text=((b"tEXt", b"Author\0Somebody"),),
        png_colour=((b"gAMA", b"\0\0\xb1\x8f"),),
    )


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_strip_metadata(tmp_path, suffix):
    """Nothing that says who or where is in the file; colours and resolution stay."""
    image = everything()
    encode(strip_metadata(image), tmp_path / f"a{suffix}")
    data = (tmp_path / f"a{suffix}").read_bytes()
    for word in (b"Gankit", b"Camera", b"Somebody", b"comment", b"kept", b"Title", b"Exif\0\0"):
        assert word not in data
    again = decode(tmp_path / f"a{suffix}")
    assert (again.exif, again.xmp, again.iptc, again.comment, again.png_text) == (None, None, None, None, ())
    assert again.icc_profile == image.icc_profile
    assert again.png_colour == (image.png_colour if suffix == ".png" else ())
    assert again.dpi == (None if suffix == ".webp" else pytest.approx((300, 300), abs=0.02))
    assert strip_metadata(image).pixels is image.pixels


SOURCE_TYPE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def source_types(xmp):
    root = ElementTree.fromstring(xmp)
    found = [element.attrib[SOURCE_TYPE] for element in root.iter() if SOURCE_TYPE in element.attrib]
    return [one.removeprefix(TERMS) for one in found + [element.text for element in root.iter(SOURCE_TYPE)]]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("before", [None, packet(), packet("tiff:Make='x'")])
def test_mark_ai(tmp_path, suffix, before):
    """IPTC's property is in the file, as Pillow reads it, and the rest of the packet with it."""
    image = replace(from_array(pattern()), xmp=before)
    encode(mark_ai(image), tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as again:
        again.load()
        found = again.info["xmp"]
    found = found.encode() if isinstance(found, str) else found
    assert source_types(found) == ["compositeWithTrainedAlgorithmicMedia"]
    assert (b'dc:source="kept"' in found) == (before is not None)
    assert decode(tmp_path / f"a{suffix}").xmp == found


def test_mark_ai_replaces_what_was_said_before():
    image = mark_ai(mark_ai(mark_ai(from_array(pattern()))), "generated")
    assert source_types(image.xmp) == ["trainedAlgorithmicMedia"]
    spaces = {**SPACES, "e": SOURCE_TYPE[1:].partition("}")[0]}
    for attributes, inner in (
        ('e:DigitalSourceType="old"', ""),
        ("", "<e:DigitalSourceType>old</e:DigitalSourceType>"),
    ):
        marked = with_source_type(packet(attributes, inner, spaces), "trainedAlgorithmicMedia")
        assert source_types(marked) == ["trainedAlgorithmicMedia"]
    empty = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="%b"/></x:xmpmeta>' % RDF.encode()
    for damaged in (empty, b"<rdf:RDF"):
        assert source_types(with_source_type(damaged, "trainedAlgorithmicMedia")) == ["trainedAlgorithmicMedia"]


def test_mark_ai_where_it_cannot_be_held(tmp_path):
    assert encode(mark_ai(from_array(pattern())), tmp_path / "a.bmp") == ("BMP does not hold XMP",)


def test_notes_are_not_metadata(tmp_path):
    """They are for the run that decoded the file, and never written."""
    image = replace(from_array(pattern()), notes=("only the first of 4 frames is used",))
    encode(image, tmp_path / "a.png")
    assert b"frames" not in (tmp_path / "a.png").read_bytes()
    assert decode(tmp_path / "a.png").notes == ()
