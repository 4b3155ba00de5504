"""The processor's name and instructions, and whether bf16 runs on it. Imports no torch where the system tells them."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gankit.backends.base import EngineSpec

_LISTING = Path("/proc/cpuinfo")
_AVX512_CORE = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"})  # what oneDNN calls avx512_core
_HINTS_OF_BF16 = frozenset({"avx512f", "avx_ne_convert"})  # without one of them there is no bf16 on x86
_X86 = ("x86_64", "AMD64")
_ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


@cache
def processor() -> tuple[str, frozenset[str]]:
    """Return the name and the feature flags of the processor, from the system or else from torch."""
    name = platform.processor() or platform.machine()
    if _LISTING.exists():
        flags: frozenset[str] = frozenset()
        fields = (line.partition(":") for line in _LISTING.read_text(errors="replace").splitlines())
        for key, _, value in fields:
            if key.strip() == "model name":
                name = value.strip()
            if key.strip() in ("flags", "Features"):
                flags = frozenset(value.split())
                break
        return name, flags
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    return name, {"AVX2": frozenset({"avx2"}), "AVX512": frozenset({"avx2", "avx512f"})}.get(capability, frozenset())


def bf16_on_cpu() -> bool:
    """Whether oneDNN can run bf16 convolutions on this CPU. Fast ones need AVX512-BF16 or AMX.

    oneDNN itself gives the answer if torch is loaded, if the environment limits its instructions, or if the flags of
    the processor do not decide it.
    """
    if "torch" not in sys.modules and platform.machine() in _X86 and (flags := processor()[1]):
        if not flags & _HINTS_OF_BF16:
            return False
        if flags >= _AVX512_CORE and not any(name in os.environ for name in _ISA_LIMITS):
            return True
    import torch

    mkldnn = torch.ops.mkldnn
    return bool(torch.backends.mkldnn.is_available() and mkldnn._is_mkldnn_bf16_supported())


def lacks_bf16(spec: EngineSpec) -> str | None:
    """Return the reason why a spec does not run in bf16 on this CPU, or ``None``."""
    if spec.precision == "bf16" and spec.device_type == "cpu" and not bf16_on_cpu():
        return "does not run bf16 on this CPU, which has no AVX-512; use --precision fp32"
    return None
