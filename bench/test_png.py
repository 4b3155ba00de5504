"""PNG writers side by side: processor time and bytes of one enlarged image.

The clock is the process's CPU time: while images are written the engine uses every core, so what an encoder burns
counts, not how long it takes. ``size`` in the table is the file's size as a multiple of Pillow's default for the same
image.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from bench.common import Row, data_folder, spread
from bench.rounds import in_rounds
from gankit.images import from_array
from gankit.images.formats.png import encode_png

KODAK = data_folder() / "kodak24"
Encoder = Callable[[np.ndarray], bytes]


def _pillow(**options) -> Encoder:
    def encode(pixels: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", **options)
        return buffer.getvalue()

    return encode


def _libpng(**options) -> Encoder:
    return lambda pixels: imagecodecs.png_encode(pixels, **options)


def _opencv(pixels: np.ndarray) -> bytes:
    import cv2

    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


RLE = 3
SUB, UP, PAETH = 16, 32, 128
ENCODERS: dict[str, Encoder] = {
    "pillow default": _pillow(),
    "pillow level 1": _pillow(compress_level=1),
    "pillow level 1, RLE": _pillow(compress_level=1, compress_type=RLE),
    "libpng level 1, sub, RLE": _libpng(level=1, strategy=RLE, filter=SUB),
    "libpng level 1, up": _libpng(level=1, filter=UP),
    "libpng level 1, paeth, RLE": _libpng(level=1, strategy=RLE, filter=PAETH),
    "opencv default": _opencv,
    "gankit": lambda pixels: encode_png(from_array(pixels)),
}
IMAGES = ("smooth", "flat", "sharp", "noisy", "drawing")


@cache
def image(name: str) -> np.ndarray:
    """A 3072×2048 image: an enlarged photograph (Kodak 5; "flat": 23), sharpened, with grain, or text and lines."""
    if name == "drawing":
        pillow_image = Image.new("RGB", (768, 512), "white")
        draw = ImageDraw.Draw(pillow_image)
        for step in range(24):
            draw.text(
                (8 + 3 * step, 21 * step), "The quick brown fox jumps over the lazy dog. " * 3, fill=(step * 9, 20, 60)
            )
            draw.line((0, step * 21, 767, 511 - step * 21), fill=(200, step * 10, 0), width=2)
    else:
        number = "23" if name == "flat" else "05"
        path = KODAK / f"{number}.png"
        pillow_image = Image.open(path).convert("RGB") if path.exists() else _stand_in()
    pillow_image = pillow_image.resize((3072, 2048), Image.Resampling.BICUBIC)
    if name in ("sharp", "noisy"):
        pillow_image = pillow_image.filter(ImageFilter.UnsharpMask(3, 120, 0))
    pixels = np.asarray(pillow_image)
    if name == "noisy":
        grain = np.random.default_rng(0).normal(0, 1.5, pixels.shape[:2])[..., None]
        pixels = np.clip(np.rint(pixels + grain), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels)


def _stand_in() -> Image.Image:
    """Where the photographs are absent: noise of every scale, which deflates much like one."""
    generator = np.random.default_rng(1)
    total = np.zeros((512, 768, 3))
    for scale in (4, 8, 16, 32, 64, 128):
        noise = generator.normal(0, 1, (512 // scale, 768 // scale, 3)).astype(np.float32)
        layers = [Image.fromarray(noise[..., c]).resize((768, 512), Image.Resampling.BICUBIC) for c in range(3)]
        total += np.stack([np.asarray(layer) for layer in layers], -1) * scale**0.7
    return Image.fromarray(np.clip(128 + 4 * total, 0, 255).astype(np.uint8))


SUBSET = ("pillow default", "gankit")


@pytest.mark.parametrize("name", [IMAGES[0], *(pytest.param(name, marks=pytest.mark.full) for name in IMAGES[1:])])
def test_png(benchmark, rows, name: str, whole: bool, setting) -> None:
    pixels = image(name)
    encoders = {label: encode for label, encode in ENCODERS.items() if whole or label in SUBSET}
    if find_spec("cv2") is None:
        encoders.pop("opencv default", None)
    data: dict[str, bytes] = {}

    def once(label: str) -> float:
        began = time.process_time()
        data[label] = encoders[label](pixels)
        return time.process_time() - began

    suite = f"PNG, {name}, processor time"
    benchmark.group = suite
    runs = [lambda label=label: once(label) for label in encoders]
    times = benchmark.pedantic(in_rounds, args=(runs, setting.rounds or 3, setting.budget), rounds=1)
    for label, seconds in zip(encoders, times, strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data[label]))), pixels)
        remark = f"size {len(data[label]) / len(data['pillow default']):.3f}"
        median, megapixels = float(np.median(seconds)) * 1e3, pixels.shape[0] * pixels.shape[1] / 1e6
        size = f"{pixels.shape[1]}×{pixels.shape[0]}"
        rows.append(
            Row(suite, label, median, megapixels, None, remark, size=size, rounds=len(seconds), spread=spread(seconds))
        )
