"""Learning rates by step."""

import math

import pytest
import torch

from gankit.errors import UsageError
from gankit.training.schedules import SCHEDULES, make_schedule, warmup_cosine

STEPS = 100


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("constant", {0: 1, 50: 1, 100: 1}),
        ("step", {0: 1, 19: 1, 20: 0.5, 40: 0.25, 80: 1 / 16, 99: 1 / 16}),
        ("exponential", {0: 1, 50: 0.1, 100: 0.01}),
        ("inverse", {0: 1, 100: 0.1, 50: 1 / 5.5}),
        ("linear", {0: 1, 50: 1, 75: 0.5, 100: 0}),
        ("cosine", {0: 1, 25: 0.5 + math.sqrt(0.125), 50: 0.5, 100: 0}),
        ("cyclic", {0: 0.1, 12.5: 1, 25: 0.1, 37.5: 1, 6.25: 0.55}),
    ],
)
def test_shapes(name, wanted):
    schedule = make_schedule(name, STEPS)
    assert {step: schedule(step) for step in wanted} == pytest.approx(wanted, abs=1e-9)


def test_names():
    assert set(SCHEDULES) == {"constant", "step", "exponential", "inverse", "linear", "cosine", "cyclic"}


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_warm_up_rises_to_the_schedule(name):
    plain, warm = make_schedule(name, STEPS), make_schedule(name, STEPS, warmup=10)
    assert [warm(step) for step in range(10)] == pytest.approx([plain(step) * (step + 1) / 10 for step in range(10)])
    assert all(warm(step) == plain(step) for step in range(10, STEPS + 5))
    assert all(0 <= warm(step) <= 1 for step in range(STEPS + 20))


def test_options():
    assert make_schedule("step", 100, drop=0.1, every=30)(65) == pytest.approx(0.01)
    assert make_schedule("linear", 100, hold=0.0, end=0.2)(50) == pytest.approx(0.6)
    assert make_schedule("cyclic", 100, cycles=2, end=0.0)(25) == pytest.approx(1)
    assert make_schedule("cosine", 100, end=0.3)(200) == pytest.approx(0.3)
    assert make_schedule("inverse", 100, end=0.5)(100) == pytest.approx(0.5)


def parameters():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (make_schedule("step", STEPS), lambda o: torch.optim.lr_scheduler.StepLR(o, 20, 0.5)),
        (make_schedule("exponential", STEPS), lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.01 ** (1 / STEPS))),
        (make_schedule("cosine", STEPS), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, STEPS)),
        (
            make_schedule("cyclic", STEPS, cycles=5),
            lambda o: torch.optim.lr_scheduler.CyclicLR(o, 0.1, 1.0, step_size_up=10),
        ),
    ],
)
def test_against_torchs(ours, theirs):
    optimiser = parameters()
    scheduler = theirs(optimiser)
    for step in range(STEPS):
        assert optimiser.param_groups[0]["lr"] == pytest.approx(ours(step), abs=1e-9)
        optimiser.step()
        scheduler.step()


def test_warmup_cosine_is_the_same():
    ours, named = warmup_cosine(STEPS, warmup=10, floor=0.1), make_schedule("cosine", STEPS, warmup=10, end=0.1)
    assert [ours(step) for step in range(STEPS)] == [named(step) for step in range(STEPS)]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("cosin", {}, "no schedule 'cosin': choose from constant"),
        ("cosine", {"warmup": -1}, "warm-up of -1"),
        ("linear", {"hold": 1.0}, "hold of 1.0"),
        ("exponential", {"end": 0.0}, "end of 0.0"),
        ("inverse", {"end": 0.0}, "end of 0.0"),
        ("cosine", {"end": 2.0}, "end of 2.0"),
        ("cyclic", {"cycles": 0}, "cycles of 0"),
        ("step", {"every": 0}, "stage of 0"),
        ("step", {"drop": 0.0}, "drop of 0.0"),
    ],
)
def test_wrong_use(name, options, words):
    with pytest.raises(UsageError, match=words):
        make_schedule(name, STEPS, **options)
    with pytest.raises(UsageError, match="steps of 0"):
        make_schedule("constant", 0)
