"""Results of another size than the model's, and comparisons beside them."""

import json

import numpy as np
import pytest
from PIL import Image

from gankit import checkpoints, cli, models
from gankit.errors import UsageError
from gankit.images import DecodedImage, decode
from gankit.images.comparison import before_after
from gankit.images.resize import resize, resize_strips
from gankit.pipeline.resize import OutputSize


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize(
    ("given", "source", "wanted"),
    [
        ({}, (30, 20), (120, 80)),
        ({"scale": 2}, (31, 20), (62, 40)),
        ({"scale": 1.5}, (31, 21), (46, 32)),  # round(46.5) is 46, round(31.5) is 32
        ({"scale": 0.01}, (31, 21), (1, 1)),
        ({"width": 100}, (30, 20), (100, 67)),
        ({"height": 50}, (30, 20), (75, 50)),
        ({"width": 100, "height": 100}, (30, 20), (100, 67)),
        ({"width": 100, "height": 40, "fit": "inside"}, (30, 20), (60, 40)),
        ({"width": 100, "height": 100, "fit": "cover"}, (30, 20), (100, 100)),
        ({"width": 100, "height": 10, "fit": "exact"}, (30, 20), (100, 10)),
    ],
)
def test_sizes(given, source, wanted):
    size = OutputSize(**given)
    assert size.of(source, 4) == wanted
    result = size.resized(DecodedImage(noise(4 * source[1], 4 * source[0], 3)), 4)
    assert result.pixels.shape == (wanted[1], wanted[0], 3)


def test_cover_shows_the_middle():
    assert OutputSize(width=100, height=100, fit="cover").box((30, 20)) == (5, 0, 25, 20)
    assert OutputSize(width=100, height=50, fit="cover").box((20, 30)) == (0, 10, 20, 20)
    assert OutputSize(width=100, height=50).box((20, 30)) == (0, 0, 20, 30)
    pixels = np.zeros((80, 120, 3), np.uint8)
    pixels[:, 20:100] = 200  # what is shown, exactly
    result = OutputSize(width=40, height=40, fit="cover").resized(DecodedImage(pixels), 4)
    assert (result.pixels[:, 4:-4] == 200).all()  # the filter reaches over the edge by three pixels


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scale": 0}, "scale must be above 0"),
        ({"scale": float("nan")}, "scale must be above 0"),
        ({"scale": 100}, "at most 64"),
        ({"width": 0}, "width must be at least 1"),
        ({"scale": 2, "height": 5}, "use one or the other"),
        ({"fit": "cover", "width": 5}, "both a width and a height"),
        ({"fit": "odd", "width": 5, "height": 5}, "unknown fit"),
    ],
)
def test_contradictions_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        OutputSize(**given)


