"""Several pipelines in several threads: none disturbs another."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import gankit
from gankit.models import facts
from tests.networks import small_srgan

THREADS = 8
OPTIONS = {"scale": 2, "channels": 4, "blocks": 1}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "openvino", "onnxruntime"])
def test_upscalers_made_and_run_in_eight_threads_at_once(backend):
    """torch.fx traces one network at a time; two traces at once failed with "cannot be traced"."""
    if backend != "eager":
        pytest.importorskip(backend)
    torch.manual_seed(0)
    generators = [small_srgan(**OPTIONS) for _ in range(THREADS)]
    image = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
    values = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    together = threading.Barrier(THREADS, timeout=60)

    def run(generator):
        together.wait()
        with gankit.Upscaler(generator, facts=facts("srgan", OPTIONS), backend=backend, threads=2) as upscaler:
            return upscaler(image), upscaler(image[:9])[0]

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(run, generators))
    assert torch.get_num_threads() == threads
    for generator, (whole, first_row) in zip(generators, results, strict=True):
        with torch.no_grad():
            wanted = generator(values)[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
        assert np.abs(whole - wanted).max() < 0.6  # rounded to whole levels
        assert first_row.shape == (32, 3)
