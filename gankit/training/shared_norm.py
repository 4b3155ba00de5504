"""BatchNorm whose statistics are those of the whole step, where several processes train together.

Each process sees only its part of the images of a step. With a BatchNorm of each, a run of four processes with 4 images
would train another network than one process with 16, and the running statistics that are shipped would be those of the
first process. ``torch.nn.SyncBatchNorm`` is for CUDA alone, and its gradient has no gradient; this one is composed of
torch's operations, and runs on CPUs and GPUs alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, distributed, nn

from gankit.training import ranks


class _Sum(torch.autograd.Function):
    """The sum over the processes, with a gradient of every order."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """What one process adds reaches the loss of every process."""
        result: Tensor = _Sum.apply(gradients[0])  # type: ignore[no-untyped-call]
        return result


class _Shared(nn.modules.batchnorm._BatchNorm):
    """Normalises with the statistics of all processes in training, and like its base class in eval mode.

    The mean is summed over the processes before the squares are, so that large means cost no digits (the two-pass
    formula; Chan et al. 1983). Statistics are float32 also where the images are not.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C), (N, C, L) or (N, C, H, W), of which every process has its own N."""
        if not self.training or ranks.world() == 1:
            return super().forward(input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        axes = (0, *range(2, input.ndim))
        shape = (1, -1, *[1] * (input.ndim - 2))
        with torch.autocast(input.device.type, enabled=False):
            values = input if input.dtype == torch.float64 else input.float()
            own = values.new_tensor([values.numel() / values.shape[1]])
            sums = _total(torch.cat([values.sum(axes), own]))
            count = sums[-1].detach()
            mean = sums[:-1] / count
            centred = values - mean.view(shape)
            variance = _total(centred.square().sum(axes)) / count
            result = centred * (variance + self.eps).rsqrt().view(shape)
            if self.affine:
                result = result * self.weight.view(shape) + self.bias.view(shape)
        self._keep(mean.detach(), variance.detach(), count)
        return result.to(input.dtype)

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Update the running statistics, with the unbiased variance as torch does."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)


class SharedBatchNorm1d(_Shared, nn.BatchNorm1d):
    """See :class:`_Shared`."""


class SharedBatchNorm2d(_Shared, nn.BatchNorm2d):
    """See :class:`_Shared`."""


_SHARED: Mapping[type[nn.Module], type[nn.Module]] = MappingProxyType(
    {nn.BatchNorm1d: SharedBatchNorm1d, nn.BatchNorm2d: SharedBatchNorm2d}
)


def share_norms(module: nn.Module) -> int:
    """Let every BatchNorm in a module take its statistics from all processes; return how many there are.

    The layers keep their parameters, buffers and names; only their class changes, so that optimisers, averages and
    state dicts stay as they are.
    """
    count = 0
    for layer in module.modules():
        if (shared := _SHARED.get(type(layer))) is not None:
            layer.__class__ = shared
            count += 1
    return count


def _total(values: Tensor) -> Tensor:
    result: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return result
