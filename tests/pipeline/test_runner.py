"""The threads: order, bounds, errors, and how a run ends."""

import errno
import gc
import itertools
import threading
import time
import weakref

import numpy as np
import pytest

from gankit.backends.base import EngineMemoryError
from gankit.errors import BackendError, ImageError, OutputError
from gankit.images import DecodedImage
from gankit.pipeline.items import Batching
from gankit.pipeline.runner import Runner
from gankit.pipeline.targets import Job

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.fixture
def jobs(tmp_path):
    return [Job(tmp_path / f"{index}.png", tmp_path / "out" / f"{index}.png") for index in range(12)]


def image(path):
    return DecodedImage(np.full((4, 5, 3), int(path.stem), np.uint8))


def double(item, progress):
    progress(1.0)
    return DecodedImage(item.pixels.repeat(2, axis=0).repeat(2, axis=1))


def save(item, target):
    target.write_bytes(item.pixels.tobytes())


def runner(**options):
    return Runner(**{"decode": image, "work": double, "encode": save, "cost": lambda item: 100} | options)


@pytest.mark.parametrize(("decoders", "encoders"), [(1, 1), (3, 4)])
def test_each_image_is_done_once(jobs, decoders, encoders):
    states = []
    reports = runner(decoders=decoders, encoders=encoders, progress=states.append).run(jobs)
    assert [report.source for report in reports] == [job.source for job in jobs]
    assert {report.status for report in reports} == {"done"}
    assert {(report.input_size, report.output_size) for report in reports} == {((5, 4), (10, 8))}
    assert [job.target.read_bytes()[0] for job in jobs] == list(range(12))
    assert states[-1].done == 12
    assert states[-1].output_mp == pytest.approx(12 * 80 / 1e6)
    assert runner().run([]) == []


def shapes(item):
    return item.pixels.shape, 4


def batching(work, key=shapes):
    return Batching(key, work, largest=4)


def test_images_that_are_alike_share_a_call(jobs):
    """The first call waits until all are decoded, so that what then lies there is known."""
    calls, decoded = [], threading.Semaphore(0)

    def decode(path):
        decoded.release()
        wide = path.stem in ("5", "6", "7")
        return DecodedImage(np.full((4, 9 if wide else 5, 3), int(path.stem), np.uint8))

    def work(items):
        for _ in range(6 if not calls else 0):  # one in hand, four in the queue, one in the decoder's hands
            decoded.acquire(timeout=10)
        calls.append([int(item.pixels[0, 0, 0]) for item in items])
        return [double(item, lambda part: None) for item in items]

    reports = runner(
        decode=decode, work=lambda item, progress: work([item])[0], batching=batching(work), max_bytes=10**6
    ).run(jobs)
    assert {report.status for report in reports} == {"done"}
    assert [job.target.read_bytes()[0] for job in jobs] == list(range(12))
    assert sorted(itertools.chain(*calls)) == list(range(12))
    assert max(map(len, calls)) > 1
    assert all(len(call) <= 4 for call in calls)
    wide = {5, 6, 7}
    assert all(wide.issuperset(call) or wide.isdisjoint(call) for call in calls)


def test_where_a_call_of_several_fails_each_is_done_alone(jobs):
    def several(items):
        raise MemoryError

    def one(item, progress):
        if item.pixels[0, 0, 0] == 5:
            raise MemoryError
        return double(item, progress)

    reports = runner(work=one, batching=batching(several), max_bytes=10**6).run(jobs)
    assert [report.status for report in reports] == ["done"] * 5 + ["failed"] + ["done"] * 6

    def at_fault(items):
        raise ZeroDivisionError("ours")

    begun = threading.Event()

    def wait(item, progress):
        begun.wait(10)
        time.sleep(0.05)  # the others are decoded meanwhile
        return double(item, progress)

    def decode(path):
        if path.stem == "3":
            begun.set()
        return image(path)

    with pytest.raises(ZeroDivisionError, match="ours"):
        runner(decode=decode, work=wait, batching=batching(at_fault), max_bytes=10**6).run(jobs)


def test_a_broken_image_does_not_stop_the_others(jobs):
    def decode(path):
        if path.stem == "3":
            raise ImageError(path, "truncated")
        if path.stem == "4":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return image(path)

    def work(item, progress):
        if item.pixels[0, 0, 0] == 5:
            raise MemoryError
        return double(item, progress)

    def encode(item, target):
        if target.stem == "6":
            raise ImageError(target, "too wide for webp")
        save(item, target)

    reports = runner(decode=decode, work=work, encode=encode, max_bytes=150).run(jobs)
    failed = {report.source.stem: report.error for report in reports if report.status == "failed"}
    assert sorted(failed) == ["3", "4", "5", "6"]
    for stem, error in failed.items():
        assert f"{stem}.png" in error
        assert "\n" not in error
    assert "too large for the memory" in failed["5"]
    assert sum(report.status == "done" for report in reports) == 8


