"""What the benchmarks share: the images, the model, the rows of the closing table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

    from gankit.backends.base import Precision

ROOT = Path(__file__).resolve().parents[1]
EAGER = "eager fp32 NCHW, plain"
OPENVINO = "openvino, its default"
ONNXRUNTIME = "onnxruntime, its default"
GATE_DB = 45.0


@dataclass(frozen=True)
class Row:
    """One line of the closing table.

    Attributes:
        suite: rows of one suite did the same work; ratios are taken within it.
        label: what ran: a baseline, or backend and precision.
        milliseconds: median over the rounds; of one image on folders.
        megapixels: of input, in one run.
        parity_db: PSNR against eager fp32; ``None`` where there is no image.
        remark: in a few words.
    """

    suite: str
    label: str
    milliseconds: float
    megapixels: float = 0.0
    parity_db: float | None = None
    remark: str = ""

    @property
    def speed(self) -> float:
        """Input megapixels per second."""
        return self.megapixels / self.milliseconds * 1e3


def engines() -> Iterator[tuple[str, Precision, str]]:
    """Every backend, precision and device that can run here."""
    import torch

    from gankit import backends

    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    for name in backends.BACKENDS:
        backend = backends.get(name)
        for device in devices:
            if backend.missing(device) is None:
                yield from ((name, precision, device) for precision in backend.precisions.get(device, ()))


def name_of(backend: str, precision: str, device: str) -> str:
    """The label of an engine."""
    return f"gankit {backend} {precision}" + ("" if device == "cpu" else f" {device}")


def ratio(row: Row, rows: Sequence[Row], baseline: str) -> float | None:
    """How many times faster than the baseline of the same suite.

    ``None`` where that did not run, and for an engine below the gate: it makes other images.
    """
    if row.parity_db is not None and row.parity_db < GATE_DB:
        return None
    times = [other.milliseconds for other in rows if other.suite == row.suite and other.label == baseline]
    return times[0] / row.milliseconds if times else None


def data_folder() -> Path:
    """The folder of real images: GANKIT_DATA, else shared/data beside the repository. It may be absent."""
    return Path(os.environ.get("GANKIT_DATA") or ROOT.parent / "shared" / "data")


def images() -> tuple[str, list[Path]]:
    """The name and files of the folder to run on: Kodak's 24, or the RGB examples where they are absent."""
    kodak = sorted((data_folder() / "kodak24").glob("*.png"))
    if kodak:
        return "kodak24", kodak
    return "examples", [ROOT / "examples" / name for name in ("cat.png", "coffee.jpg", "rocket.jpg")]


def read(path: Path) -> np.ndarray:
    """An image as (H, W, 3) uint8."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def real_batch(side: int) -> Tensor:
    """A (1, 3, side, side) uint8 tile of a real image, mirrored where it is smaller, channels_last in memory."""
    import torch

    pixels = read(images()[1][-1])
    height, width = pixels.shape[:2]
    pixels = np.pad(pixels, ((0, max(0, side - height)), (0, max(0, side - width)), (0, 0)), mode="symmetric")
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    crop = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    return torch.from_numpy(crop).permute(2, 0, 1)[None]
