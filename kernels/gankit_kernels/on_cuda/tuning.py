"""Measured configurations of InstanceNorm, for programs that run one shape very often.

Use them as ``instance_norm(x, config=tune_instance_norm(x))``. The analytic default suits everyone else.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from gankit_kernels.activations import Activation
from gankit_kernels.on_cuda.instance_norm import InstanceNormConfig, launch
from gankit_kernels.specs import NormSpec
from gankit_kernels.tensors import channels_last, processors


def candidates(x: Tensor) -> list[InstanceNormConfig]:
    """The default for (N, C, H, W) without a border, and variants with other numbers of warps and parts."""
    sms = processors(x.device)
    found: list[InstanceNormConfig] = []
    for many in (max(1, sms // 2), sms, 2 * sms):  # a GPU half or twice as large would get fewer or more parts
        if channels_last(x):
            cuts = [
                InstanceNormConfig.of_pixels(x.shape, 0, x.itemsize, many),
                InstanceNormConfig.split_pixels(x.shape, 0, x.itemsize, many),
            ]
            if (one := InstanceNormConfig.alone_pixels(x.shape, x.itemsize, many)) is not None:
                cuts.append(one)
        else:
            cuts = [
                InstanceNormConfig.of_planes(x.shape, 0, many),
                InstanceNormConfig.split_planes(x.shape, 0, many),
                InstanceNormConfig("alone", 1, 1024, 4),
            ]
        for one in cuts:
            for warps in {one.warps, max(1, one.warps // 2), min(16, 2 * one.warps)}:
                other = replace(one, warps=warps)
                if other not in found:
                    found.append(other)
    return found


def tune_instance_norm(x: Tensor, activation: Activation = "relu") -> InstanceNormConfig:
    """Measure :func:`candidates` on this GPU and return the fastest, by the median of about a hundred runs each.

    Args:
        x: (N, C, H, W) on a GPU, of the shape, dtype and layout to tune for.
        activation: The activation to tune for.

    Raises:
        ValueError: ``x`` is not on a GPU.
    """
    if not x.is_cuda:
        raise ValueError(f"tuning measures a GPU, but x is on {x.device}: move it there first")
    from triton.testing import do_bench

    spec = NormSpec(activation)

    def time(config: InstanceNormConfig) -> float:
        def run() -> Tensor:
            return launch(x, None, None, None, spec, config)

        return float(do_bench(run, return_mode="median"))

    return min(candidates(x), key=time)
