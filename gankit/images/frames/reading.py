"""Read the frames of an animation, or the pages of a TIFF, one after the other."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import AvifImagePlugin, GifImagePlugin, PngImagePlugin, WebPImagePlugin

from gankit.errors import ImageError, ImageMemoryError
from gankit.images import avif_boxes
from gankit.images.decode import check_size, memory_reason, read_whole, reason_of
from gankit.images.decoded import DecodedImage, full_scale
from gankit.images.formats.avif import at_depth, sample_bits
from gankit.images.formats.base import Header
from gankit.images.frames.facts import FrameFacts, Kind
from gankit.images.gif_file import is_complete
from gankit.images.jpeg_stream import TRUNCATED
from gankit.images.pillow import from_pil
from gankit.memory import size

_FINEST = 65535  # largest denominator of a time in APNG, which Pillow turns into a float
_BYTES_PER_PIXEL = 18  # Pillow's canvas and what it disposes of, the array and a copy of it
_MANY = 1 << 31
_MOST_DEEP = 1 << 30  # bytes of all frames of an AVIF with 16 bits, whose decoder returns them at once
_Timed = tuple[DecodedImage, Fraction]


def probe(path: Path, kind: Kind, max_pixels: int, max_bytes: int | None = None) -> FrameFacts:
    """Decode every frame once, one at a time, and return what must be known before the first one is written.

    Args:
        path: the file.
        kind: what :func:`~gankit.images.frames.facts.kind_of` returns for it.
        max_pixels: refuse frames with more pixels.
        max_bytes: refuse frames that need more memory to decode; ``None`` for no limit.

    Raises:
        ImageError: a frame is damaged or missing, or too large; the message names it.
    """
    data = read_whole(path, max_bytes)
    if _is_deep(data, kind, max_bytes):
        with suppress(ImageError):  # if a frame is damaged, reading one after the other tells which one
            return _probed(path, data, kind, max_pixels, max_bytes, deep=True)
    return _probed(path, data, kind, max_pixels, max_bytes)


def _probed(
    path: Path, data: bytes, kind: Kind, max_pixels: int, max_bytes: int | None, *, deep: bool = False
) -> FrameFacts:
    seconds: list[Fraction] = []
    runs: list[int] = []
    alpha, gray, last = False, True, None
    for image, duration in _frames(path, data, kind, max_pixels, max_bytes, deep=deep):
        seconds.append(duration)
        alpha, gray = alpha or image.alpha is not None, gray and image.gray
        if last is not None and _equal(last, image):
            runs[-1] += 1
        else:
            runs.append(1)
            last = image
    notes = () if deep else _notes(data, kind)
    return FrameFacts(path, kind, tuple(seconds), tuple(runs), _plays(data, kind), alpha, gray, notes, deep)


def distinct_frames(facts: FrameFacts, max_pixels: int, max_bytes: int | None = None) -> Iterator[DecodedImage]:
    """Yield each frame that differs from the one before it, as many as ``facts.runs`` has numbers.

    Args:
        facts: what :func:`probe` returned.
        max_pixels: as for :func:`probe`.
        max_bytes: as for :func:`probe`.

    Yields:
        The frames of an animation, all with transparency if any of them has it, and without metadata; or pages, each
        with its own.

    Raises:
        ImageError: as for :func:`probe`; or the file has changed since.
    """
    data = read_whole(facts.path, max_bytes)
    frames = _frames(facts.path, data, facts.kind, max_pixels, max_bytes, deep=facts.deep)
    for run in facts.runs:
        for number in range(run):
            image, _ = next(frames, (None, None))
            if image is None:
                raise ImageError(facts.path, "changed while it was read; run the command again")
            if number == 0:
                yield image if facts.kind == "tiff" else _uniform(image, facts)


def _uniform(image: DecodedImage, facts: FrameFacts) -> DecodedImage:
    """Give a frame the channels that all frames of its animation have."""
    alpha = image.alpha
    if facts.alpha and alpha is None:
        alpha = np.full(image.pixels.shape[:2], full_scale(image.pixels.dtype), image.pixels.dtype)
    return DecodedImage(image.pixels, alpha, gray=facts.gray)


def _frames(
    path: Path, data: bytes, kind: Kind, max_pixels: int, max_bytes: int | None, *, deep: bool = False
) -> Iterator[_Timed]:
    """Yield each frame and its duration; transparency that is none is left out.

    Raises:
        ImageError: as for :func:`probe`.
    """
    if kind == "tiff":
        source = _pages(data, max_pixels, max_bytes)
    elif deep:
        source = _deep(data, max_pixels, max_bytes)
    else:
        source = _composed(data, kind, max_pixels, max_bytes)
    word, done, total, known = "page" if kind == "tiff" else "frame", 0, 0, False
    try:
        total, known = next(source), True
        for done in range(total or _MANY):  # noqa: B007 - the error names it
            image, duration = next(source)
            if image.alpha is not None and image.alpha.min() == full_scale(image.alpha.dtype):
                image = replace(image, alpha=None)
            yield image, duration
        done = total
        next(source, None)  # checks what follows the last frame
    except ImageError:
        raise
    except Exception as error:  # decoders raise all kinds of exceptions for damaged bytes
        place = f"{word} {done + 1} of {total}: " if done < total else ""
        if known and not total:
            place = f"{word} {done + 1}: "
        text = "it is missing" if isinstance(error, StopIteration) else reason_of(error)
        if isinstance(error, IndexError | struct.error):  # Pillow's at the end of a GIF
            text = TRUNCATED
        if isinstance(error, MemoryError):
            raise ImageMemoryError(path, f"{place}{memory_reason(error)}") from None
        raise ImageError(path, f"{place}{text}") from error


def _composed(data: bytes, kind: Kind, max_pixels: int, max_bytes: int | None) -> Iterator[Any]:
    """Yield the number of frames (0 if a damaged one hides it), and then each frame as a viewer shows it."""
    image = _open(data, kind)
    first = 1 if getattr(image, "default_image", False) else 0  # a still image for viewers that know no APNG
    size, count = image.size, _count(data, kind)
    times = avif_boxes.durations(data) if kind == "avif" else ()
    yield max(0, count - first)
    for number in range(first, count or _MANY):
        image.seek(number)
        check_size(Header(image.width, image.height, _BYTES_PER_PIXEL), max_pixels, max_bytes)
        image.load()
        duration = Fraction(image.info.get("duration", 0)) / 1000
        if len(times) == count:  # Pillow rounds them to milliseconds
            duration = times[number]
        frame = from_pil(image)
        if image.size != size:  # a GIF whose frames reach beyond its screen, where viewers cut them off
            frame = from_pil(image.crop((0, 0, *size)))
        yield frame, duration.limit_denominator(_FINEST)
    if kind == "gif":
        is_complete(data)


def _deep(data: bytes, max_pixels: int, max_bytes: int | None) -> Iterator[Any]:
    """Yield the number of frames of an AVIF, and then each frame of 10 or 12 bits, with 16."""
    import imagecodecs

    image, times, bits = _open(data, "avif"), avif_boxes.durations(data), sample_bits(data)
    check_size(Header(image.width, image.height, _BYTES_PER_PIXEL), max_pixels, max_bytes)
    frames = imagecodecs.avif_decode(data, index=None)
    if len(frames) != image.n_frames or len(times) != len(frames):
        raise ValueError("its frames and their times differ in number")
    yield len(frames)
    for samples, duration in zip(frames, times, strict=True):
        yield at_depth(samples, bits, image), duration.limit_denominator(_FINEST)


def _bits(data: bytes, kind: Kind) -> int:
    """Return the bits of a sample, if gankit may read fewer; otherwise 8."""
    return sample_bits(data) if kind == "avif" else 8


def _deep_bytes(data: bytes, kind: Kind) -> int:
    """Return the bytes that all frames take with 16 bits."""
    width, height = _open(data, kind).size
    return int(width) * int(height) * _count(data, kind) * 8


def _is_deep(data: bytes, kind: Kind, max_bytes: int | None) -> bool:
    """Whether to read more than 8 bits: the frames leave room for the engine and its results."""
    if _bits(data, kind) == 8:
        return False
    most = _MOST_DEEP if max_bytes is None else min(_MOST_DEEP, max_bytes // 4)
    try:
        return _deep_bytes(data, kind) <= most
    except Exception:  # reading the frames tells what is damaged
        return False


def _count(data: bytes, kind: Kind) -> int:
    """Return the number of frames; 0 if a damaged one hides it."""
    try:
        return int(_open(data, kind).n_frames)
    except (IndexError, struct.error):
        return 0


def _open(data: bytes, kind: Kind) -> Any:
    if kind == "gif":
        return GifImagePlugin.GifImageFile(io.BytesIO(data))
    if kind == "png":
        return PngImagePlugin.PngImageFile(io.BytesIO(data))
    if kind == "avif":
        return AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    return WebPImagePlugin.WebPImageFile(io.BytesIO(data))


def _pages(data: bytes, max_pixels: int, max_bytes: int | None) -> Iterator[Any]:
    """Yield the number of pages, and then each page of a TIFF."""
    import tifffile

    from gankit.images.tiff_file import decode_page, page_header, page_numbers
    from gankit.images.tiff_parts import check_chain

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        numbers = page_numbers(file)
        yield len(numbers)
        for number in numbers:
            check_size(page_header(file.pages[number].aspage()), max_pixels, max_bytes)
            yield replace(decode_page(file, data, number), format="TIFF"), Fraction(0)
    check_chain(data)


def _plays(data: bytes, kind: Kind) -> int:
    """Return how often an animation plays in all; 0 for without end.

    A GIF states how often it repeats, and plays once if it states nothing: so browsers read it.
    """
    if kind == "tiff":
        return 1
    if kind == "avif":
        return avif_boxes.plays(data)
    loop = _open(data, kind).info.get("loop")
    if kind != "gif":
        return int(loop or 0)
    return 1 if loop is None else loop + 1 if loop else 0


def _notes(data: bytes, kind: Kind) -> tuple[str, ...]:
    if kind == "gif":
        return () if is_complete(data) else ("its end mark is missing; frames may be missing too",)
    if (bits := _bits(data, kind)) > 8:
        needed = size(_deep_bytes(data, kind))
        return (f"its frames are read with 8 bits, not {bits}, because with all bits they take {needed} together",)
    if kind != "png":
        return ()
    notes = []
    if data[24] == 16 and data[25] != 0:
        notes.append("its frames are read with 8 bits, not 16")
    if _open(data, kind).default_image:
        notes.append("its still image, which is none of the frames, is not kept")
    return tuple(notes)


def _equal(first: DecodedImage, second: DecodedImage) -> bool:
    """Whether two frames or pages have the same pixels. The texts of equal pages are those of the first one."""
    facts = [(each.gray, each.icc_profile, each.cmyk_profile, each.dpi, each.hdr) for each in (first, second)]
    if facts[0] != facts[1]:
        return False
    for one, other in ((first.pixels, second.pixels), (first.alpha, second.alpha)):
        if one is None or other is None:
            if one is not other:
                return False
        elif one.dtype != other.dtype or not np.array_equal(one, other):
            return False
    return True
