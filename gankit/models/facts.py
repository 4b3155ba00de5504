"""What gankit has to know of a generator before it runs. Importing this module imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from gankit_export.precisions import PRECISIONS, Precision

Task = Literal["upscale", "translate", "generate"]
Direction = Literal["AtoB", "BtoA"]
AtTest = Literal["instance", "eval"]


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
        options: of a built-in model, as JSON values, the options that build the generator again.

    Raises:
        ValueError: a fact is out of its range, or two contradict each other; one line that names it.
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
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise ValueError(f"task must be {_either(get_args(Task))}, not {self.task!r}")
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"name must be a text that is not empty, not {self.name!r}")
        object.__setattr__(self, "value_range", _range(self.value_range))
        for fact in ("scale", "channels", "multiple", "minimum"):
            _at_least(1, fact, getattr(self, fact))
        if self.out_channels is not None:
            _at_least(1, "out_channels", self.out_channels)
        if self.scale != 1 and self.task != "upscale":
            raise ValueError(f"scale must be 1 for task {self.task!r}, not {self.scale!r}")
        if self.tileable is not None and type(self.tileable) is not bool:
            raise ValueError(f"tileable must be True, False or None, not {self.tileable!r}")
        if self.halo is not None:
            _at_least(0, "halo", self.halo)
            if self.tileable is False:
                raise ValueError(f"halo must be None where tileable is False, not {self.halo!r}")
        self._check_generation()
        if (
            isinstance(self.precisions, str)
            or not {"fp32"} <= set(self.precisions) <= set(PRECISIONS)
            or len(set(self.precisions)) != len(self.precisions)
        ):
            raise ValueError(f"precisions must be some of {_either(PRECISIONS)}, and 'fp32', not {self.precisions!r}")
        object.__setattr__(self, "precisions", tuple(self.precisions))

    def _check_generation(self) -> None:
        """Require a latent and an output size of a model that generates, and of no other."""
        if self.task != "generate":
            for fact, absent in (("latent", 0), ("classes", 0), ("output_size", None)):
                if getattr(self, fact) != absent:
                    raise ValueError(f"{fact} must be {absent} for task {self.task!r}, not {getattr(self, fact)!r}")
            return
        _at_least(1, "latent", self.latent)
        _at_least(0, "classes", self.classes)
        size = self.output_size
        if not isinstance(size, list | tuple) or len(size) != 2:
            raise ValueError(f"output_size must be a height and a width in pixels for task 'generate', not {size!r}")
        for side in size:
            _at_least(1, "output_size", side)
        object.__setattr__(self, "output_size", tuple(size))


def _range(value: object) -> tuple[float, float]:
    if isinstance(value, list | tuple) and len(value) == 2:
        low, high = value
        numbers = all(isinstance(end, int | float) and math.isfinite(end) for end in (low, high))
        if numbers and low < high:
            return float(low), float(high)
    raise ValueError(f"value_range must be two finite numbers, the lower one first, such as (0, 1), not {value!r}")


def _at_least(least: int, fact: str, value: object) -> None:
    if type(value) is not int or value < least:
        raise ValueError(f"{fact} must be a whole number of at least {least}, not {value!r}")


def _either(words: tuple[str, ...]) -> str:
    *others, last = (repr(word) for word in words)
    return f"{', '.join(others)} or {last}"
