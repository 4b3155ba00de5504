"""Super-resolution: small images in, large ones out. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from gankit.models.facts import Task
from gankit.pipeline.engines import Auto
from gankit.pipeline.images import PRECISIONS, ImagePipeline

__all__ = ["PRECISIONS", "Upscaler"]


class Upscaler(ImagePipeline):
    """Upscales images; arguments as :class:`~gankit.pipeline.images.ImagePipeline`, and ``srgan`` by default."""

    task: ClassVar[Task] = "upscale"

    def __init__(
        self,
        model: str | Path = "srgan",
        *,
        backend: str = "auto",
        precision: str = "auto",
        device: str = "auto",
        tile: int | Auto = "auto",
        batch: int | Auto = "auto",
        threads: int | None = None,
        notify: Callable[[str], None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            model,
            backend=backend,
            precision=precision,
            device=device,
            tile=tile,
            batch=batch,
            threads=threads,
            notify=notify,
            options=options,
        )
