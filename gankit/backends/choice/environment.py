"""What ``gankit doctor`` shows."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from gankit.backends import BACKENDS, get
from gankit.backends.base import Backend
from gankit.backends.choice.candidates import devices, offered
from gankit.backends.choice.machine import machine
from gankit.errors import GankitError

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "triton", "tensorrt", "lightning-fabric")


@dataclass(frozen=True)
class Environment:
    """What there is.

    Attributes:
        system: facts of the machine in words.
        packages: versions of the packages that engines and training use; ``None`` where one is not installed.
        backends: for each backend whether it can run here, a remark or why not and the way out, and its precisions;
            one that only the GPU or only the CPU of the machine offers says so.
    """

    system: Mapping[str, str]
    packages: Mapping[str, str | None]
    backends: Mapping[str, tuple[bool, str, tuple[str, ...]]]


def installed() -> dict[str, str | None]:
    """Versions of the packages that matter to a choice of backend."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    if found["onnxruntime"] is None:
        with suppress(PackageNotFoundError):
            found["onnxruntime"] = version("onnxruntime-gpu")
    return found


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
    backends: dict[str, tuple[bool, str, tuple[str, ...]]] = {}
    for name in (*BACKENDS, "tensorrt"):
        try:
            backend = get(name)
        except GankitError as error:
            backends[name] = (False, str(error).partition(": ")[2] or str(error), ())
            continue
        backends[name] = _backend(backend)
    return Environment(system, installed(), backends)


def _backend(backend: Backend) -> tuple[bool, str, tuple[str, ...]]:
    """Whether it can run here, a remark, and its precisions, on all devices of the machine."""
    by_device = {device: offered(backend, device) for device in devices()}
    reasons = {device: backend.missing(device) for device, found in by_device.items() if found}
    usable = [device for device, why in reasons.items() if why is None]
    remarks = [f"{device}: {why}" if len(reasons) > 1 else why for device, why in reasons.items() if why is not None]
    if usable and backend.slow_start:
        remarks.append("takes minutes to compile: used by auto for long jobs only")
    shown: dict[str, list[str]] = {}
    for device in usable or reasons:
        for precision in by_device[device]:
            shown.setdefault(precision, []).append(device)
    words = [name if len(on) == len(by_device) else f"{name} ({on[0]} only)" for name, on in shown.items()]
    return bool(usable), "; ".join(remarks), tuple(words)
