"""Parts of an image, on several cores, give the pixels of the whole image."""

import itertools
import threading

import pytest
import torch
from gankit_export.receptive_field import halo
from gankit_export.rewrites import for_inference

from gankit.backends.base import EngineSpec
from gankit.backends.cpu.engines import StreamingEngine
from gankit.backends.cpu.parts import Cutting, Span, spans
from gankit.backends.cpu.streaming import Stream
from gankit.backends.cpu.workers import Workers
from gankit.backends.eager import EagerBackend
from gankit.models import build, facts
from tests.export.networks_layers import STREAMED, random_network
from tests.networks import small_srgan

SMALL = {"scale": 2, "channels": 8, "blocks": 2}


def engine_of(threads, generator=None, options=SMALL):
    spec = EngineSpec(generator or small_srgan(**options), facts("srgan", options), threads=threads)
    return EagerBackend().load(spec)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("strip_bytes", [1, 6000])
def test_some_rows_of_any_network(seed, strip_bytes, monkeypatch):
    """Rows that are cut out with what they depend on, wherever they begin."""
    if seed % 2:  # few channels make every convolution a sum of rows
        monkeypatch.setattr("gankit.backends.cpu.stages.by_rows", lambda conv: False)
    net, _ = random_network(seed, STREAMED, length=6)
    module = for_inference(net)
    image = torch.randn(1, 4, 96, 8)
    reach = -(-halo(module) // 4) * 4
    with torch.inference_mode():
        wanted = module(image)
        scale = wanted.shape[2] / image.shape[2]
        stream = Stream(module, strip_bytes)
        for keep, stop in ((0, 32), (32, 96), (40, 60)):
            start, end = max(0, keep - reach), min(96, stop + reach)
            found = torch.full_like(wanted, torch.nan)

            def write(rows, row, found=found):
                found[:, :, row : row + rows.shape[2]] = rows

            stream.run(image[:, :, start:end], lambda rows: rows, write, start, end == 96)
            kept = slice(int(keep * scale), int(stop * scale))
            torch.testing.assert_close(found[:, :, kept], wanted[:, :, kept], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (33, 150)])
@pytest.mark.parametrize("threads", [2, 3])
def test_parts_are_the_whole_image(size, threads, monkeypatch):
    monkeypatch.setattr("gankit.backends.cpu.parts.SHARED", 100.0)  # cut whatever it costs
    images = torch.rand(2, 3, *size).contiguous(memory_format=torch.channels_last)
    net = small_srgan(**SMALL)
    with engine_of(1, net) as whole, engine_of(threads, net) as cut:
        wanted = whole.run(images)
        torch.testing.assert_close(cut.run(images), wanted, rtol=0, atol=2e-6)
        torch.testing.assert_close(cut.run(images[:1]), wanted[:1], rtol=0, atol=2e-6)


def test_columns_of_a_wide_image(monkeypatch):
    monkeypatch.setattr("gankit.backends.cpu.engines.STRIP_BYTES", 40_000)
    monkeypatch.setattr("gankit.backends.cpu.engines.LEAST_STRIP_BYTES", 40_000)
    image = torch.rand(1, 3, 20, 700).contiguous(memory_format=torch.channels_last)
    net = small_srgan(**SMALL)
    with torch.no_grad():
        wanted = net(image)
    for threads in (1, 2):
        with engine_of(threads, net) as engine:
            assert isinstance(engine, StreamingEngine)
            parts = engine._cutting.parts(20, 700)
            assert parts is not None
            assert len({part.across for part in parts}) > 1
            torch.testing.assert_close(engine.run(image), wanted, rtol=0, atol=2e-6)


def test_a_network_that_folds_pixels_is_cut_between_them(monkeypatch):
    monkeypatch.setattr("gankit.backends.cpu.parts.SHARED", 100.0)
    options = {"scale": 2, "channels": 4, "blocks": 1}
    generator, known = build("esrgan", options).eval(), facts("esrgan", options)
    image = torch.rand(1, 3, 202, 6).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        wanted = generator(image)
    with EagerBackend().load(EngineSpec(generator, known, threads=3)) as engine:
        assert len(engine._cutting.parts(202, 6)) > 1
        torch.testing.assert_close(engine.run(image), wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("length", "count", "reach", "multiple"), list(itertools.product((1, 7, 64), (1, 3), (0, 5), (1, 4)))
)
def test_spans_cover_a_side(length, count, reach, multiple):
    if count > length // multiple and count > 1:
        pytest.skip("more spans than the side has multiples")
    found = spans(length, count, reach, multiple)
    assert found[0].keep == 0
    assert found[-1].stop == length
    assert all(left.stop == right.keep for left, right in itertools.pairwise(found))
    for span in found:
        assert span.keep % multiple == span.start % multiple == 0
        assert span.start == 0 or span.keep - span.start >= reach
        assert span.end == length or span.end - span.stop >= reach


def test_how_images_are_cut():
    cutting = Cutting(halo=20, multiple=1, streams=2, pixel_bytes=256, strip_bytes=4 << 20)
    assert len(cutting.parts(512, 768)) == 2
    assert [part.down for part in cutting.parts(768, 300)] == [Span(0, 0, 384, 404), Span(364, 384, 768, 768)]
    assert len(cutting.parts(300, 12_000)) > 4  # a strip of 16 whole rows would be 49 MB in every layer
    assert len(cutting.parts(512, 768, images=2)) == 1  # each image whole, on a core of its own
    assert cutting.parts(30, 30) is None  # the parts would overlap more than a barrier costs
    blind = Cutting(None, 1, 2, 256, 4 << 20)
    assert blind.parts(512, 768) is None
    assert len(blind.parts(512, 768, images=2)) == 1


def test_workers_compute_alone_and_leave_the_setting():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        workers = Workers(2)
        found = []
        workers.run([lambda: found.append(torch.get_num_threads()) for _ in range(4)])
        assert found == [1] * 4
        assert torch.get_num_threads() == 2
        later = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [2]
        workers.close()
    finally:
        torch.set_num_threads(before)


def test_a_part_that_fails_ends_the_image_and_leaves_nothing(monkeypatch):
    monkeypatch.setattr("gankit.backends.cpu.parts.SHARED", 100.0)
    image = torch.rand(1, 3, 90, 12).contiguous(memory_format=torch.channels_last)
    with engine_of(2) as engine:
        wanted = engine.run(image)
        fail = iter([True])
        monkeypatch.setattr(
            "gankit.backends.cpu.engines.to_values", lambda rows, *_: 1 / 0 if next(fail, False) else rows.float()
        )
        with pytest.raises(ZeroDivisionError):
            engine.run(image)
        torch.testing.assert_close(engine.run(image), wanted, rtol=0, atol=0)
        engine.close()
        torch.testing.assert_close(engine.run(image), wanted, rtol=0, atol=0)  # threads start again
