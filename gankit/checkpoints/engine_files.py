"""A file with an engine as a model, which only one backend runs: TensorRT, AOTInductor or ncnn.

The facts of the generator are in the manifest beside the file, and so is its parity with fp32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gankit_export.aoti import Needs
from gankit_export.formats import Format
from gankit_export.manifest import Manifest
from gankit_export.tensorrt.store import EngineFacts
from torch import Tensor

from gankit.checkpoints.exported import ExportedModule, facts_of, required_manifest
from gankit.checkpoints.types import Loaded
from gankit.errors import BackendError, CheckpointError

KINDS: Mapping[str, Format] = {".engine": "tensorrt", ".pt2": "aoti", ".param": "ncnn"}
"""The format of an engine file by its suffix. It is also the name of the backend that runs it."""


class EngineFile(ExportedModule):
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
        raise BackendError(f"{self.path}: only --backend {self.manifest.kind} runs this file")


def open_engine_file(path: Path) -> Loaded:
    """Read the facts of an engine file. The engine itself is loaded when it is first needed.

    Args:
        path: the file that ``gankit export`` wrote, with a suffix in ``KINDS``.

    Raises:
        CheckpointError: The file or its manifest is missing, or they do not belong together. The message is one line.
    """
    kind = KINDS[path.suffix.lower()]
    manifest = required_manifest(path, kind)
    try:
        if kind == "tensorrt":
            EngineFacts.from_json(manifest.engine)
        elif kind == "aoti":
            Needs.from_json(manifest.engine)
        half, every = manifest.half_convolutions if kind != "tensorrt" else manifest.engine["half_layers"]
        worst = min(item.worst for item in manifest.parity)
    except ValueError as error:
        raise CheckpointError(f"{path}: its manifest does not match ({error}); export the model again") from error
    facts = replace(facts_of(path, manifest), precisions=("fp32", "bf16", "fp16"))
    recognised = f"its manifest: {manifest.precision}, {half} of {every} layers in half precision, {worst:.1f} dB"
    return Loaded(EngineFile(path, manifest), facts, manifest.weights_sha256, path, recognised)
