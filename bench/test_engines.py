"""Every installed backend and precision on the same tile, beside what the libraries do by themselves.

The clock covers one batch, uint8 to uint8. The first baseline runs again after all engines: the difference between its
two rows is how far the machine drifted meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.baselines import BASELINES, bytes_of, values_of
from bench.common import EAGER, Row, engines, name_of, real_batch
from gankit import backends
from gankit.backends.base import Request
from gankit.backends.choice.parity import compare, reference
from gankit.checkpoints import Loaded, open_model
from gankit.models.cost import cost

SIDES = (128, 256)
AGAIN = f"{EAGER} (again)"


@pytest.fixture(scope="module")
def loaded(model: str) -> Loaded:
    return open_model(model)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("label", BASELINES)
def test_baseline(benchmark, rows, request, loaded, label, side):
    pytest.importorskip(label.partition(",")[0]) if label != EAGER else None
    _measure(benchmark, rows, request, loaded, label, BASELINES[label](loaded.generator, loaded.facts), side)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("backend", "precision", "device"), list(engines()))
def test_engine(benchmark, rows, request, loaded, backend, precision, device, side):
    asked = Request(loaded.generator, loaded.facts, precision, device)
    with backends.get(backend).load(asked) as engine:
        _measure(benchmark, rows, request, loaded, name_of(backend, precision, device), engine.run, side)


@pytest.mark.parametrize("side", SIDES)
def test_baseline_again(benchmark, rows, request, loaded, side):
    _measure(benchmark, rows, request, loaded, AGAIN, BASELINES[EAGER](loaded.generator, loaded.facts), side)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_arithmetic(benchmark, rows, loaded, precision, side):
    """How long the multiplications alone would take, at the rate of a convolution that suits the machine.

    That is 3×3, 256 to 256 channels on 64×64, bare: the body of CycleGAN. Not a bound: other kernels can be faster.
    """
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    convolution = torch.nn.Conv2d(256, 256, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)
    x = torch.randn(1, 256, 64, 64, dtype=dtype).contiguous(memory_format=torch.channels_last)
    benchmark.group = f"tile {side}x{side}"
    with torch.inference_mode():
        benchmark.pedantic(convolution, args=(x,), rounds=30, warmup_rounds=5)
    gigaflops = 2 * 9 * 256 * 256 * 64 * 64 / benchmark.stats.stats.min / 1e9  # others only disturb
    macs = cost(loaded.generator, side, channels=loaded.facts.channels).macs
    label = f"the arithmetic at a convolution's rate, {precision}"
    milliseconds = 2 * macs / gigaflops / 1e6
    rows.append(Row(f"tile {side}×{side}", label, milliseconds, remark=f"{gigaflops:.0f} GFLOP/s"))
    benchmark.extra_info.update({"label": label, "milliseconds": milliseconds, "GFLOP/s": gigaflops})


def _measure(benchmark, rows, request, loaded: Loaded, label: str, run: Callable[[Tensor], Tensor], side: int) -> None:
    batch = real_batch(side)
    own_memory = batch if label.startswith("gankit") else batch.contiguous()
    result = run(own_memory)  # loads, compiles and allocates before the clock starts
    truth = bytes_of(reference(loaded.generator, values_of(batch, loaded.facts)), loaded.facts)
    parity = compare(result.float() / 255, truth.float() / 255)
    benchmark.group = f"tile {side}x{side}"
    benchmark.pedantic(run, args=(own_memory,), rounds=request.config.getoption("--rounds"), warmup_rounds=1)
    megapixels = side * side / 1e6
    milliseconds = benchmark.stats.stats.median * 1e3
    rate = 2 * cost(loaded.generator, side, channels=loaded.facts.channels).macs / milliseconds / 1e6
    row = Row(f"tile {side}×{side}", label, milliseconds, megapixels, parity.psnr, f"{rate:.0f} GFLOP/s")
    rows.append(row)
    benchmark.extra_info.update(
        {
            "label": label,
            "parity_db": parity.psnr,
            "parity_max_abs": parity.max_abs,
            "MP/s in": row.speed,
            "GFLOP/s": rate,
        }
    )
