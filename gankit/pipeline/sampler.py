"""Images from noise: samples of a generator, paths between them, and reconstructions of an autoencoder.

Importing this module imports no torch; the first image does.
"""

from __future__ import annotations

import numbers
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np

from gankit import backends
from gankit.errors import NotFiniteError, UsageError
from gankit.memory import import_torch, require
from gankit.models.sampling import SMALLEST_TRUNCATION, between, latent
from gankit.options import EngineOptions
from gankit.pipeline.forks import check_process, is_forked
from gankit.pipeline.sample_arguments import Classes, checked_classes, class_of, whole
from gankit.pipeline.source import ModelSource, PipelineKeywords, split_keywords

if TYPE_CHECKING:
    from torch import Tensor

    from gankit.backends.base import Engine
    from gankit.backends.choice.parity import Parity
    from gankit.backends.choice.select import Selection
    from gankit.checkpoints import Loaded
    from gankit.models import Facts
    from gankit.pipeline.source import Model

_SEEDS = 1 << 64
_FEWEST_STEPS = 2
_BATCH = 64


class Sampler:
    """Samples one generator with one engine, which is loaded and compared with fp32 at the first image.

    Sample i of a seed is the same image whatever the batch and the number of samples. Another engine of the same
    precision may round differently, by at most one level of 255.

    Args:
        model: a registry name, a weights file, a :class:`~gankit.checkpoints.Loaded` model, or an ``nn.Module`` of your
            own that takes latents (N, latent), and classes (N,) where it has some, and returns (N, C, H, W).
        engine: the engine options. You can also pass the fields of :class:`~gankit.options.EngineOptions` as keywords,
            which take precedence. The backend ``"auto"`` is eager, because these networks are so small that the others
            gain less than they take to start. The precision ``"auto"`` is fp32, and the batch ``"auto"`` is 64 samples.
        notify: called with each line to report to the user, such as a precision that failed the parity check.
        options: model options that replace those of the weights file; see :func:`gankit.checkpoints.open_model`.
        facts: facts of your own module, as :class:`gankit.Facts`. You can also state them as keywords: ``latent``,
            ``value_range`` and, for a conditional model, ``classes``.
        keywords: engine options and facts, as above.

    Raises:
        UsageError: If the model, the backend or the precision is unknown, or a number is less than 1.
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
        """The model, which the first use reads.

        Raises:
            UsageError: If the model does not generate from noise.
            CheckpointError: If the model cannot be read.
        """
        check_process()
        if self._loaded is None:
            import_torch(self.engine.max_memory)
            self._loaded = self._source.open()
        return self._loaded

    @property
    def facts(self) -> Facts:
        """The facts of the model."""
        return self.loaded.facts

    def start(self) -> Engine:
        """Return the engine. The first call loads it and compares it with fp32.

        Raises:
            UsageError: If the device is unknown.
            BackendError: If the engine cannot run this model.
            ParityError: If the engine fails the parity check.
            NoMemoryError: If the engine and a batch of samples need more than the available memory.
        """
        check_process()
        if self._selection is None:
            self._require()
            from gankit.backends.base import Shapes
            from gankit.backends.choice.engine_file import select_file
            from gankit.backends.choice.select import select

            self._selection = select_file(self.loaded, self.engine, self.notify) or select(
                self.loaded, self.engine, shapes=Shapes(batch=self.batch), notify=self.notify
            )
        return self._selection.engine

    def _require(self) -> None:
        """Check that there is memory for the engine and for a batch of samples."""
        from gankit.pipeline.workspace import batch_bytes, start_bytes

        limit, facts = self.engine.max_memory, self.facts
        advice = "free some memory" if limit is None else "use a larger --max-memory"
        needed = start_bytes(facts) + batch_bytes(facts, self.batch)
        require(needed, f"a batch of {self.batch} samples", f"{advice} or a smaller --batch", limit)

    @property
    def parity(self) -> Parity | None:
        """The parity of the engine with fp32; ``None`` before the first image."""
        return None if self._selection is None else self._selection.parity

    def __call__(
        self, n: int = 1, seed: int = 0, classes: Classes = None, truncation: float | None = None
    ) -> np.ndarray:
        """Generate samples. This is :meth:`sample`."""
        return self.sample(n, seed, classes, truncation)

    def sample(self, n: int, seed: int = 0, classes: Classes = None, truncation: float | None = None) -> np.ndarray:
        """Generate the samples 0 to n - 1 of a seed.

        Args:
            n: number of samples, at least 1.
            seed: random seed, 0 to 2⁶⁴ - 1.
            classes: one class for all samples, or one for each in a list, an array or a tensor; only for a conditional
                model. ``None`` uses every class in turn, so that sample i has class i modulo their number.
            truncation: largest absolute value in a latent; see :func:`gankit.models.sampling.latent`.

        Returns:
            (n, H, W, C) uint8, where C is 1 or 3.

        Raises:
            UsageError: If an argument is wrong, or classes are given for a model that has none.
            NotFiniteError: If an image has values beyond the range of the precision.
        """
        return self._stack(n, lambda: self.stream(range(n), seed, classes, truncation))

    def interpolate(
        self, steps: int, n: int = 1, seed: int = 0, classes: Classes = None, truncation: float | None = None
    ) -> np.ndarray:
        """Generate paths between samples. Path k runs on an arc from sample 2k of the seed to sample 2k + 1.

        Args:
            steps: number of images in a path including both ends, at least 2.
            n: number of paths.
            seed: random seed, 0 to 2⁶⁴ - 1.
            classes: as in :meth:`sample`, for each path. Both ends of a path have the same class.
            truncation: as in :meth:`sample`, for the ends of each path.

        Returns:
            (n · steps, H, W, C) uint8, path after path.

        Raises:
            UsageError, NotFiniteError: See :meth:`sample`.
        """
        return self._stack(n, lambda: self.stream(range(n * whole("steps", steps)), seed, classes, truncation, steps))

    def reconstruct(self, images: Any) -> Any:
        """Encode images with an autoencoder and decode the means of their latents.

        Args:
            images: images of the model's size, in any form that :meth:`gankit.Upscaler.__call__` takes. A gray model
                also takes an array (N, H, W), and gets the luma of colour images. Transparency is ignored.

        Returns:
            The reconstructions in the kind of the images, as :meth:`gankit.Upscaler.__call__` describes it, with the
            channels of the model. A colour image that a gray model reconstructs becomes gray.

        Raises:
            UsageError: If the model has no encoder or the images do not fit it.
            ImageError: If a file cannot be read.
        """
        from gankit.pipeline.autoencoding import reconstruct

        generator = self.encoding().generator
        return reconstruct(images, self.facts, generator.encode, self._values, self.batch)

    def encoding(self) -> Any:
        """Return the model after checking that it has an encoder.

        Raises:
            UsageError: If it has none.
        """
        if not hasattr(self.loaded.generator, "encode"):
            raise UsageError(f"'{self.facts.name}' has no encoder to reconstruct images with; use a model such as vae")
        return self.loaded

    def stream(
        self,
        indices: Sequence[int],
        seed: int = 0,
        classes: Classes = None,
        truncation: float | None = None,
        steps: int | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Generate samples batch by batch, so that any number of them fits into memory.

        Args:
            indices: numbers of the samples. The images of a path have the numbers path · steps + step.
            seed: as in :meth:`sample`.
            classes: as in :meth:`sample` or :meth:`interpolate`.
            truncation: as in :meth:`sample`.
            steps: as in :meth:`interpolate`; ``None`` generates single samples.

        Returns:
            An iterator over each index with its image, (H, W, C) uint8. Arguments are checked before the first image.

        Raises:
            UsageError: If an argument is wrong.
        """
        if not 0 <= whole("seed", seed) < _SEEDS:
            raise UsageError(f"seed must be from 0 to 2**64 - 1, not {seed}")
        if truncation is not None and not (isinstance(truncation, numbers.Real) and truncation >= SMALLEST_TRUNCATION):
            raise UsageError(f"truncation must be at least {SMALLEST_TRUNCATION:g}, not {truncation}")
        if steps is not None and whole("steps", steps) < _FEWEST_STEPS:
            raise UsageError(f"a path needs at least {_FEWEST_STEPS} steps, its ends, not {steps}")
        each = steps or 1
        chosen = checked_classes(self.facts, classes, 1 + max((index // each for index in indices), default=-1))
        return self._stream(indices, seed, chosen, truncation, each)

    def close(self) -> None:
        """Release the engine. It is safe to call this twice."""
        if self._selection is not None and not is_forked():
            self._selection.engine.close()
        self._selection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _stack(self, n: int, stream: Any) -> np.ndarray:
        if whole("n", n) < 1:
            raise UsageError(f"the number of samples must be at least 1, not {n}")
        return np.stack([image for _, image in stream()])

    def _stream(
        self, indices: Sequence[int], seed: int, classes: Classes, truncation: float | None, steps: int
    ) -> Iterator[tuple[int, np.ndarray]]:
        import torch

        facts = self.facts
        submitted: deque[tuple[Sequence[int], Callable[[], Tensor]]] = deque()
        for start in range(0, len(indices), self.batch):
            part = indices[start : start + self.batch]
            given = np.stack([self._latent(seed, index, truncation, steps) for index in part])
            tensors = [torch.from_numpy(given)]
            if facts.classes:
                tensors.append(torch.tensor([class_of(classes, index // steps, facts.classes) for index in part]))
            submitted.append((part, self._submit(*tensors)))
            if len(submitted) >= self.start().depth:
                done, finish = submitted.popleft()
                yield from zip(done, _pixels(finish()), strict=True)
        for done, finish in submitted:
            yield from zip(done, _pixels(finish()), strict=True)

    def _latent(self, seed: int, index: int, truncation: float | None, steps: int) -> np.ndarray:
        size = self.facts.latent
        if steps == 1:
            return latent(seed, index, size, truncation)
        path, step = divmod(index, steps)
        first, second = (latent(seed, 2 * path + end, size, truncation) for end in (0, 1))
        return between(first, second, step / (steps - 1))

    def _values(self, *tensors: Tensor) -> Tensor:
        """Run latents, and classes if the model has some, and return the samples as (N, C, H, W), nearly 0 to 1."""
        return self._submit(*tensors)()

    def _submit(self, *tensors: Tensor) -> Callable[[], Tensor]:
        """Submit latents, and classes if the model has some; return what waits for the samples, as `_values` does."""
        from gankit.backends.calls import check_result

        engine = self.start()
        shape = (len(tensors[0]), self.facts.channels, *(self.facts.output_size or ()))
        pending = engine.submit(*tensors)

        def values() -> Tensor:
            made = pending.result()
            check_result(engine, tensors, made, shape)
            if not bool(made.isfinite().all()):
                raise NotFiniteError(f"'{self.facts.name}' produced values that are not finite; use --precision fp32")
            return made

        return values


def _pixels(values: Tensor) -> np.ndarray:
    """Return samples (N, C, H, W), nearly 0 to 1, as (N, H, W, C) uint8."""
    import torch

    pixels = (values * 255).clamp_(0, 255).round_().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()
