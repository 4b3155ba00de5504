"""gankit's kernels beside eager torch, torch.compile (max-autotune) and a device copy of the same number of bytes.

``pytest bench/test_kernels.py --benchmark-only`` writes ``bench/results/kernels_<gpu>.csv`` and a plot of it. Without a
CUDA GPU nothing is timed, and ``kernels_predicted.csv`` has the bytes and the times at the bandwidth of a copy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import torch

from bench.common import ROOT, Row
from bench.kernels import Measured, Shape, measure, predicted, shapes, write

RESULTS = ROOT / "bench" / "results"
NO_GPU = "no CUDA GPU: bytes and predicted times only, in bench/results/kernels_predicted.csv"
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)


@pytest.fixture(scope="module")
def table() -> Iterator[list[Measured]]:
    """The rows of this run, which are written at its end."""
    rows: list[Measured] = []
    yield rows
    if rows:
        name = re.sub(r"[^a-z0-9]+", "_", torch.cuda.get_device_name(0).lower()).strip("_")
        write(RESULTS / f"kernels_{name}.csv", rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, so times are measured")
def test_predicted(benchmark):
    rows = [predicted(shape) for shape in shapes()]
    benchmark.pedantic(write, args=(RESULTS / "kernels_predicted.csv", rows), rounds=1)


@on_gpu
@pytest.mark.parametrize("shape", list(shapes()), ids=str)
def test_operation(benchmark, rows, table, shape: Shape):
    row = benchmark.pedantic(measure, args=(shape,), rounds=1)
    table.append(row)
    assert row.gankit_us is not None
    others = f"compile {row.compile_us} µs, eager {row.eager_us} µs"
    remark = f"{row.gankit_gb_per_s} GB/s, {row.percent_of_copy} % of copy, {others}"
    rows.append(Row("kernels", f"{row.operation}, {row.layout}, {row.shape}", row.gankit_us / 1e3, remark=remark))


@on_gpu
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "max-autotune"])
@pytest.mark.parametrize("fused", [False, True], ids=["torch", "gankit"])
def test_cyclegan(benchmark, rows, fused: bool, compiled: bool):
    """The whole generator: 9 blocks, fp16, 8 images of 256×256, channels_last."""
    from triton.testing import do_bench

    from gankit import models
    from gankit.backends.base import EngineSpec
    from gankit.backends.modules import ready

    torch.manual_seed(0)
    generator = models.build("cyclegan").eval()
    network = ready(EngineSpec(generator, models.facts("cyclegan"), "fp16", "cuda", kernels=fused))
    x = (torch.rand(8, 3, 256, 256, device="cuda") * 2 - 1).half().contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        truth = generator.cuda()(x.float()).float()
        difference = (network(x).float() - truth).square().mean()
        decibels = float(10 * torch.log10(4 / difference))
        assert decibels > 45
        run = torch.compile(network, mode="max-autotune") if compiled else network
        milliseconds = benchmark.pedantic(lambda: do_bench(lambda: run(x), return_mode="median"), rounds=1)
    label = (
        f"CycleGAN-9 fp16 N=8 256², {'gankit kernels' if fused else 'torch'}, {'max-autotune' if compiled else 'eager'}"
    )
    rows.append(Row("kernels, whole generator", label, milliseconds, 8 * 256 * 256 / 1e6, decibels))
