"""What the JPEG step of the day on a GPU asks of nvImageCodec, by a fake that records it and computes with Pillow."""

import io
import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bench.gpu import jpeg
from bench.gpu.device import Device
from bench.gpu.report import Report
from gankit.images.jpeg_stream import open_whole


class Library(ModuleType):
    """The part of nvImageCodec 0.9 that the step uses.

    Args:
        refuses: whether it refuses files that end early.
    """

    NVIMGCODEC_DEVICE_CPU_ONLY = -99999
    BackendKind = SimpleNamespace(CPU_ONLY="cpu")
    ColorSpec = SimpleNamespace(SRGB="srgb")
    ChromaSubsampling = SimpleNamespace(CSS_444=0, CSS_420=2)
    QualityType = SimpleNamespace(QUALITY="quality")
    Backend = CodeStream = staticmethod(lambda given: given)
    EncodeParams = DecodeParams = SimpleNamespace

    def __init__(self, refuses: bool = False) -> None:
        super().__init__("nvidia.nvimgcodec")
        self.refuses, self.made = refuses, []

    def Decoder(self, **options):
        self.made.append(options)

        def decode(data, *, params):
            assert params == SimpleNamespace(apply_exif_orientation=False, color_spec="srgb")
            try:
                image = open_whole(data)[0] if self.refuses else Image.open(io.BytesIO(data))
            except (OSError, ValueError):
                return None
            return SimpleNamespace(cpu=lambda: np.asarray(image))

        return SimpleNamespace(decode=decode)

    def Encoder(self, **options):
        self.made.append(options)

        def encode(image, codec, *, params):
            assert (codec, params.quality_type, params.quality_value) == ("jpeg", "quality", jpeg.QUALITY)
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=params.quality_value, subsampling=params.chroma_subsampling)
            return buffer.getvalue()

        return SimpleNamespace(encode=encode)

    def as_image(self, pixels):
        return Image.fromarray(pixels)


@pytest.fixture
def figures(tmp_path, monkeypatch):
    def run(library):
        package = ModuleType("nvidia")
        package.nvimgcodec = library
        monkeypatch.setitem(sys.modules, "nvidia", package)
        monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", library)
        jpeg.run(Device(), Report(tmp_path / "step.json", "step"))
        content = json.loads((tmp_path / "step.json").read_text(encoding="utf-8"))
        assert not [item for item in content["figures"] if item["metric"] == "error"]
        return {(item["case"], item["variant"], item["metric"]): item["value"] for item in content["figures"]}

    return run


def test_both_decode_and_encode_the_same(figures):
    library = Library()
    rows = figures(library)
    for case in ("decode 4:2:0", "decode 4:4:4"):
        assert rows[case, "nvImageCodec", "largest difference of uint8 levels"] == 0
        assert rows[case, "the check for missing data alone", "wall, ms"] > 0
    assert rows["encode", "nvImageCodec", "bytes"] == rows["encode", "gankit", "bytes"]
    cpu_only = {"device_id": -99999, "backends": ["cpu"]}
    assert library.made == [cpu_only | {"options": ":fancy_upsampling=1"}, cpu_only]


@pytest.mark.parametrize(("refuses", "result"), [(True, "refused"), (False, "pixels, which it made up")])
def test_a_file_that_ends_early(figures, refuses, result):
    assert figures(Library(refuses))["a file that ends early", "nvImageCodec", "result"] == result


def test_a_gpu_gets_the_decoders_of_gpus(monkeypatch):
    library = Library()
    monkeypatch.setitem(sys.modules, "nvidia", SimpleNamespace(nvimgcodec=library))
    jpeg.Codec(cpu=False)
    assert library.made == [{"options": ":fancy_upsampling=1"}, {}]


def test_the_library_itself(tmp_path):
    """Its decoder for processors gives libjpeg's pixels, and makes up the pixels that a file does not have."""
    pytest.importorskip("nvidia.nvimgcodec", reason="nvImageCodec is not installed: pip install nvidia-nvimgcodec-cu13")
    jpeg.run(Device(), Report(tmp_path / "step.json", "step"))
    content = json.loads((tmp_path / "step.json").read_text(encoding="utf-8"))
    rows = {(item["case"], item["metric"]): item["value"] for item in content["figures"]}
    assert rows["decode 4:2:0", "largest difference of uint8 levels"] == 0
    assert rows["a file that ends early", "result"] == "pixels, which it made up"
