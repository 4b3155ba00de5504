"""The registry of file formats: a new one is a file and a line, and everything that asks for formats finds it."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from images_making import exif_block, pattern, profile_of, srgb_profile
from PIL import Image

import gankit
from gankit.errors import ImageError
from gankit.images import FORMATS, RESULT_SUFFIXES, SUFFIXES, check_target, decode, encode, from_array, luma
from gankit.images.formats import REGISTRY, format_of, writer_of

NEW_FORMAT = '''
"""Gray pixels behind a short header."""
import struct
import numpy as np
from gankit.images.decoded import from_channels
from gankit.images.formats.base import Format, Header

def header(data):
    return Header(*struct.unpack_from(">HH", data, 4), bytes_per_pixel=4)

def decode(data):
    known = header(data)
    return from_channels(np.frombuffer(data, np.uint8, offset=8).reshape(known.height, known.width).copy())

def encode(image, quality):
    samples = image.channels()
    assert samples.dtype == np.uint8 and image.alpha is None and image.exif is None
    gray = samples if samples.ndim == 2 else samples[..., 1]
    return b"GRYX" + struct.pack(">HH", *gray.shape[::-1]) + gray.tobytes()

FORMAT = Format(
    name="grayx", title="GrayX", suffixes=(".gryx",), read_only=(".gryold",), aliases=("gryx",), max_side=65535,
    matches=lambda data: data.startswith(b"GRYX"), header=header, decode=decode, encode=encode,
)
'''
NEW_LINE = '    "grayx",\n'
CHECK = """
import sys
from pathlib import Path
import numpy as np
from gankit.errors import ImageError, UsageError
from gankit.images import SUFFIXES, check_target, decode, encode, from_array, strip_metadata
from gankit.pipeline.inputs import collect

folder = Path(sys.argv[1])
pixels = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
notes = encode(from_array(np.dstack([pixels, pixels])), folder / "a.gryx")
assert notes == ("GrayX does not hold 16 bits, transparency",)
image = decode(folder / "a.gryx")
assert (image.format, image.gray, image.pixels.shape) == ("GRAYX", True, (20, 30, 3))
(folder / "b.gryold").write_bytes((folder / "a.gryx").read_bytes())
targets = {job.source.name: job.target.name for job in collect([folder], folder / "out").jobs}
assert targets == {"a.gryx": "a.gryx", "b.gryold": "b.gryx"}, targets
for name in ("grayx", "gryx"):
    assert {job.target.suffix for job in collect([folder], folder / "out", format=name).jobs} <= {".gryx", ".grayx"}
assert check_target((65535, 1), folder / "a.gryx") is None

