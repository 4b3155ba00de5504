"""Images from noise: a generator's samples, paths between them, an autoencoder's reconstructions.

Importing this module imports no torch; the first image does.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from gankit_export.precisions import PRECISIONS

from gankit import backends, models
from gankit.errors import NotFiniteError, UsageError
from gankit.pipeline.latents import SMALLEST_TRUNCATION, between, latent
from gankit.pipeline.paths import exists

if TYPE_CHECKING:
    from torch import Tensor

    from gankit.backends.choice.parity import Parity
    from gankit.checkpoints import Loaded
    from gankit.models import Facts
    from gankit.pipeline.latent_engines import LatentEngine

Classes = int | Sequence[int] | None
_SEEDS = 1 << 64
_FEWEST_STEPS = 2


class Sampler:
    """Samples one generator with one engine, which is loaded and compared with fp32 at the first image.

    Sample number i of a seed is the same image whatever the batch and however many are asked for; on another engine
    of the same precision it differs by one level of 255 at most where rounding goes the other way.

    Args:
        model: registry name, a weights file, or a model that is open already.
        backend: ``"eager"``, ``"compile"``, ``"onnxruntime"`` or ``"openvino"``; ``"auto"`` is eager: these networks
            are so small that the others gain less than they take to start.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or ``"auto"``.
        batch: samples in one call of the engine.
        threads: CPU threads; ``None`` for the number of cores.
        options: of the model, in place of those that its weights file tells, see :func:`gankit.checkpoints.open_model`.

    Raises:
        UsageError: an unknown model, backend or precision, or a batch below 1.
    """

    def __init__(
        self,
        model: str | Path | Loaded,
        *,
        backend: str = "auto",
        precision: str = "fp32",
        device: str = "auto",
        batch: int = 64,
        threads: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"unknown precision '{precision}': known are {', '.join(PRECISIONS)}")
        if batch < 1:
            raise UsageError(f"batch must be at least 1, not {batch}")
        if backend != "auto":
            backends.get(backend)
        if isinstance(model, str | Path) and not models.is_known(str(model)) and not exists(model):
            from gankit.checkpoints import open_model

            open_model(model)  # raises, naming the nearest model or the file
        self.batch = batch
        self._model, self._model_options = model, options
        self._options: dict[str, Any] = {"precision": precision, "device": device, "batch": batch, "threads": threads}
        self._options["backend"] = backend
        self._loaded: Loaded | None = None
        self._engine: LatentEngine | None = None
        self._parity: Parity | None = None

    @property
    def loaded(self) -> Loaded:
        """The model; read at the first use.

        Raises:
            UsageError: it does not generate from noise.
            CheckpointError: it cannot be read.
        """
        if self._loaded is None:
            from gankit.checkpoints import Loaded, open_model

            given = self._model
            loaded = given if isinstance(given, Loaded) else open_model(given, options=self._model_options)
            task = loaded.facts.task
            if task != "generate":
                name = loaded.facts.name if isinstance(self._model, Loaded) else self._model
                raise UsageError(f"'{name}' is a model to {task}, not to generate: use gankit {task}")
            self._loaded = loaded
        return self._loaded

    @property
    def facts(self) -> Facts:
        """What is known of the model."""
        return self.loaded.facts

    def start(self) -> LatentEngine:
        """The engine; loaded, and held against fp32, at the first call.

        Raises:
            UsageError: an unknown device.
            BackendError, ParityError: it cannot run this model, or not right.
        """
        if self._engine is None:
            from gankit.pipeline.latent_engines import open_engine

            self._engine, self._parity = open_engine(self.loaded, **self._options)
        return self._engine

    @property
    def parity(self) -> Parity | None:
        """How far the engine's images are from the fp32 ones; ``None`` before the first image."""
        return self._parity

    def sample(self, n: int, seed: int = 0, classes: Classes = None, truncation: float | None = None) -> np.ndarray:
        """Samples 0 to n - 1 of a seed.

        Args:
            n: how many, at least 1.
            seed: from 0 to 2⁶⁴ - 1.
            classes: one for all, or one for each; ``None`` takes the model's in turn: sample i has class i modulo
                their number. Of a conditional model only.
            truncation: no number of a latent is beyond ± this; see :func:`gankit.pipeline.latents.latent`.

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

        from gankit.backends.pixels import to_values

        generator, facts = self.encoding().generator, self.facts
        images = np.asarray(images)
        batch = images[..., None] if images.ndim == 3 else images
        wanted = (*(facts.output_size or ()), facts.channels)
        if batch.dtype != np.uint8 or batch.shape[1:] != wanted:
            shape = " × ".join(map(str, wanted))
            raise UsageError(f"'{facts.name}' reconstructs N × {shape} uint8, not {images.shape} {images.dtype}")
        results = [np.empty((0, *wanted), np.uint8)]
        for start in range(0, len(batch), self.batch):
            part = torch.from_numpy(np.ascontiguousarray(batch[start : start + self.batch])).permute(0, 3, 1, 2)
            with torch.inference_mode():
                mean, _ = generator.encode(to_values(part, facts))
            results.append(self._pixels(self.start().run(mean.contiguous(), None)))
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
        self._engine = None

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
            labels = None
            if facts.classes:
                labels = torch.tensor([_class(classes, index // steps, facts.classes) for index in part])
            yield from zip(part, self._pixels(self.start().run(torch.from_numpy(given), labels)), strict=True)

    def _latent(self, seed: int, index: int, truncation: float | None, steps: int) -> np.ndarray:
        size = self.facts.latent
        if steps == 1:
            return latent(seed, index, size, truncation)
        path, step = divmod(index, steps)
        first, second = (latent(seed, 2 * path + end, size, truncation) for end in (0, 1))
        return between(first, second, step / (steps - 1))

    def _pixels(self, values: Tensor) -> np.ndarray:
        """(N, C, H, W) in the value range -> (N, H, W, C) uint8."""
        import torch

        from gankit.backends.pixels import from_values

        if not bool(values.isfinite().all()):
            raise NotFiniteError(f"'{self.facts.name}' made values that are not finite: take --precision fp32")
        return from_values(values, self.facts, torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()

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
