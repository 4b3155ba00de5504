"""Masks and label maps: files whose values are numbers of classes, and no brightness.

They are read as the file stores them. A palette gives its indices, not its colours; 16 bit stays 16 bit; one bit is 0
and 1; gray of two or four bits is not stretched. Colour is taken only where red, green and blue are equal, as some
tools write gray.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import tifffile
from PIL import Image

from gankit.errors import GankitError, ImageError, UsageError
from gankit.images import DecodedImage, decode
from gankit.images.metadata import upright, valid_orientation

_LABELS = 256  # what a channel of 8 bits can tell apart
_SHOWN = 5
_ORIENTATION = 0x0112
_GRAY = "save it as a gray or palette image whose values are the classes"

Key = TypeVar("Key", Path, str)


def stored_values(path: Path, image: DecodedImage | None = None) -> np.ndarray:
    """The values of a mask or label map as its file stores them, upright.

    Args:
        path: of an image.
        image: the same image, if it is already decoded.

    Returns:
        (H, W) uint8 or uint16 indices; (H, W, 3) where the file has colours that are not gray, see :func:`indices`.

    Raises:
        ImageError: it cannot be read.
        UsageError: its values have no clear meaning: transparency, or white stored as 0.
    """
    if image is None:
        image = decode(path)  # which also refuses what is damaged, incomplete or too large
    try:
        bits, palette, is_white_zero = _kind(path)
    except GankitError:
        raise
    except Exception as error:  # Pillow and tifffile may refuse what another decoder has read
        raise ImageError(path, f"the kind of its pixels cannot be read ({error})") from error
    if palette is not None:
        return palette
    if is_white_zero:
        raise UsageError(
            f"{path}: stores white as 0, so that it is not clear which value is the background; save it with black as 0"
        )
    if image.alpha is not None and int(image.alpha.min()) < np.iinfo(image.alpha.dtype).max:
        raise UsageError(f"{path}: a mask or label map cannot be transparent; {_GRAY}, without transparency")
    pixels = image.pixels
    gray = image.gray or bool((pixels == pixels[..., :1]).all())
    return _unstretched(pixels[..., 0] if gray else pixels, bits)


def indices(values: np.ndarray, name: Path | str) -> np.ndarray:
    """(H, W) of what :func:`stored_values` gives, or of a part of it.

    Args:
        values: (H, W), or (H, W, C) with equal channels.
        name: for the error.

    Raises:
        UsageError: the channels differ.
    """
    if values.ndim == 2:
        return values
    if not (values == values[..., :1]).all():
        raise UsageError(f"{name}: is in colour, and a colour is no class; {_GRAY}")
    return values[..., 0]


def to_labels(values: np.ndarray, name: Path | str) -> np.ndarray:
    """Classes as (H, W) uint8, each its own number.

    Raises:
        UsageError: a number is 256 or more.
    """
    if values.size and int(values.max()) >= _LABELS:
        raise UsageError(
            f"{name}: has the label {int(values.max())}, and only 0 to {_LABELS - 1} can be told apart; renumber the "
            "labels"
        )
    return values.astype(np.uint8)


def to_masks(files: Mapping[Key, np.ndarray], least: int | None = None) -> dict[Key, np.ndarray]:
    """Which pixels of masks that belong together are set.

    A mask has two values. The rule, for all files of a folder: where they hold two values between them, whichever they
    are (0 and 1, 0 and 255, 1 and 2), the higher is set; where they hold more, each file must have 0 and one other
    value, which is set. A single value is all set, unless it is 0. With ``least`` all values from it on are set, and
    there may be any number of them, as in masks with soft edges, with outlines, or from a JPEG.

    Args:
        files: (H, W) indices by name.
        least: the lowest value that is set, in the file's own numbers; ``None`` for the rule of two values.

    Returns:
        (H, W) boolean by name.

    Raises:
        UsageError: a file has more than two values, or no value reaches ``least``.
    """
    found: dict[Key, np.ndarray] = {name: np.unique(values) for name, values in files.items()}
    every: np.ndarray = np.unique(np.concatenate([np.zeros(0, np.uint8), *found.values()]))
    if least is not None:
        if every.any() and int(every[-1]) < least:
            raise UsageError(
                f"{next(iter(files))}: no mask here has a value of {least} or more (the highest is {every[-1]}): give "
                "a lower --mask-from, or omit it"
            )
        return {name: values >= least for name, values in files.items()}
    if len(every) == 2:
        return {name: values == every[1] for name, values in files.items()}
    for name, values in found.items():
        if np.count_nonzero(values) > 1:
            raise UsageError(
                f"{name}: is no mask: a mask has two values, and it has {_some(values)}; give --mask-from N to set "
                "all values from N on, or read it as labels"
            )
    return {name: values != 0 for name, values in files.items()}


def _some(values: np.ndarray) -> str:
    shown = ", ".join(map(str, values[:_SHOWN]))
    return f"{shown}, … ({len(values)} values)" if len(values) > _SHOWN else shown


def _kind(path: Path) -> tuple[int, np.ndarray | None, bool]:
    """Bits of a gray value, the upright indices of a palette image, and whether a gray value of 0 is white."""
    with path.open("rb") as file:
        start = file.read(25)
    if start[:2] in (b"II", b"MM"):
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0].aspage()
            bits = int(np.max(page.bitspersample))
            if page.photometric != tifffile.PHOTOMETRIC.PALETTE:
                # one bit has no number to be turned around: white is set, as it is shown
                return bits, None, bits > 1 and page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    with Image.open(path) as image:
        if image.mode in ("P", "PA"):
            return 8, _palette_indices(path, image), False
        if image.format == "PNG":
            return start[24], None, False
        return 1 if image.mode == "1" else 8, None, False


def _palette_indices(path: Path, image: Image.Image) -> np.ndarray:
    """(H, W) uint8, upright.

    Raises:
        UsageError: the palette is white and black in this order, so that its indices contradict what it shows.
    """
    image.load()
    # read after load(), where Pillow turns a TIFF upright by itself and drops the tag
    orientation = valid_orientation(image.getexif().get(_ORIENTATION, 1))
    chosen = np.asarray(image if image.mode == "P" else image.getchannel(0))
    palette = image.getpalette("RGB") or []
    colours = [tuple(palette[3 * index : 3 * index + 3]) for index in np.unique(chosen)]
    if colours == [(255, 255, 255), (0, 0, 0)]:
        raise UsageError(
            f"{path}: its palette has white before black, so that it is not clear which one is the background; save it "
            "as a gray image"
        )
    return upright(chosen, orientation)


def _unstretched(values: np.ndarray, bits: int) -> np.ndarray:
    """What the file stores of values that decoding has brought to the full range of 8 or 16 bits."""
    top = (1 << bits) - 1
    if bits < 8:
        return values // np.uint8(255 // top)
    if 8 < bits < 16:
        return ((values.astype(np.uint32) * top + 32767) // 65535).astype(np.uint16)
    return values
