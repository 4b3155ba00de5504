"""ncnn on the CPU: the inference engine for phones and Vulkan, here to try and to compare."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from gankit_export.manifest import Manifest
from gankit_export.ncnn_net import NcnnError, NcnnNet
from gankit_export.onnx import ExportError
from gankit_export.precisions import Precision
from torch import Tensor

from gankit.backends.artefacts import open_onnx, sha256_in_name
from gankit.backends.base import Backend, Engine, EngineSpec
from gankit.backends.built_files import open_built
from gankit.backends.cpu.threads import default_threads
from gankit.backends.pixels import enter, leave
from gankit.errors import BackendError
from gankit.version import installed_version

_SUFFIXES = (".param", ".bin")


class NcnnBackend(Backend):
    """ncnn, with models that pnnx converts from the ONNX file. It computes in fp32."""

    name: ClassVar[str] = "ncnn"
    precisions: ClassVar[dict[str, tuple[Precision, ...]]] = {"cpu": ("fp32",)}
    packages: ClassVar[tuple[str, ...]] = ("ncnn",)
    rank: ClassVar[int] = 30
    slow_start: ClassVar[bool] = True
    automatic: ClassVar[bool] = False  # no faster than other backends where it was measured

    def missing(self, spec: EngineSpec) -> str | None:
        """The packages may be missing."""
        lacking = [name for name in ("ncnn", "pnnx") if find_spec(name) is None]
        return f"{lacking[0]} is not installed: pip install 'gankit[ncnn]'" if lacking else None

    def lacks(self, spec: EngineSpec) -> str | None:
        """It lacks layers that look up classes, and layerwise runs."""
        if spec.layer_bytes is not None:
            return "does not run layerwise; use --backend eager"
        return "does not run models with classes; use --backend eager" if spec.facts.classes else None

    def open(self, spec: EngineSpec) -> Engine:
        """Export and convert the generator once."""
        from gankit_export.ncnn_build import convert

        def build(path: Path) -> None:
            try:
                open_onnx(spec, lambda model: convert(_copy(model, path), path, _shapes(spec)))
            except ExportError as error:
                raise BackendError(f"'{spec.facts.name}': {error}") from error

        needs = [str(installed_version(name)) for name in ("ncnn", "pnnx")]
        return open_built(
            spec,
            "ncnn",
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


class NcnnEngine(Engine):
    """Runs the images of a batch, or latents, one after the other through ncnn.

    Args:
        spec: the spec of the engine.
        path: the ``.param`` file.
        sha256: of the model.

    Raises:
        NcnnError: If ncnn cannot load it.
    """

    def __init__(self, spec: EngineSpec, path: Path, sha256: str) -> None:
        super().__init__(NcnnBackend.name, spec)
        self._facts, self._path, self.artefact = spec.facts, path, sha256
        self._net: NcnnNet | None = NcnnNet(path, spec.threads or default_threads())

    def run(self, *tensors: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        if self._net is None:
            raise BackendError(f"{self._path}: this engine is closed; load it again")
        values = [item.contiguous().numpy() for item in enter(tensors, self._facts)]
        try:
            made = torch.from_numpy(self._net(*values))
        except NcnnError as error:
            raise BackendError(f"'{self._facts.name}': {error}; use another --backend") from error
        pixels = leave(made, tensors, self._facts)
        return pixels if self._facts.task == "generate" else pixels.contiguous(memory_format=torch.channels_last)

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
