"""The engine of ncnn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gankit_export.manifest import Manifest
from gankit_export.ncnn_net import NcnnError, NcnnNet
from gankit_export.onnx import ExportError

from gankit.backends.artefacts import open_onnx, sha256_in_name
from gankit.backends.base import ArrayEngine, Engine, EngineSpec
from gankit.backends.built_files import open_built
from gankit.backends.cpu.threads import default_threads
from gankit.backends.pixels import enter_arrays, leave_arrays
from gankit.errors import BackendError
from gankit.version import installed_version

_NAME = "ncnn"
_SUFFIXES = (".param", ".bin")


def open_net(spec: EngineSpec) -> Engine:
    """Export and convert the generator once, and open the model.

    Raises:
        BackendError: If the generator cannot be converted.
    """
    from gankit_export.ncnn_build import convert

    def build(path: Path) -> None:
        try:
            open_onnx(spec, lambda model: convert(_copy(model, path), path, _shapes(spec)))
        except ExportError as error:
            raise BackendError(f"'{spec.facts.name}': {error}") from error

    needs = [str(installed_version(name)) for name in ("ncnn", "pnnx")]
    return open_built(
        spec,
        _NAME,
        _SUFFIXES,
        build,
        lambda path: NcnnEngine(spec, path, sha256_in_name(path)),
        needs=needs,
    )


def open_ncnn_file(spec: EngineSpec, path: Path, manifest: Manifest) -> Engine:
    """Open a model that ``gankit export`` wrote, whose checksums have been verified.

    Raises:
        BackendError: If ncnn cannot load it. The message names the file and the reason.
    """
    try:
        return NcnnEngine(spec, path, manifest.sha256)
    except NcnnError as error:
        raise BackendError(f"{path}: {error}; export the model again") from error


class NcnnEngine(ArrayEngine):
    """Runs the images of a batch, or latents, one after the other through ncnn.

    Args:
        spec: the spec of the engine.
        path: the ``.param`` file.
        sha256: of the model.

    Raises:
        NcnnError: If ncnn cannot load it.
    """

    def __init__(self, spec: EngineSpec, path: Path, sha256: str) -> None:
        super().__init__(_NAME, spec)
        self._facts, self._path, self.artefact = spec.facts, path, sha256
        self._net: NcnnNet | None = NcnnNet(path, spec.threads or default_threads())

    def run_arrays(self, *arrays: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.run_arrays`."""
        if self._net is None:
            raise BackendError(f"{self._path}: this engine is closed; load it again")
        values = enter_arrays(arrays, self._facts)
        try:
            made = self._net(*values)
        except NcnnError as error:
            raise BackendError(f"'{self._facts.name}': {error}; use another --backend") from error
        return leave_arrays(made, arrays, self._facts)

    def close(self) -> None:
        """Release the memory of the model."""
        if self._net is not None:
            self._net.close()
            self._net = None


def _copy(model: Path, beside: Path) -> Path:
    """Copy the ONNX file to the folder of the new model, where pnnx leaves files of other kinds."""
    copied = beside.with_name("model.onnx")
    copied.write_bytes(model.read_bytes())
    return copied


def _shapes(spec: EngineSpec) -> list[str]:
    from gankit_export.artefact import Source
    from gankit_export.ncnn_build import input_shapes

    facts = spec.facts
    own: dict[str, Any] = {
        "channels": facts.channels,
        "multiple": facts.multiple,
        "minimum": facts.minimum,
        "latent": facts.latent,
    }
    return input_shapes(Source(facts.name, "", "", **own))
