"""Super-resolution. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Unpack

from gankit.models.facts import Task
from gankit.pipeline.images import ImagePipeline, ImagePipelineKeywords
from gankit.weights import DEFAULT_UPSCALER

if TYPE_CHECKING:
    from gankit.pipeline.source import Model


class Upscaler(ImagePipeline):
    """Upscales images. The arguments are those of :class:`~gankit.pipeline.images.ImagePipeline`."""

    task: ClassVar[Task] = "upscale"

    def __init__(self, model: Model = DEFAULT_UPSCALER, **keywords: Unpack[ImagePipelineKeywords]) -> None:
        super().__init__(model, **keywords)
