"""OpenVINO with its CPU plugin. Conversion of pixels (type, layout, scale, rounding) is part of its graph.

It needs no torch once the generator is exported, and importing this module imports none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gankit_export.openvino_core import openvino_core
from gankit_export.precisions import Precision

from gankit.backends.artefacts import is_intact, open_onnx, sha256_in_name
from gankit.backends.base import ArrayEngine, Backend, Engine, EngineMemoryError, EngineSpec, memory_errors
from gankit.backends.choice.quantised import quantised_file
from gankit.backends.cpu.instructions import lacks_bf16
from gankit.backends.cpu.threads import default_threads
from gankit.backends.open_vino_choice import SegmentChoice
from gankit.backends.open_vino_graph import bytes_per_pixel, with_pixel_edges
from gankit.backends.pixels import check, leave_arrays
from gankit.errors import BackendError

_CACHED_LAYERS = 128  # compiled for one size of image; 5000 by default, which is a leak if all images differ
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoBackend(Backend):
    """OpenVINO on the CPU. The precision is always set, because by default it uses bf16 if the CPU supports it."""

    name: ClassVar[str] = "openvino"
    precisions: ClassVar[dict[str, tuple[Precision, ...]]] = {"cpu": ("fp32", "bf16")}
    packages: ClassVar[tuple[str, ...]] = ("openvino",)
    rank: ClassVar[int] = 1
    start_rank: ClassVar[int | None] = 1  # it compiles for half a second
    runs_int8: ClassVar[bool] = True

    def missing(self, spec: EngineSpec) -> str | None:
        """The package may be missing."""
        return None if find_spec("openvino") else "not installed: pip install openvino"

    def lacks(self, spec: EngineSpec) -> str | None:
        """It lacks bf16 on a processor without it, and layerwise runs."""
        return "does not run layerwise; use --backend eager" if spec.layer_bytes is not None else lacks_bf16(spec)

    def open(self, spec: EngineSpec) -> Engine:
        """Export the generator once. A graph for each dtype of pixels is compiled when it is first needed."""
        kind = OpenVinoLatentEngine if spec.facts.task == "generate" else OpenVinoEngine
        if spec.quantised:
            file = quantised_file(spec)
            return kind(spec, partial(_cached_model, file), spec.quantised)
        module: Any = spec.module
        if hasattr(module, "openvino_model"):  # an OpenVINO IR that is the model itself, which is never deferred
            return kind(spec, module.openvino_model, module.sha256)
        return open_onnx(spec, lambda path: kind(spec, partial(_cached_model, path), sha256_in_name(path)))


def _settings(spec: EngineSpec) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[spec.precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": spec.threads or default_threads(),
        "CPU_RUNTIME_CACHE_CAPACITY": _CACHED_LAYERS,
    }


def _cached_model(path: Path) -> Any:
    """Read an exported file from the cache.

    Raises:
        BackendError: If it is not the one that was exported. (The engine may have been opened hours ago.)
    """
    if not is_intact(path):
        raise BackendError(f"{path}: this cached file was changed or deleted during the run; start it again")
    return openvino_core().read_model(path)


class OpenVinoEngine(ArrayEngine):
    """Runs images through compiled graphs: one for a single image, on all cores, and one for several at once.

    The graphs of each dtype of pixels are compiled when they are first needed. Large images run in segments of the
    network where those have proved to be faster (:mod:`gankit.backends.open_vino_choice`).

    Args:
        spec: the spec of the engine.
        read: reads the graph.
        sha256: of the file with the graph.

    Attributes:
        read: reads the graph.
        settings: of OpenVINO.
    """

    _segments: SegmentChoice | None = None

    def __init__(self, spec: EngineSpec, read: Callable[[], Any], sha256: str) -> None:
        super().__init__(OpenVinoBackend.name, spec)
        self._facts, self.read, self.settings = spec.facts, read, _settings(spec)
        self.artefact = sha256
        self.at_once = self.settings["INFERENCE_NUM_THREADS"]
        self._core = openvino_core()
        model = read()  # raises if the file is damaged, so that it is exported again
        self.pixel_bytes = bytes_per_pixel(model, spec.facts, 4 if spec.precision == "fp32" else 2)
        self._requests: dict[np.dtype[Any], Any] = {}
        self._queues: dict[np.dtype[Any], Any] = {}
        if not spec.quantised:
            self._segments = SegmentChoice(spec, sha256, read, self.settings, self.whole, self._release)

    def run_arrays(self, *arrays: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.run_arrays`."""
        check(arrays, self._facts)
        (batch,) = arrays
        pixels = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        run = self.whole if self._segments is None else self._segments.run
        try:
            with memory_errors("Failed to allocate", "bad_alloc", "bad allocation"):
                result = run(pixels)
        except EngineMemoryError:
            # A request that stopped half-way keeps the shapes of that batch and fails with every later one.
            self.close()
            raise
        return result.transpose(0, 3, 1, 2)

    def close(self) -> None:
        """Release the compiled graphs."""
        self._release()
        if self._segments is not None:
            self._segments.close()

    def _release(self) -> None:
        """Release the graphs of whole images, and their memory."""
        self._requests.clear()
        self._queues.clear()

    def whole(self, pixels: np.ndarray) -> np.ndarray:
        """Run a batch (N, H, W, C). As many images as there are threads run at once, each on one of them."""
        alone = len(pixels) % self.at_once if self.at_once > 1 else len(pixels)
        if alone == len(pixels):
            return self._together(pixels)
        result = self._each(pixels[alone:])
        return np.concatenate([self._together(pixels[:alone]), result]) if alone else result

    def _together(self, pixels: np.ndarray) -> np.ndarray:
        """Run a batch (N, H, W, C) in one request that uses all threads."""
        if pixels.dtype not in self._requests:
            self._requests[pixels.dtype] = self._compile(pixels.dtype).create_infer_request()
        return np.asarray(self._requests[pixels.dtype].infer([pixels], share_inputs=True, share_outputs=False)[0])

    def _each(self, pixels: np.ndarray) -> np.ndarray:
        """Run a batch (N, H, W, C) in requests of one image, each on one thread, so that no layer ends in a barrier."""
        import openvino

        if pixels.dtype not in self._queues:
            compiled = self._compile(pixels.dtype, PERFORMANCE_HINT="THROUGHPUT", NUM_STREAMS=self.at_once)
            self._queues[pixels.dtype] = openvino.AsyncInferQueue(compiled, self.at_once)
        queue = self._queues[pixels.dtype]
        results: list[np.ndarray] = [pixels] * len(pixels)

        def keep(request: Any, index: int) -> None:
            results[index] = np.array(request.get_output_tensor(0).data)

        queue.set_callback(keep)
        for index in range(len(pixels)):
            queue.start_async([pixels[index : index + 1]], userdata=index, share_inputs=True)
        queue.wait_all()
        queue.set_callback(lambda request, index: None)  # the results must not stay alive
        return np.concatenate(results)

    def _compile(self, dtype: np.dtype[Any], **settings: Any) -> Any:
        model = with_pixel_edges(self.read(), self._facts, dtype)
        return self._core.compile_model(model, "CPU", self.settings | settings)


class OpenVinoLatentEngine(ArrayEngine):
    """Runs latents through a compiled graph. The arguments are those of :class:`OpenVinoEngine`."""

    def __init__(self, spec: EngineSpec, read: Callable[[], Any], sha256: str) -> None:
        super().__init__(OpenVinoBackend.name, spec)
        self._facts, self.artefact = spec.facts, sha256
        self._request = openvino_core().compile_model(read(), "CPU", _settings(spec)).create_infer_request()

    def run_arrays(self, *arrays: np.ndarray) -> np.ndarray:
        """See :meth:`Engine.run_arrays`."""
        check(arrays, self._facts)
        with memory_errors("Failed to allocate", "bad_alloc", "bad allocation"):
            result = self._request.infer(list(arrays), share_inputs=True, share_outputs=False)[0]
        return leave_arrays(np.asarray(result, np.float32), arrays, self._facts)
