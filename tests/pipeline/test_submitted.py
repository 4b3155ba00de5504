"""Calls that are submitted to the engine before the previous ones are complete, and calls that wait to be filled."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest
import torch
from pipeline_fakes import Repeat, tiled
from test_processor import grown, noise, processor
from test_runner import double, image, jobs, runner, shapes  # noqa: F401 - fixtures

from gankit.backends.base import EngineMemoryError, Pending
from gankit.errors import NotFiniteError
from gankit.images import DecodedImage
from gankit.models import facts as facts_of
from gankit.pipeline.flow import Channel, Stop, Stopped
from gankit.pipeline.items import Batching
from gankit.pipeline.processor import Processor
from gankit.pipeline.translation import TranslationProcessor

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


class Submitted:
    """Records how many calls are submitted at a time, and the images of each."""

    def __init__(self, fail=lambda images: False, refuse=lambda images: False):
        self.fail, self.refuse = fail, refuse
        self.open, self.most, self.calls, self.finished = 0, 0, [], []

    def __call__(self, images):
        if self.refuse(images):
            return None
        numbers = [int(one.pixels[0, 0, 0]) for one in images]
        self.open += 1
        self.most = max(self.most, self.open)
        self.calls.append(numbers)

        def finish():
            self.open -= 1
            self.finished.append(numbers)
            if self.fail(images):
                raise NotFiniteError("values beyond the range of fp16")
            return [double(one, lambda part: None) for one in images]

        return finish

    def batching(self, **options):
        def never(images):
            raise AssertionError("the images were submitted")

        return Batching(**{"key": shapes, "work": never, "largest": 4, "submit": self, "depth": 2} | options)


def written(jobs):  # noqa: F811
    return [job.target.read_bytes()[0] for job in jobs if job.target.exists()]


def test_two_calls_are_submitted_at_a_time_and_complete_in_order(jobs):  # noqa: F811
    submitted = Submitted()
    reports = runner(batching=submitted.batching(), max_bytes=10**6, decoders=3).run(jobs)
    assert {report.status for report in reports} == {"done"}
    assert written(jobs) == list(range(12))
    assert submitted.most <= 2
    assert submitted.finished == submitted.calls
    assert all(report.engine_seconds > 0 for report in reports)


def test_calls_are_completed_while_the_decoder_waits_for_their_memory(jobs):  # noqa: F811
    """100 bytes an image, so that two submitted calls are all that fits."""
    submitted = Submitted()
    reports = runner(batching=submitted.batching(), max_bytes=200).run(jobs)
    assert {report.status for report in reports} == {"done"}
    assert runner(batching=submitted.batching(), max_bytes=10).run(jobs)[11].status == "done"


def test_images_that_need_more_than_one_call_wait_for_the_others(jobs):  # noqa: F811
    order, submitted = [], Submitted(refuse=lambda images: any(one.pixels[0, 0, 0] % 3 == 0 for one in images))

    def work(item, progress):
        assert submitted.open == 0
        order.append(int(item.pixels[0, 0, 0]))
        return double(item, progress)

    options = {"work": lambda images: [double(one, lambda part: None) for one in images]}
    reports = runner(work=work, batching=submitted.batching(**options), max_bytes=10**6).run(jobs)
    assert {report.status for report in reports} == {"done"}
    assert written(jobs) == list(range(12))


def test_where_a_submitted_call_fails_each_image_is_done_alone(jobs):  # noqa: F811
    submitted = Submitted(fail=lambda images: any(one.pixels[0, 0, 0] == 5 for one in images))

    def one(item, progress):
        if item.pixels[0, 0, 0] == 5:
            raise NotFiniteError("values beyond the range of fp16")
        return double(item, progress)

    def several(images):
        raise NotFiniteError("values beyond the range of fp16")

    reports = runner(work=one, batching=submitted.batching(work=several), max_bytes=10**6).run(jobs)
    assert [report.status for report in reports] == ["done"] * 5 + ["failed"] + ["done"] * 6

    def raises(images):
        raise MemoryError

    reports = runner(work=one, batching=Submitted().batching(submit=raises, work=several), max_bytes=10**6).run(jobs)
    assert [report.status for report in reports] == ["done"] * 5 + ["failed"] + ["done"] * 6


@pytest.mark.parametrize("fails", [False, True])
def test_no_image_is_kept_while_the_runner_waits(jobs, fails):  # noqa: F811
    made, left = [], []

    def tracked(item):
        made.append(weakref.ref(item))
        return item

    def decode(path):
        if path.stem == "11":
            until = time.monotonic() + 5
            while any(one() for one in made) and time.monotonic() < until:
                gc.collect()
                time.sleep(0.005)
            left.append(sum(one() is not None for one in made))
        return tracked(image(path))

    def submit(images):
        pair = [images]  # which the function gives up, as an engine does with its tensors

        def finish():
            taken = pair.pop()
            if fails:
                raise NotFiniteError("no")
            return [tracked(double(one, lambda part: None)) for one in taken]

        return finish

    def refuse(*args):
        raise NotFiniteError("no")

    batching = Submitted().batching(submit=submit, work=refuse)
    runner(decode=decode, work=refuse, batching=batching, encoders=3).run(jobs)
    assert left == [0]


def test_a_call_waits_a_little_to_be_filled():
    stop = Stop()
    channel = Channel(8, stop, producers=1)
    channel.put(1)

    def produce():
        for item in (2, 3):
            time.sleep(0.02)
            channel.put(item)
        channel.close()

    thread = threading.Thread(target=produce)
    thread.start()
    assert channel.take(lambda item: True) == 1
    assert channel.take(lambda item: True, wait=10) == 2
    assert channel.take(lambda item: False, wait=10) is None  # another kind came; it stays
    assert channel.take(lambda item: True, wait=10) == 3
    assert channel.take(lambda item: True, wait=10) is None  # nothing can follow
    thread.join()
    assert Channel(8, stop).take(lambda item: True, wait=0.01) is None
    stop()
    with pytest.raises(Stopped):
        Channel(8, stop).take(lambda item: True, wait=10)


def test_a_slow_decoder_fills_calls_where_it_is_worth_waiting(jobs):  # noqa: F811
    def decode(path):
        time.sleep(0.01)
        return image(path)

    submitted = Submitted()
    runner(decode=decode, batching=submitted.batching(wait=5.0), max_bytes=10**6).run(jobs)
    assert [len(call) for call in submitted.calls] == [4, 4, 4]


class Lazy(Repeat):
    """Computes a submitted call only when its result is wanted, and counts what is open."""

    depth = 2

    def __init__(self, *args, error=None, **options):
        super().__init__(*args, **options)
        self.open, self.most, self.error = 0, 0, error

    def submit(self, *tensors):
        if self.error is not None and tensors[0].shape[2] > 30:
            raise self.error
        self.open += 1
        self.most = max(self.most, self.open)
        engine = self

        class Call(Pending):
            def result(self):
                engine.open -= 1
                return engine.run(*tensors)

        return Call()


@pytest.mark.parametrize("batch", [1, 3])
def test_tiles_are_submitted(batch):
    engine, progress = Lazy(2), []
    pixels = torch.from_numpy(noise(1, 3, 70, 90))
    result = tiled(engine, pixels, scale=2, halo=2, tile=24, batch=batch, progress=progress.append)
    np.testing.assert_array_equal(result[0].permute(1, 2, 0).numpy(), grown(pixels[0].permute(1, 2, 0).numpy(), 2))
    assert (engine.most, engine.open) == (2, 0)
    assert progress == sorted(progress)
    assert progress[-1] == 1.0


def test_images_are_submitted():
    engine = Lazy(4)
    made = processor(engine, batch=4)
    images = [DecodedImage(noise(12, 20, 3) + k, exif=bytes([k])) for k in range(3)]
    gray = DecodedImage(np.repeat(noise(12, 20, 1), 3, axis=2))
    first, second = made.submit(images), made.submit([gray])
    assert engine.open == 2
    for one, result in zip(images, first(), strict=True):
        np.testing.assert_array_equal(result.pixels, grown(one.pixels))
        assert result.exif == one.exif
    (result,) = second()
    np.testing.assert_array_equal(result.pixels, grown(gray.pixels))
    assert made.submit([DecodedImage(noise(12, 20, 3), alpha=noise(12, 20))]) is None
    assert made.submit([DecodedImage(noise(12, 20, 3), gray=True)]) is None
    assert made.submit(images * 2) is None  # more than a call takes
    assert processor(engine, tile=16).submit(images[:1]) is None  # tiles
    assert processor(Repeat(4)).submit(images[:1]) is None


def test_sizes_are_padded_and_cropped():
    made = Processor(Lazy(4), facts_of("srgan", {"channels": 8, "blocks": 1}), 3)
    made.facts = type(made.facts)(**{**vars(made.facts), "multiple": 8})
    pixels = noise(13, 22, 3)
    (result,) = made.submit([DecodedImage(pixels)])()
    np.testing.assert_array_equal(result.pixels, grown(pixels))
    assert made.engine.shapes == [(1, 3, 16, 24)]


def test_memory_that_runs_out_at_submission_is_for_the_tiles_to_solve():
    for error in (EngineMemoryError("no"), torch.OutOfMemoryError("no")):
        assert processor(Lazy(4, error=error)).submit([DecodedImage(noise(40, 40, 3))]) is None
    with pytest.raises(ValueError, match="another"):
        processor(Lazy(4, error=ValueError("another"))).submit([DecodedImage(noise(40, 40, 3))])


def test_translations_are_submitted():
    facts = facts_of("cyclegan", {"channels": 8, "blocks": 1})
    made = TranslationProcessor(Lazy(1), facts, 0)
    images = [DecodedImage(noise(16, 24, 3), alpha=noise(16, 24)) for _ in range(2)]
    for one, result in zip(images, made.submit(images)(), strict=True):
        np.testing.assert_array_equal(result.pixels, one.pixels)
        np.testing.assert_array_equal(result.alpha, one.alpha)
