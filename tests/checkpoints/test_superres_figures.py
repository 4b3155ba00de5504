"""Real files of other people's give the figures that their own code gives."""

import pytest
import torch

from gankit.backends.base import EngineSpec
from gankit.backends.eager import EagerBackend
from gankit.checkpoints import open_model
from gankit.evaluation.benchmark import evaluate_pairs, read_rgb

pytestmark = pytest.mark.slow

# Y-PSNR inside a border of 4 pixels, of Set5 and Set14
FIGURES = {
    "srgan_leftthomas_x4.pth": ("srgan", 30.70, 27.77),
    "realesr_animevideov3_x4.pth": ("srvgg", 28.23, 26.11),
    "fast_srgan_x4.pt": ("fast_srgan", 29.39, 26.34),
}


def figure(data, file, benchmark):
    loaded = open_model(data / "checkpoints" / file)
    assert loaded.facts.name == FIGURES[file][0]
    with EagerBackend().load(EngineSpec(loaded.generator, loaded.facts)) as engine:

        def upscale(small):
            return engine.run(torch.from_numpy(small).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()

        folder = data / "benchmarks" / benchmark / "x4"
        return evaluate_pairs(upscale, folder / "HR", folder / "LR", 4).mean.psnr_y


@pytest.mark.parametrize("file", FIGURES)
def test_set5(data, file):
    assert figure(data, file, "Set5") == pytest.approx(FIGURES[file][1], abs=0.005)


@pytest.mark.parametrize("file", FIGURES)
def test_set14(data, file):
    assert figure(data, file, "Set14") == pytest.approx(FIGURES[file][2], abs=0.005)


def test_leftthomas_to_four_decimals(data):
    """29.5944 dB: RGB, the whole image, not rounded to 8 bits (29.5897 where it is)."""
    folder = data / "benchmarks" / "Set14" / "x4"
    small, true = (torch.from_numpy(read_rgb(folder / kind / "011.png")) for kind in ("LR", "HR"))
    loaded = open_model(data / "checkpoints" / "srgan_leftthomas_x4.pth")
    assert (loaded.facts.scale, loaded.facts.options["blocks"], loaded.facts.options["neck"]) == (4, 5, "prelu")
    with torch.inference_mode():
        result = loaded.generator(small.permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0)
    error = (result.double() - true.double() / 255).square().mean()
    assert round(float(-10 * torch.log10(error)), 4) == 29.5944
