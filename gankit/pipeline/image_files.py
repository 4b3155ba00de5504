"""Read the sources and write the results of a run, and keep the journals. Imports no torch."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gankit.memory import available_memory, require
from gankit.models.facts import Facts
from gankit.pipeline.paths import is_file
from gankit.pipeline.resume import Resume
from gankit.pipeline.run_options import RunOptions
from gankit.pipeline.targets import Job, comparison_of

if TYPE_CHECKING:
    import numpy as np

    from gankit.images import DecodedImage
    from gankit.images.frames import Kind
    from gankit.models.facts import Facts


class ImageFiles:
    """The files of a run. May be used from several threads.

    Args:
        jobs: the jobs to run, with different targets.
        options: the options of the run.
        resume: keeps the journals.
        facts: facts of the generator.
        made_by: returns how a result of the generator was made, for the journal.
        max_memory: bytes that the process may use in all; ``None`` sets no limit besides those of the system.

    Attributes:
        options: the options of the run.
        max_memory: as above.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        options: RunOptions,
        resume: Resume,
        facts: Facts,
        made_by: Callable[[DecodedImage], Mapping[str, Any]],
        max_memory: int | None = None,
    ) -> None:
        self._jobs = {job.target: job for job in jobs}
        self.options, self._resume, self._facts, self.max_memory = options, resume, facts, max_memory
        self._maker = made_by
        self._kinds: dict[Job, Kind | None] = {}
        self._made: dict[int, Mapping[str, Any]] = {}  # by the id of the pixels, which live until they are written
        self._sources: dict[Path, DecodedImage] = {}  # for the comparisons; the run counts their memory
        comparisons = [Job(job.source, comparison_of(job.target)) for job in jobs] if options.compare else []
        self._comparisons = {each.job.source: each.job for each in resume.decide(comparisons) if each.action != "keep"}

    def decode(self, source: Path) -> DecodedImage:
        """Read a source, within the memory that is available now.

        Raises:
            ImageError: If it cannot be read, or is no mask or label map though the generator takes one.
        """
        from gankit import images

        self._resume.before_reading(source)
        limits: dict[str, Any] = {
            "max_pixels": self.options.max_pixels,
            "max_bytes": available_memory(self.max_memory),
        }
        if self._facts.input_kind == "image":
            image = images.decode(source, hdr=True, **limits)
        else:
            from gankit.pipeline.label_maps import decode_indices

            image = decode_indices(source, self._facts, mask_from=self.options.mask_from, **limits)
        self._resume.after_reading(source)
        if source in self._comparisons:
            self._sources[source] = image
        return self.annotated(image)

    def annotated(self, image: DecodedImage) -> DecodedImage:
        """Return a source with the metadata that its result shall have."""
        from gankit import images

        if self.options.strip_metadata:
            image = images.strip_metadata(image)
        return images.mark_ai(image) if self.options.mark_ai else image

    def frames_of(self, job: Job) -> Kind | None:
        """Return the kind of a source of several frames, if its target can hold them and the model takes images."""
        if job not in self._kinds:
            from gankit.images.frames import format_for, kind_of

            self._kinds[job] = None
            if self._facts.input_kind == "image" and format_for("gif", job.target) and is_file(job.source):
                kind = kind_of(job.source)
                self._kinds[job] = kind if kind and format_for(kind, job.target) else None
        return self._kinds[job]

    @contextmanager
    def reading(self, source: Path) -> Iterator[None]:
        """Note in the journal which file is read within the block."""
        self._resume.before_reading(source)
        yield
        self._resume.after_reading(source)

    def check(self, image: DecodedImage, target: Path) -> None:
        """Check that the format of a target can hold the result, and that there is memory for it.

        Raises:
            ImageError: If the format cannot hold it.
            NoMemoryError: If the result and its file need more than the available memory.
        """
        from gankit import images

        size = self.size_of(image)
        images.check_target(size, target)
        if self.options.size.given:
            channels = 3 if image.alpha is None else 4
            needed = 2 * channels * image.pixels.itemsize * math.prod(size)
            require(needed, f"a result of {size[0]}×{size[1]} pixels", "use a smaller size", self.max_memory)

    def size_of(self, image: DecodedImage) -> tuple[int, int]:
        """Return the width and height of the result of a source."""
        height, width = image.pixels.shape[:2]
        return self.options.size.of((width, height), self._facts.scale)

    def finish(self, image: DecodedImage) -> DecodedImage:
        """Bring the result of the model to the size that the user set."""
        result = self.options.size.resized(image, self._facts.scale)
        self._made[id(result.pixels)] = self._maker(image)
        return result

    def made_by(self, image: DecodedImage) -> Mapping[str, Any]:
        """Return how a result was made. It can be asked once."""
        return self._made.pop(id(image.pixels), {})

    def encode(self, image: DecodedImage, target: Path) -> tuple[str, ...]:
        """Write a result, and write to the journal how it was made.

        Returns:
            A sentence for each part of the image that the format cannot hold.

        Raises:
            ImageError: If the format cannot hold the image, or the name or size of this file is the reason.
            OutputError: If the folder or its journal cannot be written.
        """
        from gankit import images

        job, made_by = self._jobs[target], self.made_by(image)
        self._resume.begin(job, made_by)
        notes = images.encode(image, target, quality=self.options.quality)
        more = self.written(image, job, made_by)
        return (*notes, *more) if more else notes

    def begin(self, job: Job, made_by: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Write to the journal that a result is about to be written.

        Raises:
            OutputError: If the journal cannot be written.
        """
        self._resume.begin(job, made_by)

    def written(self, image: DecodedImage, job: Job, made_by: Mapping[str, Any]) -> tuple[str, ...]:
        """Complete a result whose file is written, and write its comparison.

        Args:
            image: the result, or the first frame of it.
            job: its job.
            made_by: how it was made.

        Returns:
            Notes for the user.

        Raises:
            OutputError: If the journal or the comparison cannot be written.
        """
        self.complete(job, made_by)
        return self.compare(job, lambda: self._compared(image, job.source)) if self.options.compare else ()

    def complete(self, job: Job, made_by: Mapping[str, Any]) -> None:
        """Complete a result whose file is written: its time and its line in the journal.

        Raises:
            OutputError: If the journal cannot be written.
        """
        if self.options.keep_time:
            with suppress(OSError):  # the source is gone, or the file system stores no times
                found = job.source.stat()
                os.utime(job.target, ns=(found.st_atime_ns, found.st_mtime_ns))
        self._resume.finish(job, made_by)

    def forget(self, source: Path) -> None:
        """Release what is kept of a source. Call it when the image has failed, is done, or will be decoded again."""
        self._sources.pop(source, None)

    def compares(self, job: Job) -> bool:
        """Whether a comparison is written for a job."""
        return job.source in self._comparisons

    def compare(self, job: Job, make: Callable[[], np.ndarray]) -> tuple[str, ...]:
        """Write the comparison of a result with its source.

        Args:
            job: the job of the result.
            make: returns the comparison, (H, W, 3) uint8. Not called if the file was not made by gankit.

        Returns:
            Notes for the user.

        Raises:
            OutputError: If the comparison cannot be written.
        """
        comparison = self._comparisons.get(job.source)
        if comparison is None:
            return (f"{comparison_of(job.target).name} was not made by gankit, and is kept",)
        from gankit.images import encode, from_array

        made = from_array(make())
        self._resume.begin(comparison)
        encode(made, comparison.target)
        self._resume.finish(comparison)
        return ()

    def _compared(self, result: DecodedImage, source: Path) -> np.ndarray:
        from gankit.images.comparison import before_after

        before = self._sources[source]
        height, width = before.pixels.shape[:2]
        return before_after(before, result, self.options.size.box((width, height)), self._facts.name)
