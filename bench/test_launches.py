"""What a launch costs the processor: Triton's own way, and gankit's repeated one. No GPU is needed, and none is used.

``pytest bench/test_launches.py --benchmark-only``. Triton compiles for an H200 and launches into a driver that does
nothing; what is timed is all Python between the call and that driver.
"""

from __future__ import annotations

import time

import pytest
import torch

from bench.common import Row

triton = pytest.importorskip("triton", reason="Triton is not installed")
from tests.kernels.driver import active  # noqa: E402

REPEATS = 1000


@pytest.fixture(scope="module", autouse=True)
def driver(tmp_path_factory):
    with active(tmp_path_factory.mktemp("triton")):
        yield


def runs(case: str):
    from gankit_kernels.on_cuda.instance_norm import launch as norm
    from gankit_kernels.on_cuda.pixel_shuffle import launch as shuffle

    layout = torch.channels_last if "channels_last" in case else torch.contiguous_format
    x = torch.empty(1, 256, 64, 64, dtype=torch.float16, memory_format=layout)
    one = torch.empty(256)
    if case.startswith("shuffle"):
        return lambda: shuffle(x, 2, one, one[:1], "none", 0.0, True)
    return lambda: norm(x, one, one, x, "relu", 0.0, 0, 1e-5, False)


def by_triton(step, tensors, scalars, device):
    """The same launch, at which Triton looks every time."""
    given = [tensors[index] for index in step._tensors]
    step._kernel[step._grid](*given, *step._numbers, *(scalars if step._scalars else ()), **step._constants)


@pytest.mark.parametrize("case", ["norm, planes", "norm, channels_last", "shuffle, channels_last"])
def test_launch(benchmark, rows, monkeypatch, case):
    from gankit_kernels.on_cuda.steps import Step

    ours, run = Step.__call__, runs(case)
    run()
    least = {True: float("inf"), False: float("inf")}

    def both() -> None:
        """A round of each way, so that both see the same machine."""
        with torch.inference_mode():
            for repeats in least:
                monkeypatch.setattr(Step, "__call__", ours if repeats else by_triton)
                start = time.perf_counter()
                for _ in range(REPEATS):
                    run()
                least[repeats] = min(least[repeats], (time.perf_counter() - start) / REPEATS)

    benchmark.pedantic(both, rounds=15, warmup_rounds=1)
    for repeats, label in ((False, "Triton's launches"), (True, "repeated")):
        remark = f"{least[False] / least[repeats]:.1f} times as fast, {least[repeats] * 1e6:.1f} µs of a processor"
        rows.append(Row("launches", f"{case}, {label}", least[repeats] * 1e3, remark=remark))
