"""What a resumed run takes from its checkpoint, what from the user, and what it refuses."""

import logging
import os
import signal

import pytest
import torch
from training_making import Toy, ones, rows, same, stream, system

from gankit.errors import CheckpointError, UsageError
from gankit.training.loop import Plan, fit
from tests.variants import others_slow

SETTINGS = {"steps": 3, "lr": 0.1, "norm": "frozen", "patch": 24, "vgg_weights": None, "validation": "a"}


def last(folder):
    return torch.load(folder / "last.pt", weights_only=True)


def test_a_new_learning_rate_is_taken(tmp_path):
    fit(system("srgan", 20), stream(), Plan(6, tmp_path, validate_every=100))
    made = system("srgan", 20, lr=1e-5, inner_lr=2e-5, discriminator_lr=3e-5)
    fit(made, stream(), Plan(7, tmp_path, resume=True))
    rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in made.optimisers.values()]
    factors = [schedule(6) for schedule in made.schedules.values()]
    assert rates == [pytest.approx([2e-5 * factors[0], 1e-5 * factors[0]]), pytest.approx([3e-5 * factors[1]])]


@pytest.mark.parametrize(("name", "value"), [("norm", "batch"), ("patch", 32), ("vgg_weights", "vgg19.pth")])
def test_another_setting_is_refused_by_name(tmp_path, name, value):
    fit(Toy(), ones, Plan(3, tmp_path), settings=SETTINGS)
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(
        CheckpointError, match=rf"last\.pt: the checkpoint is of another run: its {name} is .*, not {value}"
    ) as error:
        fit(Toy(), ones, Plan(5, tmp_path, resume=True), settings={**SETTINGS, name: value})
    assert "\n" not in str(error.value)
    assert (tmp_path / "last.pt").read_bytes() == before


def test_steps_and_rates_may_change_and_are_reported(tmp_path, caplog):
    fit(Toy(), ones, Plan(3, tmp_path), settings=SETTINGS)
    with caplog.at_level(logging.WARNING):
        fit(Toy(), ones, Plan(5, tmp_path, resume=True), settings={**SETTINGS, "steps": 5, "lr": 0.01})
    assert "continues with steps 5; the checkpoint has 3" in caplog.text
    assert "continues with lr 0.01; the checkpoint has 0.1" in caplog.text
    assert last(tmp_path)["settings"]["lr"] == 0.01


def test_a_run_can_be_ended_where_it_was_left(tmp_path):
    """The weights of its last step are written, though it was not its last before."""
    fit(Toy(), ones, Plan(20, tmp_path, stop_after=0.0), settings={**SETTINGS, "steps": 20})
    assert last(tmp_path)["step"] == 1
    settings, toy = {**SETTINGS, "steps": 1}, Toy()
    fit(toy, ones, Plan(1, tmp_path, resume=True), settings=settings)
    assert "final.safetensors" in [name for name, *_ in toy.saved]
    before = rows(tmp_path / "log.csv")
    assert [row[0] for row in before if row[1] == "validation_score"] == ["1"]
    again = Toy()
    fit(again, ones, Plan(1, tmp_path, resume=True), settings=settings)
    assert rows(tmp_path / "log.csv") == before
    assert again.saved == [], "once"


def test_a_run_does_not_go_back(tmp_path):
    fit(Toy(), ones, Plan(4, tmp_path), settings={**SETTINGS, "steps": 4})
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(UsageError, match=r"last\.pt: is already at step 4: give --steps of at least that"):
        fit(Toy(), ones, Plan(3, tmp_path, resume=True), settings=SETTINGS)
    assert (tmp_path / "last.pt").read_bytes() == before


def test_other_validation_images_forget_the_best(tmp_path):
    """The scores cannot be compared."""
    fit(Toy(), ones, Plan(3, tmp_path), settings=SETTINGS)
    for validation, wanted in (("a", 50.0), ("b", -5.0)):
        content = last(tmp_path)
        content["best"] = {"score": 50.0, "step": 3.0}
        torch.save(content, tmp_path / "last.pt")
        toy = Toy()
        toy.validate = lambda generator: {"score": -5.0}
        settings = {**SETTINGS, "validation": validation}
        best = fit(toy, ones, Plan(content["step"] + 1, tmp_path, resume=True), settings=settings)
        assert best["score"] == wanted


