"""Images for which there is no memory beside others wait until they are alone, or run by strips."""

import threading

import numpy as np
import pytest

import gankit
from gankit.backends.base import EngineMemoryError
from gankit.errors import ImageError, ImageMemoryError, NoMemoryError
from gankit.images import DecodedImage, decode, encode, from_array
from gankit.images.decode import check_size
from gankit.images.formats import Header
from gankit.pipeline.items import Batching
from gankit.pipeline.processor import Processor
from gankit.pipeline.runner import Runner
from gankit.pipeline.targets import Job
from tests.networks import small_srgan
from tests.variants import others_slow

LARGE = 5


@pytest.fixture
def jobs(tmp_path):
    return [Job(tmp_path / f"{index}.png", tmp_path / f"{index}.out") for index in range(9)]


class Memory:
    """A memory in which the large image fits only if no other one is held."""

    def __init__(self):
        self.lock, self.held, self.refused, self.written = threading.Lock(), set(), 0, []

    def enter(self, number):
        with self.lock:
            self.held.add(number)

    def leave(self, number):
        with self.lock:
            self.held.discard(number)
            self.written.append(number)

    def check(self, number, error):
        with self.lock:
            if number == LARGE and (self.held - {LARGE} or not self.refused):
                self.refused += 1
                self.held.discard(LARGE)  # the image is released
                raise error


def number_of(image):
    return int(image.pixels[0, 0, 0])


def runner(memory, where, error, **options):
    def decode(path):
        number = int(path.stem)
        memory.enter(number)
        if where == "decode":
            memory.check(number, error)
        return DecodedImage(np.full((4, 5, 3), number, np.uint8))

    def stage(name):
        def run(image, *_):
            if where == name:
                memory.check(number_of(image), error)
            return image

        return run

    def encode(image, target):
        stage("encode")(image)
        target.write_bytes(image.pixels.tobytes())
        memory.leave(number_of(image))

    parts = {"work": stage("work"), "check": stage("check"), "finish": stage("finish"), "encode": encode}
    return Runner(**{"decode": decode, "cost": lambda image: 100, "max_bytes": 10_000, **parts, **options})


@pytest.mark.parametrize("where", ["decode", "check", "work", "finish", "encode"])
@pytest.mark.parametrize(
    "error",
    others_slow([MemoryError(), EngineMemoryError("no"), NoMemoryError("no"), ImageMemoryError("a.png", "no")]),
    ids=lambda error: type(error).__name__,
)
def test_an_image_that_fits_alone_waits_until_it_is(jobs, where, error):
    memory, records, put_off = Memory(), [], []
    reports = runner(memory, where, error, record=records.append, put_off=put_off.append, decoders=2).run(jobs)
    assert memory.refused == 1
    assert [report.status for report in reports] == ["done"] * 9
    assert [report.source for report in reports] == [job.source for job in jobs]
    assert (len(records), put_off) == (9, [jobs[LARGE]])
    assert memory.written[-1] == LARGE
    assert jobs[LARGE].target.read_bytes()[0] == LARGE


def test_an_image_of_a_shared_call_waits_too(jobs):
    memory = Memory()

    def several(images):
        raise MemoryError

    batching = Batching(lambda image: ("alike", 4), several, largest=4)
    reports = runner(memory, "work", MemoryError(), batching=batching).run(jobs)
    assert [report.status for report in reports] == ["done"] * 9


def test_several_wait_and_each_runs_alone(jobs):
    held, most, seen = set(), [], set()

    def decode(path):
        held.add(path.stem)
        if path.stem not in seen:
            seen.add(path.stem)
            held.discard(path.stem)
            raise ImageMemoryError(path, "no")
        most.append(len(held))
        return DecodedImage(np.full((4, 5, 3), int(path.stem), np.uint8))

    def encode(image, target):
        held.discard(target.stem)

    reports = Runner(decode, lambda image, progress: image, encode, lambda image: 1, decoders=3, encoders=3).run(jobs)
    assert {report.status for report in reports} == {"done"}
    assert most == [1] * 9


def test_an_image_that_does_not_fit_alone_fails_once_or_is_taken(jobs):
    def decode(path):
        if path.stem == str(LARGE):
            raise ImageMemoryError(path, "no memory")
        return DecodedImage(np.zeros((4, 5, 3), np.uint8))

    def run(too_large):
        parts = decode, lambda image, progress: image, lambda image, target: None, lambda image: 1
        records = []
        return Runner(*parts, record=records.append, too_large=too_large).run(jobs), records

    reports, records = run(None)
    assert [report.status for report in reports] == ["done"] * 5 + ["failed"] + ["done"] * 3
    assert reports[LARGE].error == f"{jobs[LARGE].source}: no memory"
    assert len(records) == 9
    taken = []
    reports, records = run(lambda job, message: taken.append((job, message)))
    assert (len(reports), len(records)) == (8, 8)
    assert taken == [(jobs[LARGE], f"{jobs[LARGE].source}: no memory")]
    assert run(lambda job, message: "another line")[0][LARGE].error == "another line"


def test_other_errors_of_an_image_do_not_wait(jobs):
    tries = []

    def decode(path):
        tries.append(path.stem)
        raise ImageError(path, "truncated")

    Runner(decode, None, None, None).run(jobs)
    assert len(tries) == 9


def upscaler(**keywords):
    plain = {"backend": "eager", "precision": "fp32", "device": "cpu", "scale": 2, "value_range": (0, 1)}
    return gankit.Upscaler(small_srgan(scale=2, channels=8, blocks=1), **plain, **keywords)


def test_what_does_not_fit_alone_runs_by_strips_or_says_how_it_could(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
    for name in ("a.tif", "b.tif", "c.webp"):
        encode(from_array(pixels), tmp_path / name)
    with upscaler() as it:
        whole = it.run(tmp_path / "a.tif", tmp_path / "whole", format="png").images[0]

        def refuse(self, image, needed):
            raise NoMemoryError("an image takes more memory than there is")

        monkeypatch.setattr(Processor, "require", refuse)
        states = []
        sources = [tmp_path / name for name in ("a.tif", "b.tif", "c.webp")]
        made = it.run(sources, tmp_path / "out", format="png", progress=states.append).images
    assert [image.status for image in made] == ["done", "done", "failed"]
    assert all(image.strips for image in made[:2])
    np.testing.assert_array_equal(decode(made[0].target).pixels, decode(whole.target).pixels)
    assert made[2].error.endswith("more memory than there is; saved as TIFF, PNG or JPEG it could run by strips")
    assert (states[-1].total, states[-1].done, states[-1].failed) == (3, 2, 1)


def test_the_memory_that_decoding_takes_is_an_error_of_memory(tmp_path):
    with pytest.raises(NoMemoryError, match="decoding 100×100 pixels takes about"):
        check_size(Header(100, 100, 10), 10**6, 10)
    encode(from_array(np.zeros((100, 100, 3), np.uint8)), tmp_path / "a.png")
    with pytest.raises(ImageMemoryError, match=r"a\.png: decoding 100×100 pixels takes about"):
        decode(tmp_path / "a.png", max_bytes=5000)
