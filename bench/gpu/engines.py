"""Step 4: gankit's engine beside plain PyTorch and torch.compile, from uint8 on the host to uint8 on the host.

Of every model and size:

* ``plain PyTorch``: the module in fp16 as scripts run it, scaled with torch's operations, copied both ways;
* ``plain PyTorch, channels_last``: the same with the layout that convolutions are fastest in;
* ``torch.compile, graphs``: that module with ``mode="reduce-overhead"`` for this one shape;
* ``gankit``: the engine, and the network in it alone between two events (``network``), whose difference from the
  engine's time is copies and launches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.common import load_engine, load_network, psnr
from bench.gpu.device import Device
from bench.gpu.generators import generator, image
from bench.gpu.report import Report

if TYPE_CHECKING:
    from gankit.models.facts import Facts

MODELS = ("srgan", "edsr", "cyclegan", "esrgan", "pix2pix", "srvgg")
SIZES = ((8, 256, 256), (1, 160, 192), (1, 1080, 1920))  # of all models one size after the other: time may run out
SMALL_SIZES = ((2, 32, 64),)
COMPILED = ((8, 256, 256),)
DEEP = ("esrgan",)  # at 1080p its activations fill a GPU, which is what tiles are for


def run(device: Device, report: Report) -> None:
    """Fill the report."""
    for size in SMALL_SIZES if device.rehearsal else SIZES:
        for name in MODELS:
            if name in DEEP and size[1] > 256:
                continue
            with report.attempt(f"{name} {size[0]}×{size[1]}×{size[2]}", ""), torch.inference_mode():
                _measure(device, report, name, size)


def plain(
    net: Callable[[Tensor], Tensor],
    batch: Tensor,
    facts: Facts,
    dtype: torch.dtype,
    layout: torch.memory_format,
    device: str,
) -> Tensor:
    """Run a network on pixels of the host, with torch's operations alone, and return pixels on the host."""
    low, high = facts.value_range
    given = batch.to(device).to(dtype).mul_((high - low) / 255).add_(low).contiguous(memory_format=layout)
    result = net(given)
    return ((result.float() - low) * (255 / (high - low))).clamp_(0, 255).round_().to(torch.uint8).cpu()


def _measure(device: Device, report: Report, name: str, size: tuple[int, int, int]) -> None:
    precision, dtype = ("fp32", torch.float32) if device.rehearsal else ("fp16", torch.float16)
    module, facts = generator(name, small=device.rehearsal)
    count, height, width = size
    case, step = f"{name} {count}×{height}×{width}", facts.multiple
    batch = image(count, -(-height // step) * step, -(-width // step) * step)
    megapixels = batch.shape[0] * batch.shape[2] * batch.shape[3] / 1e6

    def add(variant: str, metric: str, milliseconds: float) -> None:
        report.add(case, variant, f"{metric}, ms", milliseconds)
        report.add(case, variant, f"{metric}, MP/s", megapixels / milliseconds * 1e3)

    device.reset_peak()
    with load_engine(module, facts, "eager", precision, device.name) as engine:
        for _ in range(5):  # kernels compile, and graphs are recorded
            engine.run(batch)
        add("gankit", "wall", device.wall_ms(partial(engine.run, batch)))
        ours = engine.run(batch)
    report.add(case, "gankit", "peak MiB of the GPU", device.peak_mib())
    network = load_network(module, facts, precision, device.name)
    values = batch.to(device.name).to(dtype).div_(255).contiguous(memory_format=torch.channels_last)
    for _ in range(3):
        network(values)
    add("gankit", "network, graph, events", device.event_ms(device.graph(partial(network, values))))
    add("gankit", "network, events", device.event_ms(partial(network, values)))

    ways = {"plain PyTorch": torch.contiguous_format, "plain PyTorch, channels_last": torch.channels_last}
    nets = {}
    for variant, layout in ways.items():
        net = copy.deepcopy(module).to(device.name, dtype).to(memory_format=layout)  # type: ignore[call-overload]
        nets[variant] = (net, layout)
        convert = partial(plain, net, batch, facts, dtype, layout, device.name)
        for _ in range(3):
            theirs = convert()
        add(variant, "wall", device.wall_ms(convert))
    report.add(case, "gankit", "PSNR against plain PyTorch, dB", psnr(ours.numpy(), theirs.numpy()))
    if size in COMPILED:
        net, layout = nets["plain PyTorch, channels_last"]
        compiled = torch.compile(net, dynamic=False, mode="reduce-overhead")
        convert = partial(plain, compiled, batch, facts, dtype, layout, device.name)
        for _ in range(4):
            convert()
        add("torch.compile, graphs", "wall", device.wall_ms(convert))
        torch._dynamo.reset()
