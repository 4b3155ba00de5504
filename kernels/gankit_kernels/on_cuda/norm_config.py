"""How InstanceNorm's work is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gankit_kernels.tensors import power_of_two

# Values of a plane in the registers of 512 threads. Twice as many fit with Triton 3.7 and spill with 3.9 on sm_75; four
# times as many always do.
_RESIDENT = 16384
_SMALL = 512  # planes up to here share a program
_MOST_PARTS = 128  # of a plane: the apply kernel merges them again in every program
# Of a plane in channels_last, where a program merges those of 64 channels. Beyond the first number a kernel merges them
# once for all.
MERGED_BY_ALL, _MOST_PARTS_LAST = 32, 512


@dataclass(frozen=True)
class InstanceNormConfig:
    """How the work is cut.

    The numbers keep enough bytes on their way from memory: ``tests/kernels/test_in_flight.py`` counts them in the
    machine code.

    Attributes:
        kernel: ``"resident"`` holds whole planes in registers; ``"alone"`` reads a plane twice in one program (planes
            only); ``"split"`` is one kernel for the statistics of parts and one that applies them.
        rows: planes (channels in channels_last) of a program.
        block: values of a plane (pixels in channels_last) that a program holds at a time.
        warps: of a program.
        parts: into which a plane's statistics are cut.
        chunk: values (pixels) of a part, a multiple of ``block``.
        out_block: values (pixels) of a plane of the result that a program holds at a time.
        out_parts: into which such a plane is cut.
        out_blocks: blocks of such a part; rows of it where planes get a border.
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
            pad: border of the result.
            sms: multiprocessors.
            indexed: rows and columns are computed, for a border or a residual with strides of its own.
            whole: the statistics are those of all channels of a picture.
        """
        samples, channels, height, width = shape
        planes, size = samples * channels, height * width
        if not whole and not indexed and size <= _RESIDENT and (size <= 4096 or 2 * planes >= sms):
            block = power_of_two(size)
            rows = max(1, min(2 * _SMALL // block, planes // sms)) if block <= _SMALL else 1
            rows = power_of_two(rows + 1) // 2  # rounded down
            return cls("resident", rows, block, min(16, max(1, rows * block // 512)))
        if not whole and (planes >= 3 * sms or (size <= _RESIDENT and 2 * planes >= sms)):
            # so many warps that the planes of all programs at a time fit into the cache of level two
            warps = min(16, max(1, power_of_two(size) // 1024))
            return cls("alone", 1, 256 * warps, warps)
        return cls.split_planes(shape, pad, sms, indexed=indexed, whole=whole)

    @classmethod
    def split_planes(
        cls, shape: Sequence[int], pad: int, sms: int, *, indexed: bool = False, whole: bool = False
    ) -> InstanceNormConfig:
        """:meth:`of_planes` with two kernels in any case."""
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
        """The default for channels_last; the arguments are those of :meth:`of_planes`, and the bytes of a value."""
        _, channels, height, width = shape
        size = height * width
        if not indexed and not whole and size <= 1024:
            block = power_of_two(size)
            rows = min(64, max(16, 8192 // block), power_of_two(channels))
            return cls("resident", rows, block, min(16, max(1, rows * block // 1024)))
        return cls.split_pixels(shape, pad, itemsize, sms)

    @classmethod
    def split_pixels(cls, shape: Sequence[int], pad: int, itemsize: int, sms: int) -> InstanceNormConfig:
        """:meth:`of_pixels` with two kernels in any case."""
        samples, channels, height, width = shape
        size, out_size = height * width, (height + 2 * pad) * (width + 2 * pad)
        rows = min(128 // itemsize, power_of_two(channels))  # a row of 128 bytes
        columns = samples * -(-channels // rows)
        block = max(1, 4096 // itemsize // rows)  # 16 bytes for every thread of 8 warps
        parts, turns = _cut(size, 4 * block, 4 * sms, columns, _MOST_PARTS_LAST)
        out_parts, out_blocks = _cut(out_size, 2 * block, 8 * sms, columns, 1 << 20)
        return cls("split", rows, block, 8, parts, turns * 4 * block, 2 * block, out_parts, out_blocks)


def _cut(size: int, block: int, programs: int, columns: int, most: int) -> tuple[int, int]:
    """Cut a plane of ``size`` into parts of whole blocks, so that about ``programs`` run for all ``columns`` planes.

    Returns:
        Parts, and blocks of a part.
    """
    blocks = -(-size // block)
    parts = max(1, min(blocks, programs // columns, most))
    each = max(1, (2 * blocks + parts) // (2 * parts), -(-blocks // most))
    return -(-blocks // each), each
