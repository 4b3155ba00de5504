"""InstanceNorm on a CPU without leaving channels_last.

torch runs InstanceNorm as BatchNorm of a (1, N·C, H, W) view, which only the other memory format has: it copies every
input there and every output back, which costs as much as the norm itself. One image at a time is a batch of its own,
and BatchNorm with the statistics of the batch takes channels_last, and narrow pixels, as they are.
"""

from __future__ import annotations

import torch
from gankit_export.norms import Float32Norm
from torch import Tensor, nn
from torch.nn import functional


class ChannelsLastInstanceNorm(nn.Module):
    """An ``InstanceNorm2d`` without running statistics; sums in float32 whatever the dtype of the pixels.

    Args:
        norm: shared, not copied.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, norm: nn.InstanceNorm2d) -> None:
        super().__init__()
        self.eps = norm.eps
        if norm.affine:
            self.weight, self.bias = norm.weight, norm.bias
        else:
            # Without parameters in float32 torch keeps the mean of bf16 pixels in bf16.
            self.register_buffer("weight", torch.ones(norm.num_features))
            self.register_buffer("bias", torch.zeros(norm.num_features))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape, dtype and memory format."""
        parts = [
            functional.batch_norm(image, None, None, self.weight, self.bias, True, 0.0, self.eps)
            for image in x.split(1)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def keep_channels_last(module: nn.Module) -> nn.Module:
    """Replace every InstanceNorm by a :class:`ChannelsLastInstanceNorm`, in place; it needs no float32 wrapper."""
    for name, child in module.named_children():
        inner = child.norm if isinstance(child, Float32Norm) else child
        if isinstance(inner, nn.InstanceNorm2d) and not inner.track_running_stats:
            setattr(module, name, ChannelsLastInstanceNorm(inner))
        else:
            keep_channels_last(child)
    return module
