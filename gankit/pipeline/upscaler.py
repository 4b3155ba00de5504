"""Super-resolution. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Unpack

from gankit.checkpoints.strength import at_strength
from gankit.models.facts import Task
from gankit.pipeline.images import ImagePipeline, ImagePipelineKeywords
from gankit.weights import DEFAULT_UPSCALER

if TYPE_CHECKING:
    from pathlib import Path

    from gankit.pipeline.source import Model


class Upscaler(ImagePipeline):
    """Upscales images.

    Args:
        model: the name of a model, a weights file, an open model, or an ``nn.Module`` of your own.
        strength: 0 to 1, between a faithful generator and the sharp one that was trained from it; ``None`` runs
            ``model``. See :func:`gankit.checkpoints.strength.at_strength`, which also has the errors.
        faithful: the name or the weights file of the faithful generator; ``None`` for the one that ships.
        keywords: the arguments of :class:`~gankit.pipeline.images.ImagePipeline`.
    """

    task: ClassVar[Task] = "upscale"

    def __init__(
        self,
        model: Model = DEFAULT_UPSCALER,
        *,
        strength: float | None = None,
        faithful: str | Path | None = None,
        **keywords: Unpack[ImagePipelineKeywords],
    ) -> None:
        super().__init__(at_strength(model, strength, faithful), **keywords)
