"""Image-to-image translation. Imports no torch."""

from __future__ import annotations

from typing import ClassVar

from gankit.models.facts import Task
from gankit.pipeline.images import ImagePipeline


class Translator(ImagePipeline):
    """Translates images. The arguments are those of :class:`~gankit.pipeline.images.ImagePipeline`.

    Images may have any size, and results have the same size: if the network needs more pixels, the image is padded by
    reflection and the result is cropped. Transparency is kept. A gray image is given to a colour generator as three
    equal channels, and a colour image to a gray generator as its luma (BT.601).
    """

    task: ClassVar[Task] = "translate"
