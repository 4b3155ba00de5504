"""Every installed backend on the same tile, beside what the libraries do by themselves.

The clock covers one batch, uint8 to uint8. Each candidate has a process of its own, and they run in rounds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.candidates import Subject, candidates_of, works
from bench.common import Row, gigaflop, psnr
from bench.comparison import Task, compare, failures

SUBSET = (("srgan", 128), ("cyclegan", 256))
SIDES = (128, 256)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The model and tiles of the command line, or those of the subset and the others with the mark ``full``."""
    given = metafunc.config.getoption("model")
    cases = [(given, side) for side in SIDES] if given else list(SUBSET)
    if not given:
        cases += [(name, side) for name in ("srgan", "cyclegan") for side in SIDES if (name, side) not in SUBSET]
    metafunc.parametrize(
        ("model", "side"),
        [
            pytest.param(name, side, marks=[] if given or (name, side) in SUBSET else pytest.mark.full)
            for name, side in cases
        ],
        indirect=["model"],
    )


def test_tile(benchmark, rows, request, model: Subject, side: int, whole: bool, setting, tmp_path):
    candidates = candidates_of(model.loaded, every=whole, folder=False, named=request.config.getoption("candidates"))
    suite = f"{model.name}, tile {side}×{side}"
    task = Task(suite, model.name, f"{side}×{side}", side * side / 1e6, 1, gigaflop(model.loaded, side, side))

    def parity(path, number: int) -> float:
        return psnr(np.load(path), np.load(tmp_path / "0.npy"))

    benchmark.group = suite
    todo = works(model, candidates, side=side)
    found = compare(
        benchmark, todo, task, replace(setting, rounds=setting.rounds or (5 if whole else 3)), parity, tmp_path
    )
    rows += found
    assert not failures(found), "\n".join(failures(found))


@pytest.mark.full
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_arithmetic(benchmark, rows, model: Subject, precision, side):
    """How long the multiplications alone would take, at the rate of a convolution that suits the machine.

    That is 3×3, 256 to 256 channels on 64×64, bare: the body of CycleGAN. Not a bound: other kernels can be faster.
    """
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    convolution = torch.nn.Conv2d(256, 256, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)
    x = torch.randn(1, 256, 64, 64, dtype=dtype).contiguous(memory_format=torch.channels_last)
    suite = f"{model.name}, tile {side}×{side}"
    benchmark.group = suite
    with torch.inference_mode():
        benchmark.pedantic(convolution, args=(x,), rounds=30, warmup_rounds=5)
    gigaflops = 2 * 9 * 256 * 256 * 64 * 64 / benchmark.stats.stats.min / 1e9  # others only disturb
    gflop = gigaflop(model.loaded, side, side)
    remark = f"{gigaflops:.0f} GFLOP/s"
    label, milliseconds = "the arithmetic at a convolution's rate", gflop / gigaflops * 1e3
    size = f"{side}×{side}"
    rows.append(
        Row(suite, label, milliseconds, remark=remark, precision=precision, model=model.name, size=size, gflop=gflop)
    )
