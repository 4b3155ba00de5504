"""What may run a generator on this machine: devices and precisions, as far as the backends support them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import get_args

import torch

from gankit.backends import BACKENDS, get
from gankit.backends.base import Backend, EngineSpec, Precision
from gankit.backends.choice.machine import machine
from gankit.backends.cuda.kernels import wanted
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
        return f"{self.backend.name} {self.spec.precision}{where}{self._note}"

    @property
    def label(self) -> str:
        """As the user reads it where the device is known."""
        return f"{self.backend.name} {self.spec.precision}{self._note}"

    @property
    def _note(self) -> str:
        plain = self.backend.own_kernels and self.spec.device_type != "cpu" and wanted() and not self.spec.kernels
        return _PLAIN if plain else ""

    @property
    def without_kernels(self) -> Candidate | None:
        """The same with torch's kernels; ``None`` where it runs them already."""
        if not (self.spec.kernels and self.backend.own_kernels and self.spec.device_type == "cuda"):
            return None
        return replace(self, spec=replace(self.spec, kernels=False))

    @property
    def safer(self) -> Candidate | None:
        """The same in the next safer precision that the backend supports; ``None`` where there is none."""
        narrower = _FASTEST_FIRST.index(self.spec.precision)
        for precision in _FASTEST_FIRST[narrower + 1 :]:
            spec = replace(self.spec, precision=precision)
            if self.backend.supports(spec) is None:
                return replace(self, spec=spec)
        return None


def parse_device(device: str) -> str:
    """The device as everything below spells it: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Raises:
        UsageError: another word, or a GPU that is not here.
    """
    found = _DEVICE.fullmatch(device)
    if device != "auto" and found is None:
        raise UsageError(f"unknown device '{device}': known are auto, cpu, cuda and cuda:N")
    if found is None or device.startswith("cpu"):
        return device.partition(":")[0]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise UsageError(f"device '{device}': this torch sees no CUDA GPU; use --device cpu")
    if found[1] is None:
        return device
    index = int(found[1])
    if index >= count:
        known = ", ".join(f"cuda:{number}" for number in range(count))
        raise UsageError(f"device '{device}': this machine has {known}")
    return f"cuda:{index}"


def candidates(spec: EngineSpec, options: EngineOptions) -> list[list[Candidate]]:
    """What to try, by device.

    Args:
        spec: what all candidates have in common: generator, facts, shapes, threads.
        options: backend, precision and device, the latter as :func:`parse_device` spells it.

    Returns:
        For each device with any, its candidates: those that are likely fast come early.

    Raises:
        UsageError: an unknown backend.
        BackendError: there is none; the line has the reason for each backend.
    """
    groups: list[list[Candidate]] = []
    reasons: dict[str, str] = {}
    device = options.device
    found = _backends(spec, options.backend)
    for where in devices() if device == "auto" else (device,):
        group: list[Candidate] = []
        for backend in found:
            chosen = first_precision(backend, replace(spec, device=where), options.precision)
            if isinstance(chosen, str):
                reasons[backend.name] = f"backend '{backend.name}': {chosen}"
                continue
            candidate = Candidate(backend, chosen)
            plain = None if backend.slow_start else candidate.without_kernels  # the faster of the two is not known
            group += [candidate, *([plain] if plain else [])]
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
    return sorted((get(item) for item in BACKENDS), key=lambda backend: backend.rank)


def devices() -> tuple[str, ...]:
    """The kinds of devices of this machine, best first."""
    return ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",)


def offered(backend: Backend, spec: EngineSpec) -> tuple[Precision, ...]:
    """The precisions in which a backend supports a spec, safest first."""
    every: tuple[Precision, ...] = get_args(Precision)
    can = [item for item in every if backend.supports(replace(spec, precision=item)) is None]
    return tuple(sorted(can, key=_FASTEST_FIRST.index, reverse=True))


def first_precision(backend: Backend, spec: EngineSpec, precision: str) -> EngineSpec | str:
    """The spec in the precision asked for; for ``"auto"`` in the fastest that may pass the gate.

    Returns:
        The spec, or the reason why the backend does not support it.
    """
    if precision != "auto":
        asked = next(item for item in _FASTEST_FIRST if item == precision)
        spec = replace(spec, precision=asked)
        return backend.supports(spec) or spec
    can = offered(backend, spec)
    if not can:
        return backend.supports(spec) or "supports no precision of this model"
    if spec.facts.task == "generate":
        return replace(spec, precision=can[0])
    if spec.device_type == "cpu":
        return replace(spec, precision="bf16" if "bf16" in can and machine().fast_bf16 else can[0])
    return replace(spec, precision=can[-1])
