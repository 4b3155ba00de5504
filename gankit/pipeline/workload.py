"""How much work a run is, and how much of the machine it may take for it. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from gankit.memory import available_memory
from gankit.pipeline.paths import is_file
from gankit.pipeline.targets import Job

if TYPE_CHECKING:
    from gankit.images import DecodedImage

_HEAD_BYTES = 1 << 16
_SAMPLED_HEADERS = 32


def result_bytes(image: DecodedImage, scale: int) -> int:
    """Estimate the memory of an image and its result in bytes."""
    own = image.pixels.nbytes + (0 if image.alpha is None else image.alpha.nbytes)
    return own * (1 + scale**2)


class ThreadCounts(TypedDict):
    """How many threads a run has, and the bytes that its images in flight may take; as arguments of a ``Runner``."""

    decoders: int
    encoders: int
    max_bytes: int


def thread_counts(max_memory: int | None = None) -> ThreadCounts:
    """Return the number of decoding and encoding threads for this machine, and the bytes they may hold.

    Args:
        max_memory: bytes that the process may use in all; ``None`` sets no limit besides those of the system.
    """
    room = available_memory(max_memory)
    import psutil

    cores = psutil.cpu_count(logical=False) or 1
    return {
        "decoders": 1 if cores < 8 else 2,
        "encoders": max(1, min(8, cores - 1)),
        "max_bytes": max(min(256 << 20, room // 4), min(4 << 30, room // 8)),
    }


def job_pixels(jobs: Sequence[Job]) -> int | None:
    """Estimate the input pixels of the jobs from the headers of some of them; ``None`` if none can be read."""
    step = max(1, len(jobs) // _SAMPLED_HEADERS)
    sizes = [size for job in jobs[::step] if (size := declared_pixels(job.source)) is not None]
    return sum(sizes) * len(jobs) // len(sizes) if sizes else None


def declared_pixels(path: Path, *, frames: bool = False) -> int | None:
    """Return the number of pixels that the header of a file declares, without decoding it.

    Args:
        path: the file. Its first 64 KiB are read, and of PNG, JPEG and TIFF what their headers need.
        frames: whether to count the pixels of all frames.

    Returns:
        ``None`` for a file that is missing or damaged, or whose size lies deeper in it.
    """
    from PIL import Image

    from gankit.images.formats import format_of
    from gankit.images.rows import header_of

    if not is_file(path):  # opening a pipe would wait for its writer
        return None
    try:
        opened = header_of(path)
        if opened is not None:
            header = opened.header
        else:
            with path.open("rb") as file:
                head = file.read(_HEAD_BYTES)
            format = format_of(head)
            if format is None:
                return None
            header = format.header(head)
        count = 1
        if frames:
            with Image.open(path) as image:
                count = getattr(image, "n_frames", 1)
        return header.width * header.height * count
    except Exception:  # decoders raise all kinds of exceptions for damaged bytes
        return None
