"""Results of another size, linear light and comparisons by strips: the same pixels as in one piece."""

import numpy as np
import pytest
import tifffile

from gankit.images import decode, encode, from_array
from tests.pipeline.strip_runs import both, failed, samples, upscaler
from tests.variants import others_slow

SIZES = (
    {"scale": 1.5},  # of the source: less than the model
    {"scale": 0.13},
    {"width": 40},
    {"width": 300, "height": 200, "fit": "cover"},
    {"width": 100, "height": 300, "fit": "cover"},
    {"width": 33, "height": 900, "fit": "exact"},
)


@pytest.mark.parametrize("sizes", others_slow([SIZES[:3], SIZES[3:]], 1))
def test_results_of_another_size(tmp_path, by_strips, monkeypatch, sizes):
    monkeypatch.setattr("gankit.images.resize._ROWS", 37)
    (tmp_path / "in").mkdir()
    for channels, dtype in ((2, np.uint8), (4, np.uint16)):
        encode(from_array(samples(channels, dtype)), tmp_path / "in" / f"{channels}{np.dtype(dtype)}.tif")
    with upscaler() as it:
        names = [f"{number}" for number in range(len(sizes))]
        whole = [it.run(tmp_path / "in", tmp_path / "w" / n, **size) for n, size in zip(names, sizes, strict=True)]
        by_strips()
        made = [it.run(tmp_path / "in", tmp_path / "s" / n, **size) for n, size in zip(names, sizes, strict=True)]
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


@pytest.mark.parametrize("size", others_slow([{}, {"width": 300, "height": 200, "fit": "cover"}, {"scale": 1.5}]))
def test_comparisons(tmp_path, by_strips, monkeypatch, size):
    monkeypatch.setattr("gankit.images.comparison._SIDE", 100)
    monkeypatch.setattr("gankit.images.comparison._SEARCH_SIDE", 90)
    monkeypatch.setattr("gankit.images.resize._ROWS", 37)
    (tmp_path / "in").mkdir()
    encode(from_array(samples(3)), tmp_path / "in" / "a.tif")
    encode(from_array(samples(4, np.uint16)), tmp_path / "in" / "b.tif")
    with upscaler() as it:
        whole = it.run(tmp_path / "in", tmp_path / "whole", compare=True, **size).images
        by_strips()
        made = it.run(tmp_path / "in", tmp_path / "strips", compare=True, **size).images
    for first, second in zip(whole, made, strict=True):
        assert (first.strips, second.status, second.error) == (0, "done", None)
        assert second.strips > 1
        one, other = (image.target.with_name(f"{image.source.stem}_compare.png") for image in (first, second))
        np.testing.assert_array_equal(decode(one).pixels, decode(other).pixels)
