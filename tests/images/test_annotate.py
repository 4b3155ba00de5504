"""Metadata that a user removes or adds before an image is written."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from images_making import RDF, SPACES, exif_block, pattern, srgb_profile, xmp_packet
from PIL import Image

from gankit.images import decode, encode, from_array, mark_ai, strip_metadata
from gankit.images.xmp import with_source_type


def everything():
    return replace(
        from_array(pattern(channels=4)),
        icc_profile=srgb_profile(),
        exif=exif_block(),
        dpi=(300.0, 300.0),
        xmp=xmp_packet(),
        iptc=b"\x1c\x02\x05\x00\x05Title",
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
@pytest.mark.parametrize("before", [None, xmp_packet(), xmp_packet("tiff:Make='x'")])
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
        marked = with_source_type(xmp_packet(attributes, inner, spaces), "trainedAlgorithmicMedia")
        assert source_types(marked) == ["trainedAlgorithmicMedia"]
    empty = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="%b"/></x:xmpmeta>' % RDF.encode()
    for damaged in (empty, b"<rdf:RDF"):
        assert source_types(with_source_type(damaged, "trainedAlgorithmicMedia")) == ["trainedAlgorithmicMedia"]


def test_mark_ai_where_it_cannot_be_held(tmp_path):
    assert encode(mark_ai(from_array(pattern())), tmp_path / "a.bmp") == ("BMP does not hold XMP",)