@pytest.mark.parametrize(
    "error", [OutputError("disk full"), OSError(errno.ENOSPC, "No space left on device"), PermissionError(13, "denied")]
)
def test_an_output_that_takes_no_more_stops_the_run(jobs, error):
    begun = []

    def decode(path):
        begun.append(path)
        return image(path)

    def encode(item, target):
        if item.pixels[0, 0, 0] == 2:
            raise error
        save(item, target)

    with pytest.raises(OutputError):
        runner(decode=decode, encode=encode, max_bytes=200).run(jobs)
    assert jobs[0].target.exists()
    assert jobs[1].target.exists()
    assert not jobs[2].target.exists()
    assert len(begun) < len(jobs)


@pytest.mark.parametrize("where", ["decode", "work", "encode", "progress"])
def test_a_fault_of_ours_keeps_its_traceback(jobs, where):
    def at_fault(*_):
        raise ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError, match="ours") as caught:
        runner(**{where: at_fault}).run(jobs)
    assert any(entry.name == "at_fault" for entry in caught.traceback)


def test_memory_that_the_engine_has_not_fails_one_image(jobs):
    def work(item, progress):
        if item.pixels[0, 0, 0] == 2:
            raise EngineMemoryError("out of memory on cuda with tile 512×512; use a smaller --tile")
        return double(item, progress)

    reports = runner(work=work).run(jobs)
    (failed,) = [report for report in reports if report.status == "failed"]
    assert failed.error == f"{jobs[2].source}: out of memory on cuda with tile 512×512; use a smaller --tile"


def test_an_engine_that_gives_up_ends_the_run(jobs):
    def work(item, progress):
        raise BackendError("out of memory")

    with pytest.raises(BackendError):
        runner(work=work).run(jobs)


def test_an_interrupt_lets_the_file_being_written_finish(jobs):
    writing = threading.Event()

    def encode(item, target):
        writing.set()
        time.sleep(0.3)
        save(item, target)

    def work(item, progress):
        if item.pixels[0, 0, 0] == 1:
            assert writing.wait(5)
            raise KeyboardInterrupt
        return double(item, progress)

    with pytest.raises(KeyboardInterrupt):
        runner(work=work, encode=encode).run(jobs)
    assert jobs[0].target.stat().st_size == 240
    assert not jobs[1].target.exists()


def test_a_stop_reaches_the_middle_of_a_image(jobs):
    """The engine may need minutes for one image; a full disk must not wait for it."""
    steps = []

    def work(item, progress):
        if item.pixels[0, 0, 0] == 1:
            for step in range(500):
                steps.append(step)
                progress(step / 500)
                time.sleep(0.01)
        return double(item, progress)

    def encode(item, target):
        raise OutputError("disk full")

    with pytest.raises(OutputError, match="disk full"):
        runner(work=work, encode=encode).run(jobs)
    assert len(steps) < 400


def test_images_in_flight_are_bounded(jobs):
    lock, held, most = threading.Lock(), 0, 0

    def decode(path):
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return image(path)

    def encode(item, target):
        nonlocal held
        time.sleep(0.01)
        with lock:
            held -= 1

    runner(decode=decode, encode=encode, max_bytes=250).run(jobs)
    assert most <= 3  # two within the bound, and the one that the decoder waits with


@pytest.mark.parametrize("fails", [False, True])
def test_threads_that_wait_keep_no_image(jobs, fails):
    """The last image waits for the decoder; until it is there, all others have to be gone."""
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

    def work(item, progress):
        if fails:
            raise ImageError("x.png", "no")
        return tracked(double(item, progress))

    runner(decode=decode, work=work, encoders=3).run(jobs)
    assert left == [0]


def test_a_stop_does_not_wait_for_broken_images(jobs):
    begun = []

    def decode(path):
        begun.append(path)
        if len(begun) > 1:
            time.sleep(0.02)
            raise ImageError(path, "broken")
        return image(path)

    def work(item, progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner(decode=decode, work=work).run(jobs)
    assert len(begun) < len(jobs) // 2


def test_a_image_above_the_bound_goes_alone(jobs):
    reports = runner(max_bytes=10).run(jobs)
    assert {report.status for report in reports} == {"done"}


@pytest.mark.parametrize(
    ("slow", "longest"), [("decode", "waited_to_decode"), ("encode", "waited_to_encode"), ("work", None)]
)
def test_the_state_says_for_what_the_engine_waited(jobs, slow, longest):
    plain = {"decode": image, "work": double, "encode": save}[slow]

    def slowly(*args):
        time.sleep(0.02)
        return plain(*args)

    states = []
    runner(**{slow: slowly, "progress": states.append}).run(jobs)
    waits = {name: getattr(states[-1], name) for name in ("waited_to_decode", "waited_to_encode")}
    seconds = 12 * 0.02
    assert states[-1].seconds >= seconds
    for name, waited in waits.items():
        assert (waited > seconds / 2) == (name == longest), waits
