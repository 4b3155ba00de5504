"""Images by strips: what overlaps, how much is in flight, how a run ends, and what its report says."""

import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

import gankit
from gankit.backends.base import EngineMemoryError
from gankit.images import encode, from_array
from gankit.images.row_image import RowImage
from gankit.models.facts import Facts
from gankit.pipeline import job_run, large, run_state, runner, stages, strip_run, strips
from gankit.pipeline.processor import Processor
from tests.pipeline.strip_runs import both, samples, upscaler

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

PLAIN = Facts(task="upscale", scale=4, value_range=(0, 1))


@pytest.fixture
def source(tmp_path):
    encode(from_array(np.concatenate([samples(3)] * 4)), tmp_path / "a.tif")
    return tmp_path / "a.tif"


def in_flight(monkeypatch, count):
    """Let so many strips be in flight, whatever the memory is."""
    plan = strips.plan_strips
    monkeypatch.setattr(strips, "plan_in_flight", lambda *given: (plan(*given, in_flight=count), count))


def watched(monkeypatch, before, after=lambda number: None):
    """Call functions with the number of each strip in the thread of the writer, before and after it is written."""
    write = large.encode_rows

    def encode_rows(head, size, made, path, **options):
        def seen():
            for number, strip in enumerate(made):
                before(number)
                yield strip
                after(number)

        return write(head, size, seen(), path, **options)

    monkeypatch.setattr(large, "encode_rows", encode_rows)


def test_a_strip_is_computed_and_one_is_read_while_another_is_written(source, tmp_path, by_strips, monkeypatch):
    computed, read = threading.Semaphore(0), threading.Semaphore(0)
    colours, reading = Processor.colours, strip_run.read_strips

    def counted(self, *given, **options):
        result = colours(self, *given, **options)
        computed.release()
        return result

    def arriving(*given):
        for rows in reading(*given):
            read.release()
            yield rows

    def written(number):
        if number == 0:  # it waits for what can only happen if nobody waits for the writer
            assert all(computed.acquire(timeout=60) for _ in range(2))
            assert all(read.acquire(timeout=60) for _ in range(3))

    monkeypatch.setattr(Processor, "colours", counted)
    monkeypatch.setattr(strip_run, "read_strips", arriving)
    in_flight(monkeypatch, 2)
    watched(monkeypatch, written)
    both(source, tmp_path, by_strips)


@pytest.mark.parametrize("count", [1, 2])
def test_no_more_strips_are_in_flight(source, tmp_path, by_strips, monkeypatch, count):
    """A strip counts from the first of its blocks until the writer asks for the next one."""
    begun, ended, most = 0, 0, 0
    colours = Processor.colours

    def counted(self, *given, **options):
        nonlocal begun, most
        begun += 1
        most = max(most, begun - ended)
        return colours(self, *given, **options)

    def written(number):
        nonlocal ended
        ended = number + 1

    in_flight(monkeypatch, count)
    watched(monkeypatch, lambda number: None, written)
    by_strips()
    monkeypatch.setattr(Processor, "colours", counted)
    with upscaler() as it:
        image = it.run(source, tmp_path / "out").images[0]
    assert image.status == "done"
    assert begun == image.strips > 3
    assert most <= count


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("channels", [3, 4])
def test_the_pixels_are_the_same(tmp_path, by_strips, monkeypatch, count, channels):
    encode(from_array(samples(channels)), tmp_path / "a.tif")
    in_flight(monkeypatch, count)
    both(tmp_path / "a.tif", tmp_path, by_strips)


def left_of(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".gankit.jsonl")


def test_a_disk_that_is_full_after_some_strips_ends_the_run(source, tmp_path, by_strips, monkeypatch):
    def written(number):
        if number == 2:
            raise OSError(28, "No space left on device")

    watched(monkeypatch, written)
    by_strips()
    with upscaler() as it:
        with pytest.raises(gankit.OutputError, match="No space left on device; free some space"):
            it.run(source, tmp_path / "out", format="png")
        assert it.report.totals.done == 0
    assert left_of(tmp_path / "out") == []


def test_ctrl_c_in_the_engine_leaves_nothing(source, tmp_path, by_strips, monkeypatch):
    colours, calls = Processor.colours, []

    def interrupted(self, *given, **options):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return colours(self, *given, **options)

    by_strips()
    with upscaler() as it:
        monkeypatch.setattr(Processor, "colours", interrupted)
        with pytest.raises(KeyboardInterrupt):
            it.run(source, tmp_path / "out", format="png")
    assert left_of(tmp_path / "out") == []


@pytest.mark.parametrize("where", ["reader", "engine"])
def test_an_error_of_one_image_is_told_and_the_run_goes_on(source, tmp_path, by_strips, monkeypatch, where):
    encode(from_array(samples(3)), tmp_path / "b.tif")
    colours, reading, state = Processor.colours, strip_run.read_strips, {"calls": 0}

    def arriving(image, *given):
        for number, rows in enumerate(reading(image, *given)):
            if number == 3 and image.path == source and where == "reader":
                raise gankit.ImageError(source, "the file ends before its pixels do; it is truncated")
            yield rows

    def short_of_memory(self, *given, **options):
        state["calls"] += 1
        if where == "engine" and state["calls"] == 3:
            raise EngineMemoryError("out of memory on cpu; free some memory or use another --device")
        return colours(self, *given, **options)

    monkeypatch.setattr(strip_run, "read_strips", arriving)
    by_strips()
    with upscaler() as it:
        monkeypatch.setattr(Processor, "colours", short_of_memory)
        bad, good = it.run([source, tmp_path / "b.tif"], tmp_path / "out", format="png").images
    assert (bad.status, good.status) == ("failed", "done")
    assert (
        bad.error
        == f"{source}: "
        + {
            "reader": "the file ends before its pixels do; it is truncated",
            "engine": "out of memory on cpu; free some memory or use another --device",
        }[where]
    )
    assert left_of(tmp_path / "out") == ["b.png"]