def test_a_checkpoint_without_settings_is_taken_with_a_warning(tmp_path, caplog):
    fit(Toy(), ones, Plan(3, tmp_path))
    content = last(tmp_path)
    del content["settings"], content["due"]
    torch.save(content, tmp_path / "last.pt")
    with caplog.at_level(logging.WARNING):
        fit(Toy(), ones, Plan(4, tmp_path, resume=True), settings=SETTINGS)
    assert "does not record the options of its run" in caplog.text
    assert last(tmp_path)["settings"] == SETTINGS


def test_nothing_to_resume(tmp_path):
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises(UsageError, match=r"holds no last\.pt to resume from"):
            fit(Toy(), ones, Plan(3, folder, resume=True))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["best.safetensors", "final.safetensors", "log.csv"])
def test_files_of_an_earlier_run_are_not_overwritten(tmp_path, name):
    (tmp_path / name).write_text("trained for days")
    with pytest.raises(UsageError, match=f"holds the {name} of an earlier run"):
        fit(Toy(), ones, Plan(3, tmp_path))
    assert (tmp_path / name).read_text() == "trained for days"


@pytest.mark.parametrize("accident", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("step", others_slow([15, 20, 10]))
def test_an_accident_in_the_validation_loses_nothing(tmp_path, accident, step):
    """Also where it happened after the best weights were written."""

    def plan(folder, resume=False):
        return Plan(20, tmp_path / folder, validate_every=5, checkpoint_every=100, resume=resume)

    fit(system("srresnet", 20), stream(), plan("whole"))
    made = system("srresnet", 20)
    validated = []

    def validate(generator):
        validated.append(1)
        if len(validated) == step // 5:
            raise accident
        return type(made).validate(made, generator)

    made.validate = validate
    with pytest.raises(accident):
        fit(made, stream(), plan("parts"))
    assert last(tmp_path / "parts")["step"] == step
    seen = []
    fit(system("srresnet", 20), stream(), plan("parts", resume=True), lambda progress: seen.append(progress.step))
    assert seen == list(range(step, 21))
    assert same(last(tmp_path / "whole"), last(tmp_path / "parts"))
    assert rows(tmp_path / "whole/log.csv") == rows(tmp_path / "parts/log.csv")
    assert (tmp_path / "parts/final.safetensors").exists()


@pytest.mark.parametrize("step", [10, 20])
def test_ctrl_c_at_a_step_to_be_validated_leaves_at_once(tmp_path, step, caplog):
    class Interrupted(Toy):
        def step(self, batch, index):
            if index + 1 == step:
                os.kill(os.getpid(), signal.SIGINT)
            return super().step(batch, index)

    toy, whole = Interrupted(), Toy()
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        fit(toy, ones, Plan(20, tmp_path / "parts", validate_every=10))
    assert "finishing this step" in caplog.text
    assert len(toy.validated) == step // 10 - 1
    toy = Toy()
    fit(toy, ones, Plan(20, tmp_path / "parts", validate_every=10, resume=True))
    assert len(toy.validated) == 2 - (step // 10 - 1)
    fit(whole, ones, Plan(20, tmp_path / "whole", validate_every=10))
    assert same(last(tmp_path / "whole"), last(tmp_path / "parts"))
    assert rows(tmp_path / "whole/log.csv") == rows(tmp_path / "parts/log.csv")


def test_validation_that_was_logged_before_an_accident_is_logged_once(tmp_path):
    fit(Toy(), ones, Plan(10, tmp_path))
    wanted = rows(tmp_path / "log.csv")
    content = last(tmp_path)
    content["due"] = True  # as if the last checkpoint could not be written
    torch.save(content, tmp_path / "last.pt")
    fit(Toy(), ones, Plan(10, tmp_path, resume=True))
    assert rows(tmp_path / "log.csv") == wanted
    assert not last(tmp_path)["due"]
