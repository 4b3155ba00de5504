"""An ONNX file as a model: gankit's own, and those of others, whose facts are found by running them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from gankit_export.foreign import Edges, ForeignFileError, canonical, edges
from torch import Tensor, nn

from gankit.checkpoints.exported import facts_of, read_manifest, stated_halo
from gankit.checkpoints.latent_onnx import open_latent
from gankit.checkpoints.onnx_module import OnnxModule, first_line, stated_range
from gankit.checkpoints.types import Loaded
from gankit.errors import CheckpointError
from gankit.models.facts import Facts

_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
_SIDES = (48, 72)  # of a trial, before they are rounded to an odd multiple
_MINIMUMS = (1, 4, 8, 16, 32)
_LEAST_DB, _LEAD_DB = 15.0, 3.0  # a network that keeps the image keeps it this well, and no other range does
_CELL = 8


@dataclass(frozen=True)
class _Trial:
    """Runs the network on images in [0, 1]."""

    module: nn.Module
    channels: int

    def __call__(self, height: int, width: int, low: float = 0.0, high: float = 1.0, count: int = 1) -> Tensor:
        """The output for a smooth image, in the network's range.

        Raises:
            Exception: Whatever ONNX Runtime raises.
        """
        made: Tensor = self.module(_image(height, width, self.channels).repeat(count, 1, 1, 1) * (high - low) + low)
        return made


def open_onnx_model(path: Path) -> Loaded:
    """Load an ONNX file that takes images and returns images, or one of gankit's that generates.

    The facts of a file with a manifest beside it, which is verified, are in the manifest. Of other files, scale, size
    multiple, smallest size and number of output channels are found by running the file, and so is the value range,
    unless the network changes the image too much to tell. :attr:`Loaded.recognised` and :attr:`Loaded.assumed` say what
    was found and what was not. The receptive field is unknown, so that their images are not cut into tiles.

    Args:
        path: the file.

    Raises:
        CheckpointError: The file is damaged or no image network, takes one size only, returns values that are not
            finite, or ONNX Runtime is missing. The message is one line.
    """
    import onnx

    manifest = read_manifest(path, "onnx") if path.is_file() else None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    try:
        model = onnx.load_from_string(data)
        stated = {item.key: item.value for item in model.metadata_props}
        if stated.get("task") == "generate" and "latent" in stated:
            return open_latent(data, stated, manifest, path)
        found = edges(model)
        module = OnnxModule(canonical(model, found))
        if manifest is not None:
            facts = replace(facts_of(path, manifest), precisions=("fp32",))
            worst = min(item.worst for item in manifest.parity)
            said = f"its manifest: {manifest.precision}, {worst:.1f} dB"
            return Loaded(module.eval(), facts, hashlib.sha256(data).hexdigest(), path, said)
        facts, assumed = found_facts(module, found, stated, path.stem)
    except (ForeignFileError, CheckpointError) as error:
        raise CheckpointError(str(error) if str(error).startswith(f"{path}: ") else f"{path}: {error}") from error
    except Exception as error:  # protobuf's DecodeError, and whatever ONNX finds in a damaged file
        raise CheckpointError(f"{path}: is no ONNX file, or is damaged ({first_line(error)})") from error
    return Loaded(module.eval(), facts, hashlib.sha256(data).hexdigest(), path, recognised_as(found, facts), assumed)


def recognised_as(found: Edges, facts: Facts) -> str:
    """Say what was found by running a file."""
    low, high = facts.value_range
    said = [
        f"{found.layout} {found.dtype}",
        f"×{facts.scale}",
        f"values from {low:g} to {high:g}",
        f"sides in multiples of {facts.multiple}",
        f"at least {facts.minimum}",
    ]
    return f"running it: {', '.join(said)}"


def found_facts(module: nn.Module, found: Edges, stated: Mapping[str, str], name: str) -> tuple[Facts, str]:
    """Find the facts of an image network by running it.

    The value range, the task and the halo are those in ``metadata_props`` if gankit exported the file.
    """
    trial = _Trial(module, found.channels)
    multiple, scale, channels = _sizes(trial, found)
    if not _runs(lambda: trial(2 * multiple * 12, multiple * 12, count=2), count=2):
        raise CheckpointError("takes one image at a time; export it with a dynamic batch")
    least = next((side for side in _MINIMUMS if _runs(partial(trial, _up(side, multiple), _up(side, multiple)))), 32)
    value_range, assumed = stated_range(stated), ""
    if value_range is None:
        value_range, assumed = _value_range(trial, scale, multiple, channels, byte=found.dtype == "uint8")
    halo = stated_halo(stated)
    facts = Facts(
        task="translate" if stated.get("task") == "translate" and scale == 1 else "upscale",
        name=name or "onnx",
        paper="an ONNX file",
        scale=scale,
        channels=found.channels,
        out_channels=None if channels == found.channels else channels,
        value_range=value_range,
        multiple=multiple,
        minimum=_up(least, multiple),
        tileable=halo is not None,
        halo=halo,
        precisions=("fp32",),
    )
    return facts, assumed


def _sizes(trial: _Trial, found: Edges) -> tuple[int, int, int]:
    """Find the size multiple, the scale and the channels of the output.

    Raises:
        CheckpointError: The network takes no image, or one size only, or does not return an image.
    """
    reason = ""
    for multiple in _MULTIPLES:
        height, width = ((-(-side // multiple) | 1) * multiple for side in _SIDES)
        try:
            made = trial(height, width)
        except Exception as error:  # its exceptions derive directly from Exception
            reason = first_line(error)
            continue
        scale = made.shape[2] // height if made.ndim == 4 else 0
        if scale < 1 or tuple(made.shape[2:]) != (scale * height, scale * width):
            reason = f"returns {tuple(made.shape)} for {(1, trial.channels, height, width)}"
            continue
        if not bool(made.isfinite().all()):
            raise CheckpointError("returns values that are not finite (NaN); use an fp32 file of this model")
        return multiple, scale, made.shape[1]
    if found.fixed is not None:
        height, width = found.fixed
        raise CheckpointError(f"takes images of {width}×{height} only; export it with a dynamic height and width")
    raise CheckpointError(f"is no image network: {reason}")


def _value_range(
    trial: _Trial, scale: int, multiple: int, channels: int, *, byte: bool
) -> tuple[tuple[float, float], str]:
    """Find the range for which the network keeps the image; return it with what was assumed, or nothing."""
    if byte:
        return (0.0, 255.0), ""
    if channels != trial.channels:
        return (0.0, 1.0), "values from 0 to 1"
    side = math.ceil(96 / multiple / _CELL) * _CELL * multiple
    wanted = _small(_image(side, side, trial.channels))
    scored = []
    for low, high in _RANGES:
        made = (trial(side, side, low, high) - low) / (high - low)
        difference = _small(made.clamp(-4, 4)) - wanted
        scored.append((-10 * math.log10(float(difference.square().mean()) + 1e-12), (low, high)))
    best = max(score for score, _ in scored)
    kept = [found for score, found in scored if score >= max(_LEAST_DB, best - _LEAD_DB)]
    if len(kept) == 1:
        return kept[0], ""
    # A network that keeps the image in several ranges may clamp to one of them.
    clamped = [found for found in kept if _clamps(trial, side, *found)]
    if len(clamped) == 1:
        return clamped[0], ""
    return (0.0, 1.0), "values from 0 to 1" + (", though other ranges give the same image" if kept else "")


def _clamps(trial: _Trial, side: int, low: float, high: float) -> bool:
    """Whether the network cuts an image of twice the contrast to a range."""
    middle, reach = (low + high) / 2, high - low
    made = trial(side, side, middle - reach, middle + reach)
    slack = 0.02 * reach
    return bool(made.max() <= high + slack and made.min() >= low - slack)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _small(image: Tensor) -> Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(image, 12)


def _image(height: int, width: int, channels: int) -> Tensor:
    """A smooth image with all brightnesses, (1, C, H, W) in [0, 1]."""
    down, across = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    waves = [0.5 + 0.5 * np.sin(2 * math.pi * ((1 + c) * down + (2 - c) * across) + c) for c in range(channels)]
    return torch.from_numpy(np.stack(waves)[None].astype(np.float32))


def _runs(trial: Callable[[], Tensor], count: int = 1) -> bool:
    try:
        return bool(trial().shape[0] == count)
    except Exception:  # its exceptions derive directly from Exception
        return False
