"""Write an image while its rows arrive, because it does not fit into memory: PNG, TIFF, and JPEG with pyvips."""

from __future__ import annotations

import importlib.util
import queue
import threading
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gankit.errors import ImageError
from gankit.images.cmyk import to_inks
from gankit.images.decoded import DecodedImage, from_channels
from gankit.images.encode import check_target, fitting, whole_file
from gankit.images.formats import Format, writer_of
from gankit.images.formats.jpeg import FULL_COLOUR, photoshop_segment
from gankit.images.formats.png import write_png_rows

_WRITERS = ("png", "tiff", "jpeg")
_STRIP_ROWS = 64


def check_rows_target(size: tuple[int, int], path: Path) -> Format:
    """Refuse a result that cannot be written while its rows arrive.

    Args:
        size: width and height of the result in pixels.
        path: its file; the suffix names the format.

    Returns:
        The format.

    Raises:
        ImageError: the format holds fewer pixels, or cannot be written by strips. The message names one that can.
    """
    check_target(size, path)
    format = writer_of(path.suffix)
    assert format is not None
    if format.name not in _WRITERS:
        raise ImageError(path, f"{format.title} cannot be written by strips; use --format png or tiff")
    if format.name == "jpeg" and importlib.util.find_spec("pyvips") is None:
        raise ImageError(
            path, "pyvips writes a JPEG by strips: pip install 'gankit[large]'; or use --format png or tiff"
        )
    return format


def encode_rows(
    head: DecodedImage, size: tuple[int, int], strips: Iterable[DecodedImage], path: Path, *, quality: int = 95
) -> tuple[str, ...]:
    """Write an image whose strips arrive from the top, as :func:`gankit.images.encode` writes a whole one.

    The pixels of a PNG or TIFF are those that ``encode`` writes. A JPEG comes from another encoder, libvips, with the
    same quality and resolution of colours.

    Args:
        head: says what the pixels are and holds the metadata; its own pixels are not used.
        size: width and height of the result in pixels.
        strips: the image in strips of its full width. Each may use the memory of the previous one.
        path: where; its folder exists. An existing file is replaced in one step.
        quality: 1 to 100, of a JPEG.

    Returns:
        A sentence for each part of the image that the format cannot hold; empty where all is kept.

    Raises:
        ImageError: the format cannot hold the image.
        OutputError: the folder cannot be written to: no permission, disk full, read-only.
    """
    path = Path(path)
    format = check_rows_target(size, path)
    reduced, notes = fitting(head, format)
    parts = (replace(fitting(strip, format)[0], cmyk_profile=reduced.cmyk_profile) for strip in strips)
    rows = (part.channels() for part in parts)
    with whole_file(path) as file:
        if format.name == "png":
            write_png_rows(reduced, size, rows, file.write)
        elif format.name == "tiff":
            from gankit.images.tiff_write import stored_samples, write_tiff_rows

            write_tiff_rows(reduced, size, even_strips(map(stored_samples, parts), _STRIP_ROWS), file)
        else:
            if (profile := reduced.cmyk_profile) is not None:
                rows = (to_inks(part.pixels, profile) for part in parts)
            _write_jpeg(reduced, size, rows, file, quality)
    return notes


def even_strips(arrays: Iterable[np.ndarray], rows: int) -> Generator[np.ndarray, None, None]:
    """Cut and join arrays (n, …) to arrays of so many rows; the last one may have fewer."""
    kept: list[np.ndarray] = []
    count = 0
    for array in arrays:
        top = 0
        while top < len(array):
            part = array[top : top + rows - count]
            top += len(part)
            count += len(part)
            if count == rows and not kept:
                yield part
                count = 0
                continue
            kept.append(part if count == rows else part.copy())  # the next array may use this one's memory
            if count == rows:
                yield np.concatenate(kept)
                kept.clear()
                count = 0
    if kept:
        yield np.concatenate(kept)


class _Ended(Exception):  # noqa: N818 - a signal, no error
    """libvips reads no more."""


class _Feed:
    """Hands bytes from the thread that makes them to libvips, which reads them in threads of its own."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes] = queue.Queue(1)
        self._rest = memoryview(b"")
        self._ended = False

    def put(self, data: bytes, thread: threading.Thread) -> bool:
        """Pass bytes on, none at the end; return whether somebody still reads them."""
        while thread.is_alive():
            try:
                self._queue.put(data, timeout=0.5)
            except queue.Full:
                continue
            return True
        return False

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; none at the end."""
        if not self._rest and not self._ended:
            self._rest = memoryview(self._queue.get())
            self._ended = not self._rest
        part, self._rest = self._rest[:size], self._rest[size:]
        return bytes(part)


def _write_jpeg(
    image: DecodedImage, size: tuple[int, int], rows: Iterable[np.ndarray], file: BinaryIO, quality: int
) -> None:
    """Let libvips encode what it reads as the stream of a PNG.

    Raises:
        OSError: of the file, such as a full disk.
        ImageError: libvips cannot encode it.
    """
    import pyvips

    failed: list[Exception] = []
    feed = _Feed()

    def write(data: bytes) -> int:
        try:
            return file.write(data)
        except OSError as error:
            failed.append(error)
            return -1

    source, target = pyvips.SourceCustom(), pyvips.TargetCustom()
    source.on_read(feed.read)
    target.on_write(write)

    def encode() -> None:
        try:
            made = pyvips.Image.new_from_source(source, "", access="sequential")
            _with_metadata(made, image).jpegsave_target(
                target, Q=quality, subsample_mode="off" if full else "on", keep="all"
            )
        except Exception as error:  # raised in the other thread
            failed.append(error)

    def put(data: bytes) -> None:
        if not feed.put(data, thread):
            raise _Ended

    full = quality >= FULL_COLOUR or image.cmyk_profile is not None
    # The metadata do not need the way through a PNG, which takes the four inks for RGBA.
    bare = from_channels(np.zeros((1, 1, 4), np.uint8) if image.cmyk_profile else image.channels())
    thread = threading.Thread(target=encode, name="jpeg")
    thread.start()
    try:
        write_png_rows(bare, size, rows, put)
    except _Ended:
        pass
    finally:
        feed.put(b"", thread)
        thread.join()
    if failed:
        if isinstance(failed[0], OSError):
            raise failed[0]
        reason = " ".join(str(failed[0]).split())
        raise ImageError(file.name, f"cannot be written as jpeg: {reason}")


def _with_metadata(made: Any, image: DecodedImage) -> Any:
    """Return a libvips image with the metadata of a decoded image."""
    import pyvips

    kind = "cmyk" if image.cmyk_profile else "b-w" if image.samples == 1 else "srgb"
    made = made.copy(interpretation=kind)
    if image.dpi:
        made = made.copy(xres=image.dpi[0] / 25.4, yres=image.dpi[1] / 25.4)
    blobs = {
        "icc-profile-data": image.cmyk_profile or image.icc_profile,
        "exif-data": image.exif,
        "xmp-data": image.xmp,
    }
    blobs["iptc-data"] = photoshop_segment(image.iptc) if image.iptc else None
    for name, value in blobs.items():
        if value:
            made.set_type(pyvips.GValue.blob_type, name, value)
    return made
