"""Which rows (or columns) of its input a layer reads: the geometry behind receptive fields, strips and tiles."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from gankit_export.calls import Call, is_size
from gankit_export.window import SAME, Window

_FINEST = 1024  # a scale factor is taken for a fraction with at most this denominator


def same(call: Call, axis: int) -> Window | None:
    """The same pixel of every input; ``None`` where the image's size, or a constant of its size, takes part."""
    sized = call.target != "to" and any(is_size(item) for item in call.images)
    return None if sized or any(spreads(value) for value in call.tensors) else SAME


def aligned(call: Call, axis: int) -> Window:
    """The same pixel, whatever else takes part."""
    return SAME


def whole(call: Call, axis: int) -> Window | None:
    """Every pixel of the image."""
    return None


def spreads(value: Any) -> bool:
    """Whether a constant tensor differs along the image's rows or columns."""
    return any(side != 1 for side in value.shape[-2:])


def pair(value: Any, axis: int) -> Any:
    """One axis of a setting that is one number for both, or one for each."""
    if not isinstance(value, (tuple, list)):
        return value
    return value[axis] if len(value) > 1 else value[0]


def kernel_size(call: Call, axis: int) -> int:
    """Taps of a convolution along an axis, from its module or from its weight."""
    if call.module is not None:
        return int(pair(call.module.kernel_size, axis))
    return int(call.tensor("weight", 1).shape[2 + axis])


def padding(call: Call, axis: int, position: int = 4) -> int:
    """Rows that a convolution puts before the first."""
    given = call.get("padding", position, 0)
    if given == "valid":
        return 0
    if given == "same":
        return int(pair(call.get("dilation", 5, 1), axis)) * (kernel_size(call, axis) - 1) // 2
    return int(pair(given, axis))


def convolution(call: Call, axis: int) -> Window | None:
    """Of any stride, padding, dilation and number of groups; ``None`` for one that continues at the other edge."""
    if call.module is not None and call.module.padding_mode == "circular":
        return None
    before, reach = padding(call, axis), int(pair(call.get("dilation", 5, 1), axis)) * (kernel_size(call, axis) - 1)
    stride = int(pair(call.get("stride", 3, 1), axis))
    return Window(Fraction(1, stride), Fraction(-before), Fraction(reach - before))


def transposed(call: Call, axis: int) -> Window:
    """Output row o has something of input row i where i·stride - padding <= o <= i·stride - padding + reach."""
    stride = int(pair(call.get("stride", 3, 1), axis))
    reach = int(pair(call.get("dilation", 7, 1), axis)) * (kernel_size(call, axis) - 1)
    before = int(pair(call.get("padding", 4, 0), axis))
    return Window(Fraction(stride), Fraction(before - reach + stride - 1, stride), Fraction(before, stride))


def max_pooling(call: Call, axis: int) -> Window:
    """The largest of k pixels, every so many pixels."""
    return _pooling(call, axis, int(pair(call.get("dilation", 4, 1), axis)))


def mean_pooling(call: Call, axis: int) -> Window:
    """The mean of k pixels, every so many pixels."""
    return _pooling(call, axis, 1)


def _pooling(call: Call, axis: int, dilation: int) -> Window:
    size = int(pair(call.get("kernel_size", 1, None), axis))
    stride = call.get("stride", 2, None)
    before = int(pair(call.get("padding", 3, 0), axis))
    step = size if stride is None or stride == [] else int(pair(stride, axis))
    return Window(Fraction(1, step), Fraction(-before), Fraction(dilation * (size - 1) - before))


def shuffle(call: Call, axis: int) -> Window:
    """PixelShuffle: r rows from one."""
    return Window(Fraction(int(call.get("upscale_factor", 1, None))))


def unshuffle(call: Call, axis: int) -> Window:
    """PixelUnshuffle: one row from r."""
    factor = int(call.get("downscale_factor", 1, None))
    return Window(Fraction(1, factor), high=Fraction(factor - 1))


def pad_sizes(call: Call, axis: int) -> tuple[int, int]:
    """Rows before the first and behind the last that a padding adds; negative ones are cut off."""
    sizes = call.get("padding" if call.module is not None else "pad", 1, None)
    sizes = (sizes,) * 4 if isinstance(sizes, int) else tuple(sizes)
    before = 2 * (1 - axis)  # torch lists the last axis first
    return (int(sizes[before]), int(sizes[before + 1])) if before < len(sizes) else (0, 0)


def pad(call: Call, axis: int) -> Window:
    """The same rows, further down."""
    before = Fraction(-pad_sizes(call, axis)[0])
    return Window(low=before, high=before)


def slices(call: Call) -> tuple[Any, ...]:
    """Batch, channels, rows and columns that an index takes."""
    given = call.get("index", 1, None)
    given = given if isinstance(given, tuple) else (given,)
    place = next((index for index, item in enumerate(given) if item is Ellipsis), None)
    if place is not None:
        given = (*given[:place], *[slice(None)] * (5 - len(given)), *given[place + 1 :])
    return (*given, *[slice(None)] * (4 - len(given)))


def crop(call: Call, axis: int) -> Window:
    """The rows from a given one on; where they end is the image's border."""
    first = Fraction(slices(call)[2 + axis].start or 0)
    return Window(low=first, high=first)


def scale_factor(call: Call, axis: int) -> Fraction | None:
    """Output over input side of a resampling; ``None`` where it depends on the image."""
    factor = call.get("scale_factor", 2, None)
    factor = pair(factor, axis)
    if not isinstance(factor, (int, float)) or call.get("size", 1, None) is not None:
        return None
    return Fraction(factor).limit_denominator(_FINEST)


def resampling(call: Call, axis: int) -> Window | None:
    """``interpolate`` in each of its modes, with a scale factor."""
    factor, mode = scale_factor(call, axis), call.get("mode", 3, "nearest")
    if factor is None or factor <= 0:
        return None
    if factor.denominator > 1 and call.get("recompute_scale_factor", 5, None):
        return None
    step = 1 / factor
    if mode == "nearest":
        return Window(factor)
    centre = step / 2
    if mode == "nearest-exact":
        return Window(factor, centre, centre)
    if mode == "area":
        if factor.numerator != 1 and factor.denominator != 1:
            return None
        return Window(factor, high=max(step - 1, Fraction(0)))
    if mode not in ("bilinear", "bicubic") or (call.get("align_corners", 4, None) and factor != 1):
        return None  # with align_corners the places of the pixels depend on the image's size
    taps = 1 if mode == "bilinear" else 2
    if call.get("antialias", 6, False):
        support = taps * max(step, Fraction(1))
        return Window(factor, centre - support + Fraction(1, 2), centre + support - Fraction(1, 2))
    place = centre - Fraction(1, 2)  # of the first row's centre, between two input rows
    if mode == "bilinear":
        # On an input row the next one has no weight: places are multiples of 1 / finest.
        finest = (step + place).denominator * step.denominator * place.denominator
        return Window(factor, place, place + 1 - Fraction(1, finest))
    return Window(factor, place - 1, place + 2)
