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
from gankit.pipeline import large
from tests.pipeline.strip_runs import HEIGHT, WIDTH, both, failed, samples, upscaler
from tests.variants import others_slow


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


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", others_slow([1, 4, 2, 3]))
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


@pytest.mark.parametrize("alpha", others_slow([0, 255, 7]))
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


@pytest.mark.parametrize("size", others_slow([(201, 89), (200, 88), (198, 91), (HEIGHT, WIDTH)]))
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
    Image.fromarray(samples(4), "CMYK").save(tmp_path / "cmyk.tif", compression="jpeg")
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
    image = it.run(sys.argv[1], sys.argv[2], **eval(sys.argv[3])).images[0]
assert image.status == "done", image.error
assert image.strips > 1
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
assert peak < limit, peak
print(peak)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(
    "options",
    [{"format": "png"}, {"format": "tiff"}, {"format": "png", "scale": 0.7, "compare": True}],
    ids=lambda options: "-".join(options),
)
def test_the_peak_of_memory_does_not_grow_with_the_height(tmp_path, options):
    format = options["format"]
    peaks = []
    for height in (3072, 12288):
        rows = np.random.default_rng(0).integers(0, 256, (64, 3000, 3), np.uint8)
        source = tmp_path / f"{height}.tif"
        strips = (rows.tobytes() for _ in range(height // 64))
        tifffile.imwrite(source, strips, shape=(height, 3000, 3), dtype=np.uint8, photometric="rgb", rowsperstrip=64)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _PEAK, source, tmp_path / "out", repr(options)],
            capture_output=True, text=True, cwd=Path(gankit.__file__).parents[1],
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
        (tmp_path / "out" / f"{height}.{format}").unlink()
    print(f"peak RSS to {format}: {peaks[0] / 1e6:.0f} MB for 9 MP, {peaks[1] / 1e6:.0f} MB for 37 MP")
    assert peaks[1] < 1.2 * peaks[0]
