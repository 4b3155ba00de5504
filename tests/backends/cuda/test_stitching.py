"""Tiles that are stitched on a pretended GPU: the pixels that the host would stitch, whatever the order of the work."""

import numpy as np
import pytest
import torch
from fake_gpu import FakeCuda
from test_cuda_engine import FACTS, ORDERS, Net, engines, spec
from torch import nn

from gankit.backends.cuda import stitching
from gankit.backends.cuda.engine import CudaEngine
from gankit.backends.pieces import Piece, Pieces
from gankit.errors import NotFiniteError
from gankit.pipeline.tiles import run_tiled


@pytest.fixture(autouse=True)
def free(monkeypatch):
    """How many bytes of the pretended GPU are free."""
    bytes_ = {"free": 1 << 30}
    monkeypatch.setattr(stitching, "free_memory", lambda device: bytes_["free"])
    return bytes_


def pixels(height, width, dtype=np.uint8, seed=0):
    random = np.random.default_rng(seed)
    if dtype == np.float32:
        return random.random((1, height, width, 3), np.float32).transpose(0, 3, 1, 2)
    full = random.integers(0, np.iinfo(dtype).max, (1, height, width, 3), dtype, endpoint=True)
    return full.transpose(0, 3, 1, 2)


class Counted(CudaEngine):
    """Knows how many images it has stitched itself."""

    count = 0

    def stitch(self, image, cut):
        result = super().stitch(image, cut)
        self.count += result is not None
        return result


def stitcher(gpu, given=None):
    engine, plain = engines(gpu, given)
    return Counted("eager", given or spec(), (given or spec()).generator, cuda=gpu), plain, engine


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_pixels_are_those_of_the_host(order, dtype):
    gpu = FakeCuda(order)
    engine, plain, _ = stitcher(gpu)
    cases = ((23, 31, 12, 3), (23, 31, (9, 14), 1), (40, 9, 12, 100), (12, 50, 16, 2))
    for index, (height, width, tile, batch) in enumerate(cases):
        image, parts = pixels(height, width, dtype, index), []
        options = {"scale": 2, "halo": 2, "tile": tile, "batch": batch}
        made = run_tiled(engine, image, **options, progress=parts.append)
        wanted = run_tiled(plain, image, **options)
        assert made.dtype == dtype
        assert made.shape == (1, 3, 2 * height, 2 * width)
        np.testing.assert_allclose(made, wanted, rtol=0, atol=1e-6 if dtype == np.float32 else 0)
        assert made.transpose(0, 2, 3, 1).flags.c_contiguous
        assert parts == sorted(parts)
        assert parts[-1] == 1
    assert engine.count == len(cases)
    assert gpu.faults == []


@pytest.mark.parametrize("order", ORDERS)
def test_equal_tiles_come_from_a_graph(order):
    gpu = FakeCuda(order)
    engine, plain, _ = stitcher(gpu)
    for seed in range(3):
        image = pixels(60, 60, seed=seed)
        made = run_tiled(engine, image, scale=2, halo=2, tile=20, batch=4)
        np.testing.assert_array_equal(made, run_tiled(plain, image, scale=2, halo=2, tile=20, batch=4))
    assert gpu.captures
    assert gpu.replays > 4
    assert gpu.faults == []


def test_sides_that_are_no_multiple_are_cropped():
    gpu = FakeCuda()
    given = spec(Net(), FACTS)
    engine, plain, _ = stitcher(gpu, given)
    image, options = pixels(21, 33), {"scale": 2, "halo": 4, "tile": 16, "multiple": 4, "batch": 2}
    np.testing.assert_array_equal(run_tiled(engine, image, **options), run_tiled(plain, image, **options))
    assert engine.count == 1


def test_an_image_that_the_gpu_does_not_hold_is_stitched_on_the_host(free):
    gpu = FakeCuda()
    engine, plain, _ = stitcher(gpu)
    image = pixels(23, 31)
    free["free"] = 4 * image.nbytes * 5 - 1
    made = run_tiled(engine, image, scale=2, halo=2, tile=12, batch=3)
    np.testing.assert_array_equal(made, run_tiled(plain, image, scale=2, halo=2, tile=12, batch=3))
    assert engine.count == 0
    free["free"] += 1
    run_tiled(engine, image, scale=2, halo=2, tile=12, batch=3)
    assert engine.count == 1


class Overflows(nn.Module):
    def forward(self, x):
        return torch.where(x[:, :, :1, :1].sum() > 0.9, x / 0, x)


def test_values_beyond_fp16_are_reported_after_the_last_tile():
    gpu = FakeCuda()
    given = spec(Overflows(), FACTS, precision="fp16")
    engine = CudaEngine("eager", given, given.generator, cuda=gpu)
    image = np.zeros((1, 3, 20, 20), np.uint8)
    cut = Pieces(tuple(Piece(0, x, (0, 20), (x, x + 10)) for x in (0, 10)), (20, 10), 1, 3, 1)
    assert engine.stitch(image, cut) is not None
    image[..., 10:] = 255
    with pytest.raises(NotFiniteError, match="beyond the range of fp16"):
        engine.stitch(image, cut)
    assert gpu.faults == []


class Full(nn.Module):
    """Runs out of memory from its third call on. The pretended GPU calls it twice for each batch."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x


def test_memory_that_runs_out_is_for_the_caller():
    gpu = FakeCuda("early")
    given = spec(Full(), FACTS)
    engine = CudaEngine("eager", given, given.generator, cuda=gpu)
    image = pixels(40, 10)
    cut = Pieces(tuple(Piece(y, 0, (y, y + 10), (0, 10)) for y in range(0, 40, 10)), (10, 10), 1, 3, 1)
    with pytest.raises(torch.OutOfMemoryError):
        engine.stitch(image, cut)
    assert gpu.emptied == 1
    assert gpu.faults == []
    given.generator.calls = -100
    np.testing.assert_array_equal(engine.stitch(image, cut), image)


def test_less_is_copied_than_tile_by_tile(monkeypatch):
    """The image once, and of the results what is kept: no halos in either direction."""
    gpu = FakeCuda()
    engine, _, _ = stitcher(gpu)
    moved = {"up": 0, "down": 0}
    upload, download = gpu.upload, gpu.download

    def up(host, lane):
        moved["up"] += host.nbytes
        return upload(host, lane)

    def down(source, host, lane):
        moved["down"] += source.nbytes
        download(source, host, lane)

    monkeypatch.setattr(gpu, "upload", up)
    monkeypatch.setattr(gpu, "download", down)
    image = pixels(64, 64)
    run_tiled(engine, image, scale=2, halo=4, tile=24, batch=2)
    assert moved == {"up": image.nbytes, "down": 4 * image.nbytes}
