"""The single launches that InstanceNorm's plans are made of."""

from __future__ import annotations

from gankit_kernels.on_cuda import channels_last as pixels
from gankit_kernels.on_cuda import planes
from gankit_kernels.on_cuda.norm_config import InstanceNormConfig, padded_parts
from gankit_kernels.on_cuda.steps import Step
from gankit_kernels.tensors import power_of_two

# Indices of a call's tensors, by which steps name their arguments.
X, WEIGHT, BIAS, RESIDUAL, Y, MEANS, SQUARES, MEAN, SQUARE = range(9)
OUT = (WEIGHT, BIAS, RESIDUAL, Y)
SCALARS = ("eps", "slope")


def statistics(samples: int, channels: int, length: int, batch: int, config: InstanceNormConfig, vec: int) -> Step:
    """``planes.statistics`` of planes of ``length`` values."""
    return Step(
        planes.statistics,
        samples * config.parts,
        (X, MEANS, SQUARES),
        {
            "channels": channels,
            "size_v": length // vec,
            "batch_v": batch // vec,
            "parts": config.parts,
            "chunk_blocks": config.chunk // config.block,
        },
        {"VEC": vec, "BLOCK": config.block, "num_warps": config.warps},
    )


def combine(samples: int, channels: int, size: int, chunk: int, parts: int) -> Step:
    """``channels_last.combine``: merges the statistics of many parts once for all programs."""
    each = min(8, power_of_two(channels))
    blocks = -(-channels // each)
    return Step(
        pixels.combine,
        samples * blocks,
        (MEANS, SQUARES, MEAN, SQUARE),
        {"channels": channels, "size": size, "chunk": chunk, "parts": parts, "channel_blocks": blocks},
        {"PARTS": padded_parts(parts, last=True), "CHANNELS": each, "num_warps": 8},
    )


def part_sizes(parts: int, chunk: int, config: InstanceNormConfig) -> dict[str, int]:
    """The integers of an ``apply`` kernel that say how its input and its output are cut."""
    return {"parts": parts, "chunk": chunk, "out_parts": config.out_parts, "out_blocks": config.out_blocks}


def aligned(*counts: int) -> tuple[int, ...]:
    """Round up to 16 bytes of float32, so that the second tensor of a pair is as well aligned as the first."""
    return tuple(-(-count // 4) * 4 for count in counts)
