"""What gankit has to know of a generator before it runs. Importing this module imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from gankit_export.precisions import PRECISIONS, Precision

from gankit.errors import FactsError

Task = Literal["upscale", "translate", "generate"]
Direction = Literal["AtoB", "BtoA"]
AtTest = Literal["instance", "eval"]
InputKind = Literal["image", "mask", "labels"]
_LABELS = 256  # numbers that a channel of 8 bits can hold


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts of one generator. The built-in models state theirs; of your own module you state them.

    A super-resolution network needs three, ``Facts(task="upscale", scale=4, value_range=(0, 1))``, a translation
    network two, a generator of images from noise also ``latent`` and ``output_size``.

    Attributes:
        task: ``"upscale"`` and ``"translate"`` take images, (N, C, H, W) floating point, and return images;
            ``"generate"`` takes latents, (N, latent), and, where ``classes`` is not 0, class indices, (N,) int64.
        value_range: lowest and highest value of the images that the generator takes and returns, black and white:
            ``(0, 1)`` or ``(-1, 1)``, or any two finite numbers of which the first is smaller.
        scale: output side over input side, 1 or more; 1 for translation and generation.
        name: of the model, for reports and errors; a built-in model has its registry name, such as ``"srgan"``.
        paper: authors, year and arXiv number, or any other source.
        channels: colour channels of the input, 1 or more; those of the output where ``task`` is ``"generate"``.
        out_channels: colour channels of the output, 1 or more; ``None`` for as many as ``channels``.
        multiple: input sides must be a multiple of this many pixels, 1 or more; images are padded to it.
        minimum: input sides must be at least this many pixels, 1 or more; smaller images are padded to it.
        tileable: whether an output pixel depends on few input pixels only, so that a large image can be cut into
            overlapping tiles. ``False`` where a normalisation computes statistics over the whole image, and where the
            receptive field is so large that tiles would be nearly all overlap. ``None`` to derive it from the traced
            generator (see :mod:`gankit_export.receptive_field`); until then images are not cut. It has no meaning where
            ``task`` is ``"generate"``.
        halo: input pixels on every side of a tile that its output depends on, 0 or more; ``None`` to trace it.
        latent: numbers in one latent, 1 or more where ``task`` is ``"generate"``, else 0.
        classes: number of classes of a conditional generator; 0 for one without.
        output_size: height and width in pixels of the images that are generated; ``None`` for other tasks.
        precisions: in which the generator may run; some of ``"fp32"``, ``"bf16"`` and ``"fp16"``, with ``"fp32"``.
        input_kind: what the values of the input mean. ``"image"`` is brightness. ``"mask"`` is a mask of two values,
            which the generator gets as black and white whatever the two values are. ``"labels"`` is a label map, whose
            values are the numbers of classes and reach the generator as they are, of 255. Masks and label maps are read
            as indices (see :mod:`gankit.datasets.indices`), and only a model that translates takes them.
        labels: the labels that the generator was trained with, if ``input_kind`` is ``"labels"``; empty if they are not
            known. Label maps with other labels are refused.
        options: of a built-in model, as JSON values, the options that build the generator again.

    Raises:
        FactsError: a fact is out of its range, or two contradict each other; one line that names it. It is also a
            ``ValueError``.
    """

    task: Task
    value_range: tuple[float, float]
    scale: int = 1
    name: str = "custom"
    paper: str = ""
    channels: int = 3
    out_channels: int | None = None
    multiple: int = 1
    minimum: int = 1
    tileable: bool | None = None
    halo: int | None = None
    latent: int = 0
    classes: int = 0
    output_size: tuple[int, int] | None = None
    precisions: tuple[Precision, ...] = PRECISIONS
    input_kind: InputKind = "image"
    labels: tuple[int, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _one_of(get_args(Task), "task", self.task)
        if not isinstance(self.name, str) or not self.name:
            raise FactsError(f"name must be a text that is not empty, not {self.name!r}")
        object.__setattr__(self, "value_range", _range(self.value_range))
        for fact in ("scale", "channels", "multiple", "minimum"):
            _at_least(1, fact, getattr(self, fact))
        if self.out_channels is not None:
            _at_least(1, "out_channels", self.out_channels)
        if self.scale != 1 and self.task != "upscale":
            raise FactsError(f"scale must be 1 for task {self.task!r}, not {self.scale!r}")
        if self.tileable is not None and type(self.tileable) is not bool:
            raise FactsError(f"tileable must be True, False or None, not {self.tileable!r}")
        if self.halo is not None:
            _at_least(0, "halo", self.halo)
            if self.tileable is False:
                raise FactsError(f"halo must be None where tileable is False, not {self.halo!r}")
        self._check_generation()
        self._check_input()
        if (
            not isinstance(self.precisions, list | tuple)
            or not all(isinstance(precision, str) for precision in self.precisions)
            or not {"fp32"} <= set(self.precisions) <= set(PRECISIONS)
            or len(set(self.precisions)) != len(self.precisions)
        ):
            raise FactsError(f"precisions must be some of {_either(PRECISIONS)}, and 'fp32', not {self.precisions!r}")
        object.__setattr__(self, "precisions", tuple(self.precisions))

    def _check_generation(self) -> None:
        """Require a latent and an output size of a model that generates, and of no other."""
        if self.task != "generate":
            for fact, absent in (("latent", 0), ("classes", 0), ("output_size", None)):
                if type(getattr(self, fact)) is not type(absent) or getattr(self, fact) != absent:
                    raise FactsError(f"{fact} must be {absent} for task {self.task!r}, not {getattr(self, fact)!r}")
            return
        _at_least(1, "latent", self.latent)
        _at_least(0, "classes", self.classes)
        size = self.output_size
        if not isinstance(size, list | tuple) or len(size) != 2:
            raise FactsError(f"output_size must be a height and a width in pixels for task 'generate', not {size!r}")
        for side in size:
            _at_least(1, "output_size", side)
        object.__setattr__(self, "output_size", tuple(size))

    def _check_input(self) -> None:
        """Require a model that translates for masks and label maps, and labels only for label maps."""
        _one_of(get_args(InputKind), "input_kind", self.input_kind)
        if self.input_kind != "image" and self.task != "translate":
            raise FactsError(f"input_kind must be 'image' for task {self.task!r}, not {self.input_kind!r}")
        if not isinstance(self.labels, list | tuple) or not all(type(label) is int for label in self.labels):
            raise FactsError(f"labels must be a tuple of whole numbers, not {self.labels!r}")
        if any(not 0 <= label < _LABELS for label in self.labels):
            raise FactsError(f"labels must be from 0 to {_LABELS - 1}, not {self.labels!r}")
        if self.labels and self.input_kind != "labels":
            raise FactsError(f"labels must be empty for input_kind {self.input_kind!r}, not {self.labels!r}")
        object.__setattr__(self, "labels", tuple(sorted(set(self.labels))))


def _range(value: object) -> tuple[float, float]:
    if isinstance(value, list | tuple) and len(value) == 2:
        low, high = value
        numbers = all(isinstance(end, int | float) and math.isfinite(end) for end in (low, high))
        if numbers and low < high:
            return float(low), float(high)
    raise FactsError(f"value_range must be two finite numbers, the lower one first, such as (0, 1), not {value!r}")


def _one_of(words: tuple[str, ...], fact: str, value: object) -> None:
    if not isinstance(value, str) or value not in words:
        raise FactsError(f"{fact} must be {_either(words)}, not {value!r}")


def _at_least(least: int, fact: str, value: object) -> None:
    if type(value) is not int or value < least:
        raise FactsError(f"{fact} must be a whole number of at least {least}, not {value!r}")


def _either(words: tuple[str, ...]) -> str:
    *others, last = (repr(word) for word in words)
    return f"{', '.join(others)} or {last}"
