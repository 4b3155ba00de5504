"""Image-to-image translation: a picture in, one of the same size out. Imports no torch."""

from __future__ import annotations

from typing import ClassVar

from gankit.models.facts import Task
from gankit.pipeline.pictures import PicturePipeline


class Translator(PicturePipeline):
    """Translates pictures; arguments as :class:`~gankit.pipeline.pictures.PicturePipeline`.

    Any size goes in and the same size comes out: what a network needs beyond it is the picture's mirror image, and is
    cropped away. Transparency stays as it is. A gray picture becomes what the generator makes of its three equal
    channels; a generator of one channel gets the luma (BT.601).
    """

    task: ClassVar[Task] = "translate"
