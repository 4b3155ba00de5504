"""What an engine is tied to: the versions, the driver and the GPU on which it was built."""

from __future__ import annotations

import ctypes
import platform
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Machine:
    """The machine on which an engine is built or run.

    Attributes:
        tensorrt: version of TensorRT.
        cuda: version of CUDA that torch was built with.
        driver: version of the NVIDIA driver; empty if it is unknown.
        gpu: name of the GPU.
        compute_capability: of the GPU, such as ``"9.0"``.
        system: operating system and processor architecture.
    """

    tensorrt: str
    cuda: str
    driver: str
    gpu: str
    compute_capability: str
    system: str

    def mismatch(self, here: Machine) -> str | None:
        """Return why an engine that was built on this machine cannot run on another one; ``None`` if it can.

        TensorRT binds an engine to its own exact version, to the operating system and to the GPU. A newer driver runs
        it; it is still built again where gankit's cache keeps it, because :func:`gankit_export.tensorrt.store.key`
        contains the driver.
        """
        for what, built, found in (
            ("TensorRT", self.tensorrt, here.tensorrt),
            ("system", self.system, here.system),
            ("CUDA", self.cuda.partition(".")[0], here.cuda.partition(".")[0]),
            ("GPU", self.gpu, here.gpu),
            ("compute capability", self.compute_capability, here.compute_capability),
        ):
            if built != found:
                return f"was built for {what} {built}, and this is {what} {found}"
        return None


def this_machine(trt: Any, device: torch.device) -> Machine:
    """Describe this machine.

    Args:
        trt: the module ``tensorrt``.
        device: the GPU.
    """
    major, minor = torch.cuda.get_device_capability(device)
    return Machine(
        tensorrt=trt.__version__,
        cuda=torch.version.cuda or "",
        driver=_driver(),
        gpu=torch.cuda.get_device_name(device),
        compute_capability=f"{major}.{minor}",
        system=f"{platform.system()} {platform.machine()}",
    )


def _driver() -> str:
    """Ask NVIDIA's management library, which comes with the driver."""
    text = ctypes.create_string_buffer(96)
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("nvml.dll" if platform.system() == "Windows" else "libnvidia-ml.so.1")
        if library.nvmlInit_v2() == 0:
            library.nvmlSystemGetDriverVersion(text, len(text))
            library.nvmlShutdown()
    return text.value.decode(errors="replace")
