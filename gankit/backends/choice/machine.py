"""Facts of the processor and the GPU. Imports torch only where a driver for GPUs is installed."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache

import psutil

from gankit.backends.cpu.instructions import processor
from gankit.backends.cpu.threads import default_threads, physical_cores
from gankit.backends.cuda.driver import cuda_available

_SHOWN = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX512-BF16",
    "avx512_fp16": "AVX512-FP16",
    "avx512_vnni": "AVX512-VNNI",
    "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8",
    "amx_fp16": "AMX-FP16",
    "asimd": "NEON",
    "sve": "SVE",
    "bf16": "BF16 (Arm)",
}


@dataclass(frozen=True)
class Machine:
    """The facts of a machine.

    Attributes:
        cpu: name of the processor.
        cores: number of physical cores that this process may use.
        features: vector and matrix instructions that engines can use.
        memory_gib: memory of the machine in GiB.
        gpu: name of the first CUDA GPU, or ``None``.
        system: operating system and architecture.
    """

    cpu: str
    cores: int
    features: tuple[str, ...]
    memory_gib: float
    gpu: str | None
    system: str

    @property
    def fast_bf16(self) -> bool:
        """Whether the CPU supports bf16 arithmetic in hardware."""
        return bool({"AVX512-BF16", "AMX-BF16", "BF16 (Arm)"} & set(self.features))


@cache
def machine() -> Machine:
    """Return the facts of this machine. They are read once."""
    name, flags = processor()
    return Machine(
        cpu=name,
        cores=physical_cores(),
        features=tuple(label for flag, label in _SHOWN.items() if flag in flags),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        gpu=_gpu(),
        system=f"{platform.system()} {platform.machine()}",
    )


def threads() -> int:
    """Return the number of CPU threads of an engine, unless the user chooses it."""
    return default_threads()


def _gpu() -> str | None:
    if not cuda_available():
        return None
    import torch

    return torch.cuda.get_device_name(0)
