"""Every installed backend and precision on the same tile, beside what the libraries do by themselves.

The clock covers one batch, uint8 to uint8. The first baseline runs again after all engines: the difference between its
two rows is how far the machine drifted meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from bench.baselines import BASELINES
from bench.common import EAGER, Row, engines, name_of, real_batch
from gankit import backends
from gankit.backends.base import Request
from gankit.backends.parity import compare, reference
from gankit.checkpoints import Loaded, open_model

SIDES = (128, 256)
AGAIN = f"{EAGER} (again)"


@pytest.fixture(scope="module")
def loaded(model: str) -> Loaded:
    return open_model(model)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("label", BASELINES)
def test_baseline(benchmark, rows, request, loaded, label, side):
    pytest.importorskip(label.partition(",")[0]) if label != EAGER else None
    _measure(benchmark, rows, request, loaded, label, BASELINES[label](loaded.generator), side)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("backend", "precision", "device"), list(engines()))
def test_engine(benchmark, rows, request, loaded, backend, precision, device, side):
    asked = Request(loaded.generator, loaded.facts, precision, device)
    with backends.get(backend).load(asked) as engine:
        _measure(benchmark, rows, request, loaded, name_of(backend, precision, device), engine.run, side)


@pytest.mark.parametrize("side", SIDES)
def test_baseline_again(benchmark, rows, request, loaded, side):
    _measure(benchmark, rows, request, loaded, AGAIN, BASELINES[EAGER](loaded.generator), side)


def _measure(benchmark, rows, request, loaded: Loaded, label: str, run: Callable[[Tensor], Tensor], side: int) -> None:
    batch = real_batch(side)
    own_memory = batch if label.startswith("gankit") else batch.contiguous()
    result = run(own_memory)  # loads, compiles and allocates before the clock starts
    truth = reference(loaded.generator, batch.float() / 255)
    parity = compare(result.float() / 255, (truth.clamp(0, 1) * 255).round() / 255)
    benchmark.group = f"tile {side}x{side}"
    benchmark.pedantic(run, args=(own_memory,), rounds=request.config.getoption("--rounds"), warmup_rounds=1)
    megapixels = side * side / 1e6
    row = Row(f"tile {side}×{side}", label, benchmark.stats.stats.median * 1e3, megapixels, parity.psnr)
    rows.append(row)
    benchmark.extra_info.update(
        {"label": label, "parity_db": parity.psnr, "parity_max_abs": parity.max_abs, "MP/s in": row.speed}
    )