def text(error, function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except error as caught:
        return str(caught)
    raise AssertionError

assert "GrayX holds at most 65535" in text(ImageError, check_target, (65536, 1), folder / "a.gryx")
assert "grayx, gryx" in text(UsageError, collect, [folder], folder / "out", format="zzz")
assert ".gryold, .gryx" in text(UsageError, collect, [__file__], folder / "out")
assert "gryx" in text(ImageError, encode, image, folder / "a.zzz")
(folder / "a.png").write_text("no image")
assert ", GrayX, " in text(ImageError, decode, folder / "a.png")
assert "more than the limit" in text(ImageError, decode, folder / "a.gryx", max_pixels=10)
assert "torch" not in sys.modules
"""


def test_a_new_format_is_one_file_and_one_line(tmp_path):
    """Done as a contributor does it, in a copy of the package, seen by an interpreter that knows no other."""
    here, copy = Path(gankit.__file__).parent, tmp_path / "copy" / "gankit"
    copy.mkdir(parents=True)
    for child in here.iterdir():
        if child.name != "images":
            (copy / child.name).symlink_to(child)
    shutil.copytree(here / "images", copy / "images")
    formats = copy / "images" / "formats"
    (formats / "grayx.py").write_text(NEW_FORMAT)
    registry = (formats / "__init__.py").read_text()
    line = '    "gif",\n'
    assert registry.count(line) == 1
    (formats / "__init__.py").write_text(registry.replace(line, line + NEW_LINE))
    (tmp_path / "check.py").write_text(CHECK)
    (tmp_path / "images").mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(copy.parent), *filter(None, sys.path)])}
    command = [sys.executable, tmp_path / "check.py", tmp_path / "images"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_format_states_what_it_is():
    names = [name for one in REGISTRY for name in (one.name, *one.aliases)]
    suffixes = [suffix for one in REGISTRY for suffix in (*one.suffixes, *one.read_only)]
    assert len(set(names)) == len(names)
    assert len(set(suffixes)) == len(suffixes)
    assert set(suffixes) == SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)
    for name, suffix in FORMATS.items():
        assert writer_of(suffix).name in (name, "jpeg", "tiff")
    assert RESULT_SUFFIXES == {".apng": ".png", ".gif": ".png", ".heic": ".png", ".heif": ".png", ".hif": ".png"}
    assert format_of(b"") is None


@pytest.mark.parametrize("format", [one for one in REGISTRY if one.encode], ids=lambda one: one.name)
def test_a_format_holds_what_it_states(tmp_path, format):
    """The record and the writer agree, on each fact, for images that have everything."""
    full = replace(
        from_array(pattern(channels=4, dtype=np.uint16) | 1),
        icc_profile=srgb_profile(),
        exif=exif_block(),
        dpi=(300.0, 300.0),
        xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF></rdf:RDF></x:xmpmeta>',
        iptc=b"\x1c\x02\x05\x00\x05Title",
        comment=b"a comment",
        png_text=((b"tEXt", b"Author\0Somebody"),),
        png_colour=((b"gAMA", b"\0\0\xb1\x8f"),),
    )
    notes = encode(full, tmp_path / f"a{format.suffixes[0]}")
    kept = decode(tmp_path / f"a{format.suffixes[0]}")
    assert kept.format == format.name.upper()
    assert (kept.pixels.dtype == np.uint16) == format.sixteen_bit
    assert (kept.alpha is not None) == format.alpha
    assert (kept.icc_profile is not None) == format.icc
    assert (kept.exif is not None) == (format.exif_bytes > 0)
    assert (kept.xmp is not None) == (format.xmp_bytes > 0)
    assert (kept.iptc == full.iptc) == (format.iptc_bytes > 0)
    assert (kept.dpi is not None) == format.dpi
    assert (kept.png_colour != ()) == format.png_colour
    assert (full.png_text[0] in kept.png_text) == format.text
    has_comment = kept.comment == b"a comment" or (b"tEXt", b"Comment\0a comment") in kept.png_text
    assert has_comment == (format.comment_bytes > 0)
    words = {
        "16 bits": format.sixteen_bit,
        "transparency": format.alpha,
        "the colour profile": format.icc,
        "EXIF": format.exif_bytes > 0,
        "XMP": format.xmp_bytes > 0,
        "IPTC": format.iptc_bytes > 0,
        "PNG text (Author)": format.text,
        "the comment": format.comment_bytes > 0,
    }
    lost = [word for word, held in words.items() if not held]
    rounded = format.coarse(full.to_8bit())
    assert notes == (*((f"{format.title} does not hold {', '.join(lost)}",) if lost else ()), *rounded)
    assert len(rounded) == (2 if format.name == "gif" else 0)
    gray = replace(from_array(pattern(channels=1)), icc_profile=profile_of(b"GRAY"))
    encode(gray, tmp_path / f"b{format.suffixes[0]}")
    assert decode(tmp_path / f"b{format.suffixes[0]}").gray == format.gray


def test_a_target_is_checked_before_there_are_pixels(tmp_path):
    check_target((16383, 16383), tmp_path / "a.webp")
    check_target((65500, 1), tmp_path / "a.JPG")
    check_target((100_000, 100_000), tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"a\.webp: WebP holds at most 16383 pixels a side, .* 16384×10; use png"):
        check_target((16384, 10), tmp_path / "a.webp")
    with pytest.raises(ImageError, match="JPEG holds at most 65500"):
        check_target((10, 65501), tmp_path / "a.jpeg")
    with pytest.raises(ImageError, match=r"no format writes '\.psd'"):
        check_target((10, 10), tmp_path / "a.psd")


def test_luma_is_pillows():
    """Every second value of each channel; Pillow's ``convert("L")`` is the independent reference."""
    values = np.arange(0, 256, 2, dtype=np.uint8)
    colours = np.stack(np.meshgrid(values, values, values), -1).reshape(128, -1, 3)
    assert np.array_equal(luma(colours), np.asarray(Image.fromarray(colours).convert("L")))


def test_luma_of_16_bits_and_of_gray():
    gray = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(luma(np.repeat(gray[..., None], 3, -1)), gray)
    colour = pattern(dtype=np.uint16)
    assert np.abs(luma(colour) - colour @ np.array([0.299, 0.587, 0.114])).max() < 1
