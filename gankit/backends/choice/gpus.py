"""The GPUs of this machine as ``gankit doctor`` shows them, and what is wrong with each. Imports no torch by itself."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gankit.errors import first_line
from gankit.version import installed_version

_OLDEST = (7, 5)  # tensor cores for fp16 with Triton's support
_LEAST_FREE = 2 << 30  # bytes; CUDA itself, the weights and the tiles of one call


@dataclass(frozen=True)
class Problem:
    """Something that keeps gankit from being as fast as it could be here.

    Attributes:
        what: one sentence.
        fix: the command or the step that mends it.
    """

    what: str
    fix: str


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: its name.
        memory: bytes of its memory.
        free: bytes that are free now.
        capability: compute capability, such as ``"9.0"``.
        device: name of the GPU for ``--device``.
        built: whether this torch has code for it.
        kernels: why gankit's kernels do not compile for it; empty if they do.
        fault: why CUDA cannot use it; empty if it can.
    """

    name: str
    memory: int
    free: int
    capability: str
    device: str = "cuda:0"
    built: bool = True
    kernels: str = ""
    fault: str = ""


def found_gpus(cuda: Any, compiles: Callable[[int, int], str] | None = None) -> tuple[Gpu, ...]:
    """Return the GPUs that torch finds.

    Args:
        cuda: the module ``torch.cuda``, or what stands in for it.
        compiles: see :func:`kernels_fault`, which ``None`` stands for.
    """
    compiles = compiles or kernels_fault
    found = []
    for index in range(cuda.device_count()):
        device = f"cuda:{index}"
        try:
            facts = cuda.get_device_properties(index)
        except Exception as error:  # a GPU that has failed, or that is not there any more
            found.append(Gpu("unknown", 0, 0, "", device, fault=first_line(error)))
            continue
        free, fault = 0, ""
        try:
            free = int(cuda.mem_get_info(index)[0])
        except Exception as error:  # a GPU that another process uses alone
            fault = first_line(error)
        architectures: Sequence[str] = ()
        with suppress(Exception):  # a torch that does not say for what it was built
            architectures = cuda.get_arch_list()
        built = not architectures or has_code(architectures, facts.major, facts.minor)
        why = compiles(facts.major, facts.minor) if built else ""
        capability = f"{facts.major}.{facts.minor}"
        found.append(Gpu(facts.name, facts.total_memory, free, capability, device, built, why, fault))
    return tuple(found)


def has_code(architectures: Sequence[str], major: int, minor: int) -> bool:
    """Whether a program runs on a GPU: by machine code of its generation, or by code that the driver translates.

    Args:
        architectures: what the program was built for, such as ``["sm_80", "sm_90", "compute_90"]``.
        major: first number of the GPU's compute capability.
        minor: second number.
    """
    for name in architectures:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", name)
        if found is None:
            continue
        target = int(found[2]), int(found[3])
        if found[4]:  # machine code for one GPU alone
            if found[1] == "sm" and target == (major, minor):
                return True
        elif target <= (major, minor) and (found[1] == "compute" or target[0] == major):
            return True
    return False


def kernels_fault(major: int, minor: int) -> str:
    """Compile one of gankit's kernels for a GPU; return why that fails, or an empty text.

    Args:
        major: first number of the GPU's compute capability.
        minor: second number.
    """
    if installed_version("triton") is None:
        return "Triton is not installed"
    if (major, minor) < _OLDEST:
        return f"they need compute capability {_OLDEST[0]}.{_OLDEST[1]}"
    if next(filter(None, map(shutil.which, [os.environ.get("CC", ""), "gcc", "clang"])), None) is None:
        return "Triton finds no C compiler"
    try:
        from gankit_kernels.on_cuda.check import compile_for

        compile_for(major, minor)
    except Exception as error:  # compilers raise anything
        return first_line(error)
    return ""


def gpu_problems(gpus: Sequence[Gpu], torch: str | None) -> Iterator[Problem]:
    """Yield what is wrong with each GPU.

    Args:
        gpus: the GPUs.
        torch: version of torch.
    """
    well = [gpu.device for gpu in gpus if not gpu.fault and gpu.built]
    for gpu in gpus:
        name = f"{gpu.device} ({gpu.name})" if gpu.name != "unknown" else gpu.device
        others = [device for device in well if device != gpu.device]
        instead = f"use --device {','.join(others)}" if others else "use --device cpu"
        if gpu.fault:
            yield Problem(
                f"{name} cannot be used: {gpu.fault.rstrip('.')}.",
                f"check nvidia-smi -i {gpu.device.partition(':')[2]} for its state and its compute mode; {instead} "
                "meanwhile",
            )
        elif not gpu.built:
            yield Problem(
                f"torch {torch or ''} has no code for {name} of compute capability {gpu.capability}.",
                f"install a torch that was built for it (https://pytorch.org/get-started/previous-versions); {instead} "
                "meanwhile",
            )
        elif gpu.kernels and gpu.kernels != "Triton is not installed":  # which is one problem of all of them
            fix = "apt-get install gcc" if "C compiler" in gpu.kernels else "set GANKIT_KERNELS=off to use torch's"
            yield Problem(f"gankit's kernels do not compile for {name}: {gpu.kernels.rstrip('.')}.", fix)
        if not gpu.fault and gpu.free < min(_LEAST_FREE, gpu.memory // 2):
            yield Problem(
                f"{name} has {gpu.free / 1e9:.1f} of {gpu.memory / 1e9:.1f} GB left, because another process uses it.",
                f"nvidia-smi -i {gpu.device.partition(':')[2]} names the process; {instead} meanwhile",
            )
