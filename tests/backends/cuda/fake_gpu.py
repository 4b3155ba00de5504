"""A GPU made of the CPU that does its work as late, or in as strange an order, as the events between its lanes allow.

What a missing wait would spoil on a GPU now and then, it spoils here always: tensors hold garbage until the work that
fills them has run, and work that needs a tensor which nobody keeps alive is recorded as a fault.
"""

import random
import weakref

import torch

from gankit.backends.cuda.pinned import PinnedMemory
from gankit.backends.cuda.streams import Cuda, Recording


class FakeEvent:
    """An event: a position in a lane."""

    def __init__(self, gpu, lane):
        self.gpu, self.lane, self.position = gpu, lane, len(gpu.queues[lane])

    def query(self):
        self.gpu.advance()
        return self.gpu.ran[self.lane] >= self.position

    def synchronize(self):
        self.gpu.run(self.lane, self.position)


class FakeCuda(Cuda):
    """See above.

    Args:
        order: ``"late"`` runs only what somebody waits for, ``"early"`` runs everything at once, and a number is the
            seed of a random order.
        milliseconds: what timed events report.
        limit: bytes of pinned memory.
    """

    def __init__(self, order="late", milliseconds=1.0, limit=1 << 30):
        import threading

        self.lock = threading.RLock()
        self.order, self.reported = order, milliseconds
        self.random = random.Random(order)
        self.queues = {"into": [], "compute": [], "out": []}
        self.ran = dict.fromkeys(self.queues, 0)
        self.pinned = PinnedMemory(limit, lambda size: garbage(torch.empty(size, dtype=torch.uint8)))
        self.pinned_by_caller = set()
        self.faults, self.captures, self.replays, self.emptied = [], [], 0, 0
        self.capture_error = None

    def run(self, lane, position):
        """Run a lane up to a position, and whatever it waits for."""
        with self.lock:
            while self.ran[lane] < position:
                work = self.queues[lane][self.ran[lane]]
                self.ran[lane] += 1
                with torch.inference_mode():
                    work()

    def advance(self):
        """Run as much as the order wants to run now."""
        with self.lock:
            for lane, queue in self.queues.items():
                if self.order == "early":
                    self.run(lane, len(queue))
                elif self.order != "late" and self.random.random() < 0.5:
                    self.run(lane, self.random.randint(self.ran[lane], len(queue)))

    def queue(self, lane, work):
        self.queues[lane].append(work)
        self.advance()

    def is_pinned(self, tensor):
        return tensor.data_ptr() in self.pinned_by_caller

    def upload(self, host, lane):
        made = garbage(torch.empty_like(host))
        source, target = self.watched("upload from", host), self.watched("upload to", made)
        self.queue(lane, lambda: copy(source(), target()))
        return made

    def download(self, source, host, lane):
        taken, target = self.watched("download from", source), self.watched("download to", host)
        self.queue(lane, lambda: copy(taken(), target()))

    def call(self, function, given):
        made = function(*given)
        for item in made:
            garbage(item)
        inputs = [self.watched("input", item) for item in given]
        outputs = [self.watched("output", item) for item in made]

        def work():
            values = [item() for item in inputs]
            if all(item is not None for item in values):
                for target, value in zip(outputs, function(*values), strict=True):
                    copy(value, target())

        self.queue("compute", work)
        return made

    def empty(self, shape, dtype):
        return garbage(torch.empty(shape, dtype=dtype, memory_format=torch.channels_last))

    def paste(self, canvas, tiles, moves):
        source, target = self.watched("paste from", tiles), self.watched("paste to", canvas)

        def work():
            values, image = source(), target()
            if values is not None and image is not None:
                for move in moves:
                    move.copy(values, image)

        self.queue("compute", work)

    def record(self, lane, *, timed=False):
        return FakeEvent(self, lane)

    def wait(self, lane, event):
        self.queue(lane, event.synchronize)

    def capture(self, function, given, pool):
        if self.capture_error is not None:
            raise self.capture_error
        self.captures.append([tuple(item.shape) for item in given])
        inputs = tuple(garbage(torch.empty_like(item)) for item in given)
        return Recording(function, inputs, function(*inputs))

    def replay(self, recording, given):
        self.replays += 1
        for held, item in zip(recording.given, given, strict=True):
            taken = self.watched("input", item)
            self.queue("compute", lambda held=held, taken=taken: copy(taken(), held))

        def work():
            for target, value in zip(recording.made, recording.graph(*recording.given), strict=True):
                target.copy_(value)

        self.queue("compute", work)
        results = []
        for made in recording.made:
            results.append(garbage(torch.empty_like(made)))
            target = self.watched("output", results[-1])
            self.queue("compute", lambda made=made, target=target: copy(made, target()))
        return tuple(results)

    def graph_pool(self):
        return object()

    def milliseconds(self, before, after):
        assert before.query()
        assert after.query()
        return self.reported

    def synchronize(self):
        for lane, queue in self.queues.items():
            self.run(lane, len(queue))

    settle = synchronize

    def empty_cache(self):
        self.emptied += 1

    def watched(self, role, tensor):
        """A weak reference to a tensor that must be alive when the work that needs it runs."""
        found, shape = weakref.ref(tensor), tuple(tensor.shape)

        def get():
            alive = found()
            if alive is None:
                self.faults.append(f"{role} {shape} was released before it was used")
            return alive

        return get


def copy(source, target):
    if source is not None and target is not None:
        target.copy_(source)


def garbage(tensor):
    """Fill a tensor with what no test expects; classes must exist."""
    values = {torch.bool: 0, torch.int64: 1}
    with torch.inference_mode():
        return tensor.fill_(float("nan") if tensor.is_floating_point() else values.get(tensor.dtype, 119))