def test_lanczos_is_pillows():
    pixels, alpha = noise(40, 30, 3), noise(40, 30)
    result = resize(DecodedImage(pixels, alpha, exif=b"e"), (17, 11))
    expected = np.asarray(Image.fromarray(pixels).resize((17, 11), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(result.pixels, expected)
    assert result.alpha.shape == (11, 17)
    assert result.exif == b"e"
    image = DecodedImage(pixels)
    assert resize(image, (30, 40)) is image


def test_16_bit_keeps_its_levels():
    """The result in 16 bit is that of 8 bit to half a level, and finer."""
    pixels = noise(40, 30, 3)
    deep = resize(DecodedImage(pixels.astype(np.uint16) * 257), (17, 11))
    flat = resize(DecodedImage(pixels), (17, 11))
    assert deep.pixels.dtype == np.uint16
    assert np.abs(deep.pixels / 257 - flat.pixels).max() < 1.01
    assert (deep.pixels % 257 != 0).any()
    high = resize(DecodedImage(np.full((8, 8, 3), 65535, np.uint16), np.full((8, 8), 65535, np.uint16)), (3, 3))
    assert (high.pixels == 65535).all()
    assert (high.alpha == 65535).all()


def test_gray_stays_gray():
    plane = noise(40, 30, 1)
    result = resize(DecodedImage(np.repeat(plane, 3, axis=2), gray=True), (20, 20))
    assert (result.pixels == result.pixels[..., :1]).all()


@pytest.mark.parametrize("method", ["lanczos", "bicubic"])
@pytest.mark.parametrize(
    ("size", "box"), [((300, 900), None), ((90, 41), None), ((50, 1234), (1.5, 30.25, 60, 555.1)), ((70, 600), None)]
)
def test_blocks_are_resized_as_pillow_resizes_the_whole(size, box, method):
    pixels = noise(600, 70, 3)
    filters = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC}
    made = resize(DecodedImage(pixels), size, box, method).pixels
    wanted = np.asarray(Image.fromarray(pixels).resize(size, filters[method], box))
    difference = np.abs(made.astype(int) - wanted)
    assert difference.max() <= 1  # Pillow takes the box in float32, and half-way between two pixels many values tie
    assert (difference > 0).mean() < 0.02
    strips = (DecodedImage(part) for part in np.split(pixels, [1, 5, 200, 433]))
    again = [part.pixels for part in resize_strips(strips, (70, 600), size, box, method)]
    np.testing.assert_array_equal(np.concatenate(again), made)


def test_more_than_the_model_is_said():
    image = DecodedImage(noise(16, 16, 3))
    assert OutputSize(scale=4).resized(image, 4).notes == ()
    assert OutputSize(scale=8).resized(image, 4).notes == (
        "32×32 is more than the model's ×4; the rest is interpolated",
    )


def test_a_comparison_shows_bicubic_and_the_result_in_one_place():
    source = np.full((300, 400, 3), 128, np.uint8)
    source[200:220, 300:320] = noise(20, 20, 3)  # the detail that the lower row is to show
    large = Image.fromarray(source).resize((1600, 1200), Image.Resampling.BICUBIC)
    made = before_after(DecodedImage(source), DecodedImage(np.asarray(large)), (0, 0, 400, 300), "net")
    label, gap = 22, 6
    assert made.shape == (384 + 512 + 2 * label + gap, 2 * 512 + gap, 3)
    bottom = made[384 + 2 * label + gap :]
    left, right = bottom[:, :512].astype(int), bottom[:, 512 + gap :].astype(int)
    assert left.std() > 5
    assert np.abs(left - right).max() <= 1  # the result is bicubic, too
    deep = DecodedImage(noise(20, 20, 3, dtype=np.uint16), noise(20, 20, dtype=np.uint16))
    assert before_after(deep, deep, (0, 0, 20, 20), "net").dtype == np.uint8


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    options = {"blocks": 1, "channels": 8}
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    checkpoints.save(path, models.build("srgan", options).state_dict(), "srgan", options)
    return path


@pytest.fixture
def upscale(weights, tmp_path):
    Image.fromarray(noise(30, 41, 3)).save(tmp_path / "a.png")
    Image.fromarray(noise(20, 20, dtype=np.uint16)).save(tmp_path / "deep.png")

    def run(*options):
        paths = [str(tmp_path / name) for name in ("a.png", "deep.png")]
        return cli.main(["upscale", *paths, "-m", str(weights), "-b", "eager", *options])

    return run


def test_the_command_resizes(upscale, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert upscale("--scale", "2", "--report", str(report)) == 0
    assert decode(tmp_path / "a_x2.png").pixels.shape == (60, 82, 3)
    deep = decode(tmp_path / "deep_x2.png")
    assert deep.pixels.shape == (40, 40, 3)
    assert deep.pixels.dtype == np.uint16
    sizes = [tuple(item["output_size"]) for item in json.loads(report.read_text())["images"]]
    assert sizes == [(82, 60), (40, 40)]
    whole = tmp_path / "whole"
    assert upscale("-o", str(whole)) == 0
    expected = Image.open(whole / "a.png").resize((82, 60), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(decode(tmp_path / "a_x2.png").pixels, np.asarray(expected))
    assert upscale("--scale", "2", "--width", "5") == 2
    assert "use one or the other" in capsys.readouterr().err


def test_another_size_is_another_result(upscale, tmp_path, capsys):
    out = tmp_path / "out"
    size = ["-o", str(out), "--width", "64", "--height", "64"]
    assert upscale(*size, "--fit", "cover") == 0
    assert decode(out / "a.png").pixels.shape == (64, 64, 3)
    capsys.readouterr()
    assert upscale(*size, "--fit", "cover") == 0
    assert "2 skipped (results exist)" in capsys.readouterr().out
    assert upscale(*size) == 0
    assert "an option changed" in capsys.readouterr().out
    assert decode(out / "a.png").pixels.shape == (47, 64, 3)
    assert upscale("--width", "64") == 0
    assert (tmp_path / "a_64x.png").exists()


def test_comparisons_are_made_kept_and_no_sources(upscale, tmp_path, capsys, weights):
    assert upscale() == 0
    assert not list(tmp_path.glob("*_compare.png"))
    assert upscale("--compare") == 0  # the results are up to date, but have no comparison
    comparison = tmp_path / "a_x4_compare.png"
    assert decode(comparison).pixels.shape == (2 * 120 + 2 * 22 + 6, 2 * 164 + 6, 3)
    capsys.readouterr()
    command = ["upscale", *map(str, sorted(tmp_path.glob("*.png"))), "-m", str(weights), "-b", "eager", "--compare"]
    assert cli.main(command) == 0
    assert "2 skipped (results exist)" in capsys.readouterr().out
    assert len(list(tmp_path.glob("*.png"))) == 6
    comparison.write_bytes(b"mine")
    assert cli.main([*command, "--scale", "4"]) == 0
    assert "a_x4_compare.png was not made by gankit, and is kept" in capsys.readouterr().err
    assert comparison.read_bytes() == b"mine"
