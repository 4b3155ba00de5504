"""Images that do not fit into memory and run strip by strip: the same pixels as in one piece."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import nn

import gankit
from gankit.images import decode, encode, from_array
from gankit.pipeline import large, strips
from tests.networks import small_srgan

HEIGHT, WIDTH = 203, 90
ROOM = 1 << 30  # bytes for strips


def samples(channels, dtype=np.uint8):
    """Smooth colours with edges. The lower half of colours is gray, and alpha has flat, hidden and busy parts."""
    rng = np.random.default_rng(channels)
    coarse = rng.integers(0, 236, (HEIGHT // 7 + 1, WIDTH // 7 + 1, channels))
    pixels = np.kron(coarse, np.ones((7, 7, 1), int))[:HEIGHT, :WIDTH] + rng.integers(0, 20, (HEIGHT, WIDTH, channels))
    if channels >= 3:
        pixels[HEIGHT // 2 :, :, 1:3] = pixels[HEIGHT // 2 :, :, :1]
    if channels in (2, 4):
        pixels[60:170, 20:80, -1] = 0
        pixels[:40, :, -1] = 255
    return (pixels * (257 if dtype == np.uint16 else 1)).astype(dtype)


class Strided(nn.Module):
    """Needs sizes that are multiples of 4, and looks 8 pixels far."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Conv2d(3, 6, 7, stride=4, padding=3)
        self.up = nn.ConvTranspose2d(6, 3, 8, stride=8)

    def forward(self, image):
        return torch.sigmoid(self.up(torch.tanh(self.down(image))))


class WholeImage(nn.Module):
    """Depends on all pixels."""

    def forward(self, image):
        return nn.functional.interpolate(image - image.mean((2, 3), keepdim=True), scale_factor=2)


def upscaler(module=None, **keywords):
    module = module or small_srgan(scale=2, channels=8, blocks=1)
    plain = {"backend": "eager", "precision": "fp32", "device": "cpu", "scale": 2, "value_range": (0, 1)}
    return gankit.Upscaler(module, **plain, **keywords)


@pytest.fixture
def by_strips(monkeypatch):
    """Images of more than a thousand pixels do not fit into memory, and strips have few rows."""

    def within(room=ROOM):
        needed = lambda it, opened: (1 << 60) * (opened.header.width * opened.header.height > 1000)  # noqa: E731
        monkeypatch.setattr(large.LargeImages, "_needed", needed)
        monkeypatch.setattr(large, "available_memory", lambda limit: room)
        monkeypatch.setattr(strips, "_ROWS", 16)

    return within


def both(source, tmp_path, by_strips, room=ROOM, **keywords):
    """Run in one piece and by strips, check that the pixels are the same, and return the report by strips."""
    options = {"format": "png", **keywords.pop("run", {})}
    with upscaler(**keywords) as it:
        whole = it.run(source, tmp_path / "whole", **options).images[0]
        by_strips(room)
        made = it.run(source, tmp_path / "strips", **options).images[0]
    assert (whole.status, whole.strips, whole.error) == ("done", 0, None)
    assert (made.status, made.error) == ("done", None)
    assert made.strips > 1
    assert (made.input_size, made.output_size, made.notes) == (whole.input_size, whole.output_size, whole.notes)
    first, second = decode(whole.target), decode(made.target)
    assert first.gray == second.gray
    np.testing.assert_array_equal(first.channels(), second.channels())
    return made


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_pixels_are_those_of_a_run_in_one_piece(tmp_path, by_strips, channels, dtype):
    encode(from_array(samples(channels, dtype)), tmp_path / "a.tif")
    both(tmp_path / "a.tif", tmp_path, by_strips)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_png_and_jpeg_sources(tmp_path, by_strips, suffix):
    pytest.importorskip("pyvips", reason="pyvips reads PNG and JPEG by strips: pip install 'gankit[large]'")
    encode(from_array(samples(3)), tmp_path / f"a{suffix}")
    both(tmp_path / f"a{suffix}", tmp_path, by_strips)


