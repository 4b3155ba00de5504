"""What a decoded image no longer has is named, and XMP is kept less what no longer holds."""

import io
import struct
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from images_making import RDF, SPACES, chunk, exif_block, pattern, png_by_hand, xmp_packet
from PIL import Image

from gankit.images import decode, encode, from_array
from gankit.images.xmp import read_xmp

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
    kept, notes = read_xmp(xmp_packet(attributes, inner + "<dc:rights>mine</dc:rights>", spaces))
    tree = ElementTree.fromstring(kept)
    description = tree[0][0]
    assert description.attrib == {f"{{{RDF}}}about": "", f"{{{SPACES['dc']}}}source": "kept"}
    assert [child.tag for child in description] == [f"{{{SPACES['dc']}}}rights"]
    assert [one.startswith(note) for one in notes] == ([True] if note else [])


def test_a_packet_that_cannot_be_edited_is_named():
    """An element of this name inside of itself, which no XMP writer makes."""
    inner = "<hdrgm:A><hdrgm:A>1</hdrgm:A></hdrgm:A>"
    assert read_xmp(xmp_packet(inner=inner)) == (None, ("the XMP packet is not kept: it cannot be edited",))


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


def test_notes_are_not_metadata(tmp_path):
    """They are for the run that decoded the file, and never written."""
    image = replace(from_array(pattern()), notes=("only the first of 4 frames is used",))
    encode(image, tmp_path / "a.png")
    assert b"frames" not in (tmp_path / "a.png").read_bytes()
    assert decode(tmp_path / "a.png").notes == ()
