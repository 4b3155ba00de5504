"""Optimization profiles: the input shapes for which an engine is built."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]

_TEXT = re.compile(r"(\d+)x(\d+)x(\d+)")


@dataclass(frozen=True)
class Range:
    """The shapes of one input.

    Attributes:
        least: smallest shape.
        best: shape for which the kernels are chosen.
        most: largest shape.

    Raises:
        ValueError: If the three do not have the same number of axes, or are not in this order along one of them.
    """

    least: Shape
    best: Shape
    most: Shape

    def __post_init__(self) -> None:
        if not len(self.least) == len(self.best) == len(self.most):
            raise ValueError("the smallest, best and largest shape must have the same number of axes")
        if not all(1 <= low <= best <= high for low, best, high in zip(self.least, self.best, self.most, strict=True)):
            raise ValueError(f"{self} is not in order: give the smallest, the best and the largest shape")

    def __str__(self) -> str:
        shapes = (self.best,) if self.static else (self.least, self.best, self.most)
        return ",".join("x".join(map(str, shape)) for shape in shapes)

    @property
    def static(self) -> bool:
        """Whether it admits one shape only."""
        return self.least == self.most

    def admits(self, shape: Sequence[int]) -> bool:
        """Whether an input of this shape fits."""
        return len(shape) == len(self.least) and all(
            low <= side <= high for low, side, high in zip(self.least, shape, self.most, strict=True)
        )


@dataclass(frozen=True)
class Profile:
    """The shapes of all inputs, by their names in the file."""

    inputs: Mapping[str, Range]

    def __str__(self) -> str:
        return " ".join(f"{name}:{shapes}" for name, shapes in self.inputs.items())

    def admits(self, shapes: Mapping[str, Sequence[int]]) -> bool:
        """Whether inputs of these shapes fit."""
        return shapes.keys() == self.inputs.keys() and all(
            self.inputs[name].admits(shape) for name, shape in shapes.items()
        )

    def to_json(self) -> dict[str, list[list[int]]]:
        """As JSON: for each input the smallest, the best and the largest shape."""
        return {name: [list(r.least), list(r.best), list(r.most)] for name, r in self.inputs.items()}

    @classmethod
    def from_json(cls, content: Any) -> Profile:
        """The profile in a JSON value that :meth:`to_json` made.

        Raises:
            ValueError: If it is none.
        """
        try:
            return cls(
                {str(name): Range(*(tuple(map(int, item)) for item in given)) for name, given in content.items()}
            )
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not a profile: {content!r}") from error


def image_profile(name: str, text: str, channels: int, multiple: int = 1) -> Profile:
    """Parse the profile of an input of images.

    Args:
        name: name of the input.
        text: ``"1x256x256"`` (batch, height, width) for one static shape, or three of them, smallest, best and largest,
            with commas between them.
        channels: channels of the input.
        multiple: size multiple of the generator.

    Raises:
        ValueError: If the text is something else, or a side is not a multiple. The message is one line.
    """
    found = [_TEXT.fullmatch(part.strip()) for part in text.split(",")]
    if len(found) not in (1, 3) or None in found:
        raise ValueError(f"'{text}' is not BATCHxHEIGHTxWIDTH, such as 1x256x256, nor three of them with commas")
    shapes = [(int(m[1]), channels, int(m[2]), int(m[3])) for m in found if m is not None]
    for shape in shapes:
        if shape[2] % multiple or shape[3] % multiple:
            raise ValueError(f"the sides in '{text}' must be multiples of {multiple}, which this model needs")
    return Profile({name: Range(*(shapes * 3 if len(shapes) == 1 else shapes))})


def nhwc(profile: Profile) -> Profile:
    """Return a profile of images (N, C, H, W) for the same images in the layout (N, H, W, C)."""

    def turned(shape: Shape) -> Shape:
        batch, channels, height, width = shape
        return (batch, height, width, channels)

    return Profile(
        {name: Range(*map(turned, (item.least, item.best, item.most))) for name, item in profile.inputs.items()}
    )


def batch_profile(shapes: Mapping[str, Shape], most: int, best: int | None = None) -> Profile:
    """Return a profile in which the first axis of every input is the batch, from 1 to ``most``.

    Args:
        shapes: shape of each input without its batch.
        most: largest batch.
        best: batch for which the kernels are chosen; ``None`` takes the largest.
    """
    best = most if best is None else best
    return Profile({name: Range((1, *rest), (best, *rest), (most, *rest)) for name, rest in shapes.items()})
