"""How much work a run is, and how much of the machine it may take for it. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gankit.memory import available_memory
from gankit.pipeline.paths import is_file
from gankit.pipeline.targets import Job

if TYPE_CHECKING:
    from gankit.images import DecodedImage

_SAMPLED_HEADERS = 32


def result_bytes(image: DecodedImage, scale: int) -> int:
    """Estimate the memory of an image and its result in bytes."""
    own = image.pixels.nbytes + (0 if image.alpha is None else image.alpha.nbytes)
    return own * (1 + scale**2)


def thread_counts(max_memory: int | None = None) -> dict[str, int]:
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
    from PIL import Image

    step = max(1, len(jobs) // _SAMPLED_HEADERS)
    sizes: list[int] = []
    for job in jobs[::step]:
        if not is_file(job.source):  # opening a pipe would wait for its writer
            continue
        try:
            with Image.open(job.source) as header:
                sizes.append(math.prod(header.size))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue  # reported when it is decoded
    return sum(sizes) * len(jobs) // len(sizes) if sizes else None
