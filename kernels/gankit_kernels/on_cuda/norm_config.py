"""How the work of InstanceNorm is divided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gankit_kernels.tensors import power_of_two

# Most values of a plane in the registers of 512 threads. Twice as many fit with Triton 3.7 but spill with 3.9 on sm_75;
# four times as many always spill.
_RESIDENT = 16384
_SMALL = 512  # planes of up to this many values share a program
_MOST_PARTS = 128  # most parts of a plane; every program of the apply kernel merges them
# The same in channels_last, where a program merges the parts of 64 channels. Above the first number, a kernel of its
# own merges them once.
MERGED_BY_ALL, _MOST_PARTS_LAST = 32, 512
# Lengths of the vectors of parts that the kernels merge: few, because each length is a kernel to compile.
_LENGTHS, _LENGTHS_LAST = (8, _MOST_PARTS), (1, MERGED_BY_ALL, 128, _MOST_PARTS_LAST)
# Of programs that read planes of channels_last twice: bytes of a sector, below which no access is cheaper; pixels that
# registers no longer hold; most bytes that two programs can each keep in the L1 cache of a multiprocessor; most bytes
# that all programs running at a time may read, to find them in the L2 cache again.
_SECTOR, _LEAST_PIXELS, _SHARED_CACHE, _CACHED = 32, 1025, 96 << 10, 32 << 20


@dataclass(frozen=True)
class InstanceNormConfig:
    """How the work is divided.

    The defaults keep enough bytes in flight from memory; ``tests/kernels/test_in_flight.py`` counts them in the machine
    code.

    Attributes:
        kernel: ``"resident"`` holds whole planes in registers. ``"alone"`` reads planes twice in one program.
            ``"split"`` is one kernel for the statistics of parts and another that applies them.
        rows: Planes (channels in channels_last) per program.
        block: Values of a plane (pixels in channels_last) that a program holds at a time.
        warps: Warps per program.
        parts: Number of parts for the statistics of a plane.
        chunk: Values (pixels) per part, a multiple of ``block``.
        out_block: Values (pixels) of a plane of the result that a program holds at a time; 0 where one kernel reads
            planes and nothing else.
        out_parts: Number of parts of such a plane.
        out_blocks: Blocks per such part; rows where planes get a border.
    """

    kernel: Literal["resident", "alone", "split"]
    rows: int
    block: int
    warps: int
    parts: int = 1
    chunk: int = 0
    out_block: int = 0
    out_parts: int = 1
    out_blocks: int = 0

    @classmethod
    def of_planes(
        cls, shape: Sequence[int], pad: int, sms: int, *, indexed: bool = False, whole: bool = False
    ) -> InstanceNormConfig:
        """The default for planes.

        Args:
            shape: (N, C, H, W) of the source.
            pad: Width of the result's border, in pixels.
            sms: Number of multiprocessors.
            indexed: Whether rows and columns are computed, for a border or a residual with its own strides.
            whole: Whether the statistics are those of all channels of an image.
        """
        samples, channels, height, width = shape
        planes, size = samples * channels, height * width
        if not whole and not indexed and size <= _RESIDENT and (size <= 4096 or 2 * planes >= sms):
            block = power_of_two(size)
            rows = max(1, min(2 * _SMALL // block, planes // sms)) if block <= _SMALL else 1
            rows = power_of_two(rows + 1) // 2  # rounded down
            return cls("resident", rows, block, min(16, max(1, rows * block // 512)))
        if not whole and (planes >= 3 * sms or (size <= _RESIDENT and 2 * planes >= sms)):
            # So many warps that the planes of all programs that run at a time fit the L2 cache. Three numbers of warps
            # rather than five, because each is a kernel to compile.
            warps = 16 if size > 8192 else 4 if size > 2048 else 1
            return cls("alone", 1, 256 * warps, warps)
        return cls.split_planes(shape, pad, sms, indexed=indexed, whole=whole)

    @classmethod
    def split_planes(
        cls, shape: Sequence[int], pad: int, sms: int, *, indexed: bool = False, whole: bool = False
    ) -> InstanceNormConfig:
        """Like :meth:`of_planes`, but always with two kernels."""
        samples, channels, height, width = shape
        planes, size = samples * channels, height * width
        block = 2048
        counted, length = (samples, size * channels) if whole else (planes, size)
        parts, turns = _cut(length, 4 * block, 4 * sms, counted, _MOST_PARTS)
        rows = height + 2 * pad
        out_block = block if indexed and planes * rows < 512 * sms else 2 * block
        unit, out = (out_block // 32, rows) if indexed else (1, -(-size // out_block))
        out_parts, out_units = _cut(out, unit, 8 * sms, planes, 1 << 20)
        return cls("split", 1, block, 8, parts, turns * 4 * block, out_block, out_parts, out_units * unit)

    @classmethod
    def of_pixels(
        cls, shape: Sequence[int], pad: int, itemsize: int, sms: int, *, indexed: bool = False, whole: bool = False
    ) -> InstanceNormConfig:
        """The default for channels_last, from the arguments of :meth:`of_planes` and the bytes of a value."""
        _, channels, height, width = shape
        size = height * width
        if not indexed and not whole and size <= 1024:
            block = power_of_two(size)
            rows = min(64, max(16, 8192 // block), power_of_two(channels))
            return cls("resident", rows, block, min(16, max(1, rows * block // 1024)))
        return cls.split_pixels(shape, pad, itemsize, sms)

    @classmethod
    def split_pixels(cls, shape: Sequence[int], pad: int, itemsize: int, sms: int) -> InstanceNormConfig:
        """Like :meth:`of_pixels`, but always with two kernels."""
        samples, channels, height, width = shape
        size, out_size = height * width, (height + 2 * pad) * (width + 2 * pad)
        rows = min(128 // itemsize, power_of_two(channels))  # a row of 128 bytes
        columns = samples * -(-channels // rows)
        block = max(1, 4096 // itemsize // rows)  # 16 bytes for every thread of 8 warps
        parts, turns = _cut(size, 4 * block, 4 * sms, columns, _MOST_PARTS_LAST)
        out_parts, out_blocks = _cut(out_size, 2 * block, 8 * sms, columns, 1 << 20)
        return cls("split", rows, block, 8, parts, turns * 4 * block, 2 * block, out_parts, out_blocks)

    @classmethod
    def alone_pixels(cls, shape: Sequence[int], itemsize: int, sms: int) -> InstanceNormConfig | None:
        """One launch for channels_last that reads memory once, whatever the border; ``None`` for other shapes.

        A program takes whole sectors of 32 bytes of every pixel. What the programs read must stay in the caches until
        they read it again. Programs that are few for the GPU must be short.

        Args:
            shape: (N, C, H, W) of the source.
            itemsize: Bytes of a value.
            sms: Number of multiprocessors.
        """
        samples, channels, height, width = shape
        size, rows = height * width, _SECTOR // itemsize
        if channels % rows or size < _LEAST_PIXELS:
            return None
        programs, read = samples * (channels // rows), rows * size * itemsize
        warps = 8 if programs >= 2 * sms and read <= _SHARED_CACHE else 16
        at_a_time = min(programs, sms * 16 // warps)
        if at_a_time * read > _CACHED or (3 * programs < sms and read > 2 * _SHARED_CACHE):
            return None
        block = 2 * 16 // itemsize * 32 * warps // rows  # 32 bytes for every thread
        return cls("alone", rows, block, warps, out_block=2 * block)


def padded_parts(parts: int, *, last: bool, whole: bool = False) -> int:
    """Length of the vector that holds the statistics of ``parts`` parts.

    Args:
        parts: Number of parts.
        last: Whether the source is channels_last.
        whole: Whether the parts are those of whole images, which are nearly always many.
    """
    lengths = (_MOST_PARTS,) if whole else _LENGTHS_LAST if last else _LENGTHS
    return next((length for length in lengths if parts <= length), power_of_two(parts))


def _cut(size: int, block: int, programs: int, columns: int, most: int) -> tuple[int, int]:
    """Divide a plane of ``size`` into parts of whole blocks, so that about ``programs`` run for all ``columns`` planes.

    Returns:
        The number of parts, at most ``most``, and the blocks per part.
    """
    blocks = -(-size // block)
    parts = max(1, min(blocks, programs // columns, most))
    each = max(1, (2 * blocks + parts) // (2 * parts), -(-blocks // most))
    return -(-blocks // each), each
