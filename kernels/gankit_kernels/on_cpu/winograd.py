"""2×2, 3×3 and 5×5 convolutions by Winograd's algorithm F(m×m, k×k), in float32 and channels_last.

Tiles of m×m results take (m + k - 1)² products for each pair of channels: 36 instead of 144 for F(4×4, 3×3), 64 instead
of 324 for F(6×6, 3×3), 64 instead of 400 for F(4×4, 5×5), and 16 instead of 36 for F(3×3, 2×2) (Lavin and Gray 2016,
"Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308). Some tiles at a time are transformed, multiplied
with the weights as 16, 36 or 64 matrices, and transformed back, so that what is between stays in the core's own cache.
Meanwhile the pixels of the next tile are fetched, which lie too far apart for the processor to foresee.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from gankit_kernels.on_cpu.llvm import Code, Loop, lanes
from gankit_kernels.on_cpu.objects import kernel
from gankit_kernels.on_cpu.tiling import APART, rows_of
from gankit_kernels.on_cpu.transforms import Tile, backward, forward, window

Activation = Literal["none", "relu", "slope"]

Step = Literal["one", "half", "two"]  # of the input for one of the result, in rows and columns

_PLACE = (
    *(("row", "integer"), ("pixel", "integer"), ("image", "integer"), ("height", "integer"), ("width", "integer")),
    *(("above", "integer"), ("left", "integer"), ("across", "integer"), ("each", "integer")),
    *(("first", "integer"), ("count", "integer")),
)
_TRANSFORM = (
    ("x", "pointer"), *_PLACE, ("depth", "integer"), ("v", "pointer"), ("slot", "integer"), ("zeros", "pointer"),
)  # fmt: skip
_MULTIPLY = (
    *(("v", "pointer"), ("v_slot", "integer"), ("u", "pointer"), ("m", "pointer"), ("m_slot", "integer")),
    *(("tiles", "integer"), ("results", "integer")),
)
_FINISH = (
    *(("m", "pointer"), ("slot", "integer"), ("channels", "integer"), ("bias", "pointer"), ("slopes", "pointer")),
    *(("y", "pointer"), *_PLACE, ("nowhere", "pointer")),
)
_UNROLLED = 4  # input channels in a round of the products; fewest lanes
_RUN = (
    *(("x", "pointer"), ("x_row", "integer"), ("x_pixel", "integer"), ("x_image", "integer")),
    *(("channels", "integer"), ("height", "integer"), ("width", "integer"), ("above", "integer"), ("left", "integer")),
    *(("u", "pointer"), ("bias", "pointer"), ("slopes", "pointer")),
    *(("y", "pointer"), ("y_row", "integer"), ("y_pixel", "integer"), ("y_image", "integer")),
    *(("results", "integer"), ("y_height", "integer"), ("y_width", "integer"), ("across", "integer")),
    *(("each", "integer"), ("v", "pointer"), ("m", "pointer"), ("most", "integer"), ("tall", "integer")),
    *(("depth", "integer"), ("slots", "integer"), ("zeros", "pointer"), ("nowhere", "pointer")),
    *(("start", "integer"), ("stop", "integer")),
    *(("transform", "integer"), ("multiply", "integer"), ("multiply_on", "integer"), ("finish", "integer")),
)


@kernel(_TRANSFORM)
def transform(code: Code, tile: Tile, side: int) -> None:
    """Write the transform of the inputs.

    (height, width, channels) -> (window², tiles, depth), of the tiles ``first`` to ``first + count``, ``each`` of an
    image in rows of ``across``, and of the first ``depth`` channels. ``row``, ``pixel`` and ``image`` lie between what
    they name. ``above`` and ``left`` are the zeros around the image; ``zeros`` is the address of ``depth`` of them.

    Args:
        code: of the kernel.
        tile: rows and columns of the results of a tile.
        side: rows and columns of the kernel.
    """
    get = code.arguments
    builder, number, reads = code.builder, code.number, window(tile, side)
    with code.loop(get["count"], 1) as tiles:
        pixels = _pixels(code, "x", tiles, tile, reads, "zeros")
        target = code.at(get["v"], builder.mul(tiles.index, get["depth"]))
        with code.loop(get["depth"], lanes()) as channels:
            columns = [
                forward(code, [code.load(code.at(pixels[row][column], channels.index)) for row in range(reads)])
                for column in range(reads)
            ]
            _fetch_next(
                code, [pixels[row][column] for row in range(reads) for column in range(side - 1, reads)], tile, channels
            )
            place = code.at(target, channels.index)
            for row in range(reads):
                for column, value in enumerate(forward(code, [item[row] for item in columns])):
                    slot = builder.mul(get["slot"], number(reads * row + column))
                    code.store(value, code.at(place, slot))


@kernel(_MULTIPLY)
def multiply(code: Code, reads: int, depth: int, together: int, add: bool, fetch: bool) -> None:
    """Write the products (window², tiles, depth) × (window², depth, C') -> (window², tiles, C').

    The weights are (window², C' / together, depth, together). ``tiles`` is a multiple of ``rows_of``.

    Args:
        code: of the kernel.
        reads: rows and columns of the inputs of a tile.
        depth: number of input channels, a multiple of :func:`~gankit_kernels.on_cpu.llvm.lanes`.
        together: number of output channels in a panel.
        add: whether the products are added to what is there, those of other input channels.
        fetch: whether to fetch weights ahead, because they come from memory.
    """
    get = code.arguments
    builder, number = code.builder, code.number
    tall, wide = rows_of(together), together // lanes()
    with code.loop(number(reads**2), 1) as slots:
        inputs = code.at(get["v"], builder.mul(slots.index, get["v_slot"]))
        sums = code.at(get["m"], builder.mul(slots.index, get["m_slot"]))
        matrix = builder.mul(slots.index, builder.mul(number(depth), get["results"]))
        with code.loop(get["results"], together) as results:
            weights = code.at(get["u"], matrix, builder.mul(results.index, number(depth)))
            with code.loop(get["tiles"], tall) as tiles:
                start = code.at(inputs, builder.mul(tiles.index, number(depth)))
                rows = [builder.mul(builder.add(tiles.index, number(row)), get["results"]) for row in range(tall)]
                targets = [code.at(sums, row, results.index, lanes() * part) for row in rows for part in range(wide)]
                # Each of four groups of tiles fetches a part of the next panel of weights.
                turn = builder.and_(builder.udiv(tiles.index, number(tall)), number(3))
                ahead = code.at(weights, depth * together, builder.mul(turn, number(depth * together // 4)))
                with code.loop(number(depth), _UNROLLED, carried=[code.same(0)] * (tall * wide)) as channels:
                    channels.next = channels.values
                    if fetch:
                        code.prefetch(code.at(ahead, builder.mul(channels.index, number(together // 4))))
                    for step in range(_UNROLLED):
                        place = code.at(weights, builder.mul(channels.index, number(together)), together * step)
                        factors = [code.load(code.at(place, lanes() * part)) for part in range(wide)]
                        values = [
                            code.spread(code.at(start, channels.index, row * depth + step)) for row in range(tall)
                        ]
                        pairs = [(value, factor) for value in values for factor in factors]
                        channels.next = [
                            code.multiply_add(value, factor, total)
                            for (value, factor), total in zip(pairs, channels.next, strict=True)
                        ]
                for total, target in zip(channels.values, targets, strict=True):
                    code.store(builder.fadd(total, code.load(target)) if add else total, target)


@kernel(_FINISH)
def finish(code: Code, tile: Tile, side: int, activation: Activation, add: bool) -> None:
    """Write the transform of the products, with what follows the convolution.

    (window², tiles, channels) -> (height, width, channels), with the tiles as for :func:`transform`. Pixels of a tile
    outside the result are written to ``nowhere``, the address of ``channels`` float32.

    Args:
        code: of the kernel.
        tile: rows and columns of the results of a tile.
        side: rows and columns of the kernel.
        activation: ``"slope"`` multiplies what is negative by the channel's slope.
        add: whether the result is added to what is there.
    """
    get = code.arguments
    builder, reads = code.builder, window(tile, side)
    with code.loop(get["count"], 1) as tiles:
        pixels = _pixels(code, "y", tiles, tile, tile, "nowhere")
        source = code.at(get["m"], builder.mul(tiles.index, get["channels"]))
        with code.loop(get["channels"], lanes()) as channels:
            place = code.at(source, channels.index)
            bias = code.load(code.at(get["bias"], channels.index))
            slope = code.load(code.at(get["slopes"], channels.index)) if activation == "slope" else code.same(0)
            slots = [builder.mul(get["slot"], code.number(slot)) for slot in range(reads**2)]
            products = [code.load(code.at(place, slot)) for slot in slots]
            columns = [backward(code, products[column::reads], tile) for column in range(reads)]
            _fetch_next(code, [pixel for row in pixels for pixel in row], tile, channels)
            for row in range(tile):
                for column, product in enumerate(backward(code, [item[row] for item in columns], tile)):
                    value, target = builder.fadd(product, bias), code.at(pixels[row][column], channels.index)
                    if activation != "none":  # NaN stays NaN
                        negative = builder.fcmp_ordered("<", value, code.same(0))
                        less = builder.fmul(value, slope) if activation == "slope" else slope
                        value = builder.select(negative, less, value)
                    if add:
                        value = builder.fadd(value, code.load(target))
                    code.store(value, target)


@kernel(_RUN)
def run(code: Code, tile: Tile, step: Step) -> None:
    """Write the loop over the tiles of images from ``start`` to ``stop``, counted image by image and row by row.

    ``most`` of them and ``depth`` input channels are computed at a time. The step ``"two"`` reads every second row and
    column in turn, as if their four parts of the image were so many times the channels; the step ``"half"`` writes such
    parts. Their first rows are the odd ones.

    The last four arguments are the addresses of the kernels. ``v`` and ``m`` have the ``room`` of ``depth`` and of
    ``results`` channels; ``most`` is a multiple of ``tall``, which is that of ``rows_of``. The weights are
    (parts, channels / depth, window², ...), see :func:`multiply`.

    Args:
        code: of the kernel.
        tile: rows and columns of the results of a tile.
        step: rows and columns of the input for one of the result.
    """
    get = code.arguments
    builder, number = code.builder, code.number
    most, depth, results = get["most"], get["depth"], get["results"]
    v_slot, m_slot = (builder.add(builder.mul(most, each), number(APART)) for each in (depth, results))
    matrices = builder.mul(get["slots"], builder.mul(depth, results))
    strides = [get[name] for name in ("x_row", "x_pixel", "x_image")]
    images = [(get["x"], *strides, *(get[name] for name in ("height", "width", "above", "left")))]
    if step == "two":
        images = _parts(code, get["x"], strides, get["height"], get["width"])
    strides = [get[name] for name in ("y_row", "y_pixel", "y_image")]
    targets = [(get["y"], *strides, get["y_height"], get["y_width"], number(0), number(0))]
    if step == "half":
        targets = _parts(code, get["y"], strides, get["y_height"], get["y_width"])
    with code.loop(get["stop"], most, get["start"]) as tiles:
        first, left = tiles.index, builder.sub(get["stop"], tiles.index)
        count = builder.select(builder.icmp_signed("<", left, most), left, most)
        tall = get["tall"]
        filled = builder.mul(builder.udiv(builder.add(count, builder.sub(tall, number(1))), tall), tall)
        these = [get["across"], get["each"], first, count]

        def multiply_by(weights: Any, begun: Any) -> None:
            address = builder.select(begun, get["multiply_on"], get["multiply"])
            code.call(address, _MULTIPLY, [get["v"], v_slot, weights, get["m"], m_slot, filled, results])

        for part, (x, *place) in enumerate(images):
            with code.loop(get["channels"], depth) as channels:
                room = [depth, get["v"], v_slot, get["zeros"]]
                code.call(get["transform"], _TRANSFORM, [code.at(x, channels.index), *place, *these, *room])
                if step != "half":
                    behind = builder.add(channels.index, builder.mul(number(part), get["channels"]))
                    weights = code.at(get["u"], builder.mul(behind, builder.mul(get["slots"], results)))
                    multiply_by(weights, builder.icmp_signed(">", behind, number(0)))
        for part, (y, *place) in enumerate(targets):
            if step == "half":
                multiply_by(code.at(get["u"], builder.mul(matrices, number(part))), code.never())
            follows = [results, get["bias"], get["slopes"], y, *place, *these, get["nowhere"]]
            code.call(get["finish"], _FINISH, [get["m"], m_slot, *follows])


def _parts(code: Code, image: Any, strides: Sequence[Any], height: Any, width: Any) -> list[tuple[Any, ...]]:
    """Every second row and column of an image, the odd ones first: address, strides, size, and zeros before them."""
    builder, none, one, two = code.builder, code.number(0), code.number(1), code.number(2)

    def every_second(stride: Any, length: Any) -> list[tuple[Any, Any, Any]]:
        even = builder.udiv(builder.add(length, one), two)
        return [(stride, builder.udiv(length, two), one), (none, even, none)]

    row, pixel, each = strides
    apart = builder.mul(row, two), builder.mul(pixel, two), each
    return [
        (code.at(image, down, right), *apart, rows, columns, above, left)
        for down, rows, above in every_second(row, height)
        for right, columns, left in every_second(pixel, width)
    ]


def _fetch_next(code: Code, pixels: Sequence[Any], tile: Tile, channels: Loop) -> None:
    """Fetch what pixels of the next tile hold of these channels; those of the last tile need not exist."""
    further = code.builder.mul(code.arguments["pixel"], code.number(tile))
    for pixel in pixels:
        code.prefetch(code.at(pixel, further, channels.index))


def _pixels(code: Code, image: str, tiles: Loop, tile: Tile, side: int, instead: str) -> list[list[Any]]:
    """Addresses of the pixels of a tile, a square of so many rows; ``instead`` for those outside the image."""
    builder, get = code.builder, code.arguments
    index = builder.add(get["first"], tiles.index)
    inside = builder.urem(index, get["each"])
    start = code.at(get[image], builder.mul(builder.udiv(index, get["each"]), get["image"]))
    corner = [
        builder.sub(builder.mul(place, code.number(tile)), get[before])
        for place, before in (
            (builder.udiv(inside, get["across"]), "above"),
            (builder.urem(inside, get["across"]), "left"),
        )
    ]
    rows = [builder.add(corner[0], code.number(index)) for index in range(side)]
    columns = [builder.add(corner[1], code.number(index)) for index in range(side)]
    # A negative number is a large one without its sign.
    there = [
        [builder.icmp_unsigned("<", item, get[limit]) for item in items]
        for items, limit in ((rows, "height"), (columns, "width"))
    ]
    offsets = [builder.mul(row, get["row"]) for row in rows], [builder.mul(column, get["pixel"]) for column in columns]
    return [
        [
            builder.select(
                builder.and_(there[0][row], there[1][column]),
                code.at(start, offsets[0][row], offsets[1][column]),
                get[instead],
            )
            for column in range(side)
        ]
        for row in range(side)
    ]
