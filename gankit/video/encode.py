"""Encode the frames of a result, one segment after the other."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from gankit.errors import UsageError, hint
from gankit.images.decoded import to_uint8
from gankit.video.clip import Clip
from gankit.video.colour import Colours, Converter, Layout, depth_of, pixel_format_for
from gankit.video.library import library, writable
from gankit.video.options import VideoOptions

_SUGGESTED = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks")


@dataclass(frozen=True)
class Plan:
    """How a result is encoded.

    Attributes:
        path: the result.
        encoder: FFmpeg's name of the encoder.
        options: its options.
        pixel_format: FFmpeg's name of the pixel format.
        width: width in pixels, even where the encoder needs it.
        height: height in pixels.
        time_base: seconds of a tick of the frames' times.
        rate: average frames per second.
        colours: the colour tags.
        aspect: width of a pixel divided by its height.
        resampled: whether frames are repeated and left out to get a constant rate.
        notes: a sentence for each thing that the user should know.
    """

    path: Path
    encoder: str
    options: dict[str, str]
    pixel_format: str
    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    colours: Colours
    aspect: Fraction
    resampled: bool = False
    notes: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        """Return what determines the bytes of a segment, as in JSON."""
        own = {name: value for name, value in asdict(self).items() if name not in ("path", "notes")}
        return {name: str(value) if isinstance(value, Fraction) else value for name, value in own.items()}


def plan_for(clip: Clip, target: Path, options: VideoOptions, size: tuple[int, int]) -> Plan:
    """Decide how a result is encoded.

    Args:
        clip: the source.
        target: the result.
        options: the options of the user.
        size: width and height of the result in pixels.

    Raises:
        UsageError: If the encoder is unknown, or the container cannot hold what it writes.
    """
    av, known = library(), options.facts(target)
    encoder = codec_of(options.encoder(target))
    check_container(target, options)
    source = av.VideoFormat(clip.pixel_format)
    chosen = pixel_format_for(source, encoder, lossy=not known.lossless)
    notes = []
    made, was = av.VideoFormat(chosen), Layout.of(source)
    if depth_of(made) < was.depth:
        notes.append(f"{encoder.name} writes {depth_of(made)} bits of the {was.depth} that the source has")
    width, height = size
    if known.even and Layout.of(made).colours == "420" and (width % 2 or height % 2):
        width, height = width + width % 2, height + height % 2
        notes.append(f"{encoder.name} takes even sizes: the last row or column is repeated ({width}×{height})")
    rate = options.rate or clip.rate
    return Plan(
        path=target,
        encoder=encoder.name,
        options=options.encoder_options(target),
        pixel_format=chosen,
        width=width,
        height=height,
        time_base=1 / rate if options.rate else clip.time_base,
        rate=rate,
        colours=clip.colours.stated(clip.width, clip.height, rgb=source.is_rgb),
        aspect=clip.aspect,
        resampled=options.rate is not None,
        notes=tuple(notes),
    )


def codec_of(name: str) -> Any:
    """Return an encoder of FFmpeg.

    Raises:
        UsageError: If there is none of this name, or it encodes no video.
    """
    av = library()
    try:
        found = av.Codec(name, "w")
    except ValueError:
        found = None
    if found is None or found.type != "video":
        raise UsageError(f"codec '{name}' is no video encoder of this FFmpeg: {hint(name, _SUGGESTED)}")
    if found.name == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only; it has no other way to be quiet
    return found


def check_container(target: Path, options: VideoOptions) -> None:
    """Check that the container of a target holds what the encoder writes.

    Raises:
        UsageError: If it does not.
    """
    av, name = library(), codec_of(options.encoder(target)).name
    try:
        with av.open("null", "w", format=container_of(target), io_open=_nowhere) as container:
            container.add_stream(name, rate=25)
    except ValueError:
        raise UsageError(
            f"{target}: {target.suffix} files cannot hold video of {name}; use another --codec, or a .mkv file"
        ) from None


def check_encoder(plan: Plan) -> None:
    """Check that the encoder takes its options and the size of the frames, before any frame is computed.

    Raises:
        ImageError: If it does not.
    """
    SegmentEncoder(plan, Converter(plan.colours, plan.path))


def container_of(target: Path) -> str:
    """Return FFmpeg's name of the container of a file that is written."""
    return {".mkv": "matroska", ".webm": "webm", ".mov": "mov"}.get(target.suffix.lower(), "mp4")


def _nowhere(url: str, flags: int, options: dict[str, str]) -> Any:
    import io

    return io.BytesIO()


def configure(context: Any, plan: Plan) -> None:
    """Set the properties of an encoder, or of the stream that holds what it wrote.

    Args:
        context: codec context of PyAV, not yet open.
        plan: how the result is encoded.
    """
    context.width, context.height = plan.width, plan.height
    context.pix_fmt = plan.pixel_format
    context.time_base, context.framerate = plan.time_base, plan.rate
    context.sample_aspect_ratio = plan.aspect
    context.options = dict(plan.options)
    colours = plan.colours
    context.color_primaries, context.color_trc = colours.primaries, colours.transfer
    rgb = library().VideoFormat(plan.pixel_format).is_rgb
    context.colorspace, context.color_range = (0, 2) if rgb else (colours.matrix, colours.range)


@dataclass(frozen=True)
class EncodedPacket:
    """A packet of a segment: its time in ticks, whether it is a key frame, and its bytes."""

    pts: int
    key: bool
    data: bytes


@dataclass
class SegmentEncoder:
    """Encodes one segment, which is complete in itself.

    Attributes:
        plan: how the result is encoded.
        converter: converts pixels to frames.
        pts: times of the frames so far, in ticks.
        packets: what the encoder has written so far.

    Raises:
        ImageError: If the encoder takes no such options.
    """

    plan: Plan
    converter: Converter
    pts: list[int] = field(default_factory=list)
    packets: list[EncodedPacket] = field(default_factory=list)

    def __post_init__(self) -> None:
        av = library()
        self._context = av.CodecContext.create(self.plan.encoder, "w")
        configure(self._context, self.plan)
        self._context.flags |= int(av.codec.context.Flags.global_header)
        with writable(self.plan.path):
            self._context.open()

    @property
    def extradata(self) -> bytes:
        """What the encoder writes once for all packets."""
        return bytes(self._context.extradata or b"")

    def add(self, pixels: np.ndarray, pts: int) -> None:
        """Encode a frame.

        Args:
            pixels: (H, W, 3) RGB, uint8 or uint16.
            pts: its time in ticks.
        """
        rows, columns = self.plan.height - pixels.shape[0], self.plan.width - pixels.shape[1]
        if rows or columns:
            pixels = np.pad(pixels, ((0, rows), (0, columns), (0, 0)), mode="edge")
        if depth_of(library().VideoFormat(self.plan.pixel_format)) == 8:
            pixels = to_uint8(pixels)
        frame = self.converter.from_rgb(pixels, self.plan.pixel_format)
        frame.pts, frame.time_base = pts, self.plan.time_base
        self._encode(frame)
        self.pts.append(pts)

    def finish(self) -> None:
        """Encode what the encoder still holds. Nothing can be added afterwards."""
        self._encode(None)

    def _encode(self, frame: Any) -> None:
        with writable(self.plan.path):
            self.packets += [
                EncodedPacket(packet.pts, packet.is_keyframe, bytes(packet)) for packet in self._context.encode(frame)
            ]
