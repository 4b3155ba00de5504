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
