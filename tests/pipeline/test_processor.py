"""One image through the engine: gray, transparency, 16 bit, memory."""

import tracemalloc

import numpy as np
import pytest
import torch
from pipeline_fakes import Repeat

from gankit import models
from gankit.backends.base import Engine, EngineMemoryError, memory_errors
from gankit.backends.cpu import streaming
from gankit.errors import BackendError, NoMemoryError, UsageError
from gankit.images import DecodedImage
from gankit.pipeline.gray import equal_channels, equalise
from gankit.pipeline.processor import Processor
from gankit.pipeline.workspace import STRIP_BYTES, Workspace


def facts(**changes):
    from dataclasses import replace

    return replace(models.facts("srgan", {"channels": 8, "blocks": 1}), **changes)


def processor(engine=None, **options):
    return Processor(engine or Repeat(4), facts(**options.pop("facts", {})), 3, **options)


class Ready(Engine):
    """Takes no memory but that of its results, which is NumPy's, so that tracemalloc sees it."""

    backend, precision, device = "ready", "fp32", "cpu"

    def __init__(self, scale):
        self.scale = scale

    def run(self, batch):
        count, channels, height, width = batch.shape
        result = np.zeros((count, height * self.scale, width * self.scale, channels), np.uint8)
        return torch.from_numpy(result).permute(0, 3, 1, 2)


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def grown(array, scale=4):
    return array.repeat(scale, axis=0).repeat(scale, axis=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("tile", ["auto", 16])
def test_colours_and_metadata(dtype, tile):
    pixels = noise(20, 31, 3, dtype=dtype)
    engine = Repeat(4)
    result = processor(engine, tile=tile).image(DecodedImage(pixels, icc_profile=b"p", exif=b"e", dpi=(72, 72)))
    np.testing.assert_array_equal(result.pixels, grown(pixels))
    assert result.pixels.dtype == dtype
    assert result.pixels.flags.c_contiguous
    assert (result.icc_profile, result.exif, result.dpi) == (b"p", b"e", (72, 72))
    assert set(engine.dtypes) == {torch.uint8 if dtype == np.uint8 else torch.uint16}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_stays_gray(dtype):
    plane = noise(9, 8, dtype=dtype)
    engine = Repeat(4, change=tinted)
    result = processor(engine).image(DecodedImage(np.repeat(plane[..., None], 3, axis=2), gray=True))
    assert result.gray
    for channel in range(3):
        np.testing.assert_array_equal(result.pixels[..., channel], grown(plane // 2 + 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_goes_through_the_engine(dtype):
    pixels, alpha = noise(12, 10, 3, dtype=dtype), noise(12, 10, dtype=dtype)
    engine = Repeat(4)
    result = processor(engine).image(DecodedImage(pixels, alpha))
    np.testing.assert_array_equal(result.alpha, grown(alpha))
    assert result.alpha.dtype == dtype
    assert len(engine.shapes) == 2


@pytest.mark.parametrize("value", [0, 128, 255])
def test_constant_alpha_is_not_computed(value):
    engine = Repeat(4)
    result = processor(engine).image(DecodedImage(noise(6, 5, 3), np.full((6, 5), value, np.uint8)))
    assert (result.alpha == value).all()
    assert result.alpha.shape == (24, 20)
    assert len(engine.shapes) == 1


def test_colours_under_transparency_are_bled_first():
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4] = 200
    alpha = np.zeros((8, 8), np.uint8)
    alpha[:, :4] = 255
    result = processor().image(DecodedImage(pixels, alpha))
    assert (result.pixels == 200).all()


def test_flat_alpha_stays_exact():
    alpha = np.zeros((24, 24), np.uint8)
    alpha[:, :12] = 255
    dim = Repeat(4, change=lambda batch: batch.clamp(3, 250))
    result = processor(dim).image(DecodedImage(noise(24, 24, 3), alpha))
    assert (result.alpha[:, :36] == 255).all()
    assert (result.alpha[:, 60:] == 0).all()
    assert (result.alpha[:, 46:48] == 250).all()  # at the edge, the engine's


def test_progress_grows_to_one():
    for alpha in (None, noise(40, 40)):
        seen = []
        processor(tile=16).image(DecodedImage(noise(40, 40, 3), alpha), seen.append)
        assert seen == sorted(seen)
        assert seen[-1] == 1.0


@pytest.mark.parametrize("gray", [True, False])
def test_a_model_of_one_channel(gray):
    pixels = noise(7, 9, 3)
    if gray:
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    engine = Repeat(4)
    result = processor(engine, facts={"channels": 1}).image(DecodedImage(pixels, gray=gray))
    np.testing.assert_array_equal(result.pixels, grown(pixels))
    assert all(shape[1] == 1 for shape in engine.shapes)


def test_a_model_of_five_channels_is_refused():
    with pytest.raises(UsageError, match="5 channels"):
        processor(facts={"channels": 5}).image(DecodedImage(noise(7, 9, 3)))


def test_whole_image_norms_are_not_cut():
    with pytest.raises(UsageError, match="cannot be tiled"):
        processor(facts={"tileable": False}, tile=32)
    engine = Repeat(4)
    processor(engine, facts={"tileable": False}, max_pixels=100).image(DecodedImage(noise(90, 90, 3)))
    assert engine.shapes == [(1, 3, 90, 90)]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("no"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        EngineMemoryError("the engine is out of memory"),
    ],
)
def test_memory_that_runs_out_makes_tiles_smaller(error):
    def greedy(batch):
        if batch[:, 0].numel() > 6000:
            raise error
        return batch

    engine = Repeat(4, change=greedy)
    made = processor(engine, max_pixels=40000)
    pixels = noise(200, 200, 3)
    np.testing.assert_array_equal(made.image(DecodedImage(pixels)).pixels, grown(pixels))
    assert made.max_pixels < 40000
    tried = len(engine.shapes)
    made.image(DecodedImage(pixels))
    assert all(shape[0] * shape[2] * shape[3] <= 6000 for shape in engine.shapes[tried:])  # learnt


def test_memory_that_is_never_enough_is_an_error():
    def never(batch):
        raise torch.OutOfMemoryError("no")

    pixels = DecodedImage(noise(200, 200, 3))
    made = processor(Repeat(4, change=never), max_pixels=40000)
    with pytest.raises(EngineMemoryError, match=r"out of memory on cpu.*free some memory"):
        made.image(pixels)
    assert made.max_pixels == 40000  # other images are not to suffer
    assert len(made.engine.shapes) > 1
    for batch in (1, 4):
        made = processor(Repeat(4, change=never), tile=100, batch=batch)
        with pytest.raises(EngineMemoryError, match="smaller --tile"):
            made.image(pixels)
        assert len(made.engine.shapes) == 1  # nothing that could be tried
    for made in (processor(Repeat(4, "images", never)), processor(Repeat(4, change=never), facts={"tileable": False})):
        with pytest.raises(EngineMemoryError, match="on cpu; free some memory"):
            made.image(pixels)
        assert made.engine.shapes == [(1, 3, 200, 200)]


def test_what_runtimes_say_of_memory():
    for error in (MemoryError(), RuntimeError("Check 'ptr' failed\nFailed to allocate 150994944 bytes of memory\n")):
        with pytest.raises(EngineMemoryError), memory_errors("Failed to allocate"):
            raise error
    for error in (RuntimeError("shape mismatch"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, memory_errors("Failed to allocate"):
            raise error
        assert caught.value is error


def test_other_errors_of_the_engine_are_not_taken_for_memory():
    def broken(batch):
        raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side assert"):
        processor(Repeat(4, change=broken)).image(DecodedImage(noise(9, 9, 3)))


def test_a_result_above_the_memory_is_reported_before_it_is_tried():
    huge = np.broadcast_to(np.zeros(3, np.uint8), (2_000_000, 2_000_000, 3))  # one pixel of memory
    engine = Repeat(4)
    with pytest.raises(NoMemoryError):
        processor(engine).image(DecodedImage(huge))
    assert engine.shapes == []


@pytest.mark.parametrize(("kind", "times"), [("colour", 2), ("gray", 2), ("alpha", 3)])
def test_memory_is_taken_as_reported(monkeypatch, kind, times):
    """Whatever the kind of image, the processor needs no more than it asked for, and asks before it begins."""
    pixels = noise(256, 256, 3)
    image = DecodedImage(pixels, noise(256, 256) if kind == "alpha" else None, gray=kind == "gray")
    result = times * 16 * (pixels.nbytes + (256 * 256 if kind == "alpha" else 0))
    engine = 64 * 64 * (3 * 4 * 8 * 16 // 2)  # the smallest tile, half of three activations of 8 channels at ×4
    tracemalloc.start()
    try:
        processor(Ready(4)).image(image)
        assert tracemalloc.get_traced_memory()[1] < result * 0.9  # the rest is for the file
    finally:
        tracemalloc.stop()
    left(monkeypatch, result + engine)
    made = processor(max_pixels=1 << 20)
    made.image(image)
    left(monkeypatch, result + engine - 1)
    with pytest.raises(NoMemoryError, match=r"an image of 256×256 pixels takes about \d+ MB of memory, and \d+ MB are"):
        made.image(image)


def left(monkeypatch, bytes):
    """Let this much memory be available, whatever else is allocated."""
    for module in ("gankit.memory", "gankit.pipeline.processor", "gankit.pipeline.workspace"):
        monkeypatch.setattr(f"{module}.available_memory", lambda limit=None: bytes)


def test_tiles_get_smaller_before_memory_runs_out(monkeypatch):
    """An image whose activations do not fit is cut, and a fixed tile that cannot fit is refused."""
    pixels = noise(200, 220, 3)
    each, result = 3 * 4 * 8 * 16, 16 * pixels.nbytes
    left(monkeypatch, 2 * result + 8000 * each)
    engine = Repeat(4)
    np.testing.assert_array_equal(
        processor(engine, max_pixels=1 << 20).image(DecodedImage(pixels)).pixels, grown(pixels)
    )
    assert engine.shapes
    assert all(shape[0] * shape[2] * shape[3] * each <= result + 8000 * each for shape in engine.shapes)
    assert len(engine.shapes) > 1
    fixed = processor(Repeat(4), tile=190)
    with pytest.raises(NoMemoryError, match="use a smaller --tile"):
        fixed.image(DecodedImage(pixels))
    assert fixed.engine.shapes == []


def test_a_streaming_engine_needs_some_strips():
    workspace = Workspace(Repeat(4, "images"), facts(), halo=40)
    small, wide = workspace.least_bytes(100, 1000, "auto", 1), workspace.least_bytes(100, 2000, "auto", 1)
    assert small == 1000 * (100 * 3 * 4 * 8 * 16 // 2 + 80 * 4 * 8)
    assert wide == 2 * small
    assert STRIP_BYTES == streaming.STRIP_BYTES
    assert workspace.least_bytes(100_000, 2000, "auto", 1) < 2 * wide  # the height does not matter


def test_memory_of_a_strangers_module_is_not_guessed():
    workspace = Workspace(Repeat(4), facts(options={}), halo=40)
    assert workspace.least_bytes(1000, 1000, "auto", 1) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_mean_of_large_images(dtype):
    pixels = noise(700, 333, 3, dtype=dtype)
    wanted = np.rint(pixels.astype(np.float64).mean(axis=2))
    equalise(pixels)
    for channel in range(3):
        np.testing.assert_array_equal(pixels[..., channel], wanted)


def test_one_pixel_of_another_colour_is_seen():
    pixels = np.repeat(noise(700, 333, 1), 3, axis=2)
    assert equal_channels(pixels)
    pixels[699, 332, 2] ^= 1
    assert not equal_channels(pixels)


TINT = torch.tensor([0, 1, 2]).view(1, 3, 1, 1)  # a generator never treats the channels quite alike


def tinted(batch):
    return (
        (batch // 2 + TINT).to(batch.dtype)
        if batch.dtype == torch.float32
        else (batch.int() // 2 + TINT).to(batch.dtype)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("tile", ["auto", 16])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_colour_file_with_equal_channels_stays_gray(dtype, tile, alpha):
    plane = noise(20, 31, dtype=dtype)
    image = DecodedImage(np.repeat(plane[..., None], 3, axis=2), noise(20, 31, dtype=dtype) | 1 if alpha else None)
    result = processor(Repeat(4, change=tinted), tile=tile).image(image)
    assert not result.gray  # the file keeps its three channels
    for channel in range(3):
        np.testing.assert_array_equal(result.pixels[..., channel], grown(plane // 2 + 1))


def test_gray_images_in_a_batch_and_in_a_tensor_stay_gray():
    gray, colour = np.repeat(noise(8, 9, 1), 3, axis=2), noise(8, 9, 3)
    made = processor(Repeat(4, change=tinted), batch=2)
    first, second = made.images([DecodedImage(gray), DecodedImage(colour)])
    assert equal_channels(first.pixels)
    np.testing.assert_array_equal(second.pixels, grown(colour // 2 + np.arange(3, dtype=np.uint8)))
    floats = torch.rand(2, 1, 8, 9).expand(2, 3, 8, 9)
    result = torch.from_numpy(processor(Repeat(4, change=lambda batch: batch + TINT / 100)).batched(floats.numpy()))
    assert (result == result[:, :1]).all()
    torch.testing.assert_close(result[:, :1, ::4, ::4], floats[:, :1] + 0.01)


def test_a_colour_image_is_not_made_gray():
    pixels = np.repeat(noise(8, 9, 1), 3, axis=2)
    pixels[0, 0, 0] ^= 1
    result = processor(Repeat(4, change=tinted)).image(DecodedImage(pixels))
    assert not equal_channels(result.pixels)


def test_a_gray_model_runs_equal_channels_once():
    engine = Repeat(4)
    pixels = np.repeat(noise(7, 9, 1), 3, axis=2)
    result = processor(engine, facts={"channels": 1}).image(DecodedImage(pixels))
    np.testing.assert_array_equal(result.pixels, grown(pixels))
    assert engine.shapes == [(1, 1, 7, 9)]


@pytest.mark.parametrize(("scale", "tile"), [(2, "auto"), (3, 16), (8, "auto")])
@pytest.mark.parametrize("wants", ["tiles", "images"])
def test_an_engine_of_another_scale_is_an_error(scale, tile, wants):
    made = processor(Repeat(scale, wants), tile=tile)
    with pytest.raises(BackendError, match=r"^repeat fp32 returned \(\d+, 3, \d+, \d+\) and not \(\d+, 3, \d+, \d+\)"):
        made.image(DecodedImage(noise(40, 40, 3)))


def test_read_only_pixels_and_slices():
    pixels = noise(10, 10, 3)
    view = pixels[::-1, ::2]
    view.flags.writeable = False
    np.testing.assert_array_equal(processor().image(DecodedImage(view)).pixels, grown(view))


def test_memory_bound_is_sensible():
    engine = Repeat(4)
    single = Workspace(engine, models.facts("srgan"), 40).max_pixels()
    engine.precision = "bf16"
    half = Workspace(engine, models.facts("srgan"), 40).max_pixels()
    assert 128**2 <= single <= 512**2
    assert single < half <= 2 * single + 1
