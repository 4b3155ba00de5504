"""What is known of a clip before its frames are processed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gankit.errors import ImageError
from gankit.pipeline.journal import state_of
from gankit.video.colour import Colours, has_alpha
from gankit.video.library import library, readable

_SHIFTED = frozenset({"mpegts", "mpeg", "asf"})  # their clocks begin anywhere
# Parts of frames that PyAV gives to no encoder.
_LOST: Mapping[str, str] = MappingProxyType(
    {
        "MASTERING_DISPLAY_METADATA": "description of the mastering display (HDR10)",
        "CONTENT_LIGHT_LEVEL": "light level (HDR10)",
        "DYNAMIC_HDR_PLUS": "dynamic metadata (HDR10+)",
        "DOVI_METADATA": "Dolby Vision layer",
        "DOVI_RPU_BUFFER": "Dolby Vision layer",
        "A53_CC": "closed caption of broadcasts",
    }
)
_TOLERANCE = 0.3  # seconds by which the header of a complete file may be wrong


@dataclass(frozen=True)
class Clip:
    """A clip, as its file and its first frame describe it.

    Attributes:
        path: the file.
        stream: index of the stream that is processed.
        width: width of a frame in pixels, after the rotation.
        height: height of a frame in pixels, after the rotation.
        turns: quarter turns, counterclockwise, by which players rotate each frame.
        pixel_format: FFmpeg's name of the pixel format.
        colours: the colour tags.
        time_base: seconds of a tick of the stream's clock.
        rate: average frames per second.
        packets: number of packets of the stream, which is about the number of frames.
        seconds: duration of the stream.
        aspect: width of a pixel divided by its height, after the rotation.
        start: seconds that are taken off all times, because the clock of the container does not begin at 0.
        notes: a sentence for each part of the clip that a result cannot have.
    """

    path: Path
    stream: int
    width: int
    height: int
    turns: int
    pixel_format: str
    colours: Colours
    time_base: Fraction
    rate: Fraction
    packets: int
    seconds: float
    aspect: Fraction
    start: float = 0.0
    notes: tuple[str, ...] = ()


def open_clip(path: Path) -> Any:
    """Open a clip for reading, as PyAV's container.

    Raises:
        ImageError: If it cannot be read.
    """
    with readable(path):
        return library().open(str(path), metadata_errors="ignore")


def video_stream(container: Any, path: Path) -> Any:
    """Return the stream that is processed: the first one that is no cover image.

    Raises:
        ImageError: If there is none, or no decoder for it.
    """
    covers = library().stream.Disposition.attached_pic
    found = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not found:
        raise ImageError(path, "holds no video")
    if found[0].codec_context is None:
        raise ImageError(path, "its video is of a codec that FFmpeg cannot decode")
    return found[0]


def probe(path: Path) -> Clip:
    """Read the facts of a clip, and check that the file is complete, which reads it once without decoding it.

    Raises:
        ImageError: If the file is no video, cannot be decoded, or is incomplete.
    """
    packets, seconds = _scan(path)
    with open_clip(path) as container, readable(path):
        stream = video_stream(container, path)
        frame = _first_frame(container, stream, path)
        turns = round(frame.rotation / 90) % 4
        width, height = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        shifted = container.format.name in _SHIFTED
        return Clip(
            path=path,
            stream=stream.index,
            width=width,
            height=height,
            turns=turns,
            pixel_format=frame.format.name,
            colours=Colours.of(frame),
            time_base=Fraction(stream.time_base),
            rate=Fraction(rate),
            packets=packets,
            seconds=seconds,
            aspect=1 / aspect if turns % 2 else aspect,
            start=container.start_time / 1e6 if shifted and container.start_time else 0.0,
            notes=tuple(_notes(container, stream, frame)),
        )


def _scan(path: Path) -> tuple[int, float]:
    """Return the number of packets of the video and its duration in seconds.

    Raises:
        ImageError: If the file is incomplete.
    """
    count, first, last, end = 0, None, 0.0, 0.0
    with open_clip(path) as container, readable(path):
        stream = video_stream(container, path)
        state = state_of(path)
        size = 0 if state is None else state.size
        for each in container.streams:
            if any(entry.pos + entry.size > size for entry in each.index_entries):
                raise ImageError(path, "the file is incomplete: its index names frames beyond its end")
        for packet in container.demux():
            time = packet.pts if packet.pts is not None else packet.dts
            if not packet.size or time is None or packet.time_base is None:
                count += packet.stream_index == stream.index and bool(packet.size)
                continue
            begin = float(time * packet.time_base)
            stop = begin + float((packet.duration or 0) * packet.time_base)
            end = max(end, stop)
            if packet.stream_index == stream.index:
                count, last = count + 1, max(last, stop)
                first = begin if first is None else min(first, begin)
        stated = (container.duration or 0) / 1e6
        if "matroska" in container.format.name and stated - end > _TOLERANCE:
            raise ImageError(path, f"the file is incomplete: it ends after {end:.1f} of {stated:.1f} seconds")
    return count, last - (first or 0.0)


def _first_frame(container: Any, stream: Any, path: Path) -> Any:
    av = library()
    for packet in container.demux(stream):
        try:
            for frame in packet.decode():
                return frame
        except av.error.FFmpegError:
            continue  # a recording may begin between two key frames
    raise ImageError(path, "holds no frame that can be decoded")


def _notes(container: Any, stream: Any, frame: Any) -> list[str]:
    covers = library().stream.Disposition.attached_pic
    others = sum(not each.disposition & covers for each in container.streams.video) - 1
    notes = []
    if others > 0:
        notes.append(f"only the first of {others + 1} videos in the file is used")
    if has_alpha(frame.format):
        notes.append("its transparency is not kept")
    if frame.interlaced_frame:
        notes.append("its frames are interlaced; deinterlace the clip first for a better result")
    lost = dict.fromkeys(_LOST.get(_kind(each)) for each in frame.side_data)
    return [*notes, *(f"its {what} is not kept" for what in lost if what is not None)]


def _kind(data: Any) -> str:
    """Return the name of the type of a frame's side data; empty for a type that PyAV does not know."""
    try:
        return str(data.type.name)
    except ValueError:
        return ""
