"""What a layer's settings must be for a row of the table of layers to apply."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from gankit_export import windows
from gankit_export.calls import Call, is_size


def channels(call: Call, position: int = 1, default: Any = None) -> bool:
    """Whether it works along the channels alone."""
    dim = call.get("dim", position, default)
    return dim in (1, -3, [1], (1,), [-3], (-3,))


def keeps_dims(call: Call) -> bool:
    """A sum or the like over the channels, whose result is still an image."""
    third = getattr(call.target, "__name__", call.target) not in ("var", "std")  # theirs is another setting
    return channels(call) and bool(call.get("keepdim", 2 if third else 99, False))


def running(call: Call) -> bool:
    """A norm on fixed statistics."""
    return bool(call.module.track_running_stats) and not call.module.training


def of_the_image(call: Call) -> bool:
    """A norm on the statistics of the image itself."""
    return not call.module.track_running_stats


def whole_steps(call: Call) -> bool:
    """Nearest-neighbour enlargement by whole numbers."""
    factors = [windows.scale_factor(call, axis) for axis in (0, 1)]
    whole = all(item is not None and item >= 1 and item.denominator == 1 for item in factors)
    return whole and call.get("mode", 3, "nearest") == "nearest"


def plain_bilinear(call: Call) -> bool:
    """Bilinear resampling by one factor for rows and columns."""
    rows, columns = (windows.scale_factor(call, axis) for axis in (0, 1))
    plain = rows is not None and rows == columns and not call.get("antialias", 6, False)
    return plain and call.get("mode", 3, "nearest") == "bilinear"


def bordered(call: Call) -> bool:
    """A padding of rows and columns alone, that continues no image at its other edge."""
    given = call.get("padding" if call.module is not None else "pad", 1, None)
    if not isinstance(given, (tuple, list)):
        return isinstance(given, int)
    return len(given) in (2, 4) and all(isinstance(item, int) for item in given)


def not_circular(call: Call) -> bool:
    """The same, of the function, whose mode may be circular."""
    return bordered(call) and call.get("mode", 2, "constant") in ("constant", "reflect", "replicate")


def piece(call: Call) -> bool:
    """One of the pieces that a split makes."""
    source = call.node.args[0]
    names = (torch.chunk, torch.split, torch.tensor_split, "chunk", "split", "tensor_split")
    return isinstance(source, fx.Node) and source.target in names and isinstance(call.get("index", 1, None), int)


def cropped(call: Call) -> bool:
    """An index of slices that start at a given row and leave none out."""
    found = windows.slices(call)
    starts = all(isinstance(item, slice) and (item.start is None or isinstance(item.start, int)) for item in found)
    return starts and len(found) == 4 and all((item.start or 0) >= 0 and item.step in (None, 1) for item in found[2:])


def channel_slice(call: Call) -> bool:
    """An index that takes every row and column."""
    return cropped(call) and all(item == slice(None) for item in windows.slices(call)[2:])


def size(call: Call) -> bool:
    """The shape or the type of a tensor."""
    return is_size(call.node)


def sizes(call: Call) -> bool:
    """Arithmetic on sizes alone."""
    return bool(call.images) and all(is_size(item) for item in call.images)
