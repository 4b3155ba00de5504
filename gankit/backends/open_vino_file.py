"""OpenVINO with the graph of an OpenVINO IR that is the model itself, in place of a file that gankit exports."""

from __future__ import annotations

from typing import Any

from gankit_export.openvino_core import openvino_core
from torch import nn

from gankit.backends.base import Engine, EngineSpec
from gankit.backends.open_vino import (
    OpenVinoBackend,
    OpenVinoEngine,
    OpenVinoLatentEngine,
    _settings,
    with_pixel_edges,
)


def open_graph(spec: EngineSpec, module: nn.Module) -> Engine:
    """Open an engine of a module that has its own OpenVINO graph.

    Args:
        spec: the spec of the engine.
        module: the generator, a :class:`gankit.checkpoints.ir_models.IrModule`.
    """
    return (GraphLatentEngine if spec.facts.task == "generate" else GraphEngine)(spec, module)


class GraphEngine(OpenVinoEngine):
    """Runs images through the module's graph, compiled once for each dtype of pixels."""

    def __init__(self, spec: EngineSpec, module: Any) -> None:
        Engine.__init__(self, OpenVinoBackend.name, spec)
        self._facts, self._module, self._settings = spec.facts, module, _settings(spec)
        self.artefact = module.sha256
        self._core = openvino_core()
        self._requests = {}

    def _compile(self, dtype: Any) -> Any:
        model = with_pixel_edges(self._module.openvino_model(), self._facts, dtype)
        return self._core.compile_model(model, "CPU", self._settings).create_infer_request()


class GraphLatentEngine(OpenVinoLatentEngine):
    """Runs latents through the module's graph."""

    def __init__(self, spec: EngineSpec, module: Any) -> None:
        Engine.__init__(self, OpenVinoBackend.name, spec)
        self._facts, self.artefact = spec.facts, module.sha256
        compiled = openvino_core().compile_model(module.openvino_model(), "CPU", _settings(spec))
        self._request = compiled.create_infer_request()
