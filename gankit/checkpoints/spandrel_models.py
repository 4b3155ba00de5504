"""Upscalers and restorers of other architectures, through spandrel where it is installed.

spandrel (chaiNNer-org, MIT licence) recognises some fifty architectures by their keys. gankit calls its
``ModelLoader.load_from_state_dict`` with tensors that were read safely, and uses the descriptor that this returns, with
its module and its size requirements. spandrel reads no file, and the images go through gankit's own pipeline.
"""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from gankit_export.precisions import Precision
from gankit_export.receptive_field import halo
from torch import Tensor, nn

from gankit.checkpoints.files import Stored
from gankit.checkpoints.types import Loaded
from gankit.errors import CheckpointError
from gankit.models.facts import Facts

_PURPOSES = ("SR", "Restoration")
_PROBE = 32  # side of the image on which a module is compared with its descriptor
_LEAST_TILE = 128  # engines are measured on tiles that are at least as large


class Described(nn.Module):
    """A module that is called through its descriptor, which pads the image, prepares it and selects the result.

    Args:
        descriptor: spandrel's ``ImageModelDescriptor``. Its module is also a submodule of this one, so that copying,
            casting or moving this module reaches the module that the descriptor calls.
    """

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.network = descriptor.model
        self._descriptor = descriptor

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] -> (N, C, scale·H, scale·W) in [0, 1]; one image at a time, as spandrel documents."""
        return torch.cat([self._descriptor(image) for image in x.split(1)])


def open_with_spandrel(path: Path, stored: Stored, unknown: CheckpointError) -> Loaded:
    """Load weights that fit none of gankit's own layouts.

    Images are cut into tiles if the receptive field of the network can be traced, and run whole otherwise.

    Args:
        path: the weights file.
        stored: the tensors of the file.
        unknown: the error of gankit's own layouts.

    Raises:
        CheckpointError: spandrel is missing or broken, or does not know the weights either, or the network is neither
            for upscaling nor for restoring images. The text does not name the file.
    """
    spandrel = _spandrel(unknown)
    try:
        descriptor = spandrel.ModelLoader().load_from_state_dict(dict(stored.tensors))
    except spandrel.UnsupportedModelError as error:
        raise CheckpointError(f"{unknown}; spandrel does not know it either") from error
    except Exception as error:  # every architecture fails in its own way
        raise CheckpointError(f"spandrel cannot load it: {_first_line(error)}") from error
    if not isinstance(descriptor, spandrel.ImageModelDescriptor) or descriptor.purpose not in _PURPOSES:
        raise CheckpointError(
            f"spandrel recognises it as {descriptor.architecture.name} for {descriptor.purpose}: "
            "give a model for super-resolution or restoration"
        )
    facts = _facts(descriptor)
    descriptor.model.float().eval().requires_grad_(False)
    _merge_once(descriptor.model)
    broken = [name for name, value in descriptor.model.state_dict().items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise CheckpointError(f"NaN or infinite weights in '{broken[0]}': use an earlier or intact checkpoint")
    if _plain(descriptor):
        generator: nn.Module = descriptor.model
        facts = _with_reach(generator, facts)
    else:
        generator = Described(descriptor)
    return Loaded(generator.eval(), facts, stored.sha256, stored.path or path, "the names of its tensors: spandrel")


def _spandrel(unknown: CheckpointError) -> ModuleType:
    try:
        import spandrel
    except ModuleNotFoundError as error:
        if error.name == "spandrel":
            raise CheckpointError(f"{unknown}; pip install spandrel to load others") from error
        raise CheckpointError(f"{unknown}; spandrel does not import: {_first_line(error)}") from error
    except Exception as error:  # a torchvision that is not for this torch raises more than ImportError
        raise CheckpointError(f"{unknown}; spandrel does not import: {_first_line(error)}") from error
    module: ModuleType = spandrel
    return module


def _facts(descriptor: Any) -> Facts:
    taken, made = descriptor.input_channels, descriptor.output_channels
    name = descriptor.architecture.name
    if taken != made or taken not in (1, 3):
        raise CheckpointError(f"{name} takes {taken} channels and returns {made}: give a model for 1 or for 3 channels")
    narrow: dict[Precision, bool] = {"bf16": descriptor.supports_bfloat16, "fp16": descriptor.supports_half}
    return Facts(
        name=f"spandrel-{re.sub(r'[^A-Za-z0-9.]+', '-', descriptor.architecture.id)}",
        paper=f"{name}, by spandrel",
        task="upscale",
        scale=descriptor.scale,
        channels=taken,
        value_range=(0.0, 1.0),
        multiple=descriptor.size_requirements.multiple_of,
        minimum=max(1, descriptor.size_requirements.minimum),
        tileable=False,
        precisions=("fp32", *(precision for precision, runs in narrow.items() if runs)),
    )


def _merge_once(network: nn.Module) -> None:
    """Compute weights that follow from others now, and not again in every call.

    SPAN's blocks (Conv3XC) merge three convolutions into one whenever they run, and store the result in themselves. A
    network that changes its own weights cannot be traced, and the result is the same each time.
    """
    for module in network.modules():
        merge = getattr(module, "update_params", None)
        if callable(merge) and isinstance(getattr(module, "eval_conv", None), nn.Conv2d):
            merge()
            module.weight_concat = module.bias_concat = None  # type: ignore[assignment]
            module.update_params = _nothing  # type: ignore[assignment]


def _nothing() -> None:
    """Take the place of a method that has nothing left to do."""


def _with_reach(generator: nn.Module, facts: Facts) -> Facts:
    """Return the facts with the traced receptive field; unchanged if there is none, or if it cannot be traced."""
    try:
        return replace(facts, tileable=True, halo=halo(copy.deepcopy(generator)))
    except ValueError:
        return facts


def _plain(descriptor: Any) -> bool:
    """Whether the module alone does what its descriptor does, so that it can be rewritten and exported.

    Some modules return more than an image, or take more than one, which only the descriptor knows. It also makes images
    square, which gankit's pipeline does not.
    """
    sizes = descriptor.size_requirements
    if sizes.square or sizes.minimum > _LEAST_TILE:
        return False
    side = -(-max(_PROBE, sizes.minimum) // sizes.multiple_of) * sizes.multiple_of
    image = torch.rand(1, descriptor.input_channels, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        try:
            wanted = descriptor(image.clone())
        except Exception as error:
            raise CheckpointError(f"spandrel cannot run it: {_first_line(error)}") from error
        try:
            result = descriptor.model(image.clone())
        except Exception:  # it wants more than an image
            return False
    if not isinstance(result, Tensor) or result.shape != wanted.shape:
        return False
    return torch.allclose(result.clamp(0, 1), wanted, atol=1e-5, rtol=0)


def _first_line(error: BaseException) -> str:
    """The first line of an error, of bounded length; its type where it has no text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