def test_a_tiled_tiff_to_a_tiff(tmp_path, by_strips):
    tifffile.imwrite(tmp_path / "a.tif", samples(3), photometric="rgb", tile=(32, 32), compression="zlib")
    assert both(tmp_path / "a.tif", tmp_path, by_strips, run={"format": "tif"}).target.suffix == ".tif"


@pytest.mark.parametrize("alpha", [0, 7, 255])
def test_transparency_that_is_the_same_everywhere(tmp_path, by_strips, alpha):
    pixels = samples(4)
    pixels[..., 3] = alpha
    encode(from_array(pixels), tmp_path / "a.tif")
    both(tmp_path / "a.tif", tmp_path, by_strips)


def test_gray_pixels_in_a_file_of_colours_stay_gray(tmp_path, by_strips):
    encode(from_array(np.repeat(samples(1), 3, axis=2)), tmp_path / "a.tif")
    made = decode(both(tmp_path / "a.tif", tmp_path, by_strips).target)
    assert not made.gray
    assert (made.pixels == made.pixels[..., :1]).all()


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (201, 89), (200, 88), (198, 91)])
def test_sizes_that_are_no_multiples(tmp_path, by_strips, size):
    encode(from_array(samples(3)[: size[0], : size[1]]), tmp_path / "a.tif")
    both(tmp_path / "a.tif", tmp_path, by_strips, module=Strided(), multiple=4, halo=16)


def test_a_model_of_one_channel(tmp_path, by_strips):
    class Gray(nn.Module):
        def forward(self, image):
            return nn.functional.interpolate(nn.functional.avg_pool2d(image, 3, 1, 1), scale_factor=2)

    encode(from_array(samples(3)), tmp_path / "a.tif")
    both(tmp_path / "a.tif", tmp_path, by_strips, module=Gray(), channels=1, halo=1)


def test_blocks_of_part_of_the_width(tmp_path, by_strips):
    encode(from_array(np.concatenate([samples(3)] * 4, axis=1)), tmp_path / "a.tif")
    both(tmp_path / "a.tif", tmp_path, by_strips, room=1_400_000)


