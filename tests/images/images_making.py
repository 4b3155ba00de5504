"""Images and files for the tests of this room, made without gankit's writers."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin


def pattern(height=37, width=53, channels=3, dtype=np.uint8, seed=0):
    """Gradients with noise, every channel another one; the full range of the dtype occurs."""
    top = np.iinfo(dtype).max
    y, x = np.mgrid[:height, :width].astype(np.float64)
    planes = [np.sin(x * 0.11 * (c + 1)) + np.cos(y * 0.07 * (c + 2)) for c in range(channels)]
    field = np.stack(planes, -1) + np.random.default_rng(seed).normal(0, 0.1, (height, width, channels))
    field = (field - field.min()) / (field.max() - field.min())
    out = np.rint(field * top).astype(dtype)
    return out[..., 0] if channels == 1 else out


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_by_hand(samples, *, depth=None, colour_type=None, before=b"", after=b"", size=None):
    """A PNG with filter 0, written from the specification: samples (H, W[, C]) uint8 or uint16, or packed rows."""
    height, width = samples.shape[:2]
    count = 1 if samples.ndim == 2 else samples.shape[2]
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[count] if colour_type is None else colour_type
    depth = depth or samples.itemsize * 8
    rows = samples.astype(samples.dtype.newbyteorder(">")).reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", *(size or (width, height)), depth, colour_type, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            before,
            chunk(b"IDAT", zlib.compress(data)),
            after,
            chunk(b"IEND", b""),
        ]
    )


def srgb_profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile_of(space):
    """The sRGB profile with its colour space renamed: enough to see what is kept."""
    data = bytearray(srgb_profile())
    data[16:20] = space
    return bytes(data)


def cmyk_profile():
    """A real profile of a press, in the public domain, which libvips brings along."""
    pyvips = pytest.importorskip("pyvips", reason="libvips has the CMYK profile: pip install 'gankit[large]'")
    return bytes(pyvips.Operation.call("profile_load", "cmyk"))


def exif_block(orientation=1, thumbnail=False):
    """A camera's block: IFD0, Exif and GPS directories, and if wanted a thumbnail directory."""
    exif = Image.Exif()
    exif[0x010F] = "Gankit Camera"
    exif[0x0112] = orientation
    sub = exif.get_ifd(0x8769)
    sub[0x9003] = "2024:05:06 07:08:09"
    sub[0x829A] = TiffImagePlugin.IFDRational(1, 250)
    sub[0xA002] = 53
    sub[0xA003] = 37
    gps = exif.get_ifd(0x8825)
    gps[1] = "N"
    gps[2] = (51.0, 28.0, 38.0)
    if thumbnail:
        exif.get_ifd(0x1)[0x0103] = 6
    return exif.tobytes()


def read_exif(block):
    """(IFD0, Exif, GPS) by Pillow."""
    exif = Image.Exif()
    exif.load(block)
    return dict(exif), dict(exif.get_ifd(0x8769)), dict(exif.get_ifd(0x8825))


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


def xmp_packet(attributes="", inner="", spaces=SPACES):
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in spaces.items())
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about="" {declared} '
        f'dc:source="kept" {attributes}>{inner}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()
