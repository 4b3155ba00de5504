"""The environment: what ``gankit doctor`` shows, and the versions on which cached choices depend.

It is found without torch, except on a machine with a GPU: versions come from the metadata of the distributions.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from gankit.backends import BACKENDS, get
from gankit.backends.base import Backend, EngineSpec
from gankit.backends.choice.candidates import devices, offered
from gankit.backends.choice.machine import machine
from gankit.memory import available_memory
from gankit.models.deferred import Deferred
from gankit.models.facts import Facts
from gankit.version import installed_version

if TYPE_CHECKING:
    from torch import nn

_OTHER_PACKAGES = (  # for exports, kernels and training; of each the distributions that have it
    ("onnx",),
    ("onnxscript",),
    ("triton",),
    ("lightning-fabric", "pytorch-lightning"),
)
_PROBE = Facts(task="upscale", value_range=(0, 1), name="probe")


class BackendState(NamedTuple):
    """What a backend can do on this machine.

    Attributes:
        usable: whether the backend can run here.
        remark: why it cannot run and the next step, or a note about it.
        precisions: precisions that it offers, marked if only the CPU or only the GPU of the machine offers them.
    """

    usable: bool
    remark: str
    precisions: tuple[str, ...]


@dataclass(frozen=True)
class Environment:
    """The machine, the packages and the backends.

    Attributes:
        system: facts of the machine, as text.
        packages: versions of the packages that engines and training use; ``None`` for one that is not installed.
        backends: the state of each backend.
    """

    system: Mapping[str, str]
    packages: Mapping[str, str | None]
    backends: Mapping[str, BackendState]


def installed() -> dict[str, str | None]:
    """Return the versions of the packages that affect the choice of a backend; ``None`` for missing ones."""
    found: dict[str, str | None] = {}
    alternatives = [*(get(name).packages for name in BACKENDS), *_OTHER_PACKAGES]
    for names in filter(None, alternatives):
        found[names[0]] = next(filter(None, map(installed_version, names)), None)
    return found


def environment() -> Environment:
    """Describe the environment."""
    here = machine()
    bf16 = "supported in hardware" if here.fast_bf16 else "not supported in hardware; auto uses fp32"
    system = {
        "system": here.system,
        "Python": sys.version.split()[0],
        "processor": here.cpu,
        "cores": str(here.cores),
        "instructions": ", ".join(here.features) or "none known",
        "bf16": bf16,
        "memory": f"{here.memory_gib} GiB, of which {available_memory() / 2**30:.1f} GiB are available here",
        "GPU": here.gpu or "none found by torch",
    }
    return Environment(system, installed(), {name: _state(get(name)) for name in BACKENDS})


def _generator() -> nn.Module:
    """Return a generator for a backend that wants to look at one."""
    from torch import nn

    return nn.Identity()


def _state(backend: Backend) -> BackendState:
    """Find out what a backend supports on the devices of the machine."""
    here = [device for device in devices() if backend.precisions.get(device)]
    probes = {device: EngineSpec(Deferred(_generator), _PROBE, device=device) for device in here or backend.precisions}
    can = {device: offered(backend, probe) for device, probe in probes.items()}
    usable = [device for device in here if can[device]]
    remarks = []
    for device, probe in probes.items():
        why = None if can[device] else backend.supports(replace(probe, precision=backend.precisions[device][0]))
        if why is not None:
            remarks.append(f"{device}: {why}" if len(probes) > 1 else why)
    if usable and backend.slow_start:
        remarks.append("takes minutes to compile; auto uses it only for long jobs")
    shown: dict[str, list[str]] = {}
    for device in usable or probes:
        for precision in can[device] or backend.precisions[device]:
            shown.setdefault(precision, []).append(device)
    labels = [name if len(on) >= len(devices()) else f"{name} ({on[0]} only)" for name, on in shown.items()]
    return BackendState(bool(usable), "; ".join(remarks), tuple(labels))
