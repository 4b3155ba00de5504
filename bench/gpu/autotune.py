"""Step 14: CycleGAN for one fixed shape beside the best that torch.compile can do, ``mode="max-autotune"``.

Everything is measured twice: from uint8 on the host to uint8 on the host, and the network alone between two events.
gankit's network is measured in a CUDA graph, which is also how ``max-autotune`` runs. What is compiled is the plain
module in channels_last, without gankit's kernels. The first figures are there after seconds, the last after minutes.
"""

from __future__ import annotations

import time
from functools import partial

import torch

from bench.common import load_engine, load_network, psnr
from bench.gpu.device import Device
from bench.gpu.engines import plain
from bench.gpu.generators import generator, image
from bench.gpu.report import Report

MODEL, SIZE, SMALL_SIZE = "cyclegan", (8, 256, 256), (1, 32, 64)
WALL, NETWORK = "wall, ms", "network, events, ms"


def run(device: Device, report: Report) -> None:
    """Fill the report."""
    precision, dtype = ("fp32", torch.float32) if device.rehearsal else ("fp16", torch.float16)
    size = SMALL_SIZE if device.rehearsal else SIZE
    case = f"{MODEL} {size[0]}×{size[1]}×{size[2]}"
    module, facts = generator(MODEL, small=device.rehearsal)
    batch = image(*size)
    values = batch.to(device.name).to(dtype).div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)
    ours = None
    with report.attempt(case, "gankit"), torch.inference_mode():
        with load_engine(module, facts, "eager", precision, device.name) as engine:
            for _ in range(5):
                ours = engine.run(batch)
            report.add(case, "gankit", WALL, device.wall_ms(partial(engine.run, batch)))
        network = load_network(module, facts, precision, device.name)
        for _ in range(3):
            network(values)
        report.add(case, "gankit", NETWORK, device.event_ms(device.graph(partial(network, values))))
    net = module.to(device.name, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for mode in ("reduce-overhead", "max-autotune"):
        torch._dynamo.reset()
        with report.attempt(case, mode), torch.inference_mode():
            began = time.perf_counter()
            compiled = torch.compile(net, dynamic=False, fullgraph=True, mode=None if device.rehearsal else mode)
            for _ in range(4):
                compiled(values)
            device.synchronize()
            report.add(case, mode, "first four calls, s", time.perf_counter() - began)
            report.add(case, mode, NETWORK, device.event_ms(partial(compiled, values)))
            convert = partial(plain, compiled, batch, facts, dtype, torch.channels_last, device.name)
            theirs = convert()
            report.add(case, mode, WALL, device.wall_ms(convert))
            if ours is not None:
                report.add(case, mode, "PSNR of gankit against it, dB", psnr(ours.numpy(), theirs.numpy()))
