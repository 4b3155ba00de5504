"""Image-to-image translation: an image in, one of the same size out. Imports no torch."""

from __future__ import annotations

from typing import ClassVar

from gankit.models.facts import Task
from gankit.pipeline.images import ImagePipeline


class Translator(ImagePipeline):
    """Translates images; arguments as :class:`~gankit.pipeline.images.ImagePipeline`.

    Any size goes in and the same size comes out: what a network needs beyond it is the image's mirror image, and is
    cropped away. Transparency stays as it is. A gray image becomes what the generator makes of its three equal
    channels; a generator of one channel gets the luma (BT.601).
    """

    task: ClassVar[Task] = "translate"
