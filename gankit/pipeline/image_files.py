"""Read the sources and write the results of a run, and keep the journals. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gankit.models.facts import Facts
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
        facts: facts of the generator.
        made_by: returns how a result was made, for the journal.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        options: RunOptions,
        resume: Resume,
        facts: Facts,
        made_by: Callable[[DecodedImage], Mapping[str, Any]],
    ) -> None:
        self._jobs = {job.target: job for job in jobs}
        self._options, self._resume, self._facts, self._made_by = options, resume, facts, made_by

    def decode(self, source: Path) -> DecodedImage:
        """Read a source, within the memory that is available now.

        Raises:
            ImageError: If it cannot be read, or is no mask or label map though the generator takes one.
        """
        from gankit import images

        self._resume.before_reading(source)
        limits: dict[str, int] = {"max_pixels": self._options.max_pixels, "max_bytes": available_memory()}
        if self._facts.input_kind == "image":
            image = images.decode(source, **limits)
        else:
            from gankit.pipeline.label_maps import decode_indices

            image = decode_indices(source, self._facts, mask_from=self._options.mask_from, **limits)
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
        images.check_target((width * self._facts.scale, height * self._facts.scale), target)

    def encode(self, image: DecodedImage, target: Path) -> tuple[str, ...]:
        """Write a result, and write to the journal how it was made.

        Returns:
            A sentence for each part of the image that the format cannot hold.

        Raises:
            ImageError: If the format cannot hold the image, or the name or size of this file is the reason.
            OutputError: If the folder or its journal cannot be written.
        """
        from gankit import images

        job, made_by = self._jobs[target], self._made_by(image)
        self._resume.begin(job, made_by)
        notes = images.encode(image, target, quality=self._options.quality)
        if self._options.keep_time:
            with suppress(OSError):  # the source is gone, or the file system stores no times
                found = job.source.stat()
                os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
        self._resume.finish(job, made_by)
        return notes
