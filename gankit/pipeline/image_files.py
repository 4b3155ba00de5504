"""Read the sources and write the results of a run, and keep the journals. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gankit.pipeline.memory import available_memory
from gankit.pipeline.resume import Resume
from gankit.pipeline.run_options import RunOptions
from gankit.pipeline.targets import Job

if TYPE_CHECKING:
    from gankit.images import DecodedImage


class ImageFiles:
    """The files of a run. May be used from several threads.

    Args:
        jobs: the jobs to run, with different targets.
        options: the options of the run.
        resume: keeps the journals.
        scale: side of a result over that of its source.
    """

    def __init__(self, jobs: Sequence[Job], options: RunOptions, resume: Resume, scale: int) -> None:
        self._jobs = {job.target: job for job in jobs}
        self._options, self._resume, self._scale = options, resume, scale

    def decode(self, source: Path) -> DecodedImage:
        """Read a source, within the memory that is available now.

        Raises:
            ImageError: If it cannot be read.
        """
        from gankit import images

        self._resume.before_reading(source)
        image = images.decode(source, max_pixels=self._options.max_pixels, max_bytes=available_memory())
        self._resume.after_reading(source)
        if self._options.strip_metadata:
            image = images.strip_metadata(image)
        return images.mark_ai(image) if self._options.mark_ai else image

    def check(self, image: DecodedImage, target: Path) -> None:
        """Check that the format of a target can hold the result.

        Raises:
            ImageError: If it cannot.
        """
        from gankit import images

        height, width = image.pixels.shape[:2]
        images.check_target((width * self._scale, height * self._scale), target)

    def encode(self, image: DecodedImage, target: Path) -> tuple[str, ...]:
        """Write a result, and write to the journal how it was made.

        Returns:
            A sentence for each part of the image that the format cannot hold.

        Raises:
            ImageError: If the format cannot hold the image, or the name or size of this file is the reason.
            OutputError: If the folder or its journal cannot be written.
        """
        from gankit import images

        job = self._jobs[target]
        self._resume.begin(job)
        notes = images.encode(image, target, quality=self._options.quality)
        if self._options.keep_time:
            with suppress(OSError):  # the source is gone, or the file system stores no times
                found = job.source.stat()
                os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
        self._resume.finish(job)
        return notes
