"""3×3 and 5×5 convolutions by Winograd's algorithm F(4×4, k×k), in float32 and channels_last.

Tiles of 4×4 results take (k + 3)² products for each pair of channels: 36 instead of 144, or 64 instead of 400 (Lavin
and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308). Some tiles at a time are
transformed, multiplied with the weights as 36 or 64 matrices, and transformed back, so that what is between stays in
the core's own cache. Each kernel is compiled for a ``window``, the k + 3 rows and columns that a tile reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from gankit_kernels.on_cpu.llvm import Code, Compiled, compiled_once, lanes, registers
from gankit_kernels.on_cpu.transforms import TILE, backward, forward

Activation = Literal["none", "relu", "slope"]

_TRANSFORM = (
    *(("x", "pointer"), ("row", "integer"), ("channels", "integer"), ("height", "integer"), ("width", "integer")),
    *(("above", "integer"), ("left", "integer"), ("across", "integer"), ("first", "integer"), ("count", "integer")),
    *(("depth", "integer"), ("v", "pointer"), ("slot", "integer"), ("zeros", "pointer")),
)
_MULTIPLY = (
    *(("v", "pointer"), ("v_slot", "integer"), ("u", "pointer"), ("m", "pointer"), ("m_slot", "integer")),
    *(("tiles", "integer"), ("channels", "integer"), ("results", "integer")),
)
_FINISH = (
    *(("m", "pointer"), ("slot", "integer"), ("channels", "integer"), ("bias", "pointer"), ("slopes", "pointer")),
    *(("y", "pointer"), ("row", "integer"), ("height", "integer"), ("width", "integer"), ("across", "integer")),
    *(("first", "integer"), ("count", "integer"), ("nowhere", "pointer")),
)
_FEW = 32  # input channels at a time: 200 KB of transforms of 24 tiles
_RUN = (
    *(("x", "pointer"), ("x_row", "integer"), ("channels", "integer"), ("height", "integer"), ("width", "integer")),
    *(("above", "integer"), ("left", "integer"), ("u", "pointer"), ("bias", "pointer"), ("slopes", "pointer")),
    *(("y", "pointer"), ("y_row", "integer"), ("results", "integer"), ("y_height", "integer"), ("y_width", "integer")),
    *(("v", "pointer"), ("m", "pointer"), ("most", "integer"), ("tall", "integer"), ("depth", "integer")),
    *(("slots", "integer"), ("zeros", "pointer"), ("nowhere", "pointer")),
    *(("transform", "integer"), ("multiply", "integer"), ("multiply_on", "integer"), ("finish", "integer")),
)


def panel(results: int) -> int:
    """Return how many of the output channels are computed together; they divide their number.

    Args:
        results: number of output channels, a multiple of :func:`~gankit_kernels.on_cpu.llvm.lanes`.
    """
    return next(count * lanes() for count in (4, 2, 1) if count <= _most_vectors() and results % (count * lanes()) == 0)


def rows_of(together: int) -> int:
    """Return how many tiles are multiplied together with a panel of so many output channels."""
    return _sums() // (together // lanes())


def tiles_at_once(channels: int, results: int) -> int:
    """Return how many tiles are transformed at a time: more where the weights do not stay in the cache between them."""
    return 24 if channels * results <= 128 * 256 else 96


def channels_at_once(channels: int, results: int, window: int) -> int:
    """Return how many input channels are transformed at a time; they divide their number.

    All of them, unless few results leave the time to memory: then so many that their transforms stay in a small cache.

    Args:
        channels: number of input channels.
        results: number of output channels.
        window: rows and columns of the inputs of a tile.
    """
    if window == 6 or results > channels:
        return channels
    return next(count for count in range(min(channels, _FEW), 0, -lanes()) if channels % count == 0)


def _sums() -> int:
    """How many registers hold sums; the rest hold weights and an input."""
    return 24 if registers() == 32 else 12


def _most_vectors() -> int:
    return 4 if registers() == 32 and lanes() == 4 else 2


@compiled_once
def transform(window: int) -> Compiled:
    """Compile the transform of the inputs.

    (height, width, channels) -> (window², tiles, depth), of the tiles ``first`` to ``first + count`` in rows of
    ``across``, and of the first ``depth`` channels. ``above`` and ``left`` are the zeros around the image; ``zeros`` is
    the address of ``depth`` of them.

    Args:
        window: rows and columns of the inputs of a tile.
    """
    code, get = _code("transform", _TRANSFORM)
    builder, number = code.builder, code.number
    with code.loop(get["count"], 1) as tiles:
        tile = builder.add(get["first"], tiles.index)
        top = builder.sub(builder.mul(builder.udiv(tile, get["across"]), number(TILE)), get["above"])
        side = builder.sub(builder.mul(builder.urem(tile, get["across"]), number(TILE)), get["left"])
        pixels = _pixels(code, "x", (top, side), window, get["channels"], "zeros")
        target = code.at(get["v"], builder.mul(tiles.index, get["depth"]))
        with code.loop(get["depth"], lanes()) as channels:
            columns = [
                forward(code, [code.load(code.at(pixels[row][column], channels.index)) for row in range(window)])
                for column in range(window)
            ]
            place = code.at(target, channels.index)
            for row in range(window):
                for column, value in enumerate(forward(code, [item[row] for item in columns])):
                    slot = builder.mul(get["slot"], number(window * row + column))
                    code.store(value, code.at(place, slot))
    builder.ret_void()
    return Compiled(code.module, "transform", len(_TRANSFORM))


@compiled_once
def multiply(window: int, together: int, add: bool) -> Compiled:
    """Compile the products (window², tiles, C) × (window², C, C') -> (window², tiles, C').

    The weights are (window², C' / together, C, together). ``tiles`` is a multiple of :func:`rows_of`.

    Args:
        window: rows and columns of the inputs of a tile.
        together: number of output channels in a panel.
        add: whether the products are added to what is there, those of other input channels.
    """
    code, get = _code("multiply", _MULTIPLY)
    builder = code.builder
    tall, wide = rows_of(together), together // lanes()
    with code.loop(code.number(window**2), 1) as slots:
        inputs = code.at(get["v"], builder.mul(slots.index, get["v_slot"]))
        sums = code.at(get["m"], builder.mul(slots.index, get["m_slot"]))
        matrix = builder.mul(slots.index, builder.mul(get["channels"], get["results"]))
        with code.loop(get["results"], together) as results:
            weights = code.at(get["u"], matrix, builder.mul(results.index, get["channels"]))
            with code.loop(get["tiles"], tall) as tiles:
                rows = [builder.add(tiles.index, code.number(row)) for row in range(tall)]
                starts = [code.at(inputs, builder.mul(row, get["channels"])) for row in rows]
                targets = [
                    code.at(sums, builder.mul(row, get["results"]), results.index, lanes() * part)
                    for row in rows
                    for part in range(wide)
                ]
                with code.loop(get["channels"], 1, carried=[code.same(0)] * (tall * wide)) as channels:
                    place = code.at(weights, builder.mul(channels.index, code.number(together)))
                    factors = [code.load(code.at(place, lanes() * part)) for part in range(wide)]
                    channels.next = []
                    for row, start in enumerate(starts):
                        value = code.spread(code.at(start, channels.index))
                        for part, factor in enumerate(factors):
                            total = channels.values[row * wide + part]
                            channels.next = [*channels.next, code.multiply_add(value, factor, total)]
                for total, target in zip(channels.values, targets, strict=True):
                    code.store(builder.fadd(total, code.load(target)) if add else total, target)
    builder.ret_void()
    return Compiled(code.module, "multiply", len(_MULTIPLY))


@compiled_once
def finish(window: int, activation: Activation, add: bool) -> Compiled:
    """Compile the transform of the products, with what follows the convolution.

    (window², tiles, channels) -> (height, width, channels). Pixels of a tile outside the result are written to
    ``nowhere``, the address of ``channels`` float32.

    Args:
        window: rows and columns of the inputs of a tile.
        activation: ``"slope"`` multiplies what is negative by the channel's slope.
        add: whether the result is added to what is there.
    """
    code, get = _code("finish", _FINISH)
    builder = code.builder
    with code.loop(get["count"], 1) as tiles:
        tile = builder.add(get["first"], tiles.index)
        top = builder.mul(builder.udiv(tile, get["across"]), code.number(TILE))
        side = builder.mul(builder.urem(tile, get["across"]), code.number(TILE))
        pixels = _pixels(code, "y", (top, side), TILE, get["channels"], "nowhere")
        source = code.at(get["m"], builder.mul(tiles.index, get["channels"]))
        with code.loop(get["channels"], lanes()) as channels:
            place = code.at(source, channels.index)
            bias = code.load(code.at(get["bias"], channels.index))
            slope = code.load(code.at(get["slopes"], channels.index)) if activation == "slope" else code.same(0)
            slots = [builder.mul(get["slot"], code.number(slot)) for slot in range(window**2)]
            products = [code.load(code.at(place, slot)) for slot in slots]
            columns = [backward(code, products[column::window]) for column in range(window)]
            for row in range(TILE):
                for column, product in enumerate(backward(code, [item[row] for item in columns])):
                    value, target = builder.fadd(product, bias), code.at(pixels[row][column], channels.index)
                    if activation != "none":  # NaN stays NaN
                        negative = builder.fcmp_ordered("<", value, code.same(0))
                        less = builder.fmul(value, slope) if activation == "slope" else slope
                        value = builder.select(negative, less, value)
                    if add:
                        value = builder.fadd(value, code.load(target))
                    code.store(value, target)
    builder.ret_void()
    return Compiled(code.module, "finish", len(_FINISH))


@compiled_once
def run() -> Compiled:
    """Compile the loop over the tiles of an image, ``most`` of them and ``depth`` input channels at a time.

    The last four arguments are the addresses of the kernels. ``v`` has room for (window², most, depth) float32 and
    ``m`` for (window², most, results); ``most`` is a multiple of ``tall``, which is that of :func:`rows_of`. The
    weights are (channels / depth, window², ...), see :func:`multiply`.
    """
    code, get = _code("run", _RUN)
    builder, number = code.builder, code.number
    across = builder.udiv(builder.add(get["y_width"], number(TILE - 1)), number(TILE))
    down = builder.udiv(builder.add(get["y_height"], number(TILE - 1)), number(TILE))
    every, most, depth = builder.mul(across, down), get["most"], get["depth"]
    v_slot, m_slot = builder.mul(most, depth), builder.mul(most, get["results"])
    with code.loop(every, most) as tiles:
        first, left = tiles.index, builder.sub(every, tiles.index)
        count = builder.select(builder.icmp_signed("<", left, most), left, most)
        tall = get["tall"]
        filled = builder.mul(builder.udiv(builder.add(count, builder.sub(tall, number(1))), tall), tall)
        with code.loop(get["channels"], depth) as channels:
            image = [get[name] for name in ("x_row", "channels", "height", "width", "above", "left")]
            room = [across, first, count, depth, get["v"], v_slot, get["zeros"]]
            code.call(get["transform"], _TRANSFORM, [code.at(get["x"], channels.index), *image, *room])
            weights = code.at(get["u"], builder.mul(channels.index, builder.mul(get["slots"], get["results"])))
            begun = builder.icmp_signed(">", channels.index, number(0))
            multiply_now = builder.select(begun, get["multiply_on"], get["multiply"])
            sizes = [filled, depth, get["results"]]
            code.call(multiply_now, _MULTIPLY, [get["v"], v_slot, weights, get["m"], m_slot, *sizes])
        follows = [get[name] for name in ("results", "bias", "slopes", "y", "y_row", "y_height", "y_width")]
        code.call(get["finish"], _FINISH, [get["m"], m_slot, *follows, across, first, count, get["nowhere"]])
    builder.ret_void()
    return Compiled(code.module, "run", len(_RUN))


def _code(name: str, arguments: Sequence[tuple[str, str]]) -> tuple[Code, dict[str, Any]]:
    code = Code(name, arguments, lanes())
    return code, code.arguments


def _pixels(code: Code, image: str, corner: tuple[Any, Any], side: int, channels: Any, instead: str) -> list[list[Any]]:
    """Addresses of the pixels of a square; ``instead`` for those outside the image."""
    builder, get = code.builder, code.arguments
    rows = [builder.add(corner[0], code.number(index)) for index in range(side)]
    columns = [builder.add(corner[1], code.number(index)) for index in range(side)]
    # A negative number is a large one without its sign.
    there = [
        [builder.icmp_unsigned("<", item, get[limit]) for item in items]
        for items, limit in ((rows, "height"), (columns, "width"))
    ]
    offsets = [builder.mul(row, get["row"]) for row in rows], [builder.mul(column, channels) for column in columns]
    return [
        [
            builder.select(
                builder.and_(there[0][row], there[1][column]),
                code.at(get[image], offsets[0][row], offsets[1][column]),
                get[instead],
            )
            for column in range(side)
        ]
        for row in range(side)
    ]
