"""Images that photographs hold few of: text, line art and regular patterns, made from a seed."""

from __future__ import annotations

import math
import string

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_OVERSAMPLE = 3  # drawn this much larger, then reduced, so that edges are antialiased as a camera's or a renderer's


def synthetic_image(seed: int, size: int = 512) -> np.ndarray:
    """One image of text, line art or patterns, in turn.

    Args:
        seed: the same seed gives the same image.
        size: side in pixels.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    rng = np.random.default_rng(seed)
    maker = (_text, _line_art, _patterns)[seed % 3]
    large = maker(rng, size * _OVERSAMPLE)
    return np.asarray(large.resize((size, size), Image.Resampling.LANCZOS))


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return red, green, blue


def _ground(rng: np.random.Generator) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Paper and ink: black on white most often, as on most pages, else any two that contrast."""
    if rng.random() < 0.5:
        pair = ((255, 255, 255), (0, 0, 0))
        return pair if rng.random() < 0.7 else pair[::-1]
    while True:
        paper, ink = _colour(rng), _colour(rng)
        if abs(sum(paper) - sum(ink)) > 200:
            return paper, ink


def _text(rng: np.random.Generator, side: int) -> Image.Image:
    paper, ink = _ground(rng)
    image = Image.new("RGB", (side, side), paper)
    draw = ImageDraw.Draw(image)
    letters = np.array(list(string.ascii_letters + string.digits + ".,;:!?()&%"))
    y = 0.0
    while y < side:
        height = float(rng.choice([10, 13, 16, 20, 28, 40, 64])) * _OVERSAMPLE
        font = ImageFont.load_default(height)
        words = ["".join(rng.choice(letters, rng.integers(1, 10))) for _ in range(40)]
        draw.text((rng.uniform(-height, height), y), " ".join(words), fill=ink, font=font)
        y += height * rng.uniform(1.1, 1.7)
    return (
        image.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, fillcolor=paper) if rng.random() < 0.3 else image
    )


def _line_art(rng: np.random.Generator, side: int) -> Image.Image:
    paper, ink = _ground(rng)
    image = Image.new("RGB", (side, side), paper)
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        width = int(rng.integers(1, 6)) * _OVERSAMPLE // 2 + 1
        x, y = rng.uniform(0, side, 2)
        kind = rng.integers(0, 4)
        fill = _colour(rng) if rng.random() < 0.35 else None
        if kind == 0:
            points = [(x + rng.normal(0, side / 6), y + rng.normal(0, side / 6)) for _ in range(rng.integers(2, 6))]
            draw.line(points, fill=ink, width=width, joint="curve")
        elif kind == 1:
            radius = rng.uniform(0.01, 0.15) * side
            draw.ellipse((x - radius, y - radius, x + radius, y + radius * rng.uniform(0.4, 1)), fill, ink, width)
        elif kind == 2:
            corners = [(x + rng.normal(0, side / 10), y + rng.normal(0, side / 10)) for _ in range(rng.integers(3, 6))]
            draw.polygon(corners, fill, ink, width)
        else:
            radius, start = rng.uniform(0.05, 0.3) * side, rng.uniform(0, 360)
            draw.arc((x - radius, y - radius, x + radius, y + radius), start, start + rng.uniform(30, 300), ink, width)
    return image


def _patterns(rng: np.random.Generator, side: int) -> Image.Image:
    """Four tiles of gratings, checks, dots or zone plates, in two colours each."""
    half = side // 2
    y, x = np.mgrid[0:half, 0:half] / _OVERSAMPLE
    canvas = np.zeros((side, side, 3), np.float64)
    for row in (0, 1):
        for column in (0, 1):
            angle, period = rng.uniform(0, math.pi), rng.uniform(3.0, 24.0)
            u = x * math.cos(angle) + y * math.sin(angle)
            v = -x * math.sin(angle) + y * math.cos(angle)
            waves_u, waves_v = np.cos(2 * math.pi * u / period), np.cos(2 * math.pi * v / period)
            kind = rng.integers(0, 5)
            if kind == 0:
                mask = waves_u > rng.uniform(-0.6, 0.6)
            elif kind == 1:
                mask = waves_u * waves_v > 0
            elif kind == 2:
                mask = waves_u + waves_v > rng.uniform(0, 1.2)
            elif kind == 3:
                mask = (waves_u > 0.8) | (waves_v > 0.8)
            else:
                middle = half / _OVERSAMPLE / 2
                mask = np.cos(((x - middle) ** 2 + (y - middle) ** 2) * math.pi / (period * 40)) > 0
            paper, ink = (np.array(colour, np.float64) for colour in _ground(rng))
            canvas[row * half : (row + 1) * half, column * half : (column + 1) * half] = np.where(
                mask[..., None], ink, paper
            )
    return Image.fromarray(canvas.astype(np.uint8))
