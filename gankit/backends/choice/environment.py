"""What ``gankit doctor`` shows, and what a cached choice depends on."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from torch import nn

from gankit.backends import BACKENDS, get
from gankit.backends.base import Backend, EngineSpec
from gankit.backends.choice.candidates import devices, offered
from gankit.backends.choice.machine import machine
from gankit.models.facts import Facts

_OTHER_PACKAGES = ("onnx", "onnxscript", "triton", "lightning-fabric")  # of exports, kernels and training
_PROBE = Facts(task="upscale", value_range=(0, 1), name="probe")


class BackendState(NamedTuple):
    """What a backend can do on this machine.

    Attributes:
        usable: whether it can run here.
        remark: why not and the way out, or what to know of it.
        precisions: that it offers; one that only the GPU or only the CPU of the machine offers says so.
    """

    usable: bool
    remark: str
    precisions: tuple[str, ...]


@dataclass(frozen=True)
class Environment:
    """What there is.

    Attributes:
        system: facts of the machine in words.
        packages: versions of the packages that engines and training use; ``None`` where one is not installed.
        backends: the state of each backend.
    """

    system: Mapping[str, str]
    packages: Mapping[str, str | None]
    backends: Mapping[str, BackendState]


def installed() -> dict[str, str | None]:
    """Versions of the packages that matter to a choice of backend: those that the backends name, and a few others."""
    found: dict[str, str | None] = {}
    alternatives = [get(name).packages for name in BACKENDS] + [(name,) for name in _OTHER_PACKAGES]
    for names in filter(None, alternatives):
        found[names[0]] = next(filter(None, map(_version, names)), None)
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment() -> Environment:
    """Look at this machine."""
    here = machine()
    bf16 = "in hardware" if here.fast_bf16 else "no hardware for it: fp32 is the fast precision here"
    system = {
        "system": here.system,
        "Python": sys.version.split()[0],
        "processor": here.cpu,
        "cores": str(here.cores),
        "units": ", ".join(here.features) or "none known",
        "bf16": bf16,
        "memory": f"{here.memory_gib} GiB",
        "GPU": here.gpu or "none that torch can use",
    }
    return Environment(system, installed(), {name: _state(get(name)) for name in BACKENDS})


def _state(backend: Backend) -> BackendState:
    """What a backend supports on the devices of the machine that it is made for."""
    here = [device for device in devices() if backend.precisions.get(device)]
    probes = {device: EngineSpec(nn.Identity(), _PROBE, device=device) for device in here or backend.precisions}
    can = {device: offered(backend, probe) for device, probe in probes.items()}
    usable = [device for device in here if can[device]]
    remarks = []
    for device, probe in probes.items():
        why = None if can[device] else backend.supports(replace(probe, precision=backend.precisions[device][0]))
        if why is not None:
            remarks.append(f"{device}: {why}" if len(probes) > 1 else why)
    if usable and backend.slow_start:
        remarks.append("takes minutes to compile: auto uses it for long jobs only")
    shown: dict[str, list[str]] = {}
    for device in usable or probes:
        for precision in can[device] or backend.precisions[device]:
            shown.setdefault(precision, []).append(device)
    labels = [name if len(on) >= len(devices()) else f"{name} ({on[0]} only)" for name, on in shown.items()]
    return BackendState(bool(usable), "; ".join(remarks), tuple(labels))
