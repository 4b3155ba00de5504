"""How InstanceNorm's kernels are cut and launched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gankit_kernels.instance_norm import empty_result
from gankit_kernels.on_cuda import channels_last as pixels
from gankit_kernels.on_cuda import planes
from gankit_kernels.tensors import channels_last, dense, power_of_two, processors, vector

# Bytes of pictures between the kernel of statistics and the one that reads them again: half of an H100's cache of level
# two. A larger batch goes in groups, so that the second read comes from there.
_KEPT = 25 << 20
# Values of a plane in the registers of 512 threads. Twice as many fit with Triton 3.7 and spill with 3.9 on sm_75; four
# times as many always do.
_RESIDENT = 16384
_SMALL = 512  # planes up to here share a program
_MOST_PARTS = 128  # of a plane: the apply kernels merge them again in every program
_MOST_PARTS_LAST = 32  # there a program merges them for 64 channels


@dataclass(frozen=True)
class InstanceNormConfig:
    """How the work is cut.

    Attributes:
        resident: one kernel that holds whole planes in registers; else one for statistics and one that applies them.
        rows: planes (channels in channels_last) of a program.
        block: values of a plane (pixels in channels_last) that a program holds at a time.
        warps: of a program.
        parts: into which a plane's statistics are cut.
        chunk: values (pixels) of a part, a multiple of ``block``.
        out_parts: into which a plane of the result is cut.
        out_blocks: blocks of such a part.
    """

    resident: bool
    rows: int
    block: int
    warps: int
    parts: int = 1
    chunk: int = 0
    out_parts: int = 1
    out_blocks: int = 0

    @classmethod
    def of_planes(
        cls, planes: int, size: int, out_planes: int, out_size: int, sms: int, *, fused: bool
    ) -> InstanceNormConfig:
        """The default for planes.

        Args:
            planes: whose statistics are wanted; whole pictures, where those of all channels are.
            size: values of one of them.
            out_planes: planes of the result.
            out_size: values of one of those.
            sms: multiprocessors.
            fused: the resident kernel can do it: no border, and no residual with strides of its own.
        """
        if fused and size <= _RESIDENT and (size <= 4096 or 2 * planes >= sms):
            block = power_of_two(size)
            rows = max(1, min(2 * _SMALL // block, planes // sms)) if block <= _SMALL else 1
            rows = power_of_two(rows + 1) // 2  # rounded down
            return cls(True, rows, block, min(16, max(1, rows * block // 512)))
        block = 2048
        parts, blocks = _cut(size, block, 4 * sms, planes, _MOST_PARTS)
        out_parts, out_blocks = _cut(out_size, block, 8 * sms, out_planes, 1 << 20)
        return cls(False, 1, block, 4, parts, blocks * block, out_parts, out_blocks)

    @classmethod
    def of_pixels(
        cls, samples: int, channels: int, size: int, out_size: int, itemsize: int, sms: int, *, fused: bool
    ) -> InstanceNormConfig:
        """The default for channels_last; sizes are pixels, ``itemsize`` bytes of a value."""
        if fused and size <= 1024:
            block = power_of_two(size)
            rows = min(64, max(16, 8192 // block), power_of_two(channels))
            return cls(True, rows, block, min(16, max(1, rows * block // 1024)))
        rows = min(128 // itemsize, power_of_two(channels))  # a row of 128 bytes
        columns = samples * -(-channels // rows)
        block = max(1, 2048 // rows)
        parts, blocks = _cut(size, block, 2 * sms, columns, _MOST_PARTS_LAST)
        out_parts, out_blocks = _cut(out_size, block, 4 * sms, columns, 1 << 20)
        return cls(False, rows, block, 4, parts, blocks * block, out_parts, out_blocks)


def launch(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    activation: str,
    slope: float,
    pad: int,
    eps: float,
    whole: bool,
    config: InstanceNormConfig | None = None,
) -> Tensor:
    """Run the kernels. The arguments are those of ``gankit_kernels.instance_norm.composite``, and a configuration."""
    y = empty_result(x, pad)
    if x.numel() == 0:
        return y
    x = dense(x)
    norm = _Norm(x, weight, bias, residual, y, activation, slope, pad, eps, whole)
    with torch.cuda.device_of(x):
        if channels_last(x):
            _launch_pixels(norm, config)
        else:
            _launch_planes(norm, config)
    return y


@dataclass(frozen=True)
class _Norm:
    """One call."""

    x: Tensor
    weight: Tensor | None
    bias: Tensor | None
    residual: Tensor | None
    y: Tensor
    activation: str
    slope: float
    pad: int
    eps: float
    whole: bool

    @property
    def flags(self) -> dict[str, Any]:
        """The constants of every kernel that writes results."""
        return {
            "ACT": self.activation,
            "WEIGHT": self.weight is not None,
            "BIAS": self.bias is not None,
            "RESIDUAL": self.residual is not None,
        }

    @property
    def pointers(self) -> tuple[Tensor, ...]:
        """Weight, bias, residual and result. For what is absent ``y`` stands in, and is not read."""
        return tuple(self.y if item is None else item for item in (self.weight, self.bias, self.residual, self.y))

    def groups(self) -> list[_Norm]:
        """The call itself, or parts of its batch that stay in the cache."""
        samples = self.x.shape[0]
        count = max(1, _KEPT // max(1, self.x.nbytes // samples))
        if count >= samples:
            return [self]
        return [self._part(first, min(count, samples - first)) for first in range(0, samples, count)]

    def _part(self, first: int, count: int) -> _Norm:
        residual = None if self.residual is None else self.residual.narrow(0, first, count)
        x, y = self.x.narrow(0, first, count), self.y.narrow(0, first, count)
        return replace(self, x=x, y=y, residual=residual)

    @property
    def indexed(self) -> bool:
        """Whether rows and columns must be computed: a border, or a residual that does not lie as ``x`` does."""
        if self.pad or self.residual is None:
            return bool(self.pad)
        sides = zip(self.x.shape[1:], self.x.stride()[1:], self.residual.stride()[1:], strict=True)
        return any(size > 1 and one != other for size, one, other in sides)


def _launch_planes(norm: _Norm, asked: InstanceNormConfig | None) -> None:
    x, y = norm.x, norm.y
    samples, channels, height, width = x.shape
    size, count = height * width, samples * channels
    indexed, residual = norm.indexed, (0, 0, 0, 0) if norm.residual is None else norm.residual.stride()
    counted = (samples, size * channels) if norm.whole else (count, size)
    out_size = y.shape[2] * y.shape[3]
    fused = not indexed and not norm.whole
    config = asked
    if config is None or (config.resident and not fused):
        sms = processors(x.device)
        config = InstanceNormConfig.of_planes(*counted, count, out_size, sms, fused=fused)
    vec = vector(x.itemsize, size, x.stride(0), 0 if indexed else residual[0])
    shared = {"VEC": vec, "BLOCK": config.block, "num_warps": config.warps}
    batch = x.stride(0) // vec
    if config.resident:
        planes.resident[(-(-count // config.rows),)](
            x, *norm.pointers, count, channels, size // vec, batch, residual[0] // vec, norm.eps, norm.slope,
            ROWS=config.rows, **norm.flags, **shared,
        )  # fmt: skip
        return
    if len(groups := norm.groups()) > 1:
        for part in groups:
            _launch_planes(part, asked)
        return
    means, squares = _buffers(x, counted[0] * config.parts)
    planes.statistics[(counted[0] * config.parts,)](
        x, means, squares, 1 if norm.whole else channels, counted[1] // vec, batch, config.parts,
        config.chunk // config.block, **shared,
    )  # fmt: skip
    planes.apply[(count * config.out_parts,)](
        x, means, squares, *norm.pointers, channels, height, width, norm.pad, size // vec, batch,
        residual[0] if indexed else residual[0] // vec, *residual[1:], config.parts, config.chunk,
        config.out_parts, config.out_blocks, norm.eps, norm.slope,
        PARTS=power_of_two(config.parts), INDEXED=indexed, WHOLE=norm.whole, **norm.flags, **shared,
    )  # fmt: skip


def _launch_pixels(norm: _Norm, asked: InstanceNormConfig | None) -> None:
    x, y = norm.x, norm.y
    samples, channels, height, width = x.shape
    size, out_size = height * width, y.shape[2] * y.shape[3]
    residual = (0, 1, 0, 0) if norm.residual is None else norm.residual.stride()
    if norm.residual is not None and residual[1] != 1:
        other = norm.residual.contiguous(memory_format=torch.channels_last)
        return _launch_pixels(replace(norm, residual=other), asked)
    indexed = norm.indexed
    fused = not indexed and not norm.whole
    config = asked
    if config is None or (config.resident and not fused):
        sms = processors(x.device)
        config = InstanceNormConfig.of_pixels(samples, channels, size, out_size, x.itemsize, sms, fused=fused)
    vec = vector(x.itemsize, channels, x.stride(0), residual[0], residual[2], residual[3])
    blocks = -(-channels // config.rows)
    shared = {"VEC": vec, "PIXELS": config.block, "CHANNELS": config.rows, "num_warps": config.warps}
    batch, step = x.stride(0) // vec, residual[0] // vec
    if config.resident:
        pixels.resident[(samples * blocks,)](
            x, *norm.pointers, channels // vec, size, batch, step, blocks, norm.eps, norm.slope, **norm.flags, **shared
        )
        return None
    if len(groups := norm.groups()) > 1:
        for part in groups:
            _launch_pixels(part, asked)
        return None
    parts, chunk = config.parts, config.chunk
    if norm.whole:
        # the pictures lie dense, so that their statistics are those of one plane each
        sms = processors(x.device)
        cut = InstanceNormConfig.of_planes(samples, size * channels, 1, 1, sms, fused=False)
        parts, chunk = cut.parts, cut.chunk
        means, squares = _buffers(x, samples * parts)
        planes.statistics[(samples * parts,)](
            x, means, squares, 1, size * channels // vec, batch, parts, chunk // cut.block,
            VEC=vec, BLOCK=cut.block, num_warps=cut.warps,
        )  # fmt: skip
    else:
        means, squares = _buffers(x, samples * parts * channels)
        pixels.statistics[(samples * parts * blocks,)](
            x, means, squares, channels // vec, size, batch, blocks, parts, chunk, **shared
        )
    pixels.apply[(samples * config.out_parts * blocks,)](
        x, means, squares, *norm.pointers, channels // vec, height, width, norm.pad, batch, step,
        residual[2] // vec, residual[3] // vec, blocks, parts, chunk, config.out_parts, config.out_blocks,
        norm.eps, norm.slope,
        PARTS=power_of_two(parts), INDEXED=indexed, WHOLE=norm.whole, **norm.flags, **shared,
    )  # fmt: skip
    return None


def _cut(size: int, block: int, programs: int, columns: int, most: int) -> tuple[int, int]:
    """Cut a plane of ``size`` into parts of whole blocks, so that about ``programs`` run for all ``columns`` planes.

    Returns:
        Parts, and blocks of a part.
    """
    blocks = -(-size // block)
    parts = max(1, min(blocks, programs // columns, most))
    each = -(-blocks // parts)
    return -(-blocks // each), each


def _buffers(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Room for means and squared deviations."""
    both = torch.empty((2, count), dtype=torch.float32, device=x.device)
    return both[0], both[1]