def test_the_line_the_report_and_the_next_run(tmp_path, by_strips):
    encode(from_array(samples(3)), tmp_path / "a.tif")
    encode(from_array(samples(3)[:20, :20]), tmp_path / "b.tif")
    by_strips()
    lines, states = [], []
    with upscaler(notify=lines.append) as it:
        report = it.run([tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "out", progress=states.append)
        again = it.run([tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "out")
    said = [line for line in lines if "strips" in line]
    assert len(said) == 1
    assert said[0].startswith(f"{tmp_path / 'a.tif'}: 0.0183 MP, by {report.images[0].strips} strips of ")
    assert [image.strips > 0 for image in report.images] == [True, False]
    report.write(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["images"][0]["strips"] == report.images[0].strips
    assert (states[-1].total, states[-1].done, states[-1].failed) == (2, 2, 0)
    assert {image.status for image in again.images} == {"skipped"}


def test_a_truncated_source_is_one_error_and_the_run_goes_on(tmp_path, by_strips):
    tifffile.imwrite(tmp_path / "a.tif", samples(3), photometric="rgb", rowsperstrip=16, metadata=None)
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: len(data) * 2 // 3])
    encode(from_array(samples(3)), tmp_path / "b.tif")
    by_strips()
    with upscaler() as it:
        bad, good = it.run([tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "out", format="png").images
    assert bad.status == "failed"
    assert "truncated" in bad.error
    assert good.status == "done"
    assert [path.name for path in sorted((tmp_path / "out").glob("*.png"))] == ["b.png"]


def test_a_full_disk_ends_the_run_and_leaves_no_file(tmp_path, by_strips, monkeypatch):
    def full(image, size, rows, write):
        write(next(iter(rows)).tobytes())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gankit.images.row_writers.write_png_rows", full)
    encode(from_array(samples(3)), tmp_path / "a.tif")
    by_strips()
    with upscaler() as it, pytest.raises(gankit.OutputError, match="No space left on device; free some space"):
        it.run(tmp_path / "a.tif", tmp_path / "out", format="png")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".gankit.jsonl"]


def failed(source, tmp_path, it, **options):
    report = it.run(source, tmp_path / "out", **options).images[0]
    assert report.status == "failed"
    assert not report.target.exists()
    return report.error


def test_the_memory_of_an_image_decides(tmp_path, monkeypatch):
    encode(from_array(np.concatenate([samples(3)] * 8)), tmp_path / "a.tif")
    needed = HEIGHT * 8 * WIDTH * 3 * (1 + 2 * 4)  # the image, its result and the file
    with upscaler() as it:
        for room, by_strips in ((needed, False), (needed - 1, True)):
            monkeypatch.setattr(large, "available_memory", lambda limit, room=room: room)
            image = it.run(tmp_path / "a.tif", tmp_path / "out", overwrite=True).images[0]
            assert (image.status, image.strips > 1) == ("done", by_strips)


def test_what_cannot_run_by_strips_says_why(tmp_path, by_strips):
    encode(from_array(samples(3)), tmp_path / "a.tif")
    Image.fromarray(samples(4), "CMYK").save(tmp_path / "cmyk.tif")
    by_strips()
    with upscaler() as it:
        assert "WebP cannot be written by strips; use --format png or tiff" in failed(
            tmp_path / "a.tif", tmp_path, it, format="webp"
        )
        assert "raise the limit (--max-pixels)" in failed(tmp_path / "a.tif", tmp_path, it, max_pixels=10_000)
        error = failed(tmp_path / "cmyk.tif", tmp_path, it, format="png")
    assert "convert it to RGB without compression or with deflate (in one piece, it takes about " in error
    by_strips(100_000)
    with upscaler() as it:
        error = failed(tmp_path / "a.tif", tmp_path, it)
    assert "take about" in error
    assert "use a larger --max-memory" in error


def test_a_model_that_needs_the_whole_image_gets_it(tmp_path, by_strips):
    encode(from_array(samples(3)), tmp_path / "a.tif")
    by_strips(1)
    with upscaler(WholeImage(), tileable=False) as it:
        assert it.run(tmp_path / "a.tif", tmp_path / "out").images[0].strips == 0


SIZES = (
    {"scale": 1.5},  # of the source: less than the model
    {"scale": 0.13},
    {"width": 40},
    {"width": 300, "height": 200, "fit": "cover"},
    {"width": 100, "height": 300, "fit": "cover"},
    {"width": 33, "height": 900, "fit": "exact"},
)


def test_results_of_another_size(tmp_path, by_strips, monkeypatch):
    monkeypatch.setattr("gankit.images.resize._ROWS", 37)
    (tmp_path / "in").mkdir()
    for channels, dtype in ((2, np.uint8), (4, np.uint16)):
        encode(from_array(samples(channels, dtype)), tmp_path / "in" / f"{channels}{np.dtype(dtype)}.tif")
    with upscaler() as it:
        names = [f"{number}" for number in range(len(SIZES))]
        whole = [it.run(tmp_path / "in", tmp_path / "w" / n, **size) for n, size in zip(names, SIZES, strict=True)]
        by_strips()
        made = [it.run(tmp_path / "in", tmp_path / "s" / n, **size) for n, size in zip(names, SIZES, strict=True)]
    for first, second in zip([x for r in whole for x in r.images], [x for r in made for x in r.images], strict=True):
        assert (first.status, first.strips, second.status, second.error) == ("done", 0, "done", None)
        assert second.strips > 1
        assert (second.output_size, second.notes) == (first.output_size, first.notes)
        np.testing.assert_array_equal(decode(first.target).channels(), decode(second.target).channels())


def light(channels, dtype=np.float32):
    """Linear light beyond 0 to 1, with transparency from 0 to 1."""
    values = samples(channels).astype(np.float32) / 200
    colours = channels - (channels in (2, 4))
    values[..., :colours] = values[..., :colours] ** 2 * 3 - 0.2
    return np.clip(values, None, [9] * colours + [1] * (channels - colours)).astype(dtype)


def test_linear_light(tmp_path, by_strips):
    (tmp_path / "in").mkdir()
    for channels, dtype, options in (
        (1, np.float16, {}),
        (1, np.float32, {"tile": (32, 32)}),
        (2, np.float64, {}),
        (3, np.float16, {"compression": "zlib", "predictor": True}),
        (3, np.float32, {"compression": "zlib", "predictor": True}),
        (4, np.float32, {}),
    ):
        kind = {"photometric": "rgb" if channels > 2 else "minisblack", "rowsperstrip": 16, "metadata": None}
        kind |= {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
        values = light(channels, dtype).squeeze()
        tifffile.imwrite(tmp_path / "in" / f"{channels}{values.dtype}.tif", values, **kind, **options)
    with upscaler() as it:
        whole = it.run(tmp_path / "in", tmp_path / "whole").images
        by_strips()
        made = it.run(tmp_path / "in", tmp_path / "strips").images
    for first, second in zip(whole, made, strict=True):
        assert (first.status, first.strips, second.status, second.error) == ("done", 0, "done", None)
        assert second.strips > 1
        assert second.notes == first.notes
        assert second.notes[0].startswith("linear values from -0.")
        one, other = tifffile.imread(first.target), tifffile.imread(second.target)
        assert other.dtype == (np.float16 if "float16" in second.source.name else np.float32)
        np.testing.assert_array_equal(one, other)
        assert len(np.unique(other)) > 100


@pytest.mark.parametrize("run", [{"format": "png"}, {"format": "tif", "scale": 1.5}])
def test_linear_light_to_png_and_to_another_size(tmp_path, by_strips, run):
    tifffile.imwrite(tmp_path / "a.tif", light(3), photometric="rgb", metadata=None)
    both(tmp_path / "a.tif", tmp_path, by_strips, run=run)


def test_linear_light_with_a_nan_is_refused(tmp_path, by_strips):
    values = light(3)
    values[100, 20, 1] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", metadata=None)
    by_strips()
    with upscaler() as it:
        assert "1 value is NaN or infinite; replace them first" in failed(tmp_path / "a.tif", tmp_path, it)


def test_comparisons_need_the_whole_image(tmp_path, by_strips):
    encode(from_array(samples(3)), tmp_path / "a.tif")
    by_strips(1)
    with upscaler() as it:
        assert it.run(tmp_path / "a.tif", tmp_path / "out", compare=True).images[0].strips == 0


# ru_maxrss of a process begins with what its parent used when it forked; VmHWM is its own.
_PEAK = """
import re, sys
from pathlib import Path
import torch
from torch import nn
import gankit
module = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2)).requires_grad_(False)
limit = 520_000_000
with gankit.Upscaler(module, scale=2, value_range=(0, 1), backend="eager", precision="fp32", device="cpu", threads=1,
                     max_memory=limit) as it:
    image = it.run(sys.argv[1], sys.argv[2], format=sys.argv[3]).images[0]
assert image.status == "done", image.error
assert image.strips > 1
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
assert peak < limit, peak
print(peak)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("format", ["png", "tiff"])
def test_the_peak_of_memory_does_not_grow_with_the_height(tmp_path, format):
    peaks = []
    for height in (3072, 12288):
        rows = np.random.default_rng(0).integers(0, 256, (64, 3000, 3), np.uint8)
        source = tmp_path / f"{height}.tif"
        strips = (rows.tobytes() for _ in range(height // 64))
        tifffile.imwrite(source, strips, shape=(height, 3000, 3), dtype=np.uint8, photometric="rgb", rowsperstrip=64)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _PEAK, source, tmp_path / "out", format],
            capture_output=True, text=True, cwd=Path(gankit.__file__).parents[1],
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
        (tmp_path / "out" / f"{height}.{format}").unlink()
    print(f"peak RSS to {format}: {peaks[0] / 1e6:.0f} MB for 9 MP, {peaks[1] / 1e6:.0f} MB for 37 MP")
    assert peaks[1] < 1.2 * peaks[0]
