"""What the loop shows of a run, and what else it keeps: sample grids, TensorBoard, variety, pools."""

import logging
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from training_making import Toy, ones, rows, same

from gankit.errors import CheckpointError, GankitError, OutputError
from gankit.training.loop import Plan, fit
from gankit.training.pool import ImagePool
from gankit.training.sample_grid import tensor_grid
from gankit.training.watch import DiversityWatch


class Shown(Toy):
    """Draws noise in its steps and where it is validated; its sample grid is as bright as its weight."""

    def __init__(self):
        super().__init__()
        self.sample_grids = []
        self.pool = ImagePool(3)
        self.extras = {"pool": self.pool}

    def step(self, batch, index):
        self.pool(torch.randn(2, 1))
        losses = super().step(float(torch.rand(())), index)
        return losses | {"pooled": self.pool(torch.randn(1, 1)).square().mean()}

    def validate(self, generator):
        return {"score": float(torch.rand(())), **super().validate(generator)}

    def sample_grid(self, generator):
        self.sample_grids.append((generator.training, generator.weight.item()))
        torch.rand(3)
        return np.full((4, 6, 3), round(255 * min(1, abs(generator.weight.item()))), np.uint8)


def last(folder):
    return torch.load(folder / "last.pt", weights_only=True)


def test_sample_grids_of_the_averaged_weights(tmp_path):
    toy = Shown()
    fit(toy, ones, Plan(10, tmp_path, grid_every=4))
    names = sorted(path.name for path in (tmp_path / "grids").iterdir())
    assert names == ["step_0000004.png", "step_0000008.png", "step_0000010.png"]
    average = last(tmp_path)["average"]["state"]["weight"].item()
    assert toy.sample_grids[-1] == (False, average)
    assert toy.generator.training
    image = np.asarray(Image.open(tmp_path / "grids" / "step_0000010.png"))
    assert image.shape == (4, 6, 3)
    assert image[0, 0, 0] == round(255 * average)


def test_looking_does_not_change_what_is_learnt(tmp_path):
    """Random numbers drawn for sample grids and validation are not those of the steps."""
    fit(Shown(), ones, Plan(10, tmp_path / "seldom", validate_every=10))
    torch.manual_seed(0)
    first, second = Shown(), Shown()
    torch.manual_seed(1)
    fit(first, ones, Plan(10, tmp_path / "a", validate_every=10))
    torch.manual_seed(1)
    fit(second, ones, Plan(10, tmp_path / "b", validate_every=2, grid_every=1))
    assert first.generator.weight.item() == second.generator.weight.item()


def test_no_sample_grid_where_the_system_has_none(tmp_path):
    fit(Toy(), ones, Plan(3, tmp_path, grid_every=1))
    assert not (tmp_path / "grids").exists()


def test_sample_grids_that_cannot_be_written(tmp_path):
    (tmp_path / "grids").write_text("")
    with pytest.raises(OutputError, match=r"/grids/.*cannot be written"):
        fit(Shown(), ones, Plan(3, tmp_path, grid_every=2))


def test_pools_are_kept_so_that_ten_and_ten_are_twenty(tmp_path):
    for folder, parts in (("whole", [20]), ("parts", [10, 20])):
        torch.manual_seed(5)
        for number, steps in enumerate(parts):
            fit(Shown(), ones, Plan(steps, tmp_path / folder, 5, resume=number > 0))
            torch.manual_seed(99)
    assert same(last(tmp_path / "whole"), last(tmp_path / "parts"))
    assert rows(tmp_path / "whole/log.csv") == rows(tmp_path / "parts/log.csv")
    assert len(last(tmp_path / "whole")["extras"]["pool"]["images"]) == 3


def test_a_checkpoint_without_the_pool_is_of_another_run(tmp_path):
    fit(Toy(), ones, Plan(3, tmp_path))
    with pytest.raises(CheckpointError, match=r"of another run.*'pool'"):
        fit(Shown(), ones, Plan(5, tmp_path, resume=True))


def test_a_score_is_needed_only_where_the_best_is_kept(tmp_path):
    toy = Toy()
    toy.keeps_best = False
    toy.validate = lambda generator: {"variety": 2.0}
    assert fit(toy, ones, Plan(4, tmp_path)) == {}
    assert ["4", "validation_variety", "2"] in rows(tmp_path / "log.csv")


def test_collapse_is_reported_once_with_its_step_and_logged(tmp_path, caplog):
    values = {2: 1.0, 4: 2.0, 6: 0.6, 8: 0.4, 10: 0.3, 12: 1.5, 14: 0.1}

    def reported(steps):
        toy, left = Toy(), iter(value for step, value in values.items() if step > (8 if steps == 14 else 0))
        toy.diversity = lambda generator: next(left)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            fit(toy, ones, Plan(steps, tmp_path, validate_every=2, resume=steps == 14))
        return [record.getMessage() for record in caplog.records]

    assert reported(8) == [
        "the generator may have collapsed: its diversity at step 8 is 0.4, down from 2; look at the sample grids, "
        "then lower the learning rate or weaken the discriminator"
    ]
    (again,) = reported(14)  # not at 10: it is still the same fall
    assert "at step 14" in again
    assert ["8", "validation_diversity", "0.4"] in rows(tmp_path / "log.csv")


def test_the_watch_ignores_what_is_no_number():
    watch = DiversityWatch()
    assert not watch.see(4.0, 1)
    assert not watch.see(float("nan"), 2)
    assert not watch.see(1.01, 3)
    assert watch.see(0.99, 4)
    other = DiversityWatch()
    other.load_state_dict(watch.state_dict())
    assert other.see(0.5, 5)


def test_grid_of_images():
    images = torch.linspace(-1, 1, 5).view(5, 1, 1, 1).expand(5, 1, 3, 4)
    sample_grid = tensor_grid(images, 2)
    assert sample_grid.shape == (3 * 3 + 2 * 2, 2 * 4 + 2, 3)
    assert sample_grid.dtype == np.uint8
    assert [sample_grid[row * 5, column * 6, 0] for row, column in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0))] == [
        0,
        64,
        128,
        191,
        255,
    ]
    assert (sample_grid[3:5] == 255).all()  # the gap
    assert (sample_grid[10:, 6:] == 255).all()  # the cell without an image
    colours = tensor_grid(torch.tensor([[[[0.0]], [[0.5]], [[2.0]]]]), 1, low=0.0)
    assert colours.tolist() == [[[0, 128, 255]]]
    for wrong in (torch.zeros(0, 1, 2, 2), torch.zeros(1, 2, 2, 2)):
        with pytest.raises(ValueError, match="no sample grid"):
            tensor_grid(wrong, 1)


def test_tensorboard_has_what_the_csv_has(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for steps in (10, 20):
        fit(Shown(), ones, Plan(steps, tmp_path, tensorboard=True, grid_every=10, resume=steps == 20))
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = {
        (str(event.step), name): event.value
        for name in events.Tags()["scalars"]
        if name != "steps_per_second"
        for event in events.Scalars(name)
    }
    logged = {(step, name): float(value) for step, name, value in rows(tmp_path / "log.csv")[1:]}
    assert shown == pytest.approx(logged, rel=1e-5)
    assert [image.step for image in events.Images("sample_grid")] == [10, 20]


def test_without_tensorboard_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(GankitError, match=r"TensorBoard cannot be used .*pip install tensorboard, or omit"):
        fit(Toy(), ones, Plan(3, tmp_path, tensorboard=True))
