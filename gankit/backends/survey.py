"""What ``gankit doctor`` shows."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from gankit.backends import BACKENDS, get
from gankit.backends.machine import machine
from gankit.errors import GankitError

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "triton", "tensorrt", "lightning-fabric")


@dataclass(frozen=True)
class Survey:
    """What there is.

    Attributes:
        system: facts of the machine in words.
        packages: versions of the packages that engines and training use; ``None`` where one is not installed.
        backends: for each backend whether it can run here, a remark or why not and the way out, and its precisions.
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


def survey() -> Survey:
    """Look at this machine."""
    here = machine()
    device = "cuda" if here.gpu else "cpu"
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
        here_on = device if device in backend.precisions else "cpu"
        why = backend.missing(here_on)
        remark = "takes minutes to compile: used by auto for long jobs only" if backend.slow_start else ""
        backends[name] = (why is None, why or remark, tuple(backend.precisions.get(here_on, ())))
    return Survey(system, installed(), backends)
