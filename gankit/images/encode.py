"""Decoded images to files that appear whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from gankit_export.files import atomic_path

from gankit.errors import ImageError, ImageMemoryError, OutputError
from gankit.images.alpha import flatten
from gankit.images.decoded import DecodedImage, fitting_profile
from gankit.images.formats import FORMATS, Format, writer_of
from gankit.images.png_text import keywords

# Errors that concern the name or the size of this one file; any other concerns the whole output.
_OF_THIS_FILE = frozenset({errno.ENAMETOOLONG, errno.EISDIR, errno.EILSEQ, errno.EINVAL, errno.ENOTEMPTY, errno.EFBIG})


def encode(image: DecodedImage, path: Path, *, quality: int = 95) -> tuple[str, ...]:
    """Write an image in the format of the path's suffix.

    PNG keeps everything. TIFF keeps all but PNG text and comments, and but fractions among the EXIF entries of its
    first directory. JPEG and BMP hold no transparency: the image is laid on white. JPEG, WebP, GIF and BMP hold 8 bits:
    16-bit values are rounded to the nearest. JPEG keeps full colour resolution (4:4:4) from quality 90 on, and
    neither EXIF, XMP nor IPTC above 64 kB. BMP holds no metadata but the resolution, and GIF none but the comment. GIF
    holds 256 colours, and no partial transparency. JPEG and TIFF hold the CMYK of a source that came with its profile.

    Args:
        image: what to write.
        path: where; its folder exists. An existing file is replaced in one step.
        quality: 1 to 100, of JPEG and WebP.

    Returns:
        A sentence for each part of the image that the format cannot hold; empty where all is kept.

    Raises:
        ImageError: no format has this suffix, or the format cannot hold the image.
        OutputError: the folder cannot be written to: no permission, disk full, read-only.
    """
    path = Path(path)
    format = _writer(path)
    data, notes = encode_bytes(image, format, path, quality=quality)
    _write_whole(path, data)
    return notes


def check_target(size: tuple[int, int], path: Path) -> None:
    """Refuse a result that its format cannot hold, before any work is done for it.

    Args:
        size: width and height of the result in pixels.
        path: its file; the suffix names the format.

    Raises:
        ImageError: no format has this suffix, or the format holds fewer pixels a side.
    """
    path = Path(path)
    _check_side(size, _writer(path), path)


def _writer(path: Path) -> Format:
    format = writer_of(path.suffix)
    if format is None:
        raise ImageError(path, f"no format writes '{path.suffix}'; use {', '.join(FORMATS)}")
    return format


def _check_side(size: tuple[int, int], format: Format, path: Path) -> None:
    width, height = size
    if max(size) > format.max_side:
        raise ImageError(
            path, f"{format.title} holds at most {format.max_side} pixels a side, this has {width}×{height}; use png"
        )


def encode_bytes(
    image: DecodedImage, format: Format, path: Path, *, quality: int = 95
) -> tuple[bytes, tuple[str, ...]]:
    """The file that :func:`encode` writes.

    Args:
        image: what to encode.
        format: one that is written.
        path: named in errors.
        quality: 1 to 100, of JPEG and WebP.

    Returns:
        The whole file, and what :func:`encode` returns.

    Raises:
        ImageError: the format cannot hold the image.
    """
    height, width = image.pixels.shape[:2]
    _check_side((width, height), format, path)
    try:
        fitted, notes = fitting(image, format)
        assert format.encode is not None
        return format.encode(fitted, quality), notes
    except MemoryError:
        raise ImageMemoryError(path, "there is not enough memory to encode it") from None
    except Exception as error:
        # Encoders raise all kinds of exceptions for odd metadata: struct.error, TypeError, SystemError, …
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(path, f"cannot be written as {format.name}: {reason}") from error


def fitting(image: DecodedImage, format: Format) -> tuple[DecodedImage, tuple[str, ...]]:
    """Reduce an image to what a format holds; return it, and a sentence on what that takes away."""
    lost = []
    image = replace(image, icc_profile=fitting_profile(image.icc_profile, image.gray))
    if image.hdr is not None and not format.hdr:
        lost.append("linear values beyond 0 to 1")
        lost += ["the colour profile"] if image.icc_profile else []
        image = image.to_display()
    elif not format.sixteen_bit and image.pixels.itemsize > 1:
        lost.append("16 bits")
        image = image.to_8bit()
    if not format.sixteen_bit:
        image = image.to_8bit()
    if not format.alpha and image.alpha is not None:
        lost.append("transparency")
        image = replace(image, pixels=flatten(image.pixels, image.alpha), alpha=None)
    if image.cmyk_profile and (not format.cmyk or image.gray or image.alpha is not None):
        lost.append("CMYK" if not format.cmyk else "CMYK that is gray or transparent")
        image = replace(image, cmyk_profile=None)
    elif image.cmyk_profile:
        image = image.to_8bit()
    if image.icc_profile and not format.icc:
        lost.append("the colour profile")
        image = replace(image, icc_profile=None)
    if image.gray and not format.gray:  # a gray profile does not hold for three channels
        image = replace(image, gray=False, icc_profile=None)
    if image.png_colour and not format.png_colour:
        if any(name == b"cICP" for name, _ in image.png_colour):  # others nearly always say that it is sRGB
            lost.append("the colour space (cICP)")
        image = replace(image, png_colour=())
    if not format.dpi:
        image = replace(image, dpi=None)
    if len(image.exif or b"") > format.exif_bytes:
        lost.append(_above("EXIF", format.exif_bytes))
        image = replace(image, exif=None)
    if len(image.xmp or b"") > format.xmp_bytes:
        lost.append(_above("XMP", format.xmp_bytes))
        image = replace(image, xmp=None)
    if len(image.iptc or b"") > format.iptc_bytes:
        lost.append(_above("IPTC", format.iptc_bytes))
        image = replace(image, iptc=None)
    if image.png_text and not format.text:
        lost.append(f"PNG text ({', '.join(keywords(image.png_text))})")
        image = replace(image, png_text=())
    if len(image.comment or b"") > format.comment_bytes:
        lost.append(_above("the comment", format.comment_bytes))
        image = replace(image, comment=None)
    notes = (f"{format.title} does not hold {', '.join(lost)}",) if lost else ()
    return image, (*notes, *format.coarse(image))


def _above(name: str, largest: int) -> str:
    return f"{name} above {largest // 1024} kB" if largest else name


def _write_whole(path: Path, data: bytes) -> None:
    with whole_file(path) as file:
        file.write(data)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write beside the target, wait for the disk, then rename: readers and later runs never see part of a file.

    Without the wait (2 ms of 6 for a file of 7 MB, measured on a virtual disk) a power failure could keep the name and
    lose the pixels, and the next run would skip the empty file.

    Yields:
        The file, open for reading and writing.

    Raises:
        ImageError: the name or the size of this file is the reason.
        OutputError: the folder cannot be written to: no permission, disk full, read-only.
    """
    with write_errors(path), atomic_path(path, sync=True) as temporary, temporary.open("x+b") as file:
        yield file


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Raise the errors of writing a file as those of gankit.

    Raises:
        ImageError: the name or the size of this file is the reason.
        OutputError: the folder cannot be written to.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _OF_THIS_FILE or path.is_dir():
            raise ImageError(path, f"cannot be written: {reason}") from error
        raise OutputError(f"{path}: cannot be written: {reason}{_way_out(error.errno)}") from error


def _way_out(code: int | None) -> str:
    if code in (errno.ENOSPC, errno.EDQUOT):
        return "; free some space and run the command again, finished images are kept"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "; choose another --output or change its permissions"
    if code in (errno.ENOENT, errno.ENOTDIR):
        return "; the output folder is gone"
    return ""
