"""Engines for generators that start from latents. They are small: what the machinery for images does, none needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from gankit_export.precision import DTYPES, RangeError, typed
from torch import Tensor

from gankit import backends
from gankit.backends.artefacts import open_onnx
from gankit.backends.base import Precision, Request
from gankit.backends.choice.candidates import devices, parse_device
from gankit.backends.choice.parity import GATE_DB, Parity, compare
from gankit.backends.cpu.threads import default_threads, limited_threads, physical_cores
from gankit.backends.eager import exact_fp32, require
from gankit.backends.pixels import from_values
from gankit.errors import BackendError, ParityError
from gankit.pipeline.latents import latents

if TYPE_CHECKING:
    from gankit.checkpoints import Loaded

_SAMPLES = 16  # that the gate looks at
_TORCH = ("eager", "compile")


class LatentEngine(ABC):
    """A ready generator.

    Attributes:
        backend: name of its backend.
        precision: arithmetic that it runs in.
        device: where it runs.
    """

    def __init__(self, backend: str, request: Request) -> None:
        self.backend, self.precision, self.device = backend, request.precision, request.device

    @abstractmethod
    def run(self, latents: Tensor, classes: Tensor | None) -> Tensor:
        """Run a batch.

        Args:
            latents: (N, latent) float32 on the CPU.
            classes: (N,) int64, for a conditional generator.

        Returns:
            (N, C, H, W) float32 on the CPU, in the generator's value range, not clamped.
        """


class ModuleEngine(LatentEngine):
    """torch, eager or compiled.

    Args:
        backend: ``"eager"`` or ``"compile"``.
        request: the generator.
        batch: the compiled one always runs batches of this size, filled up where they are smaller: one compilation.
    """

    def __init__(self, backend: str, request: Request, batch: int) -> None:
        super().__init__(backend, request)
        try:
            module = typed(request.generator, request.precision, float32_edges=False)
        except RangeError as error:
            raise BackendError(f"'{request.facts.name}' cannot run in {request.precision}: {error}") from error
        module = module.to(request.device)
        self._fill = batch if backend == "compile" else 0
        self._module: Any = torch.compile(module, dynamic=False) if self._fill else module
        self._dtype = DTYPES[request.precision]
        self._threads = request.threads or default_threads()

    def run(self, latents: Tensor, classes: Tensor | None) -> Tensor:
        """See :meth:`LatentEngine.run`."""
        count = latents.shape[0]
        arguments = [latents.to(self._dtype)] + ([] if classes is None else [classes])
        if missing := max(0, self._fill - count):
            arguments = [torch.cat([item, item.new_zeros(missing, *item.shape[1:])]) for item in arguments]
        exact = exact_fp32(self.device, self.precision)
        with torch.inference_mode(), limited_threads(self._threads), exact:
            result: Tensor = self._module(*(item.to(self.device) for item in arguments))
            return result[:count].float().cpu()


class OnnxRuntimeLatentEngine(LatentEngine):
    """A session of ONNX Runtime on the CPU."""

    def __init__(self, request: Request, path: Path) -> None:
        import onnxruntime

        super().__init__("onnxruntime", request)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = request.threads or physical_cores()
        options.log_severity_level = 4  # errors come as exceptions
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = [item.name for item in self._session.get_inputs()]

    def run(self, latents: Tensor, classes: Tensor | None) -> Tensor:
        """See :meth:`LatentEngine.run`."""
        given = [item.numpy() for item in (latents, classes) if item is not None]
        (result,) = self._session.run(None, dict(zip(self._names, given, strict=True)))
        return torch.from_numpy(result)


class OpenVinoLatentEngine(LatentEngine):
    """A compiled graph of OpenVINO on the CPU."""

    def __init__(self, request: Request, path: Path) -> None:
        from gankit_export.openvino_core import openvino_core

        super().__init__("openvino", request)
        settings = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[request.precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": request.threads or physical_cores(),
        }
        core = openvino_core()
        self._request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()

    def run(self, latents: Tensor, classes: Tensor | None) -> Tensor:
        """See :meth:`LatentEngine.run`."""
        given = [item.numpy() for item in (latents, classes) if item is not None]
        result = self._request.infer(given, share_inputs=True, share_outputs=False)[0]
        return torch.from_numpy(result).float()


def open_engine(
    loaded: Loaded, *, backend: str, precision: Precision, device: str, batch: int, threads: int | None
) -> tuple[LatentEngine, Parity]:
    """The engine asked for, after its images were compared with the fp32 eager ones.

    Args:
        loaded: a model that generates.
        backend: name, or ``"auto"`` for eager.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        device: ``"auto"`` takes a GPU where there is one and the backend is torch's.
        batch: of the compiled engine.
        threads: CPU threads; ``None`` for the cores.

    Raises:
        UsageError: an unknown backend or device.
        BackendError: the backend is missing, or does not offer the precision or the device.
        ParityError: 16 samples differ too much.
    """
    # 64 images of 28×28 on 2 cores, eager, ONNX Runtime and OpenVINO fp32: 0.35, 0.23 and 0.32 ms of dense layers,
    # 75, 55 and 54 ms of convolutions; to start the latter two take 0.05 s, and 0.7 to 2 s where the file is not there.
    name = "eager" if backend == "auto" else backend
    found, device = backends.get(name), parse_device(device)
    if device == "auto":
        device = devices()[0] if name in _TORCH else "cpu"
    request = Request(loaded.generator, loaded.facts, precision, device, threads)
    require(found, request)
    engine = _open(name, request, batch)
    parity = _parity(engine, loaded)
    if not parity.passes():
        raise ParityError(
            f"'{loaded.facts.name}' on {name} {precision} ({device}): parity with fp32 {parity.psnr:.1f} dB, largest "
            f"difference {parity.max_abs:.3f}, on {_SAMPLES} samples, below {GATE_DB:g} dB: take another precision"
        )
    return engine, parity


def _open(name: str, request: Request, batch: int) -> LatentEngine:
    if name == "onnxruntime":
        return open_onnx(request, lambda path: OnnxRuntimeLatentEngine(request, path))
    if name == "openvino":
        return open_onnx(request, lambda path: OpenVinoLatentEngine(request, path))
    if name in _TORCH:
        return ModuleEngine(name, request, batch)
    raise BackendError(f"backend '{name}' does not run models that generate; use --backend eager")


def _parity(engine: LatentEngine, loaded: Loaded) -> Parity:
    """The engine's images against those of the module as it was loaded, in fp32 on the CPU, scaled to [0, 1]."""
    facts = loaded.facts
    given = torch.from_numpy(latents(0, range(_SAMPLES), facts.latent))
    classes = torch.arange(_SAMPLES) % facts.classes if facts.classes else None
    with torch.inference_mode():
        wanted = loaded.generator(given) if classes is None else loaded.generator(given, classes)
    results = (from_values(item, facts, torch.float32) for item in (engine.run(given, classes), wanted))
    return compare(*results)
