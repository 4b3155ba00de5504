"""An ONNX file as a module, which ONNX Runtime runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from gankit.checkpoints.exported import ExportedModule
from gankit.errors import CheckpointError


class OnnxModule(ExportedModule):
    """An ONNX file as a module, which ONNX Runtime runs on the CPU in fp32.

    Backends that read ONNX take its file as it is. The others, and the parity check, call this module.

    Args:
        content: the file, with gankit's edges: float32, NCHW, any size.

    Raises:
        CheckpointError: If ONNX Runtime is not installed or cannot open the file.
    """

    content: Tensor

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.register_buffer("content", torch.frombuffer(bytearray(content), dtype=torch.uint8))
        self._session = _session(content)

    @property
    def file(self) -> bytes:
        """The file."""
        return self.content.cpu().numpy().tobytes()

    def forward(self, *given: Tensor) -> Tensor:
        """(N, C, H, W), or latents and classes, to (N, C', H', W'), in the network's own value range."""
        if any(not isinstance(item, Tensor) or isinstance(item, torch.fx.Proxy) for item in given):
            raise ValueError("an ONNX file has no graph of torch")
        names = [item.name for item in self._session.get_inputs()]
        arrays = [_plain(item).cpu().contiguous().numpy() for item in given]
        result = self._session.run(None, dict(zip(names, arrays, strict=True)))[0]
        return torch.from_numpy(result).to(given[0].device, given[0].dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = type(self)(self.file)
        memo[id(self)] = made
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_session"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._session = _session(self.file)


def stated_range(stated: Mapping[str, str]) -> tuple[float, float] | None:
    """Return the value range that gankit wrote into a file; ``None`` if there is none."""
    try:
        low, high = map(float, json.loads(stated["value_range"]))
    except (KeyError, TypeError, ValueError):
        return None
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def _plain(item: Tensor) -> Tensor:
    """Floating point as float32; classes as they are."""
    return item.detach().float() if item.is_floating_point() else item.detach()


def _session(content: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise CheckpointError("ONNX files need ONNX Runtime: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions derive directly from Exception
        raise CheckpointError(f"ONNX Runtime cannot open it: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 200 characters, or its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
