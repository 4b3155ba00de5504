"""A normalisation whose statistics stay in float32."""

from __future__ import annotations

from torch import Tensor, nn


class Float32Norm(nn.Module):
    """A normalisation that computes in float32 between narrow neighbours.

    fp16 squares overflow beyond 256, which is where black and NaN images come from.

    Args:
        norm: the normalisation; its parameters and buffers are made float32.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm.float()

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that the normalisation takes; same shape and dtype back."""
        result: Tensor = self.norm(x.float()).to(x.dtype)
        return result
