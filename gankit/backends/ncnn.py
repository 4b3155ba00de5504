"""ncnn on the CPU: the inference engine for phones and Vulkan, here to try and to compare.

Importing this module imports no torch.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import ClassVar

from gankit_export.precisions import Precision

from gankit.backends.base import Backend, Engine, EngineSpec


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
        from gankit.backends.ncnn_engine import open_net

        return open_net(spec)
