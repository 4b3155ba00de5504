"""What is known of a model before it runs. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Task = Literal["upscale", "translate", "generate"]
Norm = Literal["none", "batch", "instance"]
Direction = Literal["AtoB", "BtoA"]
AtTest = Literal["instance", "eval"]
Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Facts:
    """The facts of one model.

    Attributes:
        name: registry name, such as ``"srgan"``.
        paper: authors, year and arXiv number.
        task: what the generator does.
        scale: output side over input side (1 for translation).
        channels: colour channels of the input and output.
        value_range: the values of the generator's input and output, lowest and highest.
        multiple: input sides must be a multiple of this many pixels.
        norm: the kind of normalisation; ``"instance"`` looks at the whole image, so that plain tiles are wrong.
        options: the arguments that build the generator again.
        out_channels: colour channels of the output; ``None`` for those of the input.
        latent: numbers in one latent, of a model that generates; 0 for one that takes images.
        classes: that a conditional one was trained on; 0 for one without.
        output_size: height and width of what it generates.
        minimum: input sides must be at least this many pixels.
        precisions: in which it may run.
        tileable: whether an output pixel depends on a bounded part of the input, so that tiles with a halo are exact;
            ``None`` where the receptive field is traced to find out.
        halo: input pixels around a tile that its output depends on; ``None`` where the receptive field is traced.
    """

    name: str
    paper: str
    task: Task
    scale: int
    channels: int
    value_range: tuple[float, float]
    multiple: int
    norm: Norm
    options: Mapping[str, Any] = field(default_factory=dict)
    out_channels: int | None = None
    latent: int = 0
    classes: int = 0
    output_size: tuple[int, int] | None = None
    minimum: int = 1
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
    tileable: bool | None = None
    halo: int | None = None
