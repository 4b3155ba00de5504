"""Images from noise: a generator's samples, paths between them, an autoencoder's reconstructions.

Importing this module imports no torch; the first image does.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np

from gankit import backends
from gankit.errors import NotFiniteError, UsageError
from gankit.models.sampling import SMALLEST_TRUNCATION, between, latent
from gankit.options import EngineOptions
from gankit.pipeline.source import ModelSource, PipelineKeywords, split_keywords

if TYPE_CHECKING:
    from torch import Tensor

    from gankit.backends.base import Engine
    from gankit.backends.choice.parity import Parity
    from gankit.backends.choice.select import Selection
    from gankit.checkpoints import Loaded
    from gankit.models import Facts
    from gankit.pipeline.source import Model

Classes = int | Sequence[int] | None
_SEEDS = 1 << 64
_FEWEST_STEPS = 2
_BATCH = 64


class Sampler:
    """Samples one generator with one engine, which is loaded and compared with fp32 at the first image.

    Sample number i of a seed is the same image whatever the batch and however many are asked for; on another engine
    of the same precision it differs by one level of 255 at most where rounding goes the other way.

    Args:
        model: a registry name, a weights file, a :class:`~gankit.checkpoints.Loaded` model, or an ``nn.Module`` of your
            own that takes latents (N, latent), and classes (N,) where it has some, and returns (N, C, H, W).
        engine: the options of the engine; the fields of :class:`~gankit.options.EngineOptions` can be given as keywords
            too, and win. The backend ``"auto"`` is eager: these networks are so small that the others gain less than
            they take to start. The precision ``"auto"`` is fp32, the batch ``"auto"`` 64 samples.
        notify: called with a line when something worth telling happens while the engine is chosen.
        options: of the model, in place of those that its weights file holds; see :func:`gankit.checkpoints.open_model`.
        facts: of your own module, as :class:`gankit.Facts`. Or state them by keyword: ``latent``, ``value_range`` and,
            for a conditional one, ``classes``.
        keywords: of the engine and of the module, as above.

    Raises:
        UsageError: an unknown model, backend or precision, or a number below 1.
    """

    def __init__(
        self,
        model: Model,
        *,
        engine: EngineOptions | None = None,
        notify: Callable[[str], None] | None = None,
        options: Mapping[str, Any] | None = None,
        facts: Facts | None = None,
        **keywords: Unpack[PipelineKeywords],
    ) -> None:
        self.engine, stated = split_keywords(engine, keywords)
        if self.engine.backend != "auto":
            backends.get(self.engine.backend)
        self._source = ModelSource(model, "generate", options=options, facts=facts, stated=stated)
        self.batch = _BATCH if self.engine.batch == "auto" else self.engine.batch
        self.notify = notify
        self._loaded: Loaded | None = None
        self._selection: Selection | None = None

    @property
    def loaded(self) -> Loaded:
        """The model; read at the first use.

        Raises:
            UsageError: it does not generate from noise.
            CheckpointError: it cannot be read.
        """
        if self._loaded is None:
            self._loaded = self._source.open()
        return self._loaded

    @property
    def facts(self) -> Facts:
        """What is known of the model."""
        return self.loaded.facts

    def start(self) -> Engine:
        """The engine; loaded, and compared with fp32, at the first call.

        Raises:
            UsageError: an unknown device.
            BackendError, ParityError: it cannot run this model, or not right.
        """
        if self._selection is None:
            from gankit.backends.base import Shapes
            from gankit.backends.choice.select import select

            self._selection = select(self.loaded, self.engine, shapes=Shapes(batch=self.batch), notify=self.notify)
        return self._selection.engine

    @property
    def parity(self) -> Parity | None:
        """How far the engine's images are from the fp32 ones; ``None`` before the first image."""
        return None if self._selection is None else self._selection.parity

    def sample(self, n: int, seed: int = 0, classes: Classes = None, truncation: float | None = None) -> np.ndarray:
        """Samples 0 to n - 1 of a seed.

        Args:
            n: how many, at least 1.
            seed: from 0 to 2⁶⁴ - 1.
            classes: one for all, or one for each; ``None`` takes the model's in turn: sample i has class i modulo
                their number. Of a conditional model only.
            truncation: no number of a latent is beyond ± this; see :func:`gankit.models.sampling.latent`.

        Returns:
            (n, H, W, C) uint8, C 1 or 3.

        Raises:
            UsageError: wrong arguments, or a model without classes.
            NotFiniteError: an image has values beyond the range of the precision.
        """
        return self._stack(n, lambda: self.stream(range(n), seed, classes, truncation))

    def interpolate(
        self, steps: int, n: int = 1, seed: int = 0, classes: Classes = None, truncation: float | None = None
    ) -> np.ndarray:
        """Paths from one sample to another: path k from sample 2k of the seed to sample 2k + 1, on an arc.

        Args:
            steps: images in a path, both ends too, at least 2.
            n: paths.
            seed: from 0 to 2⁶⁴ - 1.
            classes: as in :meth:`sample`, by path: both ends have the same.
            truncation: of the ends.

        Returns:
            (n · steps, H, W, C) uint8, path after path.

        Raises:
            UsageError, NotFiniteError: as :meth:`sample`.
        """
        return self._stack(n, lambda: self.stream(range(n * steps), seed, classes, truncation, steps))

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """An autoencoder's images of the means of what its encoder sees.

        Args:
            images: (N, H, W, C) uint8 of the model's size and colours, or (N, H, W) for a gray one.

        Returns:
            The same shape, uint8.

        Raises:
            UsageError: the model has no encoder, or the images do not fit.
        """
        import torch

        generator, facts = self.encoding().generator, self.facts
        images = np.asarray(images)
        batch = images[..., None] if images.ndim == 3 else images
        wanted = (*(facts.output_size or ()), facts.channels)
        if batch.dtype != np.uint8 or batch.shape[1:] != wanted:
            shape = " × ".join(map(str, wanted))
            raise UsageError(f"'{facts.name}' reconstructs N × {shape} uint8, not {images.shape} {images.dtype}")
        results = [np.empty((0, *wanted), np.uint8)]
        low, high = facts.value_range
        for start in range(0, len(batch), self.batch):
            part = torch.from_numpy(np.ascontiguousarray(batch[start : start + self.batch])).permute(0, 3, 1, 2)
            with torch.inference_mode():
                mean, _ = generator.encode(part.float() * ((high - low) / 255) + low)
            results.append(self._pixels(self.start().run(mean.contiguous())))
        return np.concatenate(results).reshape(images.shape)

    def encoding(self) -> Any:
        """The model, which has an encoder.

        Raises:
            UsageError: it has none.
        """
        if not hasattr(self.loaded.generator, "encode"):
            raise UsageError(f"'{self.facts.name}' has no encoder to reconstruct images with: take a vae")
        return self.loaded

    def stream(
        self,
        indices: Sequence[int],
        seed: int = 0,
        classes: Classes = None,
        truncation: float | None = None,
        steps: int | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Some samples, batch by batch, so that any number fits into memory.

        Args:
            indices: of the samples; of a path's images, path · steps + step.
            seed: as in :meth:`sample`, and likewise the next two.
            classes: as there, or as in :meth:`interpolate`.
            truncation: as there.
            steps: ``None`` for samples, else as in :meth:`interpolate`.

        Returns:
            Each index with its image, (H, W, C) uint8. Wrong arguments are reported before the first.
        """
        if not 0 <= seed < _SEEDS:
            raise UsageError(f"seed must be from 0 to 2**64 - 1, not {seed}")
        if truncation is not None and not truncation >= SMALLEST_TRUNCATION:
            raise UsageError(f"truncation must be at least {SMALLEST_TRUNCATION:g}, not {truncation:g}")
        if steps is not None and steps < _FEWEST_STEPS:
            raise UsageError(f"a path has at least {_FEWEST_STEPS} steps, its ends, not {steps}")
        each = steps or 1
        chosen = self._classes(classes, 1 + max((index // each for index in indices), default=-1))
        return self._stream(indices, seed, chosen, truncation, each)

    def close(self) -> None:
        """Give back the engine. Closing twice is fine."""
        if self._selection is not None:
            self._selection.engine.close()
        self._selection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _stack(self, n: int, stream: Any) -> np.ndarray:
        if n < 1:
            raise UsageError(f"the number of samples must be at least 1, not {n}")
        return np.stack([image for _, image in stream()])

    def _stream(
        self, indices: Sequence[int], seed: int, classes: Classes, truncation: float | None, steps: int
    ) -> Iterator[tuple[int, np.ndarray]]:
        import torch

        facts = self.facts
        for start in range(0, len(indices), self.batch):
            part = indices[start : start + self.batch]
            given = np.stack([self._latent(seed, index, truncation, steps) for index in part])
            tensors = [torch.from_numpy(given)]
            if facts.classes:
                tensors.append(torch.tensor([_class(classes, index // steps, facts.classes) for index in part]))
            yield from zip(part, self._pixels(self.start().run(*tensors)), strict=True)

    def _latent(self, seed: int, index: int, truncation: float | None, steps: int) -> np.ndarray:
        size = self.facts.latent
        if steps == 1:
            return latent(seed, index, size, truncation)
        path, step = divmod(index, steps)
        first, second = (latent(seed, 2 * path + end, size, truncation) for end in (0, 1))
        return between(first, second, step / (steps - 1))

    def _pixels(self, values: Tensor) -> np.ndarray:
        """(N, C, H, W) float32, nominally in [0, 1] -> (N, H, W, C) uint8."""
        import torch

        if not bool(values.isfinite().all()):
            raise NotFiniteError(f"'{self.facts.name}' made values that are not finite: take --precision fp32")
        pixels = (values * 255).clamp_(0, 255).round_().to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).contiguous().numpy()

    def _classes(self, classes: Classes, n: int) -> Classes:
        """The classes, checked: one for all, or at least ``n``."""
        if classes is None:
            return None
        known, name = self.facts.classes, self.facts.name
        if not known:
            raise UsageError(f"'{name}' has no classes: leave the class out")
        several = [operator.index(item) for item in ([classes] if isinstance(classes, int) else classes)]
        for item in several:
            if not 0 <= item < known:
                raise UsageError(f"class {item}: '{name}' has the classes 0 to {known - 1}")
        if isinstance(classes, int):
            return classes
        if len(several) < n:
            raise UsageError(f"{len(several)} classes for {n}: give one, or one for each")
        return several


def _class(classes: Classes, index: int, known: int) -> int:
    if classes is None:
        return index % known
    return classes if isinstance(classes, int) else classes[index]
