"""A TensorRT engine file as a model: its facts are in the manifest beside it, and only TensorRT can run it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from gankit_export import manifest as manifests
from gankit_export.manifest import Manifest
from gankit_export.receptive_field import halo
from gankit_export.tensorrt.store import EngineFacts
from torch import Tensor, nn

from gankit import models
from gankit.checkpoints.types import Loaded
from gankit.errors import BackendError, CheckpointError
from gankit.models.facts import Facts


class EngineFile(nn.Module):
    """Stands for the generator in an engine file.

    Args:
        path: the file.
        manifest: its manifest.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        super().__init__()
        self.path, self.manifest = path, manifest

    def forward(self, x: Tensor) -> Tensor:
        """Refuse to run: the engine is in the file, and torch cannot read it."""
        raise BackendError(f"{self.path}: only --backend tensorrt runs an engine file")


def open_engine_file(path: Path) -> Loaded:
    """Read the facts of an engine file. The engine itself is loaded when it is first needed.

    Args:
        path: the ``.engine`` file that ``gankit export --format tensorrt`` wrote.

    Raises:
        CheckpointError: The file or its manifest is missing, they do not belong together, or the engine starts from
            latents. The message is one line.
    """
    name = manifests.manifest_path(path).name
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        manifest = manifests.read(path)
        EngineFacts.from_json(manifest.engine)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: its manifest {name} is missing; `gankit export` writes both") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: its manifest does not match ({error}); export the engine again") from error
    if manifest.takes == "latents":
        raise CheckpointError(f"{path}: gankit generates with engines of its own; use the model and --backend tensorrt")
    half, every = manifest.engine["half_layers"]
    recognised = f"its manifest: {manifest.precision}, {half} of {every} layers in half precision"
    return Loaded(EngineFile(path, manifest), _facts(manifest), manifest.weights_sha256, path, recognised)


def _facts(manifest: Manifest) -> Facts:
    if models.is_known(manifest.model):
        try:
            facts = models.facts(manifest.model, dict(manifest.options))
            if facts.tileable and facts.halo is None:
                with torch.device("meta"):
                    facts = replace(facts, halo=halo(models.build(manifest.model, dict(manifest.options))))
            return facts
        except Exception as error:  # options of another version of gankit
            raise CheckpointError(f"the options of '{manifest.model}' in the manifest do not fit: {error}") from error
    channels = next(iter(manifest.dims.values()))[1]
    return Facts(
        task="upscale" if manifest.scale > 1 else "translate",
        name=manifest.model,
        scale=manifest.scale,
        channels=channels if isinstance(channels, int) else 3,
        value_range=manifest.value_range,
        multiple=manifest.multiple,
        minimum=manifest.minimum,
        paper="an engine file",
        tileable=False,
    )
