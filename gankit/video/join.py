"""Put the segments of a result into its container, beside everything else that the source holds.

Sound, subtitles, cover images and attachments are copied as they are, packet by packet, with their times. Both files
are read side by side, so that the memory does not depend on the length of the clip.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from typing import Any

from gankit_export.files import atomic_path

from gankit.errors import ImageError
from gankit.video.clip import Clip, open_clip
from gankit.video.encode import Plan, configure, container_of
from gankit.video.library import library, readable, writable
from gankit.video.segments import Segment, WorkFolder

_OF_THE_FILE = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder", "duration"})
_STATISTICS = ("bps", "duration", "number_of_", "_statistics_", "encoder", "rotate", "vendor_id")


def join(clip: Clip, plan: Plan, work: WorkFolder, *, metadata: bool = True) -> tuple[str, ...]:
    """Write the result. It appears whole or not at all.

    Args:
        clip: the source.
        plan: how the result was encoded.
        work: the segments.
        metadata: whether to copy the title, the chapters and the other metadata.

    Returns:
        A sentence for each part of the source that the container cannot hold.

    Raises:
        OutputError: If the result cannot be written.
        ImageError: If the source cannot be read, or the segments do not fit each other.
    """
    segments = work.segments()
    with (
        writable(plan.path),
        atomic_path(plan.path, sync=True, suffix=plan.path.suffix) as temporary,
        ExitStack() as stack,
    ):
        source = stack.enter_context(open_clip(clip.path))
        target = stack.enter_context(_open_target(str(temporary), plan))
        video, copied, notes = _streams(source, target, clip, plan, metadata=metadata)
        target.start_encoding()
        own = bytes(video.codec_context.extradata or b"").hex()
        if any(segment.extradata not in ("", own) for segment in segments):
            work.clear()
            raise ImageError(clip.path, "its segments were encoded in different ways; run the command again")
        moved = _video_packets(video, work, segments, round(clip.start / plan.time_base))
        others = _copied_packets(source, copied, clip)
        for packet in heapq.merge(moved, others, key=_decode_time):
            target.mux(packet)
    return tuple(notes)


def _open_target(path: str, plan: Plan) -> Any:
    container, options = container_of(plan.path), {}
    if container in ("mp4", "mov"):
        options["movflags"] = "+faststart"
        if plan.time_base.numerator == 1:
            options["video_track_timescale"] = str(plan.time_base.denominator)
    return library().open(path, "w", format=container, options=options, metadata_errors="ignore")


def _streams(
    source: Any, target: Any, clip: Clip, plan: Plan, *, metadata: bool
) -> tuple[Any, dict[int, Any], list[str]]:
    """Add the streams of the source to the target, in their order.

    Returns:
        The stream of the result's frames, the streams of copied packets by their index in the source, and a sentence
        for each stream that is left out.
    """
    av = library()
    covers = av.stream.Disposition.attached_pic
    copied: dict[int, Any] = {}
    notes: list[str] = []
    video = None
    for stream in source.streams:
        if stream.index == clip.stream:
            video = target.add_stream(plan.encoder, rate=plan.rate)
            configure(video.codec_context, plan)
            video.time_base = plan.time_base
            made = video
        elif stream.type == "attachment":
            if clip.path.suffix.lower() != ".mkv" or plan.path.suffix.lower() != ".mkv":
                notes.append(_left_out(stream, plan))
            else:
                target.add_attachment(stream.name or "attachment", stream.mimetype or "", stream.data)
            continue
        elif stream.type in ("audio", "subtitle") or (stream.type == "video" and stream.disposition & covers):
            try:
                made = target.add_stream_from_template(stream, opaque=True)
            except (ValueError, av.error.FFmpegError):
                notes.append(_left_out(stream, plan))
                continue
            copied[stream.index] = made
        else:
            # The clip's own notes name further videos. What is never shown are the chapters, which are copied apart.
            if stream.type != "video" and stream.discard != av.stream.Discard.all:
                notes.append(_left_out(stream, plan))
            continue
        made.disposition = stream.disposition
        if metadata:
            made.metadata.update(_metadata(stream.metadata, _STATISTICS))
        elif "language" in stream.metadata:
            made.metadata["language"] = stream.metadata["language"]
    assert video is not None
    if metadata:
        target.metadata.update(
            {key: value for key, value in source.metadata.items() if key.lower() not in _OF_THE_FILE}
        )
        target.set_chapters([_shifted(chapter, clip.start) for chapter in source.chapters()])
    return video, copied, notes


def _metadata(given: dict[str, str], without: Sequence[str]) -> dict[str, str]:
    return {key: value for key, value in given.items() if not key.lower().startswith(tuple(without))}


def _shifted(chapter: dict[str, Any], seconds: float) -> dict[str, Any]:
    ticks = round(seconds / chapter["time_base"])
    return {**chapter, "start": chapter["start"] - ticks, "end": chapter["end"] - ticks}


def _left_out(stream: Any, plan: Plan) -> str:
    codec = "" if stream.codec_context is None else f" ({stream.codec_context.name})"
    kind = {"subtitle": "subtitles", "attachment": "an attachment", "data": "a data stream", "audio": "sound"}
    return f"{kind.get(stream.type, stream.type)}{codec} cannot be kept in {plan.path.suffix}"


def decode_times(shown: Sequence[int], decoded: Sequence[int]) -> list[int]:
    """Return a time of decoding for each packet: strictly rising, and never after the packet is shown.

    These are the sorted times of showing, later by as many frames as the encoder reorders. The first packets get times
    before the first frame, in steps of the first frame's duration.

    Args:
        shown: times at which the frames are shown, rising.
        decoded: the same times in the order of the packets.
    """
    rank = {pts: index for index, pts in enumerate(shown)}
    depth = max((index - rank[pts] for index, pts in enumerate(decoded)), default=0)
    step = shown[1] - shown[0] if len(shown) > 1 else 1
    before = [shown[0] - (depth - index) * step for index in range(min(depth, len(shown)))]
    return before + list(shown[: len(shown) - len(before)])


def _video_packets(stream: Any, work: WorkFolder, segments: Sequence[Segment], shift: int) -> Iterator[Any]:
    """Yield the packets of the segments, with times that suit the whole result."""
    shown = [pts for segment in segments for pts in segment.frames]
    order = [pts for segment in segments for pts, _, _ in segment.packets]
    dts = iter(decode_times(shown, order))
    until = dict(zip(shown, [*shown[1:], segments[-1].end], strict=True))
    for index in range(len(segments)):
        for each in work.packets(index):
            packet = library().Packet(each.data)
            packet.stream, packet.time_base = stream, Fraction(stream.codec_context.time_base)
            packet.pts, packet.dts = each.pts - shift, next(dts) - shift
            packet.duration = max(1, until[each.pts] - each.pts)
            packet.is_keyframe = each.key
            yield packet


def _copied_packets(source: Any, copied: dict[int, Any], clip: Clip) -> Iterator[Any]:
    """Yield the packets of the other streams, in the order of the file."""
    if not copied:
        return
    with readable(clip.path):
        for packet in source.demux([source.streams[index] for index in copied]):
            if not packet.size or (packet.pts is None and packet.dts is None):
                continue
            shift = round(clip.start / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
            packet.stream = copied[packet.stream_index]
            yield packet


def _decode_time(packet: Any) -> float:
    time = packet.dts if packet.dts is not None else packet.pts
    return float(time * packet.time_base)
