"""torch, layer by layer. On a CPU it streams whole images in strips through oneDNN's fused convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from gankit_export.precision import DTYPES, RangeError, typed
from gankit_export.rewrites import for_inference
from torch import Tensor, fx

from gankit.backends.base import Backend, Engine, Precision, Request
from gankit.backends.cpu.instance_norm import keep_channels_last
from gankit.backends.cpu.layerwise import Layerwise
from gankit.backends.cpu.streaming import NotStreamableError, Stream
from gankit.backends.cpu.threads import default_threads, limited_threads
from gankit.backends.cuda import kernels
from gankit.backends.pixels import check, from_values, to_values
from gankit.errors import BackendError, NotFiniteError


class EagerBackend(Backend):
    """torch itself; needs nothing else."""

    name: ClassVar[str] = "eager"
    own_kernels: ClassVar[bool] = True
    precisions: ClassVar[dict[str, tuple[Precision, ...]]] = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}

    def missing(self, device: str = "cpu") -> str | None:
        """Only a CUDA device can be missing."""
        if device.startswith("cuda") and not torch.cuda.is_available():
            return "this torch sees no CUDA GPU; use --device cpu"
        return None

    def load(self, request: Request) -> Engine:
        """A streaming engine where the network allows it (CPU), else one that takes tiles."""
        require(self, request)
        module = typed_module(request)
        if request.device == "cpu" and isinstance(module, fx.GraphModule):
            try:
                return StreamingEngine(request, Stream(module))
            except NotStreamableError:
                pass  # whole-image layers: tiles, in the ordinary way
        if request.device == "cpu":
            keep_channels_last(module)
        return ModuleEngine(self.name, request, ready(request, module))


def require(backend: Backend, request: Request) -> None:
    """Check that a backend can do what is asked.

    Raises:
        BackendError: with the way out.
    """
    why = backend.missing(request.device)
    if why is not None:
        raise BackendError(f"backend '{backend.name}': {why}")
    offered = backend.precisions.get(request.device.partition(":")[0], ())
    if not offered:
        raise BackendError(
            f"backend '{backend.name}' does not run on {request.device}; use another --backend or --device"
        )
    if request.precision not in offered:
        words = f"{request.precision} on {request.device}; it offers {', '.join(offered)}"
        raise BackendError(f"backend '{backend.name}' does not run {words}")
    if request.precision not in request.facts.precisions:
        words = f"{request.precision}; use --precision {' or '.join(request.facts.precisions)}"
        raise BackendError(f"'{request.facts.name}' does not run in {words}")
    if request.precision == "bf16" and request.device == "cpu" and not bf16_on_cpu():
        raise BackendError("this CPU has no AVX-512, which bf16 needs; use --precision fp32")


def typed_module(request: Request) -> torch.nn.Module:
    """The generator after its exact rewrites, in the precision asked for; normalisations that are left stay float32.

    Other people's networks may have no graph (their forward pass goes by the data): they run as they are.

    Raises:
        BackendError: a weight is too large for the precision.
    """
    try:
        rewritten: torch.nn.Module = for_inference(request.generator)
    except ValueError:
        rewritten = request.generator
    try:
        return typed(rewritten, request.precision, float32_edges=False)
    except RangeError as error:
        raise BackendError(f"'{request.facts.name}' cannot run in {request.precision}: {error}") from error


def ready(request: Request, module: torch.nn.Module | None = None) -> torch.nn.Module:
    """The generator as a module engine runs it: typed, on its device, on a GPU with gankit's kernels.

    Args:
        request: what to run.
        module: what :func:`typed_module` made of it, where that is known.
    """
    module = typed_module(request) if module is None else module
    if request.kernels and request.device.startswith("cuda"):
        module = kernels.with_kernels(module)
    return channels_last(module, request.device)


@contextmanager
def exact_fp32(device: str, precision: Precision) -> Iterator[None]:
    """Convolutions and matrix products in true float32 inside, and as before outside.

    On a GPU torch rounds the inputs of fp32 convolutions to TF32, 11 bits, unless it is set not to. The setting is
    the process's; its older form, ``torch.backends.cudnn.allow_tf32``, cannot be read inside. Does nothing for other
    precisions and on a CPU.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …
        precision: of the engine.
    """
    operations = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    narrow = [item for item in operations if item.fp32_precision == "tf32"]
    if precision != "fp32" or not device.startswith("cuda"):
        narrow = []
    for item in narrow:
        item.fp32_precision = "ieee"
    try:
        yield
    finally:
        for item in narrow:
            item.fp32_precision = "tf32"


def channels_last(module: torch.nn.Module, device: str) -> torch.nn.Module:
    """The module on a device, its kernels laid out as the fast convolutions want them."""
    return module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def bf16_on_cpu() -> bool:
    """Whether oneDNN runs bf16 convolutions on this CPU at all (fast ones need AVX512-BF16 or AMX)."""
    mkldnn = torch.ops.mkldnn
    return bool(torch.backends.mkldnn.is_available() and mkldnn._is_mkldnn_bf16_supported())


class StreamingEngine(Engine):
    """Whole images, in strips."""

    def __init__(self, request: Request, stream: Stream) -> None:
        self.backend, self.precision, self.device = EagerBackend.name, request.precision, request.device
        self.wants = "images"
        self._stream, self._facts, self._threads = stream, request.facts, request.threads or default_threads()

    def run(self, batch: Tensor) -> Tensor:
        """See :meth:`Engine.run`; the images of a batch run one after the other."""
        check(batch, self._facts)
        count, channels, height, width = batch.shape
        channels = self._facts.out_channels or channels
        scale, dtype = self._facts.scale, DTYPES[self.precision]
        canvas = torch.empty((count, height * scale, width * scale, channels), dtype=batch.dtype).permute(0, 3, 1, 2)
        with torch.inference_mode(), limited_threads(self._threads):
            for image, target in zip(batch.split(1), canvas.split(1), strict=True):

                def write(rows: Tensor, row: int, target: Tensor = target) -> None:
                    target[:, :, row : row + rows.shape[2]] = from_values(rows, self._facts, batch.dtype)

                self._stream.run(image, lambda rows: to_values(rows, self._facts, dtype), write)
        return canvas


class ModuleEngine(Engine):
    """Tiles through a module, on any device; also what ``compile`` runs."""

    def __init__(self, backend: str, request: Request, module: torch.nn.Module) -> None:
        self.backend, self.precision, self.device = backend, request.precision, request.device
        self._module, self._facts, self._threads = module, request.facts, request.threads or default_threads()
        self._kernels = request.kernels and request.device.startswith("cuda")

    def run(self, batch: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        check(batch, self._facts)
        integers = self._kernels and batch.dtype != torch.float32
        enter, leave = (kernels.to_values, kernels.from_values) if integers else (to_values, from_values)
        exact = exact_fp32(self.device, self.precision)
        with torch.inference_mode(), limited_threads(self._threads), exact:
            values = enter(batch.to(self.device), self._facts, DTYPES[self.precision])
            result = self._module(values.contiguous(memory_format=torch.channels_last))
            if self.precision == "fp16" and batch.dtype != torch.float32 and not bool(result.isfinite().all()):
                raise NotFiniteError("values beyond the range of fp16: take bf16 or fp32")
            pixels = leave(result, self._facts, batch.dtype)
        return pixels.contiguous(memory_format=torch.channels_last).cpu()


class LayerwiseEngine(Engine):
    """Whole images of a network with whole-image norms, in a bounded memory, on the CPU.

    Args:
        request: what to run.
        max_bytes: what the layers' outputs may take in memory.

    Raises:
        BackendError: not for the CPU, or not in this precision.
    """

    def __init__(self, request: Request, max_bytes: int) -> None:
        require(EagerBackend(), request)
        if request.device != "cpu":
            raise BackendError(f"layerwise runs run on the CPU, not on {request.device}: use --device cpu")
        self.backend, self.precision, self.device = EagerBackend.name, request.precision, request.device
        self.wants = "images"
        module = typed_module(request)
        if not isinstance(module, fx.GraphModule):
            raise BackendError(f"'{request.facts.name}' has no graph, which layerwise runs need")
        self._plan = Layerwise(module, max_bytes)
        self._facts, self._threads = request.facts, request.threads or default_threads()

    def run(self, batch: Tensor) -> Tensor:
        """See :meth:`Engine.run`; the images of a batch run one after the other."""
        check(batch, self._facts)
        count, channels, height, width = batch.shape
        scale, dtype = self._facts.scale, DTYPES[self.precision]
        channels = self._facts.out_channels or channels
        canvas = torch.empty((count, height * scale, width * scale, channels), dtype=batch.dtype).permute(0, 3, 1, 2)
        with torch.inference_mode(), limited_threads(self._threads):
            for image, target in zip(batch.split(1), canvas.split(1), strict=True):

                def write(rows: Tensor, row: int, target: Tensor = target) -> None:
                    target[:, :, row : row + rows.shape[2]] = from_values(rows, self._facts, batch.dtype)

                self._plan.run(to_values(image, self._facts, dtype), write)
        return canvas
