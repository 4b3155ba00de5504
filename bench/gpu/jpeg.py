"""JPEG by nvImageCodec (nvJPEG) beside gankit's own reading and writing on the processor: times, pixels, cut files.

gankit does not use the GPU for JPEG; see "JPEG on the GPU" in ``docs/gpu.md``. This step measures whether it should.
It needs two packages: ``pip install nvidia-nvimgcodec-cu13 nvidia-nvjpeg``. The rehearsal runs the library's own
decoder for processors.

* ``decode``: a file of 768×512 to pixels on the host, and what gankit's check for missing data takes of that. The check
  decodes the file at an eighth of its size, which is cheaper, and would still be needed beside a GPU's decoder.
* ``encode``: pixels of 3072×2048 on the host to a file.
* What becomes of a file whose data end early, though its end marker is there.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from bench.common import psnr
from bench.gpu.device import Device
from bench.gpu.generators import image
from bench.gpu.report import Report

SIZE, SMALL_SIZE, SCALE, QUALITY = (512, 768), (64, 96), 4, 92
OWN, THEIRS = "gankit", "nvImageCodec"


class Codec:
    """nvImageCodec for single images between files and host memory, with libjpeg's smooth enlargement of colours.

    Args:
        cpu: by its decoders for processors, which need no GPU.
    """

    def __init__(self, *, cpu: bool) -> None:
        from nvidia import nvimgcodec

        self._library = nvimgcodec
        allowed: dict[str, Any] = {}
        if cpu:
            kinds = [nvimgcodec.Backend(nvimgcodec.BackendKind.CPU_ONLY)]
            allowed = {"device_id": nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY, "backends": kinds}
        self._decoder = nvimgcodec.Decoder(**allowed, options=":fancy_upsampling=1")
        self._encoder = nvimgcodec.Encoder(**allowed)
        # gankit turns images itself, and applies no profile to RGB
        self._params = nvimgcodec.DecodeParams(apply_exif_orientation=False, color_spec=nvimgcodec.ColorSpec.SRGB)

    def decode(self, data: bytes) -> np.ndarray | None:
        """Decode to (H, W, 3) uint8; ``None`` for a file that the library refuses."""
        made = self._decoder.decode(self._library.CodeStream(data), params=self._params)
        return None if made is None else np.asarray(made.cpu())

    def encode(self, pixels: np.ndarray, *, full_colour: bool) -> bytes:
        """Encode (H, W, 3) uint8 with :data:`QUALITY`."""
        library = self._library
        kind = library.ChromaSubsampling.CSS_444 if full_colour else library.ChromaSubsampling.CSS_420
        quality = library.QualityType.QUALITY
        params = library.EncodeParams(quality_type=quality, quality_value=QUALITY, chroma_subsampling=kind)
        return bytes(self._encoder.encode(library.as_image(pixels), "jpeg", params=params))


def run(device: Device, report: Report) -> None:
    """Fill the report."""
    codec = Codec(cpu=device.rehearsal)
    height, width = SMALL_SIZE if device.rehearsal else SIZE
    pixels = image(1, height, width)[0].permute(1, 2, 0).contiguous().numpy()
    for name, subsampling in (("4:2:0", 2), ("4:4:4", 0)):
        with report.attempt(f"decode {name}", ""):
            _decode(device, report, codec, f"decode {name}", _file(pixels, subsampling))
    with report.attempt("encode", ""):
        _encode(device, report, codec, np.tile(pixels, (SCALE, SCALE, 1)))
    with report.attempt("a file that ends early", THEIRS):
        _cut(report, codec, _file(pixels, 2))


def _file(pixels: np.ndarray, subsampling: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY, subsampling=subsampling)
    return buffer.getvalue()


def _decode(device: Device, report: Report, codec: Codec, case: str, data: bytes) -> None:
    from gankit.images.formats.jpeg import FORMAT

    ways: dict[str, Callable[[], Any]] = {
        OWN: partial(FORMAT.decode, data),
        "the check for missing data alone": partial(_check, data),
        THEIRS: partial(codec.decode, data),
    }
    for variant, way in ways.items():
        way()
        report.add(case, variant, "wall, ms", device.wall_ms(way))
    theirs = codec.decode(data)
    if theirs is None:
        report.add(case, THEIRS, "error", None, "the file is refused")
        return
    apart = np.abs(theirs.astype(np.int16) - FORMAT.decode(data).pixels)
    report.add(case, THEIRS, "largest difference of uint8 levels", float(apart.max()))
    report.add(case, THEIRS, "values that differ, %", 100 * float((apart > 0).mean()))


def _check(data: bytes) -> None:
    reduced = Image.open(io.BytesIO(data))
    reduced.draft("RGB", (max(1, reduced.width // 8), max(1, reduced.height // 8)))
    reduced.load()


def _encode(device: Device, report: Report, codec: Codec, pixels: np.ndarray) -> None:
    from gankit.images.decoded import from_array
    from gankit.images.formats.jpeg import FORMAT, FULL_COLOUR

    encoded = FORMAT.encode
    assert encoded is not None
    own = partial(encoded, replace(from_array(pixels), format="JPEG"), QUALITY)
    theirs = partial(codec.encode, pixels, full_colour=QUALITY >= FULL_COLOUR)
    for variant, way in ((OWN, own), (THEIRS, theirs)):
        made = way()
        report.add("encode", variant, "wall, ms", device.wall_ms(way, 5))
        report.add("encode", variant, "bytes", float(len(made)))
        report.add("encode", variant, "PSNR dB", psnr(np.asarray(Image.open(io.BytesIO(made))), pixels))


def _cut(report: Report, codec: Codec, data: bytes) -> None:
    made = codec.decode(data[: len(data) // 2] + b"\xff\xd9")
    report.add("a file that ends early", THEIRS, "result", "refused" if made is None else "pixels, which it made up")