def test_a_crop_needs_no_strips_below_it(tmp_path, by_strips):
    encode(from_array(samples(3)), tmp_path / "a.tif")
    both(tmp_path / "a.tif", tmp_path, by_strips, run={"width": 100, "height": 20, "fit": "cover"})


class Clock:
    """Seconds that only the stages advance."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        for module in (job_run, large, run_state, runner, stages, strip_run):
            monkeypatch.setattr(module, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def timed(source, tmp_path, by_strips, monkeypatch, clock):
    """Runs an image whose stages take so many seconds for each strip, one after the other; returns the report."""

    def run(reading, computing, writing, looking=0.0, progress=None):
        colours, read, look = Processor.colours, strip_run.read_strips, strips.look
        waiting, waits = stages.Stage.waiting, {"read": threading.Event(), "run": threading.Event()}

        @contextmanager
        def waited(self, what):
            with waiting(self, what):
                if what in waits:
                    waits[what].set()
                yield

        def arriving(*given):
            assert all(each.wait(60) for each in waits.values())  # engine and writer wait from the beginning
            for rows in read(*given):
                clock.now += reading
                yield rows

        def looked(image):
            clock.now += looking
            return look(image)

        def computed(self, *given, **options):
            clock.now += computing
            return colours(self, *given, **options)

        def written(number):
            clock.now += writing

        monkeypatch.setattr(stages.Stage, "waiting", waited)
        monkeypatch.setattr(strip_run, "read_strips", arriving)
        monkeypatch.setattr(strips, "look", looked)
        in_flight(monkeypatch, 1)
        watched(monkeypatch, written)
        by_strips()
        with upscaler() as it:
            monkeypatch.setattr(Processor, "colours", computed)
            return it.run(source, tmp_path / "out", format="png", progress=progress)

    return run


@pytest.mark.parametrize(
    ("seconds", "bottleneck"),
    [((1, 1, 5), "encoder"), ((1, 5, 1), "engine"), ((5, 1, 1), "decoder")],
    ids=["encoder", "engine", "decoder"],
)
def test_the_report_says_for_what_the_engine_waited(timed, seconds, bottleneck):
    report = timed(*seconds, looking=2.0)
    image = report.images[0]
    reading, computing, writing = (each * image.strips for each in seconds)
    spent = image.decode_seconds, image.engine_seconds, image.encode_seconds
    assert spent == pytest.approx((reading + 2, computing, writing))
    assert (report.waits.decode_seconds, report.waits.encode_seconds) == pytest.approx((reading + 2, writing))
    whole = replace(report, seconds=reading + computing + writing + 2).totals
    assert whole.engine_share == pytest.approx(computing / (reading + computing + writing + 2))
    assert whole.bottleneck == bottleneck


@pytest.mark.parametrize("seconds", [(1, 1, 9), (1, 9, 1), (3, 3, 3)], ids=["encoder", "engine", "equal"])
@pytest.mark.parametrize("looking", [0.0, 30.0])
def test_the_time_left_is_right_half_way(timed, clock, seconds, looking):
    """Also if the first reading, of which nothing is known before, takes a quarter of the time."""
    seen = []
    timed(*seconds, looking=looking, progress=lambda state: seen.append((clock.now, state)))
    now, half = min(seen, key=lambda each: abs(each[0] - clock.now / 2))
    assert now == pytest.approx(clock.now / 2, rel=0.2)
    assert half.seconds_left == pytest.approx(clock.now - now, rel=0.2)
    parts = [state.part for _, state in seen]
    assert parts == sorted(parts)
    assert seen[-1][1].part == 1.0


def plans(width, height, halo, room, count=1, channels=3):
    head = from_array(np.zeros((1, 1, channels), np.uint8))
    image = RowImage("a.png", width, height, head, 1 << 20, lambda: iter(()))
    return strips.plan_strips(image, PLAIN, halo, room, in_flight=count)


@pytest.mark.parametrize("width", [3000, 7001, 12000])
@pytest.mark.parametrize("halo", [2, 19, 40])
@pytest.mark.parametrize("room", [500e6, 1000e6, 1700e6])
def test_strips_and_blocks_are_even(width, halo, room):
    """The last of them is shifted inwards. If the others left it little, it would repeat nearly all of its work."""
    cut = plans(width, 2000, halo, int(room))
    rows, columns = ({getattr(box, axis) for box in cut.boxes} for axis in ("down", "across"))
    for spans, length, size in ((rows, 2000, cut.tile[0]), (columns, width, cut.tile[1])):
        assert len(spans) * (size - 2 * halo) + 2 * halo - length < len(spans)


def test_strips_are_less_tall_before_they_are_refused():
    """A large halo leaves a third of the memory for the results where their blocks need the most."""
    cut = plans(3000, 2000, 348, 10**9)
    assert 2 * 348 < cut.tile[0] < 2000
    with pytest.raises(gankit.GankitError, match="use a larger --max-memory"):
        plans(3000, 2000, 348, 3 * 10**8)


def test_one_strip_is_in_flight_where_two_would_repeat_much_work():
    head = from_array(np.zeros((1, 1, 4), np.uint8))
    image = RowImage("a.png", 12000, 3000, head, 1 << 20, lambda: iter(()))
    counts = [strips.plan_in_flight(image, PLAIN, 40, room * 10**6)[1] for room in (500, 8000)]
    assert counts == [1, 2]
