"""Ways to run a generator. Importing this package imports no torch.

A new backend needs its own file in this folder, with a :class:`~gankit.backends.base.Backend` subclass, and one line
in ``BACKENDS``, where the command line, ``gankit doctor``, ``auto``, the reports and the benchmarks find it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from gankit.errors import UsageError, hint

if TYPE_CHECKING:
    from gankit.backends.base import Backend

__all__ = ["BACKENDS", "get"]

BACKENDS: Mapping[str, str] = MappingProxyType(
    {
        "eager": "gankit.backends.eager:EagerBackend",
        "winograd": "gankit.backends.winograd:WinogradBackend",
        "compile": "gankit.backends.compiled:CompileBackend",
        "aoti": "gankit.backends.aoti:AotiBackend",
        "onnxruntime": "gankit.backends.onnx_runtime:OnnxRuntimeBackend",
        "openvino": "gankit.backends.open_vino:OpenVinoBackend",
        "onnxruntime-tensorrt": "gankit.backends.onnx_runtime_tensorrt:OnnxRuntimeTensorRTBackend",
        "tensorrt": "gankit.backends.tensorrt:TensorRTBackend",
        "ncnn": "gankit.backends.ncnn:NcnnBackend",
    }
)


def get(name: str) -> Backend:
    """Return the backend of a name. :meth:`Backend.supports` checks whether it can run here.

    Raises:
        UsageError: If the name is unknown. The message suggests the nearest one.
    """
    if name not in BACKENDS:
        raise UsageError(f"unknown backend '{name}': {hint(name, BACKENDS)}")
    module, _, attribute = BACKENDS[name].partition(":")
    backend: Backend = getattr(import_module(module), attribute)()
    return backend
