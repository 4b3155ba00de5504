"""Find the backends, devices and precisions that can run a generator on this machine.

Importing this module imports no torch, and neither does a machine without a GPU.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import get_args

from gankit_export.precisions import EnginePrecision, Precision

from gankit.backends import BACKENDS, get
from gankit.backends.base import Backend, EngineSpec
from gankit.backends.choice.machine import machine
from gankit.backends.cuda.driver import cuda_available
from gankit.backends.cuda.switches import kernels_wanted
from gankit.errors import BackendError, UsageError
from gankit.options import EngineOptions

_DEVICE = re.compile(r"cpu(?::0)?|cuda(?::([0-9]{1,4}))?")
_PLAIN = " with torch's kernels"
_FASTEST_FIRST: tuple[Precision, ...] = ("fp16", "bf16", "fp32")
_ONLY_EAGER = "eager"


@dataclass(frozen=True)
class Candidate:
    """A backend for a spec."""

    backend: Backend
    spec: EngineSpec

    def __str__(self) -> str:
        where = "" if self.spec.device == "cpu" else f" on {self.spec.device}"
        return f"{self.backend.name} {self.precision}{where}{self._note}"

    @property
    def label(self) -> str:
        """Name for the user if the device is known."""
        return f"{self.backend.name} {self.precision}{self._note}"

    @property
    def precision(self) -> EnginePrecision:
        """The precision of its engine."""
        return "int8" if self.spec.quantised else self.spec.precision

    @property
    def _note(self) -> str:
        plain = (
            self.backend.own_kernels and self.spec.device_type != "cpu" and kernels_wanted() and not self.spec.kernels
        )
        return _PLAIN if plain else ""

    @property
    def without_kernels(self) -> Candidate | None:
        """The same candidate with torch's kernels; ``None`` if it uses them already."""
        if not (self.spec.kernels and self.backend.own_kernels and self.spec.device_type == "cuda"):
            return None
        return replace(self, spec=replace(self.spec, kernels=False))

    @property
    def safer(self) -> Candidate | None:
        """The same candidate in the next safer precision that the backend supports; ``None`` if there is none.

        int8 has none: the exact precisions are candidates of their own, and who asked for int8 gets it or an error.
        """
        if self.spec.quantised:
            return None
        narrower = _FASTEST_FIRST.index(self.spec.precision)
        for precision in _FASTEST_FIRST[narrower + 1 :]:
            spec = replace(self.spec, precision=precision)
            if self.backend.supports(spec) is None:
                return replace(self, spec=spec)
        return None


def parse_device(device: str) -> str:
    """Check a device and return it as ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Raises:
        UsageError: If the device is unknown or the machine has no such GPU.
    """
    found = _DEVICE.fullmatch(device)
    if device != "auto" and found is None:
        raise UsageError(f"unknown device '{device}'; choose from auto, cpu, cuda, cuda:N and all")
    if found is None or device.startswith("cpu"):
        return device.partition(":")[0]
    count = gpu_count()
    if not count:
        raise UsageError(f"device '{device}': this torch finds no CUDA GPU; use --device cpu")
    if found[1] is None:
        return device
    index = int(found[1])
    if index >= count:
        known = ", ".join(f"cuda:{number}" for number in range(count))
        raise UsageError(f"device '{device}': no such GPU; this machine has {known}")
    return f"cuda:{index}"


def parse_devices(device: str) -> tuple[str, ...]:
    """Check what a user wrote for one device or several GPUs, and return the devices.

    Args:
        device: what :func:`parse_device` takes, several GPUs after commas (``"cuda:0,cuda:1"``), or ``"all"``, which is
            every GPU of the machine.

    Returns:
        The devices, each as :func:`parse_device` returns it. Several ones have numbers and differ.

    Raises:
        UsageError: If a device is unknown or named twice, if the machine has no such GPU, or if ``"cpu"``, ``"auto"``,
            or ``"cuda"`` without a number stand among several.
    """
    if device == "all":
        if not (count := gpu_count()):
            raise UsageError("device 'all': this torch finds no CUDA GPU; use --device cpu")
        return tuple(f"cuda:{index}" for index in range(count))
    words = [word.strip() for word in device.split(",")]
    if len(words) == 1:
        return (parse_device(device),)
    found = []
    for word in words:
        if not word.startswith("cuda:"):
            raise UsageError(
                f"device '{device}': name several GPUs by their numbers, such as cuda:0,cuda:1, or use all"
            )
        found.append(parse_device(word))
    if len(set(found)) < len(found):
        raise UsageError(f"device '{device}': names a GPU twice")
    return tuple(found)


