"""Clips that the tests make, the frames of a file, and an engine whose results are known."""

from fractions import Fraction

import av
import numpy as np
import torch

from gankit.backends.base import Engine

WIDTH, HEIGHT = 64, 48


class Repeat(Engine):
    """Repeats every pixel. ``frames`` holds those that it saw; after ``fail_after`` of them, it ends like Ctrl-C."""

    backend, precision, device = "repeat", "fp32", "cpu"

    def __init__(self, scale=2):
        self.scale, self.frames, self.fail_after, self.error = scale, [], None, KeyboardInterrupt

    def run(self, batch):
        if self.fail_after is not None and len(self.frames) + len(batch) > self.fail_after:
            raise self.error
        self.frames += [each.permute(1, 2, 0).numpy().copy() for each in batch]
        wide = batch.to(torch.float32)  # few operations know uint16
        wide = wide.repeat_interleave(self.scale, dim=2).repeat_interleave(self.scale, dim=3)
        return wide.to(batch.dtype).contiguous(memory_format=torch.channels_last)


def pattern(index, width=WIDTH, height=HEIGHT):
    """A frame with a gradient, a square that moves and some noise: (H, W, 3) uint8."""
    rows, columns = np.mgrid[:height, :width]
    frame = np.stack([columns * 255 // width, rows * 255 // height, (rows + columns + 9 * index) % 256], axis=-1)
    frame[4 : 4 + height // 4, 3 * index % width : 3 * index % width + 12] = (250, 30, 90)
    noise = np.random.default_rng(index).integers(0, 24, frame.shape)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


def write_clip(
    path,
    frames=12,
    *,
    codec="libx264",
    pixel_format="yuv420p",
    size=(WIDTH, HEIGHT),
    pts=None,
    time_base=Fraction(1, 600),
    rate=25,
    options=None,
    images=None,
    colours=None,
    rotation=0,
    sound=None,
    subtitles=(),
    container_options=None,
    metadata=None,
    chapters=(),
    aspect=None,
    attachment=None,
):
    """Write a clip and return its path. ``sound`` is the second at which a tone begins."""
    images = images or [pattern(index, *size) for index in range(frames)]
    pts = pts or [index * round(1 / (rate * time_base)) for index in range(len(images))]
    with av.open(str(path), "w", options=container_options or {}) as container:
        container.metadata.update(metadata or {})
        if chapters:
            container.set_chapters(list(chapters))
        given = {"crf": "0", "preset": "ultrafast"} | (options or {})
        stream = container.add_stream(codec, rate=rate, options={name: value for name, value in given.items() if value})
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.time_base = stream.codec_context.time_base = time_base
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for name, value in (colours or {}).items():
            setattr(stream.codec_context, name, value)
        if rotation:
            stream.set_display_rotation(rotation)
        text = container.add_mux_stream("mov_text" if path.suffix == ".mp4" else "subrip") if subtitles else None
        if text is not None:
            text.time_base = Fraction(1, 1000)
        tone = container.add_stream("aac", rate=48000) if sound is not None else None
        if attachment:
            container.add_attachment(*attachment)
        for image, time in zip(images, pts, strict=True):
            deep = image.dtype == np.uint16
            frame = av.VideoFrame.from_ndarray(image, format="rgb48le" if deep else "rgb24")
            frame = frame.reformat(
                format=pixel_format,
                dst_colorspace=1 if (colours or {}).get("colorspace") == 1 else 5,
                dst_color_range=(colours or {}).get("color_range", 1),
            )
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        for begin, end, words in subtitles:
            container.mux(_subtitle(text, begin, end, words, prefixed=path.suffix == ".mp4"))
        if tone is not None:
            _write_tone(container, tone, sound)
    return path


def _subtitle(stream, begin, end, words, *, prefixed):
    content = words.encode()
    if prefixed:
        content = len(content).to_bytes(2, "big") + content
    packet = av.Packet(content)
    packet.stream, packet.time_base = stream, Fraction(1, 1000)
    packet.pts = packet.dts = begin
    packet.duration = end - begin
    return packet


def _write_tone(container, stream, begin):
    rate = 48000
    for start in range(0, rate, 1024):
        wave = np.sin(np.arange(start, start + 1024) * 2 * np.pi * 440 / rate).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, round(begin * rate) + start, Fraction(1, rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def read_frames(path):
    """The frames of a clip, as PyAV's."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def times(path):
    """The times of the frames of a clip in seconds, exactly."""
    return [frame.pts * frame.time_base for frame in read_frames(path)]


def packets(path, kind="audio"):
    """The packets of the first stream of a kind: time in seconds and bytes."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [(each.pts * each.time_base, bytes(each)) for each in container.demux(stream) if each.size]
