"""Facts of the processor and the GPU."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from gankit.backends.cpu.threads import physical_cores

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
    name, flags = _processor()
    return Machine(
        cpu=name,
        cores=physical_cores(),
        features=tuple(label for flag, label in _SHOWN.items() if flag in flags),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        gpu=_gpu(),
        system=f"{platform.system()} {platform.machine()}",
    )


def _processor() -> tuple[str, set[str]]:
    """Return the name and the feature flags of the processor, from the system or else from torch."""
    name, flags = platform.processor() or platform.machine(), set()
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        fields = (line.partition(":") for line in listing.read_text(errors="replace").splitlines())
        for key, _, value in fields:
            if key.strip() == "model name":
                name = value.strip()
            if key.strip() in ("flags", "Features"):
                flags = set(value.split())
                break
        return name, flags
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    return name, {"AVX2": {"avx2"}, "AVX512": {"avx2", "avx512f"}}.get(capability, set())


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
