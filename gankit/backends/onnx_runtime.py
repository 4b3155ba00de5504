"""ONNX Runtime's CPU provider."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gankit.backends.artefacts import open_onnx
from gankit.backends.base import Backend, Engine, Precision, Request, memory_errors
from gankit.backends.cpu.threads import physical_cores
from gankit.backends.eager import require
from gankit.backends.pixels import check, from_values, to_values


class OnnxRuntimeBackend(Backend):
    """ONNX Runtime. Its CPU kernels are fp32 only: it would run an fp16 file by casting back and forth."""

    name: ClassVar[str] = "onnxruntime"
    precisions: ClassVar[dict[str, tuple[Precision, ...]]] = {"cpu": ("fp32",)}

    def missing(self, device: str = "cpu") -> str | None:
        """The package."""
        return None if find_spec("onnxruntime") else "not installed: pip install onnxruntime"

    def load(self, request: Request) -> Engine:
        """Exports the generator once, and opens it."""
        require(self, request)
        return open_onnx(request, lambda path: OnnxRuntimeEngine(request, path))


class OnnxRuntimeEngine(Engine):
    """A session on one ONNX file.

    Raises:
        RuntimeError: the session did not take the provider that was asked for.
    """

    def __init__(self, request: Request, path: Path) -> None:
        import onnxruntime

        self.backend, self.precision, self.device = OnnxRuntimeBackend.name, request.precision, request.device
        self._facts = request.facts
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = request.threads or physical_cores()
        options.log_severity_level = 4  # errors come as exceptions; their lines on stderr would be a second message
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        if self._session.get_providers()[0] != "CPUExecutionProvider":
            raise RuntimeError(f"ONNX Runtime chose {self._session.get_providers()[0]}")
        self._input = self._session.get_inputs()[0].name

    def run(self, batch: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        check(batch, self._facts)
        values = to_values(batch, self._facts).contiguous()
        # Its exceptions derive from nothing but Exception.
        with memory_errors("Failed to allocate memory", "bad_alloc", "bad allocation"):
            (result,) = self._session.run(None, {self._input: values.numpy()})
        pixels = from_values(torch.from_numpy(result), self._facts, batch.dtype)
        return pixels.contiguous(memory_format=torch.channels_last)
