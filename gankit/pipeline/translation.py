"""Run one image through a translation engine. Size and transparency are kept; the generator makes the colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gankit.errors import UsageError
from gankit.images import DecodedImage, luma
from gankit.pipeline.processor import Processor, ProgressCallback, hwc, nchw, stacked


@dataclass
class TranslationProcessor(Processor):
    """Runs images through the engine of a translation model."""

    def image(self, image: DecodedImage, progress: ProgressCallback | None = None) -> DecodedImage:
        """Translate an image. Metadata and transparency are kept.

        Args:
            image: any image that ``gankit.images`` decodes.
            progress: called with the fraction that is done, up to 1.

        Returns:
            An image of the same size and depth, which is gray if the generator returns one channel.

        Raises:
            UsageError: If the generator takes or returns a number of channels that no image has.
            NoMemoryError: If the result and the engine need more than the available memory.
            EngineMemoryError: See :meth:`Processor.batched`.
        """
        values = self._values(image)
        return self._made(image, hwc(self.batched(values, progress)))

    def _stacked(self, images: Sequence[DecodedImage]) -> np.ndarray:
        """Return the pixels of several images as one batch for the generator."""
        return stacked([self._values(image) for image in images])

    def _unstacked(self, images: Sequence[DecodedImage], results: np.ndarray) -> list[DecodedImage]:
        """Return the images with the pixels of a batch that the generator made."""
        return [self._made(image, hwc(one)) for image, one in zip(images, np.split(results, len(images)), strict=True)]

    def shared_call(self, image: DecodedImage) -> int:
        """Return how many images like this one :meth:`images` may process."""
        return self.batch_of(image)

    def _in_one_call(self, image: DecodedImage, count: int) -> bool:
        """Any images need one call only, because transparency is kept as it is. :meth:`_values` checks the memory."""
        return True

    def _values(self, image: DecodedImage) -> np.ndarray:
        """Return the pixels for the generator, (1, C, H, W)."""
        taken, made = self.facts.channels, self._channels
        if taken not in (1, 3) or made not in (1, 3):
            raise UsageError(
                f"'{self.facts.name}' makes {made} channels of {taken}, but images have 1 or 3; use another model"
            )
        self.require(image, 2 * image.pixels.nbytes)
        return nchw(image.pixels if taken == 3 else luma(image.pixels)[..., None])

    def _made(self, image: DecodedImage, result: np.ndarray) -> DecodedImage:
        """Return the image with the pixels that the generator made, (H, W, C)."""
        if self._channels == 1:
            result = np.repeat(result, 3, axis=2)
        return replace(image, pixels=result, gray=self._channels == 1)

    @property
    def _channels(self) -> int:
        return self.facts.out_channels or self.facts.channels
