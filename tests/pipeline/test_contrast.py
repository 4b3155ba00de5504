"""The contrast of an image against NumPy's standard deviation, and the engine that each image gets."""

import dataclasses

import numpy as np
import pytest

from gankit.pipeline.contrast import has_contrast
from gankit.pipeline.engines import Engines


def deviation(pixels):
    return pixels.reshape(-1, pixels.shape[2]).std(axis=0).max()


@pytest.mark.parametrize("seed", range(40))
def test_against_numpy(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 60, 2)
    middle, spread = rng.integers(0, 256), 10 ** rng.uniform(-1, 2)
    pixels = np.clip(rng.normal(middle, spread, (height, width, 3)), 0, 255).astype(np.uint8)
    pixels[..., 1:] = middle  # one channel decides
    found = deviation(pixels)
    for least in (found * 0.5, found * 0.999, found * 1.001 + 1e-9, found * 2 + 1e-9):
        assert has_contrast(pixels, least) == (found >= least)


def test_a_dot_that_the_part_misses_counts():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[1, 1] = 255
    assert has_contrast(pixels, deviation(pixels))
    assert not has_contrast(pixels, deviation(pixels) * 1.01)


def test_flat_images_run_in_fp32_and_the_others_do_not(monkeypatch):
    """Of engines whose choice says so; images of both kinds never share a call."""
    from gankit.images import from_array
    from gankit.options import EngineOptions

    engines = Engines(None, EngineOptions(precision="bf16"), None)
    engine = dataclasses.make_dataclass("Engine", ["precision", "device", "depth", "wants"])
    selection = dataclasses.make_dataclass("Selection", ["contrast"])
    ready = dataclasses.make_dataclass("Ready", ["selection", "processor"])

    class Processor:
        def __init__(self, precision):
            self.engine = engine(precision, "cpu", 1, "images")
            self.facts = dataclasses.make_dataclass("Facts", ["tileable"])(False)

        def shared_call(self, image):
            return 4

    engines._fast = ready(selection(2.0), Processor("bf16"))
    engines._exact = ready(selection(0.0), Processor("fp32"))
    flat = from_array(np.full((16, 16, 3), 7, np.uint8))
    photo = from_array(np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8))
    assert engines._of(flat).engine.precision == "fp32"
    assert engines._of(photo).engine.precision == "bf16"
    assert engines.batch_key(flat)[0] != engines.batch_key(photo)[0]
    engines._fast.selection.contrast = 0.0
    assert engines._of(flat).engine.precision == "bf16"
