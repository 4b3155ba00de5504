"""Discriminators, which are often saved beside a generator and given in its place."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from gankit.checkpoints.layouts.stacks import image
from gankit.checkpoints.structure.base import Shape, Shapes

_MOST_INPUTS = 8  # channels: two images, or one and the map of a class


def discriminator(shapes: Shapes) -> str | None:
    """What a discriminator is, in words; ``None`` for the shapes of anything else.

    A discriminator takes few channels, or the pixels of an image, to ever more channels and to one logit, where a
    generator ends with as few channels as it began.
    """
    found = [shape for shape in shapes if len(shape) in (2, 4)]
    if len(found) < 2:
        return None
    parts: list[list[Shape]] = [[]]
    for shape in found:  # several of them look at the image at several sizes
        if parts[-1] and shape == parts[0][0] and parts[-1][-1][0] == 1:
            parts.append([])
        parts[-1].append(shape)
    if not all(_convolutional(part) or _dense(part) for part in parts):
        return None
    first = found[0]
    takes = f"{first[1]} channels" if len(first) == 4 else f"{first[1]} numbers"
    many = f"{len(parts)} discriminators" if len(parts) > 1 else "a discriminator"
    return f"{many} ({len(found)} layers, from {takes} to one logit)"


def _convolutional(found: Sequence[Shape]) -> bool:
    first, last = found[0], found[-1]
    convolutions = [shape for shape in found if len(shape) == 4]
    matrices = [shape for shape in found if len(shape) == 2]
    if len(first) != 4 or last[0] != 1 or list(found) != convolutions + matrices:
        return False
    hidden = convolutions if matrices else convolutions[:-1]
    grows = all(a[0] <= b[0] and b[1] in (a[0], 1) for a, b in pairwise(hidden))
    wide = len(hidden) > 1 and hidden[-1][0] >= 2 * hidden[0][0]
    return bool(hidden) and grows and first[1] <= _MOST_INPUTS < hidden[-1][0] and (wide or bool(matrices))


def _dense(found: Sequence[Shape]) -> bool:
    """From the pixels of an image, with or without a class, to one number; no layer is wider than the input."""
    if any(len(shape) != 2 for shape in found) or found[-1][0] != 1 or found[-1][1] < 2:
        return False
    chain = [shape for shape in found if shape[1] != shape[0]] or list(found)  # less the vectors of the classes
    pixels = chain[0][1]
    return all(a[0] == b[1] for a, b in pairwise(chain)) and any(image(pixels - more) for more in range(11))
