"""One thread: nets this small only wait for each other on more. And images to train with."""

import pytest
import torch
from PIL import Image

from gankit.datasets.synthetic import synthetic_image


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def photos(tmp_path):
    """A folder of two images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(2):
        Image.fromarray(synthetic_image(seed, size=96)).save(folder / f"{seed}.png")
    return folder
