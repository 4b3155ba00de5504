"""From an uploaded file to a decoded image, by the rules of the command line."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath

from gankit.errors import ImageError, UsageError
from gankit.images import DecodedImage, mark_ai, strip_metadata
from gankit.images.decode import decode_bytes, reason_of
from gankit.images.formats import format_of, titles
from gankit.images.unread import unread_kind
from gankit.memory import available_memory
from gankit.models.facts import Facts
from gankit.pipeline.label_maps import decode_indices
from gankit.serving.problems import Problem
from gankit.serving.queries import ImageQuery

_LONGEST_NAME = 100


def shown_name(filename: str | None) -> str:
    """Return the name of an uploaded file without folders and without what is not printable."""
    name = PurePosixPath((filename or "").replace("\\", "/")).name
    return "".join(letter for letter in name if letter.isprintable())[:_LONGEST_NAME] or "image"


def declared_size(data: bytes, name: str, max_pixels: int) -> tuple[int, int]:
    """Return the width and height that a file declares, before any pixel is decoded.

    Raises:
        Problem: If it is empty, of a format that gankit does not read, damaged or too large.
    """
    if not data:
        raise Problem(400, f"{name}: the file is empty (0 bytes)")
    format = format_of(data)
    if format is None:
        kind = unread_kind(data)
        found = f"is not a {titles('or')} image" if kind is None else f"gankit does not read {kind} images"
        raise Problem(415, f"{name}: {found}; convert it to PNG or JPEG first")
    try:
        header = format.header(data)
    except Exception as error:  # decoders raise all kinds of exceptions for damaged bytes
        raise Problem(400, f"{name}: {reason_of(error)}") from error
    if header.width * header.height > max_pixels:
        raise Problem(
            413,
            f"{name}: {header.width}×{header.height} is more than the limit of {max_pixels / 1e6:g} million pixels; "
            "send a smaller image",
        )
    return header.width, header.height


def decoded(
    data: bytes, name: str, facts: Facts, query: ImageQuery, max_pixels: int, max_memory: int | None
) -> DecodedImage:
    """Decode an upload for a model, with the metadata that its result shall have.

    Args:
        data: the file.
        name: its name, for errors.
        facts: facts of the model, which may take a mask or a label map.
        query: the options of the request.
        max_pixels: see :func:`gankit.images.decode`.
        max_memory: bytes that the process may use in all.

    Raises:
        ImageError: If it cannot be decoded, or is not what the model takes.
        UsageError: If the options do not apply to the model.
    """
    max_bytes = available_memory(max_memory)
    if query.mask_from is not None and facts.input_kind != "mask":
        raise UsageError(f"mask_from: '{facts.name}' takes no masks of two values; omit it")
    if facts.input_kind == "image":
        image = decode_bytes(data, Path(name), max_pixels=max_pixels, max_bytes=max_bytes)
    else:
        with tempfile.TemporaryDirectory(prefix="gankit-") as folder:  # other libraries read the indices from a file
            path = Path(folder) / "upload"
            path.write_bytes(data)
            try:
                image = decode_indices(
                    path, facts, mask_from=query.mask_from, max_pixels=max_pixels, max_bytes=max_bytes
                )
            except ImageError as error:
                raise ImageError(name, error.reason) from error
            except UsageError as error:
                raise ImageError(name, str(error).removeprefix(f"{path}: ")) from error
    if query.strip_metadata:
        image = strip_metadata(image)
    return mark_ai(image) if query.mark_ai else image
