"""The state of a clip while it is processed. Imports neither PyAV nor torch."""

from __future__ import annotations

from dataclasses import dataclass

from gankit.pipeline.items import Progress


@dataclass(frozen=True)
class ClipProgress(Progress):
    """The state of one clip. ``total``, ``done`` and ``fraction`` count its frames.

    Attributes:
        frames_per_second: frames written per second of this run.
    """

    frames_per_second: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the seconds that this clip still takes. Frames of an earlier run do not count for its speed."""
        return (self.total - self.done) / self.frames_per_second if self.frames_per_second else None
