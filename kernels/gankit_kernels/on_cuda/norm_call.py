"""What decides how a normalisation is launched, and the launches that were planned for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from gankit_kernels.on_cuda.norm_config import InstanceNormConfig
from gankit_kernels.on_cuda.steps import Step

if TYPE_CHECKING:
    from gankit_kernels.on_cuda.norm_choice import Choice


@dataclass(frozen=True)
class NormCall:
    """Everything about a call that decides its launches.

    Attributes:
        shape: (N, C, H, W) of the source.
        strides: Strides of the source, in values.
        dtype: Dtype of the source.
        last: Whether the source is channels_last.
        weight: Whether there is a weight.
        bias: Whether there is a bias.
        residual: Strides of the residual; ``None`` where there is none.
        activation: Name of the activation.
        pad: Width of the reflected border, in pixels.
        whole: Whether the statistics are those of all channels of an image.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    last: bool
    weight: bool
    bias: bool
    residual: tuple[int, ...] | None
    activation: str
    pad: int
    whole: bool

    @property
    def flags(self) -> dict[str, Any]:
        """The constants of every kernel that writes results."""
        residual = self.residual is not None
        return {"ACT": self.activation, "WEIGHT": self.weight, "BIAS": self.bias, "RESIDUAL": residual}

    @property
    def indexed(self) -> bool:
        """Whether rows and columns must be computed: for a border, or a residual whose strides are not ``x``'s."""
        if self.pad or self.residual is None:
            return bool(self.pad)
        sides = zip(self.shape[1:], self.strides[1:], self.residual[1:], strict=True)
        return any(size > 1 and one != other for size, one, other in sides)

    def supports(self, config: InstanceNormConfig) -> bool:
        """Whether the kernel of a configuration can serve this call."""
        if config.kernel == "alone":
            return not self.whole and self.last == (config.out_block > 0)
        return config.kernel == "split" or not (self.whole or self.indexed)

    def check(self, config: InstanceNormConfig) -> None:
        """Require a configuration to reach every value.

        Raises:
            ValueError: It is cut for another shape.
        """
        _, channels, height, width = self.shape
        size, rows = height * width, height + 2 * self.pad
        read = config.parts * config.chunk >= size * (channels if self.whole and not self.last else 1)
        covered = config.out_parts * config.out_blocks
        if self.last or not self.indexed:
            written = covered * config.out_block >= rows * (width + 2 * self.pad)
        else:
            written = covered >= rows
        fits = {"resident": config.block >= size, "alone": True, "split": read and written}
        if not fits[config.kernel]:
            raise ValueError(f"config is cut for another shape than {self.shape}")


@dataclass(frozen=True)
class NormPlan:
    """What a call launches.

    Attributes:
        steps: The launches in order.
        statistics: Length of each pair of float32 tensors (means, squares) that the steps share: first that of the
            parts, then that of the merged planes.
        choice: Where the fastest way is measured, this plan and the one that may replace it.
    """

    steps: tuple[Step, ...]
    statistics: tuple[int, ...] = ()
    choice: Choice | None = None
