"""Labels above images, in the font that ships with Pillow."""

from __future__ import annotations

import unicodedata

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_HEIGHT = 22
_FONT_SIZE = 14
_PLAIN = {"×": "x", "–": "-", "—": "-", "→": "->", "½": "1/2", "ß": "ss"}


def labelled(pixels: np.ndarray, label: str) -> np.ndarray:
    """Put a label above an image.

    Args:
        pixels: (H, W, 3) uint8.
        label: any text. The font has little more than ASCII: accents are left out, and other characters that it lacks
            are question marks, in place of the boxes that it would draw.

    Returns:
        (H + 22, W', 3) uint8, black on white. It is wider than the image if the label is.
    """
    height, width = pixels.shape[:2]
    font = ImageFont.load_default(_FONT_SIZE)
    text = _drawable(label, font)
    cell = Image.new("RGB", (max(width, int(np.ceil(font.getlength(text)))), height + _HEIGHT), "white")
    ImageDraw.Draw(cell).text((0, 2), text, fill="black", font=font)
    cell.paste(Image.fromarray(pixels), (0, _HEIGHT))
    return np.asarray(cell)


def _drawable(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Replace the characters that a font lacks."""
    missing = bytes(font.getmask("\uffff"))

    def shown(character: str) -> str:
        for choice in (character, _PLAIN.get(character, ""), unicodedata.normalize("NFKD", character)):
            plain = "".join(item for item in choice if not unicodedata.combining(item))
            if plain and all(item == " " or bytes(font.getmask(item)) != missing for item in plain):
                return plain
        return "?"

    return "".join(map(shown, unicodedata.normalize("NFC", text)))
