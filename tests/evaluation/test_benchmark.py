import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gankit.errors import ImageError, UsageError
from gankit.evaluation import bicubic, evaluate_pairs, find_scale
from gankit.evaluation.benchmark import find_pairs, read_pair


def save(path: Path, height: int, width: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(values).convert(mode).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    hr, lr = tmp_path / "HR", tmp_path / "LR"
    for name in ("a", "b"):
        save(hr / f"{name}.png", 60, 52)
        save(lr / f"{name}.png", 15, 13)
    return hr, lr


@pytest.mark.parametrize(("name", "count", "decibel"), [("Set5", 5, 28.43), ("Set14", 14, 26.09)])
def test_bicubic_gives_the_published_figures(data, name, count, decibel):
    folder = data / "benchmarks" / name / "x4"
    if not folder.is_dir():
        pytest.skip(f"no {name}")
    table = evaluate_pairs(bicubic(4), folder / "HR", folder / "LR", scale=4)
    assert len(table.scores) == count
    assert table.border == 4
    assert table.mean.psnr_y == pytest.approx(decibel, abs=0.006)


def test_the_truth_scores_infinity(folders):
    hr, lr = folders
    truth = iter([np.asarray(Image.open(path)) for path in sorted(hr.iterdir())])
    table = evaluate_pairs(lambda small: next(truth), hr, lr, scale=4)
    assert [score.name for score in table.scores] == ["a", "b"]
    assert table.mean.psnr_y == math.inf
    assert table.mean.ssim_y == pytest.approx(1)
    assert table.as_dict()["mean"] == {"psnr_y": None, "ssim_y": pytest.approx(1), "psnr": None}


def test_the_mean_is_of_the_images(folders):
    table = evaluate_pairs(bicubic(4), *folders, scale=4, border=0)
    assert table.border == 0
    assert table.mean.psnr_y == pytest.approx(sum(score.psnr_y for score in table.scores) / 2)
    assert table.as_dict()["images"]["a"]["psnr_y"] == table.scores[0].psnr_y


def test_the_scale_comes_from_the_images(folders):
    assert find_scale(*folders) == 4


def test_a_true_image_is_cropped_to_a_multiple(folders):
    hr, lr = folders
    save(hr / "a.png", 63, 55)
    large, small = read_pair(find_pairs(hr, lr, 4)[0], 4)
    assert large.shape == (60, 52, 3)
    assert small.shape == (15, 13, 3)
    np.testing.assert_array_equal(large, np.asarray(Image.open(hr / "a.png"))[:60, :52])
    assert find_scale(hr, lr) == 4


def test_names_with_the_scale_pair_up(folders):
    hr, lr = folders
    (lr / "a.png").rename(lr / "ax4.png")
    assert [pair.lr.name for pair in find_pairs(hr, lr, 4)] == ["ax4.png", "b.png"]
    assert find_scale(hr, lr) == 4


def test_gray_is_rgb(folders):
    hr, lr = folders
    save(hr / "a.png", 60, 52, mode="L")
    save(lr / "a.png", 15, 13, mode="L")
    assert len(evaluate_pairs(bicubic(4), hr, lr, 4).scores) == 2


@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_folder_is_named(folders, tmp_path, which):
    wrong = [*folders]
    wrong[which] = tmp_path / "nowhere"
    with pytest.raises(UsageError, match=r"nowhere: no such folder"):
        evaluate_pairs(bicubic(4), *wrong, scale=4)


def test_an_empty_folder_is_named(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: no images there"):
        find_scale(tmp_path / "empty", folders[1])


def test_a_image_without_partner_is_named(folders):
    hr, lr = folders
    (lr / "b.png").unlink()
    with pytest.raises(UsageError, match=r"b\.png: no image of that name"):
        evaluate_pairs(bicubic(4), hr, lr, 4)
    (lr / "a.png").unlink()
    save(lr / "z.png", 15, 13)
    with pytest.raises(UsageError, match=r"a\.png: no image of that name"):
        find_scale(hr, lr)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_broken_image_is_named(folders, content):
    (folders[1] / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png: "):
        evaluate_pairs(bicubic(4), *folders, scale=4)


def test_a_truncated_image_is_named(folders):
    path = folders[1] / "a.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError, match=r"a\.png: "):
        evaluate_pairs(bicubic(4), *folders, scale=4)


def test_sizes_that_do_not_belong_together_are_refused(folders):
    with pytest.raises(ImageError, match="not ×2 of each other"):
        evaluate_pairs(bicubic(2), *folders, scale=2)


def test_a_model_of_another_scale_is_refused(folders):
    with pytest.raises(UsageError, match="made 26×30 of a, the true image is 52×60"):
        evaluate_pairs(bicubic(2), *folders, scale=4)


def test_a_border_that_leaves_nothing_is_refused(folders):
    with pytest.raises(UsageError, match="too small to measure"):
        evaluate_pairs(bicubic(4), *folders, scale=4, border=21)


def test_bicubic_keeps_a_constant():
    result = bicubic(3)(np.full((4, 5, 3), 77, np.uint8))
    assert result.shape == (12, 15, 3)
    assert (result == 77).all()