def gpu_count() -> int:
    """Return the number of GPUs that torch finds."""
    if not cuda_available():
        return 0
    import torch

    return torch.cuda.device_count()


def candidates(spec: EngineSpec, options: EngineOptions) -> list[list[Candidate]]:
    """List the candidates to measure, by device.

    Args:
        spec: generator, facts, shapes and threads, which all candidates share. If it names an int8 file, the precision
            ``"int8"`` runs that alone, and ``"auto"`` measures it last, on a CPU without bf16.
        options: backend, precision and device; the device as :func:`parse_device` returns it.

    Returns:
        The candidates of each device that has any. Those that are likely fast come early.

    Raises:
        UsageError: If the backend is unknown.
        BackendError: If there is no candidate. The message gives the reason for each backend.
    """
    groups: list[list[Candidate]] = []
    reasons: dict[str, str] = {}
    device = options.device
    found = _backends(spec, options.backend)
    int8 = options.precision == "int8"
    exact = spec if int8 else replace(spec, quantised="")
    every = ("cpu",) if int8 else devices()
    for where in every if device == "auto" else (device,):
        group: list[Candidate] = []
        for backend in found:
            chosen = first_precision(backend, replace(exact, device=where), options.precision)
            if isinstance(chosen, str):
                reasons[backend.name] = f"backend '{backend.name}': {chosen}"
                continue
            candidate = Candidate(backend, chosen)
            plain = candidate.without_kernels  # either may be faster: a compiler fuses only torch's own operations
            group += [candidate, *([plain] if plain else [])]
        if spec.quantised and options.precision == "auto" and where == "cpu" and not machine().fast_bf16:
            lossy = [Candidate(backend, spec) for backend in found if backend.supports(spec) is None]
            group += lossy  # last, because it must be faster than the others by a margin
        if group:
            groups.append(group)
    if groups:
        return groups
    raise BackendError("; ".join(reasons.values()))


def _backends(spec: EngineSpec, name: str) -> list[Backend]:
    if name != "auto":
        return [get(name)]
    if spec.facts.task == "generate":
        # 64 images of 28×28 on 2 cores, eager, ONNX Runtime and OpenVINO fp32: 0.35, 0.23 and 0.32 ms of dense layers,
        # 75, 55 and 54 ms of convolutions; the latter two take 0.05 s to start, and 0.7 to 2 s without the file.
        return [get(_ONLY_EAGER)]
    every = (get(item) for item in BACKENDS)
    return sorted((item for item in every if item.automatic), key=lambda backend: backend.rank)


def devices() -> tuple[str, ...]:
    """Return the kinds of devices of this machine, best first."""
    return ("cuda", "cpu") if cuda_available() else ("cpu",)


def offered(backend: Backend, spec: EngineSpec) -> tuple[Precision, ...]:
    """Return the precisions in which a backend supports a spec, safest first."""
    every: tuple[Precision, ...] = get_args(Precision)
    can = [item for item in every if backend.supports(replace(spec, precision=item)) is None]
    return tuple(sorted(can, key=_FASTEST_FIRST.index, reverse=True))


def first_precision(backend: Backend, spec: EngineSpec, precision: str) -> EngineSpec | str:
    """Set the precision of a spec; ``"auto"`` sets the fastest one that is likely to pass the parity check.

    Returns:
        The spec, or the reason why the backend does not support it.
    """
    if precision == "int8":  # what stays out of int8 runs in fp32
        if spec.facts.task == "generate" or not spec.quantised:
            return "int8 is for models that take images, and this one generates from noise; use --precision fp32"
        return backend.supports(spec) or spec
    if precision != "auto":
        asked = next(item for item in _FASTEST_FIRST if item == precision)
        spec = replace(spec, precision=asked)
        return backend.supports(spec) or spec
    can = offered(backend, spec)
    if not can:
        return backend.supports(spec) or "supports none of the precisions of this model"
    if spec.facts.task == "generate":
        return replace(spec, precision=can[0])
    if spec.device_type == "cpu":
        return replace(spec, precision="bf16" if "bf16" in can and machine().fast_bf16 else can[0])
    return replace(spec, precision=can[-1])
