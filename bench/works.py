"""The folders that :mod:`bench.pipeline` upscales: photographs, parts of them, and a clip of camera movement."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.common import images, read
from bench.huge import Scene

SMALL = 64  # pixels
MODES = (("PNG", "RGB"), ("JPEG", "RGB"), ("WEBP", "RGB"), ("TIFF", "RGB"), ("PNG", "L"), ("PNG", "RGBA"))
RATE = 25  # frames per second
AUDIO_RATE = 44_100
TONE = 440  # Hz
SHOT = 60  # frames of one photograph


@dataclass(frozen=True)
class Work:
    """A folder to upscale.

    Attributes:
        name: what is in it.
        make: writes the sources into a folder.
        format: format of the results; ``None`` chooses by the sources.
        clip: whether it is a clip.
        strips: whether it runs by strips.
        tiny: whether the network of :func:`bench.huge.network` runs in place of the model, so that reading and writing
            take the most time.
    """

    name: str
    make: Callable[[Path], None]
    format: str | None = "png"
    clip: bool = False
    strips: bool = False
    tiny: bool = False


def works(count: int, small: int, megapixels: float, seconds: float, size: tuple[int, int]) -> list[Work]:
    """List the folders.

    Args:
        count: images of the test set.
        small: number of small images.
        megapixels: of the result of the large image, at ×4.
        seconds: of the clip.
        size: width and height of the clip in pixels.
    """
    chosen = images()[1][:count]

    def crops(folder: Path) -> None:
        pixels = [np.asarray(Image.open(path).convert("RGB")) for path in chosen]
        random = np.random.default_rng(0)
        for index in range(small):
            source = pixels[index % len(pixels)]
            top, left = (int(random.integers(0, side - SMALL)) for side in source.shape[:2])
            Image.fromarray(source[top : top + SMALL, left : left + SMALL]).save(folder / f"{index:04}.png")

    def whole(folder: Path) -> None:
        for path in chosen:
            shutil.copy(path, folder)

    def mixed(folder: Path) -> None:
        for index, path in enumerate(chosen):
            format, mode = MODES[index % len(MODES)]
            image = Image.open(path).convert(mode)
            side = 96 + 64 * (index % 5)
            image.resize((side, 2 * side // 3)).save(folder / f"{index:02}.{format.lower()}", format)

    def large(folder: Path) -> None:
        image = Image.open(chosen[0]).convert("RGB")
        factor = (megapixels / 16 * 1e6 / (image.width * image.height)) ** 0.5
        image.resize((round(image.width * factor), round(image.height * factor))).save(folder / "large.png")

    def wide(folder: Path) -> None:
        tall = round((6 * megapixels / 16 * 1e6 / 4) ** 0.5)
        Scene(4 * tall, tall, read(chosen[-1])).write(folder / "wide.png")

    def clip(folder: Path) -> None:
        write_clip(folder / "clip.mp4", camera([read(path) for path in chosen], round(seconds * RATE), size))

    mp, sides = f"{megapixels:g} MP", "×".join(map(str, size))
    return [
        Work(f"{small} images of {SMALL}×{SMALL} -> PNG", crops),
        Work(f"{count} whole images -> PNG", whole),
        Work(f"{count} whole images -> JPEG", whole, "jpg"),
        Work(f"{count} images, mixed formats and sizes", mixed, None),
        Work(f"one image -> PNG of {mp}", large),
        Work(f"one image by strips -> PNG of {mp}", large, strips=True),
        Work(f"one image by strips, tiny network, {6 * megapixels:g} MP", wide, strips=True, tiny=True),
        Work(f"clip of {seconds:g} s, {sides}, {RATE} fps", clip, clip=True),
    ]


def camera(photos: Sequence[np.ndarray], count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """Return the frames of a camera that moves over one photograph after the other, so that no two are equal.

    Args:
        photos: (H, W, 3) uint8, larger than a frame.
        count: number of frames.
        size: width and height of a frame in pixels.
    """
    width, height = size
    frames = []
    for index in range(count):
        shot, step = divmod(index, SHOT)
        photo = photos[shot % len(photos)]
        zoom = max(1.25 * width / photo.shape[1], 1.25 * height / photo.shape[0])  # a quarter is there to move over
        moved = step / SHOT
        left, top = (moved * (side - part / zoom) for side, part in ((photo.shape[1], width), (photo.shape[0], height)))
        box = (left, top, left + width / zoom, top + height / zoom)
        frames.append(np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS, box)))
    return frames


def write_clip(path: Path, frames: Sequence[np.ndarray]) -> None:
    """Write a clip with a tone.

    Args:
        path: the file.
        frames: (H, W, 3) uint8.
    """
    import av

    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=RATE, options={"crf": "12"})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        sound: Any = container.add_stream("aac", rate=AUDIO_RATE, layout="mono")
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode(None))
        times = np.arange(round(len(frames) / RATE * AUDIO_RATE)) / AUDIO_RATE
        tone = (0.2 * np.sin(2 * np.pi * TONE * times)).astype(np.float32)
        for first in range(0, len(tone), 1024):
            samples = av.AudioFrame.from_ndarray(tone[None, first : first + 1024], format="fltp", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = AUDIO_RATE, first, Fraction(1, AUDIO_RATE)
            container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
