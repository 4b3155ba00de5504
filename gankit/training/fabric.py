"""Device, precision and several processes: a Lightning Fabric for networks that play against each other.

torch's DistributedDataParallel wants each forward pass followed by one backward pass that reaches every parameter. A
GAN's steps are not of that kind: the discriminator is called two and three times, sends gradients through itself
without taking any, and has a penalty on the gradient itself. So the gradients are averaged over the processes where
they are used: at the optimiser's step.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from gankit.errors import GankitError, UsageError
from gankit.training.shared_norm import share_norms

_PATIENCE = timedelta(hours=2)  # the others wait while the first one validates


@dataclass(frozen=True)
class Device:
    """Where and how precisely to train: the arguments of :func:`fabric_for`.

    Attributes:
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        precision: ``"auto"``, ``"bf16"`` or ``"fp32"``.
        devices: on each host; the batch is that of each.
        nodes: hosts.
    """

    device: str = "auto"
    precision: str = "auto"
    devices: int = 1
    nodes: int = 1

    def launch(self) -> Any:
        """A Lightning Fabric, launched; errors are those of :func:`fabric_for`."""
        return fabric_for(self.device, self.precision, self.devices, self.nodes)


def fabric_for(device: str = "auto", precision: str = "auto", devices: int = 1, nodes: int = 1) -> Any:
    """A Lightning Fabric, launched.

    With several devices or nodes there is a process for each device, launched by ``torchrun``, whose numbers then
    count, or by Fabric itself, which runs this very command again for the others: so call it before anything is
    written, and in every process.

    Args:
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        precision: ``"auto"`` (bf16 where the CPU or GPU has it), ``"bf16"`` or ``"fp32"``.
        devices: on this machine; on a CPU, the number of processes.
        nodes: machines.

    Raises:
        GankitError: Lightning Fabric is not installed.
        UsageError: there is no CUDA device, or there are fewer than asked for.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise GankitError("training needs Lightning Fabric: pip install 'gankit[train]'") from None
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device can be used here: omit --device, or install a CUDA build of torch")
    devices, nodes = _launched(devices, nodes)
    found = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else devices
    if devices > found:
        raise UsageError(f"there are {found} CUDA devices here, not {devices}: give --devices {found} or --device cpu")
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    options: dict[str, Any] = {"strategy": _averaging_strategy()} if devices * nodes > 1 else {}
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        precision={"bf16": "bf16-mixed", "fp32": "32-true"}[precision],  # type: ignore[arg-type]
        **options,
    )
    fabric.launch()
    _search_convolutions(fabric.device)
    if devices * nodes > 1:
        atexit.register(_leave)
    return fabric


def _search_convolutions(device: torch.device) -> None:
    """Let cuDNN time its algorithms for each shape once: every step of a run has the same shapes."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True


def _leave() -> None:
    """Part from the other processes before Python ends: the group's threads would abort the process on its way out."""
    if distributed.is_initialized():
        with suppress(RuntimeError):  # the others may be gone
            distributed.destroy_process_group()


def has_bf16(device: str) -> bool:
    """Whether the hardware itself computes in bf16: emulated, it is slower than fp32."""
    if device != "cpu" and torch.cuda.is_available():
        result: bool = torch.cuda.is_bf16_supported(including_emulation=False)
        return result
    return bool(torch.cpu._is_avx512_bf16_supported())


def _launched(devices: int, nodes: int) -> tuple[int, int]:
    """How many devices and nodes there are: as torchrun says, where it launched this process."""
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        return devices, nodes
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    everywhere = int(os.environ["WORLD_SIZE"]) // local
    for name, given, has in (("devices", devices, local), ("nodes", nodes, everywhere)):
        if given not in (1, has):
            raise UsageError(f"torchrun launched {has} {name}, not {given}: omit --{name}")
    return local, everywhere


def _averaging_strategy() -> Any:
    from lightning_fabric.strategies.ddp import DDPStrategy

    class Averaging(DDPStrategy):
        """Fabric's processes and groups; gradients averaged at the optimiser's step, BatchNorm over all processes."""

        def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
            share_norms(module)
            with torch.no_grad():
                for value in (*module.parameters(), *module.buffers()):
                    distributed.broadcast(value, 0)
            return module

        def optimizer_step(self, optimizer: Any, **arguments: Any) -> Any:
            average_gradients(_trained(optimizer))
            return super().optimizer_step(optimizer, **arguments)

    return Averaging(timeout=_PATIENCE)


def _trained(optimiser: Optimizer) -> list[nn.Parameter]:
    """The parameters that an optimiser changes, in the same order in every process."""
    own: list[nn.Parameter] | None = getattr(optimiser, "trained", None)
    if own is not None:
        return own
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes, all of one type in one go.

    Args:
        parameters: the same in every process; those without a gradient, the same ones everywhere, are left out.
    """
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            by_type.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in by_type.values():
        together = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(together)
        together /= distributed.get_world_size()
        for gradient, mean in zip(gradients, together.split([each.numel() for each in gradients]), strict=True):
            gradient.copy_(mean.view(gradient.shape))
