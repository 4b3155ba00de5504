"""Every installed backend and precision on the same tile, beside what the libraries do by themselves.

The clock covers one batch, uint8 to uint8. The first baseline runs again at the end of each size: the difference
between its two rows is how far the machine drifted meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from bench.baselines import BASELINES
from bench.common import EAGER, Row, real_batch
from gankit import backends
from gankit.backends.base import Precision, Request
from gankit.backends.parity import compare, reference
from gankit.checkpoints import Loaded, open_model

SIDES = (128, 256)
DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
AGAIN = f"{EAGER} (again)"


def _engines() -> Iterator[tuple[str, Precision, str]]:
    for name in backends.BACKENDS:
        backend = backends.get(name)
        for device in DEVICES:
            if backend.missing(device) is None:
                yield from ((name, precision, device) for precision in backend.precisions.get(device, ()))


@pytest.fixture(scope="module")
def loaded(model: str) -> Loaded:
    return open_model(model)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("label", BASELINES)
def test_baseline(benchmark, rows, request, loaded, label, side):
    pytest.importorskip(label.partition(",")[0]) if label != EAGER else None
    _measure(benchmark, rows, request, loaded, label, BASELINES[label](loaded.generator), side)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("backend", "precision", "device"), list(_engines()))
def test_engine(benchmark, rows, request, loaded, backend, precision, device, side):
    label = f"gankit {backend} {precision}" + ("" if device == "cpu" else f" {device}")
    asked = Request(loaded.generator, loaded.facts, precision, device)
    with backends.get(backend).load(asked) as engine:
        _measure(benchmark, rows, request, loaded, label, engine.run, side)


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
