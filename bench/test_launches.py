"""What a launch costs the processor: by Triton and by gankit's planned steps. No GPU is needed or used.

Run it with ``pytest bench/test_launches.py --benchmark-only``. Triton compiles for an H200 and launches into a driver
that does nothing; the time is that of all Python between the call and this driver.
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
    from gankit_kernels.instance_norm import NormSpec
    from gankit_kernels.on_cuda.instance_norm import launch as norm
    from gankit_kernels.on_cuda.pixel_shuffle import launch as shuffle
    from gankit_kernels.pixel_shuffle import ShuffleSpec

    layout = torch.channels_last if "channels_last" in case else torch.contiguous_format
    x = torch.empty(1, 256, 64, 64, dtype=torch.float16, memory_format=layout)
    one = torch.empty(256)
    if case.startswith("shuffle"):
        return lambda: shuffle(x, one, one[:1], ShuffleSpec(2, dcr=True))
    return lambda: norm(x, one, one, x, NormSpec("relu"))


def by_triton(step, tensors, scalars, device):
    """The same launch, but Triton inspects every argument every time."""
    step.launch_by_triton(tensors, scalars)


@pytest.mark.parametrize("case", ["norm, planes", "norm, channels_last", "shuffle, channels_last"])
def test_launch(benchmark, rows, monkeypatch, case):
    from gankit_kernels.on_cuda.steps import Step

    ours, run = Step.__call__, runs(case)
    run()
    least = {True: float("inf"), False: float("inf")}

    def both() -> None:
        """A round of each, so that both see the same machine."""
        with torch.inference_mode():
            for planned in least:
                monkeypatch.setattr(Step, "__call__", ours if planned else by_triton)
                start = time.perf_counter()
                for _ in range(REPEATS):
                    run()
                least[planned] = min(least[planned], (time.perf_counter() - start) / REPEATS)

    benchmark.pedantic(both, rounds=15, warmup_rounds=1)
    for planned, label in ((False, "Triton's launches"), (True, "planned steps")):
        remark = f"{least[False] / least[planned]:.1f} times as fast, {least[planned] * 1e6:.1f} µs of a processor"
        rows.append(Row("launches", f"{case}, {label}", least[planned] * 1e3, remark=remark))
