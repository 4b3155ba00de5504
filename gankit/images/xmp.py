"""XMP packets: read the orientation, remove what no longer holds for a new image, and say that a model made it.

Packets are edited as text and not parsed and written anew, so that all the rest stays byte for byte as its author
wrote it, prefixes, comments and padding included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.parsers import expat

_LARGEST = 8 << 20
_GOOGLE = "http://ns.google.com/photos/1.0/"

GAIN_MAP = "the gain map (HDR) is not kept"
FILM = "the film of the motion photo is not kept"
DEPTH_MAP = "the depth map is not kept"
PANORAMA = "the panorama's geometry is not kept"
MANIFEST = "the C2PA manifest is not kept: it does not hold for a changed image"
EXTENDED = "the extended part of the XMP packet is not kept"

# (usual prefix, namespace, pattern of the properties' names, what to say when one was there). Only the usual prefix
# counts where a packet does not declare the namespace, as careless writers do.
_STALE: tuple[tuple[str, str, str, str | None], ...] = (
    ("tiff", "http://ns.adobe.com/tiff/1.0/", "Orientation|ImageWidth|ImageLength", None),
    ("exif", "http://ns.adobe.com/exif/1.0/", "Pixel[XY]Dimension", None),
    ("hdrgm", "http://ns.adobe.com/hdr-gain-map/1.0/", r"\w+", GAIN_MAP),
    ("HDRGainMap", "http://ns.apple.com/HDRGainMap/1.0/", r"\w+", GAIN_MAP),
    ("GCamera", f"{_GOOGLE}camera/", r"(?:MotionPhoto|MicroVideo)\w*", FILM),
    ("Container", f"{_GOOGLE}container/", r"\w+", None),
    ("GContainer", f"{_GOOGLE}container/", r"\w+", None),
    ("GDepth", f"{_GOOGLE}depthmap/", r"\w+", DEPTH_MAP),
    ("GImage", f"{_GOOGLE}image/", r"\w+", DEPTH_MAP),
    ("Device", "http://ns.google.com/photos/dd/1.0/device/", r"\w+", DEPTH_MAP),
    ("GPano", f"{_GOOGLE}panorama/", r"\w+", PANORAMA),
    ("xmpNote", "http://ns.adobe.com/xmp/note/", "HasExtendedXMP", EXTENDED),
    ("dcterms", "http://purl.org/dc/terms/", "provenance", MANIFEST),
)
_SOURCE_TYPE = ("Iptc4xmpExt", "http://iptc.org/std/Iptc4xmpExt/2008-02-29/", "DigitalSourceType", None)
_ORIENTATION = ("tiff", "http://ns.adobe.com/tiff/1.0/", "(Orientation)", None)
_EMPTY = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
_DIGITAL_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def read_xmp(packet: object) -> tuple[bytes | None, tuple[str, ...]]:
    """What is worth keeping of an XMP packet.

    Args:
        packet: as the file has it, in UTF-8; anything else counts as none.

    Returns:
        The packet without orientation, pixel dimensions and what describes other parts of the old file (a gain map, a
        film, a depth map, a C2PA manifest), or None where there is no packet; and a line for each part that a
        viewer will miss.
    """
    if not isinstance(packet, bytes) or b"<rdf:RDF" not in packet or len(packet) > _LARGEST:
        return None, ()
    cleaned, notes = packet, []
    for stale in _STALE:
        shorter = _without(cleaned, *stale[:3])
        if stale[3] and shorter != cleaned:
            notes.append(stale[3])
        cleaned = shorter
    if cleaned != packet and _is_xml(packet) and not _is_xml(cleaned):
        return None, ("the XMP packet is not kept: it cannot be edited",)
    return cleaned, tuple(dict.fromkeys(notes))


def xmp_orientation(packet: object) -> int:
    """The ``tiff:Orientation`` of a packet, 1 to 8; 1 where it has none, or no valid one."""
    if not isinstance(packet, bytes):
        return 1
    for prefix in _prefixes(packet, *_ORIENTATION[:2]):
        name = re.escape(prefix) + rb":Orientation"
        found = re.search(
            name + rb"""\s*=\s*["']\s*([1-8])\s*["']|<""" + name + rb"""(?:\s[^>]*)?>\s*([1-8])\s*<""", packet
        )
        if found:
            return int(found[1] or found[2])
    return 1


def with_source_type(packet: bytes | None, source_type: str) -> bytes:
    """State how an image came to be, in IPTC's ``DigitalSourceType``.

    Args:
        packet: an XMP packet, or None for a new one.
        source_type: a term of https://cv.iptc.org/newscodes/digitalsourcetype/, such as "trainedAlgorithmicMedia".

    Returns:
        The packet with the property; an earlier one is replaced.
    """
    prefix, namespace, name, _ = _SOURCE_TYPE
    packet = _without(packet or _EMPTY, prefix, namespace, name)
    about = re.search(rb"""rdf:about\s*=\s*("[^"]*"|'[^']*')""", packet)
    description = (
        f"<rdf:Description rdf:about={about[1].decode('utf-8', 'replace') if about else chr(34) * 2} "
        f'xmlns:{prefix}="{namespace}" {prefix}:{name}="{_DIGITAL_SOURCE_TYPES}{source_type}"/>'
    ).encode()
    closed = re.sub(rb"<rdf:RDF([^>]*)/>", rb"<rdf:RDF\1></rdf:RDF>", packet)
    before, end, after = closed.rpartition(b"</rdf:RDF>")
    return before + description + end + after if end else with_source_type(None, source_type)


def _without(packet: bytes, prefix: str, namespace: str, names: str) -> bytes:
    """A packet less the properties of these names, whether they are attributes or elements."""
    for bound in _prefixes(packet, prefix, namespace):
        name = re.escape(bound) + b":(?:" + names.encode() + b")"
        packet = re.sub(rb"""\s+%b\s*=\s*(?:"[^"]*"|'[^']*')""" % name, b"", packet)
        packet = re.sub(rb"<%b(?:\s[^<>]*)?/>" % name, b"", packet)
        packet = re.sub(rb"<(%b)(?:\s[^<>]*)?>.*?</\1\s*>" % name, b"", packet, flags=re.DOTALL)
    return packet


def _prefixes(packet: bytes, usual: str, namespace: str) -> Iterator[bytes]:
    """The prefixes that a packet binds to a namespace, and the usual one where it binds that to no other."""
    bound = dict(re.findall(rb"""xmlns:([\w.-]+)\s*=\s*["']([^"']*)["']""", packet))
    wanted = namespace.encode()
    yield from (prefix for prefix, value in bound.items() if value.strip() == wanted)
    if usual.encode() not in bound:
        yield usual.encode()


def _is_xml(packet: bytes) -> bool:
    try:
        expat.ParserCreate().Parse(packet.strip(b"\0 \r\n\t"), True)
    except expat.ExpatError:
        return False
    return True
