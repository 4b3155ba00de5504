"""One picture through a translation engine: the size and the transparency stay, the colours are the generator's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from gankit.errors import UsageError
from gankit.images import Picture
from gankit.images.strips import by_strips
from gankit.pipeline.memory import available_memory
from gankit.pipeline.stages import Stage, Watch, hwc, nchw, together

_LUMA = (19595, 38470, 7471)  # 0.299, 0.587, 0.114 in 65536ths


@dataclass
class TranslationStage(Stage):
    """The engine of a translation model with the way it is fed."""

    def picture(self, picture: Picture, watch: Watch | None = None) -> Picture:
        """Translate a picture; metadata and transparency stay.

        Args:
            picture: any that ``gankit.images`` decodes.
            watch: called with the part that is done, up to 1.

        Returns:
            A picture of the same size and depth; gray where the generator has one channel.

        Raises:
            UsageError: the generator works on channels that no picture has.
            MemoryError: the result is more than the memory that is free.
            EngineMemoryError: see :meth:`Stage.tensor`.
        """
        values = self._values(picture)
        return self._made(picture, hwc(self.tensor(values, watch)))

    def pictures(self, pictures: Sequence[Picture]) -> list[Picture]:
        """Translate pictures of one size and depth in one call; otherwise as :meth:`picture`."""
        results = self.tensor(together([self._values(picture) for picture in pictures]))
        return [self._made(picture, hwc(one)) for picture, one in zip(pictures, results.split(1), strict=True)]

    def together(self, picture: Picture) -> int:
        """How many pictures like this one :meth:`pictures` may be given."""
        return self.batch_of(picture)

    def _values(self, picture: Picture) -> Tensor:
        """The pixels as the generator takes them, (1, C, H, W)."""
        taken, made = self.facts.channels, self._channels
        if taken not in (1, 3) or made not in (1, 3):
            raise UsageError(
                f"'{self.facts.name}' makes {made} channels of {taken}: pictures have 1 or 3; give a model that fits"
            )
        if 2 * picture.pixels.nbytes > available_memory():
            raise MemoryError
        return nchw(picture.pixels if taken == 3 else _luma(picture.pixels)[..., None])

    def _made(self, picture: Picture, result: np.ndarray) -> Picture:
        """The picture with what the generator made, (H, W, C)."""
        if self._channels == 1:
            result = np.repeat(result, 3, axis=2)
        return replace(picture, pixels=result, gray=self._channels == 1)

    @property
    def _channels(self) -> int:
        return self.facts.out_channels or self.facts.channels


def _luma(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W): BT.601 luma, rounded to nearest, in the same integer type."""

    def luma(part: np.ndarray) -> np.ndarray:
        # uint32 holds it: the weights sum up to 65536, and 65535 · 65536 + 32768 < 2³²
        total = sum(part[..., index].astype(np.uint32) * weight for index, weight in enumerate(_LUMA))
        rounded: np.ndarray = (np.asarray(total, dtype=np.uint32) + 32768) >> 16
        return rounded

    return by_strips(luma, np.empty(pixels.shape[:2], pixels.dtype), pixels)
