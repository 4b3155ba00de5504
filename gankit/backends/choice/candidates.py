"""What may run a generator on this machine: devices, precisions, and why the rest is out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import torch

from gankit.backends import BACKENDS, get
from gankit.backends.base import Backend, Precision
from gankit.backends.choice.machine import machine
from gankit.backends.cuda.kernels import wanted
from gankit.backends.eager import bf16_on_cpu
from gankit.errors import BackendError, UsageError

_DEVICE = re.compile(r"cpu(?::0)?|cuda(?::([0-9]{1,4}))?")
_PLAIN = " with torch's kernels"
_LIKELY = ("eager", "openvino", "onnxruntime")  # eager exports nothing, so that something is measured at once


@dataclass(frozen=True)
class Candidate:
    """A backend, a precision and a device (``"cpu"``, ``"cuda"``, ``"cuda:1"`` …), with gankit's kernels or torch's."""

    backend: Backend
    precision: Precision
    device: str
    kernels: bool = field(default_factory=wanted)

    def __str__(self) -> str:
        where = "" if self.device == "cpu" else f" on {self.device}"
        return f"{self.backend.name} {self.precision}{where}{self._note}"

    @property
    def label(self) -> str:
        """As the user reads it where the device is known."""
        return f"{self.backend.name} {self.precision}{self._note}"

    @property
    def _note(self) -> str:
        plain = self.backend.own_kernels and self.device != "cpu" and wanted() and not self.kernels
        return _PLAIN if plain else ""

    @property
    def without_kernels(self) -> Candidate | None:
        """The same with torch's kernels; ``None`` where it runs them already."""
        if not (self.kernels and self.backend.own_kernels and self.device.startswith("cuda")):
            return None
        return replace(self, kernels=False)


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


def candidates(backend: str, precision: str, device: str) -> list[list[Candidate]]:
    """What to try, by device.

    Args:
        backend: name or ``"auto"``.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"auto"``.
        device: see :func:`parse_device`. With ``"auto"`` a GPU comes first and the CPU after it.

    Returns:
        For each device with any, its candidates: eager first, then those that are likely fast.

    Raises:
        UsageError: an unknown backend.
        BackendError: there is none; the line has the reason for each backend.
    """
    groups: list[list[Candidate]] = []
    reasons: dict[str, str] = {}
    found = [get(name) for name in (sorted(BACKENDS, key=_rank) if backend == "auto" else [backend])]
    for where in devices() if device == "auto" else (device,):
        group: list[Candidate] = []
        for item in found:
            try:
                candidate = Candidate(item, first_precision(item, precision, where), where)
                plain = None if item.slow_start else candidate.without_kernels  # the faster of the two is not known
                group += [candidate, *([plain] if plain else [])]
            except BackendError as error:
                reasons[item.name] = str(error)
        if group:
            groups.append(group)
    if groups:
        return groups
    raise BackendError("; ".join(reasons.values()))


def devices() -> tuple[str, ...]:
    """The kinds of devices of this machine, best first."""
    return ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",)


def offered(backend: Backend, device: str) -> tuple[Precision, ...]:
    """The precisions of a backend on a device, safest first, less those that this processor has not."""
    found = backend.precisions.get(device.partition(":")[0], ())
    if device == "cpu" and not bf16_on_cpu():
        return tuple(item for item in found if item != "bf16")
    return found


def first_precision(backend: Backend, precision: str, device: str) -> Precision:
    """The precision asked for; for ``"auto"`` the fastest that may pass the gate.

    Raises:
        BackendError: the backend is missing, or does not offer the device or the precision.
    """
    can = offered(backend, device)
    if not can:
        raise BackendError(f"backend '{backend.name}' does not run on {device}; use another --backend or --device")
    if why := backend.missing(device):
        raise BackendError(f"backend '{backend.name}': {why}")
    if precision == "auto":
        if device == "cpu":
            return "bf16" if "bf16" in can and machine().fast_bf16 else can[0]
        return can[-1]
    for item in can:
        if item == precision:
            return item
    lacks = device == "cpu" and precision in backend.precisions["cpu"]
    where = "this CPU, which has no AVX-512" if lacks else device
    raise BackendError(f"backend '{backend.name}' does not run {precision} on {where}; it offers {', '.join(can)}")


def _rank(name: str) -> int:
    return _LIKELY.index(name) if name in _LIKELY else len(_LIKELY)
