"""Run one clip: decode, compute and encode at the same time, in bounded memory, one segment after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from gankit.errors import ImageError
from gankit.images.decoded import from_array
from gankit.pipeline.flow import Budget, Channel, Stop, Stopped
from gankit.pipeline.resize import OutputSize
from gankit.video.clip import Clip
from gankit.video.colour import Converter
from gankit.video.decode import TimedFrame, at_rate, decoded, upright
from gankit.video.encode import Plan, SegmentEncoder
from gankit.video.progress import ClipProgress
from gankit.video.segments import Segment, WorkFolder

_WAITING = 16  # frames between two threads
_MOST_PIXELS = 64 << 20  # of the results of one call


@dataclass(frozen=True)
class ClipFacts:
    """What became of a clip.

    Attributes:
        frames: frames of the result.
        computed: frames that went through the engine, in this run and in those before that it continued.
        resumed: frames that an earlier run had encoded.
        decode_seconds: time in the decoder.
        engine_seconds: time in the engine.
        encode_seconds: time in the encoder.
        waited_seconds: time in which the engine could not go on, or had ended, because frames were still encoded.
    """

    frames: int = 0
    computed: int = 0
    resumed: int = 0
    decode_seconds: float = 0.0
    engine_seconds: float = 0.0
    encode_seconds: float = 0.0
    waited_seconds: float = 0.0


@dataclass
class _Item:
    """A frame between the threads. ``pixels`` are those of the source, and later those of the result."""

    pts: int
    duration: int
    pixels: np.ndarray
    cost: int
    computed: bool = True


@dataclass
class ClipRun:
    """Makes the segments of one clip.

    Attributes:
        clip: the source.
        plan: how the result is encoded.
        work: where its segments go.
        network: runs frames, (H, W, 3) or (N, H, W, 3), through the engine.
        batch: returns how many frames a call may take.
        scale: scale of the network.
        size: size of the result.
        segment: frames of a segment.
        max_bytes: largest number of bytes of frames in flight.
        progress: called with the state after each frame, from any thread, one call at a time.
    """

    clip: Clip
    plan: Plan
    work: WorkFolder
    network: Callable[[np.ndarray], np.ndarray]
    batch: Callable[[], int]
    scale: int
    size: OutputSize
    segment: int
    max_bytes: int
    progress: Callable[[ClipProgress], None] | None = None
    _facts: ClipFacts = field(default=ClipFacts(), init=False)
    _began: float = field(default=0.0, init=False)
    _complete: bool = field(default=False, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def run(self) -> ClipFacts:
        """Make the segments that are missing.

        Raises:
            ImageError: If the clip cannot be decoded or encoded.
            OutputError: If a segment cannot be written.
            NotFiniteError, MemoryError: If a frame fails.
        """
        done = self.work.segments()
        if done and len(done[-1].frames) < self.segment:  # it is the last one
            return self._resumed(done)
        self._facts, self._began = self._resumed(done), perf_counter()
        known = [pts for segment in done for pts in segment.frames]
        feeding, writing = Stop(), Stop()
        incoming: Channel[_Item] = Channel(_WAITING, feeding)
        outgoing: Channel[_Item] = Channel(_WAITING, writing)
        budget = Budget(self.max_bytes, feeding)
        decode, encode = ((self._decode, known, incoming, budget), (self._encode, len(done), outgoing, budget))
        threads = [
            threading.Thread(target=_guard, args=((feeding,), *decode), name="decode-clip"),
            threading.Thread(target=_guard, args=((writing, feeding), *encode), name="encode-clip"),
        ]
        try:
            for thread in threads:
                thread.start()
            self._compute(incoming, outgoing)
            self._complete = True
        except Stopped:
            pass  # the cause is raised below, once all threads have ended
        finally:
            feeding()
            outgoing.close()  # what was computed is still encoded, so that a later run need not compute it again
            ended = perf_counter()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            self._add_seconds(waited_seconds=perf_counter() - ended)
        for stop in (writing, feeding):
            if stop.cause is not None:
                raise stop.cause
        return self._facts

    def _resumed(self, done: Sequence[Segment]) -> ClipFacts:
        frames = sum(len(segment.frames) for segment in done)
        return ClipFacts(frames, sum(segment.computed for segment in done), frames)

    def _frames(self) -> Iterator[TimedFrame]:
        frames = decoded(self.clip)
        return at_rate(frames, self.clip.time_base, self.plan.rate) if self.plan.resampled else frames

    def _decode(self, known: Sequence[int], incoming: Channel[_Item], budget: Budget) -> None:
        converter = Converter(self.plan.colours, self.clip.path)
        last: Any = None
        pixels: np.ndarray | None = None
        began = perf_counter()
        for index, each in enumerate(self._frames()):
            if index < len(known):
                if each.pts != known[index]:
                    self.work.clear()
                    raise ImageError(self.clip.path, "its frames have other times than before; run the command again")
                continue
            if pixels is None or each.frame is not last:  # --fps may repeat a frame
                last, pixels = each.frame, upright(each.frame, self.clip, converter)
            self._add_seconds(decode_seconds=perf_counter() - began)
            cost = pixels.nbytes * (1 + self.scale**2)
            budget.take(cost)
            incoming.put(_Item(each.pts, each.duration, pixels, cost))
            began = perf_counter()
        incoming.close()

    def _compute(self, incoming: Channel[_Item], outgoing: Channel[_Item]) -> None:
        source: np.ndarray | None = None  # of the last frame that was computed
        result: np.ndarray | None = None
        pixels = self.clip.width * self.clip.height * self.scale**2
        most = max(1, min(_WAITING, self.batch(), _MOST_PIXELS // pixels))
        for first in incoming:
            items = [first]
            while len(items) < most and (item := incoming.take(lambda item: True)) is not None:
                items.append(item)
            began = perf_counter()
            new: list[np.ndarray] = []
            for item in items:
                item.computed = source is None or not _equal(item.pixels, source)
                if item.computed:
                    source = item.pixels
                    new.append(source)
            made = iter(self._results(new))
            ended = perf_counter()
            self._add_seconds(engine_seconds=ended - began)
            for item in items:
                if item.computed:
                    result = next(made)
                assert result is not None
                item.pixels = result
                outgoing.put(item)
            self._add_seconds(waited_seconds=perf_counter() - ended)

    def _results(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        if not frames:
            return []
        if len(frames) == 1:
            return [_three(self.network(frames[0]))]
        return [_three(result) for result in self.network(np.stack(frames))]

    def _encode(self, index: int, outgoing: Channel[_Item], budget: Budget) -> None:
        converter = Converter(self.plan.colours, self.clip.path)
        encoder: SegmentEncoder | None = None
        computed = end = 0
        for item in outgoing:
            began = perf_counter()
            encoder = encoder or SegmentEncoder(self.plan, converter)
            image = self.size.resized(from_array(item.pixels), self.scale)
            encoder.add(image.pixels, item.pts)
            computed, end = computed + item.computed, item.pts + item.duration
            if len(encoder.pts) == self.segment:
                self._write(index, encoder, computed, end)
                index, encoder, computed = index + 1, None, 0
            self._add_seconds(encode_seconds=perf_counter() - began)
            self._count(item)
            cost = item.cost
            del item, image
            budget.give(cost)
        if encoder is not None and self._complete:  # otherwise, this segment lacks frames
            self._write(index, encoder, computed, end)

    def _write(self, index: int, encoder: SegmentEncoder, computed: int, end: int) -> None:
        encoder.finish()
        packets = [(packet.pts, packet.key, len(packet.data)) for packet in encoder.packets]
        segment = Segment(tuple(encoder.pts), computed, end, encoder.extradata.hex(), packets)
        self.work.add(index, segment, encoder.packets)

    def _add_seconds(self, **seconds: float) -> None:
        with self._lock:
            added = {name: getattr(self._facts, name) + value for name, value in seconds.items()}
            self._facts = replace(self._facts, **added)

    def _count(self, item: _Item) -> None:
        with self._lock:
            computed = self._facts.computed + item.computed
            self._facts = replace(self._facts, frames=self._facts.frames + 1, computed=computed)
        if self.progress is None:
            return
        frames, seconds = self._facts.frames, perf_counter() - self._began
        total = round(self.clip.seconds * self.plan.rate) if self.plan.resampled else self.clip.packets
        made = frames - self._facts.resumed
        self.progress(
            ClipProgress(
                total=max(total, frames),
                done=frames,
                output_mp=made * self.plan.width * self.plan.height / 1e6,
                seconds=seconds,
                current=Path(self.clip.path.name),
                frames_per_second=made / seconds if seconds else 0.0,
            )
        )


def _guard(stops: Sequence[Stop], body: Callable[..., None], *args: object) -> None:
    """Run the body of a thread. An exception stops what waits for this thread, and the run raises it."""
    try:
        body(*args)
    except Stopped:
        pass
    except BaseException as error:
        for stop in stops:
            stop(error)


def _equal(first: np.ndarray, second: np.ndarray) -> bool:
    return first is second or np.array_equal(first, second)


def _three(pixels: np.ndarray) -> np.ndarray:
    """Return the result of a network as (H, W, 3); it may be gray."""
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
