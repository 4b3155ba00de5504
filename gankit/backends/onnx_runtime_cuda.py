"""ONNX Runtime with its CUDA provider, on torch's memory and on a stream of torch's.

ONNX Runtime falls back to the CPU without an exception where its CUDA provider does not load, and lists the provider as
available all the same. Everything here is about finding that out early and saying why.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gankit_export.gpu import Gpu
from torch import Tensor

from gankit.backends.artefacts import sha256_in_name
from gankit.backends.base import Engine, EngineSpec, memory_errors
from gankit.backends.pixels import check, enter, leave
from gankit.errors import BackendError, NotFiniteError
from gankit.version import installed_version

PROVIDER = "CUDAExecutionProvider"
_TITLES = {
    "cuda": (
        "CUDA",
        "this torch has CUDA {}, and onnxruntime-gpu 1.27 and later needs CUDA 13, 1.26 and earlier CUDA 12",
    ),
    "tensorrt": ("TensorRT", "it needs TensorRT 10 for this CUDA ({}): pip install tensorrt-cu13==10.16.1.11"),
}
_NUMPY = {torch.float32: np.float32, torch.int64: np.int64}
_PIP = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
Provider = tuple[str, dict[str, str]]
_MEMORY = ("Failed to allocate memory", "out of memory", "smaller than requested bytes", "bad_alloc")


def missing() -> str | None:
    """Return why the CUDA provider cannot be used here, with the next step; ``None`` if its library loads."""
    return why_not("cuda")


def why_not(provider: str) -> str | None:
    """Return why a provider cannot be used here, with the next step; ``None`` if its library loads.

    Args:
        provider: ``"cuda"`` or ``"tensorrt"``, as in the name of the library.
    """
    if not torch.cuda.is_available():
        return "this torch finds no CUDA GPU; use --device cpu"
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return "not installed: pip install onnxruntime-gpu"
    if installed_version("onnxruntime") and installed_version("onnxruntime-gpu"):
        return f"onnxruntime and onnxruntime-gpu are both installed and overwrite each other: {_PIP}"
    return _unloadable(Path(spec.origin).parent / "capi", provider)


@cache
def _unloadable(folder: Path, provider: str) -> str | None:
    """Return why the library of a provider does not load.

    Args:
        folder: where ONNX Runtime's libraries are.
        provider: as in the name of the library.
    """
    title, needs = _TITLES[provider]
    windows = platform.system() == "Windows"
    prefix, suffix = ("", ".dll") if windows else ("lib", ".so")
    library = folder / f"{prefix}onnxruntime_providers_{provider}{suffix}"
    if not library.is_file():
        return f"the installed onnxruntime has no {title} provider: {_PIP}"
    try:
        # The provider takes its symbols from this library, which ONNX Runtime loads first as well.
        with suppress(OSError):
            ctypes.CDLL(str(folder / f"{prefix}onnxruntime_providers_shared{suffix}"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        needs = needs.format(torch.version.cuda or "none")
        return f"the {title} provider of onnxruntime does not load ({error}); {needs}"
    return None


def provider_options(spec: EngineSpec, gpu: Gpu) -> dict[str, str]:
    """Return the options of the CUDA provider.

    Sizes that vary must not be tuned each: an exhaustive search takes hundreds of milliseconds for every new shape. A
    static shape is tuned once and recorded as a CUDA graph.

    Args:
        spec: the spec of the engine.
        gpu: where it runs.
    """
    static = is_static(spec)
    return {
        "device_id": str(gpu.device.index or 0),
        "user_compute_stream": str(gpu.handle),
        "cudnn_conv_algo_search": "EXHAUSTIVE" if static else "HEURISTIC",
        "cudnn_conv_use_max_workspace": "1",
        "use_tf32": "0" if spec.precision == "fp32" else "1",
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": "1" if static else "0",
    }


def is_static(spec: EngineSpec) -> bool:
    """Whether every call of an engine has the same shape."""
    return spec.shapes.batch is not None and (spec.facts.task == "generate" or spec.shapes.tile is not None)


class OnnxRuntimeCudaEngine(Engine):
    """A session of one ONNX file on a GPU. Inputs and outputs are torch's tensors, bound by their addresses.

    Args:
        spec: the spec of the engine.
        path: the ONNX file, in the precision of the spec.
        gpu: where it runs.
        backend: name of the backend that makes it.

    Raises:
        BackendError: If a layer would run on the CPU, or the session does not use the first of its providers.
    """

    def __init__(self, spec: EngineSpec, path: Path, gpu: Gpu, backend: str = "onnxruntime") -> None:
        super().__init__(backend, spec)
        self._spec, self._facts, self._gpu, self.artefact = spec, spec.facts, gpu, sha256_in_name(path)
        self._path, self._fixed = path, is_static(spec)
        self._bound: tuple[tuple[Tensor, ...], Tensor, Any] | None = None
        self._session = self._opened(self._providers())
        self._inputs = [item.name for item in self._session.get_inputs()]
        self._output = self._session.get_outputs()[0].name

    def _providers(self) -> list[Provider]:
        """Return the providers, the preferred one first, with their options."""
        return [(PROVIDER, provider_options(self._spec, self._gpu))]

    def _opened(self, providers: Sequence[Provider]) -> Any:
        """Open a session that runs on the GPU alone."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised, so their lines on stderr would repeat them
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            session = onnxruntime.InferenceSession(str(self._path), options, providers=list(providers))
        except Exception as error:  # its exceptions derive directly from Exception
            if "fallback" not in str(error):
                raise
            raise BackendError(f"'{self._facts.name}' has layers that ONNX Runtime runs on the CPU only") from error
        session.disable_fallback()
        if (found := session.get_providers()[0]) != (wanted := providers[0][0]):
            raise BackendError(f"ONNX Runtime chose {found}, not {wanted}; run `gankit doctor`")
        return session

    def run(self, *tensors: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        check(tensors, self._facts)
        latents = self._facts.task == "generate"
        with torch.inference_mode(), self._gpu.scope():
            given = tuple(item.to(self._gpu.device) for item in tensors)
            values = tuple(item.contiguous() for item in enter(given, self._facts))
            with memory_errors(*_MEMORY):
                result = self._run(values)
            integers = not latents and tensors[0].dtype != torch.float32
            if self.precision == "fp16" and integers and not bool(result.isfinite().all()):
                raise NotFiniteError("values beyond the range of fp16; use --precision bf16 or fp32")
            pixels = leave(result, given, self._facts)
            return pixels.cpu() if latents else pixels.contiguous(memory_format=torch.channels_last).cpu()

    def close(self) -> None:
        """Wait for the GPU, and release the session with its memory."""
        self._gpu.synchronize()
        self._bound = self._session = None

    def _run(self, values: Sequence[Tensor]) -> Tensor:
        if not self._fixed:
            output = self._gpu.empty(self._shape(values), torch.float32)
            self._session.run_with_iobinding(self._binding(values, output))
            return output
        # A CUDA graph reads and writes the addresses with which it was recorded.
        if self._bound is None:
            held = tuple(self._gpu.empty(item.shape, item.dtype) for item in values)
            output = self._gpu.empty(self._shape(values), torch.float32)
            self._bound = held, output, self._binding(held, output)
        held, output, binding = self._bound
        if [item.shape for item in held] != [item.shape for item in values]:
            wanted, got = (tuple(items[0].shape) for items in (held, values))
            raise BackendError(f"this engine was made for inputs of {wanted}, not {got}")
        for kept, item in zip(held, values, strict=True):
            kept.copy_(item)
        self._session.run_with_iobinding(binding)
        return output.clone()

    def _binding(self, values: Sequence[Tensor], output: Tensor) -> Any:
        binding = self._session.io_binding()
        index = self._gpu.device.index or 0
        for name, item in zip(self._inputs, values, strict=True):
            binding.bind_input(name, "cuda", index, _NUMPY[item.dtype], tuple(item.shape), item.data_ptr())
        binding.bind_output(self._output, "cuda", index, np.float32, tuple(output.shape), output.data_ptr())
        return binding

    def _shape(self, values: Sequence[Tensor]) -> tuple[int, ...]:
        facts = self._facts
        if facts.output_size is not None:
            return (values[0].shape[0], facts.out_channels or facts.channels, *facts.output_size)
        count, channels, height, width = values[0].shape
        return (count, facts.out_channels or channels, height * facts.scale, width * facts.scale)
