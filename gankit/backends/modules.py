"""What the backends that run torch modules share, eager or compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from gankit_export.precision import DTYPES, RangeError, typed
from gankit_export.rewrites import for_inference
from torch import Tensor, nn

from gankit.backends.base import Engine, EngineSpec
from gankit.backends.cpu.threads import default_threads, limited_threads
from gankit.backends.cuda import kernels
from gankit.backends.cuda.precision import exact_fp32
from gankit.backends.pixels import enter, leave
from gankit.errors import BackendError, NotFiniteError


def typed_module(spec: EngineSpec) -> nn.Module:
    """Return the generator after the exact rewrites, in the precision of the spec. Remaining norms stay float32.

    A network that cannot be traced, because its forward pass depends on the data, is not rewritten. Neither is one that
    starts from latents, which the rewrites do not support.

    Raises:
        BackendError: If a weight is too large for the precision.
    """
    rewritten: nn.Module = spec.generator
    if spec.facts.task != "generate":
        try:
            rewritten = for_inference(spec.generator)
        except ValueError:
            rewritten = spec.generator
    try:
        return typed(rewritten, spec.precision, float32_edges=False)
    except RangeError as error:
        raise BackendError(f"'{spec.facts.name}' cannot run in {spec.precision}: {error}") from error


def ready(spec: EngineSpec, module: nn.Module | None = None, *, compiled: bool = False) -> nn.Module:
    """Return the generator ready to run: typed, on its device and, on a GPU, with gankit's kernels.

    Args:
        spec: the spec of the engine.
        module: the result of :func:`typed_module`, if the caller has it.
        compiled: whether the caller compiles the result. Then it writes into no tensors of its own.
    """
    module = typed_module(spec) if module is None else module
    if spec.facts.task == "generate":
        return module.to(spec.device)
    if spec.kernels and spec.device_type == "cuda":
        module = kernels.with_kernels(module, dense=not compiled)
    return channels_last(module, spec.device)


def channels_last(module: nn.Module, device: str) -> nn.Module:
    """Move a module to a device, with its weights in channels_last for fast convolutions."""
    return module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class ModuleEngine(Engine):
    """Runs tiles or latents through a module on any device.

    Args:
        backend: name of the backend.
        spec: the spec of the engine.
        module: the result of :func:`ready`, compiled or not.
    """

    def __init__(self, backend: str, spec: EngineSpec, module: Callable[..., Tensor]) -> None:
        super().__init__(backend, spec)
        self._module, self._facts, self._threads = module, spec.facts, spec.threads or default_threads()
        self._precision, self._dtype = spec.precision, DTYPES[spec.precision]
        self._kernels = spec.kernels and spec.device_type == "cuda"

    def run(self, *tensors: Tensor) -> Tensor:
        """See :meth:`Engine.run`."""
        with self._settings():
            pixels, *finite = self._forward(*(item.to(self.device) for item in tensors))
            if finite and not bool(finite[0]):
                raise not_finite()
        return pixels.cpu() if self._latents else pixels.contiguous(memory_format=torch.channels_last).cpu()

    @property
    def _latents(self) -> bool:
        """Whether the inputs are latents and not images."""
        return self._facts.task == "generate"

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """Set what torch needs to run the module: no gradients, the number of threads, true float32."""
        exact = exact_fp32(self.device, self._precision)
        with torch.inference_mode(), limited_threads(self._threads), exact:
            yield

    def _forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Compute on the device. Nothing here waits for the device or copies from it.

        Args:
            given: the inputs of :meth:`run`, on the device.

        Returns:
            The pixels, or the samples, on the device. In fp16, integer pixels are followed by a bool scalar: whether
            all values were finite.
        """
        integers = not self._latents and given[0].dtype != torch.float32
        if self._kernels and integers:
            (batch,) = given
            values: tuple[Tensor, ...] = (kernels.to_values(batch, self._facts, self._dtype),)
        else:
            values = enter(given, self._facts, self._dtype)
        if not self._latents:
            values = (values[0].contiguous(memory_format=torch.channels_last),)
        result = self._module(*values)
        finite = (result.isfinite().all(),) if self.precision == "fp16" and integers else ()
        if self._kernels and integers:
            pixels = kernels.from_values(result, self._facts, given[0].dtype)
        else:
            pixels = leave(result, given, self._facts)
        return (pixels, *finite)


def not_finite() -> NotFiniteError:
    """Return the error for values that fp16 does not hold. It names the next step."""
    return NotFiniteError("values beyond the range of fp16; use --precision bf16 or fp32")
