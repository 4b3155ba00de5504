"""The frames of a clip, one at a time, with their times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from gankit.errors import ImageError
from gankit.video.clip import Clip, open_clip
from gankit.video.colour import Converter
from gankit.video.library import library


@dataclass(frozen=True)
class TimedFrame:
    """A frame of FFmpeg.

    Attributes:
        pts: time at which it is shown, in ticks.
        duration: ticks until the next frame, as far as the file says; at least 1.
        frame: the frame.
    """

    pts: int
    duration: int
    frame: Any


def decoded(clip: Clip) -> Iterator[TimedFrame]:
    """Yield the frames of a clip in the order in which they are shown. Times rise by at least one tick.

    Raises:
        ImageError: If a frame cannot be decoded.
    """
    av = library()
    usual = max(1, round(1 / (clip.rate * clip.time_base)))
    last: int | None = None
    with open_clip(clip.path) as container:
        stream = container.streams[clip.stream]
        stream.thread_type = "AUTO"
        packets = iter(container.demux(stream))
        while True:
            try:
                packet = next(packets, None)
                frames = [] if packet is None else packet.decode()
            except av.error.FFmpegError as error:
                if last is None and isinstance(error, av.error.InvalidDataError):
                    continue  # a recording may begin between two key frames
                at = 0.0 if last is None else float(last * clip.time_base)
                reason = (error.strerror or str(error)).lower()
                raise ImageError(clip.path, f"cannot be decoded after {at:.1f} s: {reason}") from error
            if packet is None:
                return
            for frame in frames:
                pts = frame.pts if frame.pts is not None else (0 if last is None else last + usual)
                last = pts if last is None else max(pts, last + 1)
                yield TimedFrame(last, frame.duration or usual, frame)


def at_rate(frames: Iterable[TimedFrame], time_base: Fraction, rate: Fraction) -> Iterator[TimedFrame]:
    """Repeat and leave out frames, so that they have a constant rate: each is shown at the nearest tick of 1/rate.

    Args:
        frames: the frames.
        time_base: seconds of a tick of their times.
        rate: frames per second.

    Yields:
        Frames whose times count ticks of 1/rate.
    """
    waiting: TimedFrame | None = None
    first = next_tick = 0
    for each in frames:
        tick = _nearest(each.pts * time_base * rate)
        if waiting is None:
            first = next_tick = tick
        while waiting is not None and next_tick < tick:
            yield TimedFrame(next_tick, 1, waiting.frame)
            next_tick += 1
        waiting = each
    if waiting is not None:
        end = max(first + 1, _nearest((waiting.pts + waiting.duration) * time_base * rate))
        for tick in range(next_tick, end):
            yield TimedFrame(tick, 1, waiting.frame)


def _nearest(time: Fraction) -> int:
    return math.floor(time + Fraction(1, 2))


def upright(frame: Any, clip: Clip, converter: Converter) -> np.ndarray:
    """Return the pixels of a frame as (H, W, 3) RGB, rotated as players show them.

    Raises:
        ImageError: If the frame has another size than the first one.
    """
    pixels = converter.to_rgb(frame)
    if clip.turns:
        pixels = np.ascontiguousarray(np.rot90(pixels, clip.turns))
    if pixels.shape[:2] != (clip.height, clip.width):
        height, width = pixels.shape[:2]
        raise ImageError(
            clip.path,
            f"its frames change from {clip.width}×{clip.height} to {width}×{height}; cut the clip there first",
        )
    return pixels
