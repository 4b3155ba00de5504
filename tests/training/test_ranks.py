"""Several processes: one torchrun of two on the CPU, and what they must agree on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import Dataset
from training_making import NET, TINY, rows, same
from two_ranks import Content, stream

from gankit.errors import UsageError
from gankit.training import fabric, ranks
from gankit.training.fabric import fabric_for
from gankit.training.loader import batches
from gankit.training.loop import Plan, fit

HERE = Path(__file__).parent
needs_gloo = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="needs gloo"
)


def launch(*arguments, **variables):
    """Run Python in a process whose Ctrl-C is the usual one, one thread each."""
    path = os.pathsep.join([str(HERE), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder of a run of two_ranks.py, and what each process found."""
    folder = tmp_path_factory.mktemp("two")
    done = launch("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, HERE / "two_ranks.py", folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@needs_gloo
@pytest.mark.slow
def test_two_processes_with_half_the_batch_are_one(two, tmp_path):
    folder, (first, second) = two
    assert (first["world"], first["first"], second["first"]) == (2, True, False)
    assert same(first["content"], second["content"])
    alone = Content(fabric_for("cpu", "fp32"))
    before = {name: value.clone() for name, value in alone.generator.state_dict().items()}
    best = fit(alone, stream(4), Plan(6, tmp_path, validate_every=3))
    for name, value in alone.generator.state_dict().items():
        torch.testing.assert_close(first["content"][name], value, atol=1e-6, rtol=1e-5)
        assert (value - before[name]).abs().max() > 1e-3  # it has learnt something
    assert first["best"] == second["best"] == pytest.approx(best, rel=1e-4)
    logs = (folder / "content/log.csv", tmp_path / "log.csv")
    ours, theirs = ([(step, name, float(value)) for step, name, value in rows(log)[1:]] for log in logs)
    assert [row[:2] for row in ours] == [row[:2] for row in theirs]
    assert [row[2] for row in ours] == pytest.approx([row[2] for row in theirs], rel=1e-4)


@needs_gloo
@pytest.mark.slow
def test_the_first_alone_validates_and_writes(two):
    folder, (first, second) = two
    assert (first["validated"], second["validated"]) == (2, 0)
    assert {path.name for path in (folder / "content").iterdir()} == {
        "last.pt",
        "best.safetensors",
        "final.safetensors",
        "log.csv",
    }
    average = torch.load(folder / "content" / "last.pt", weights_only=True)["average"]["state"]
    assert same(average, load_file(folder / "content" / "final.safetensors"))


@needs_gloo
@pytest.mark.slow
def test_a_game_with_penalty_and_pool_stays_equal(two):
    _, (first, second) = two
    assert same(first["whole"], second["whole"])
    assert not set(first["noise"]) & set(second["noise"])  # each has its own noise


@needs_gloo
@pytest.mark.slow
def test_interrupts_are_agreed_and_the_run_goes_on_exactly(two):
    folder, found = two
    assert [each["interrupted"] for each in found] == [5, 5]
    assert all(same(each["whole"], each["parts"]) for each in found)
    whole, parts = (torch.load(folder / name / "last.pt", weights_only=True) for name in ("whole", "parts"))
    assert same(whole, parts)
    assert len(whole["others"]) == 1
    assert not same(whole["others"][0]["extras"], whole["extras"])
    assert rows(folder / "whole/log.csv") == rows(folder / "parts/log.csv")


@needs_gloo
@pytest.mark.slow
def test_accidents_in_one_process_end_all(two):
    _, found = two
    for each in found:
        assert each["nan"].startswith("DivergedError: content is not finite at step 3")
    assert [each["full"] for each in found] == [
        "GankitError: disk full",
        "ElsewhereError: the first process failed: disk full",
    ]


@needs_gloo
@pytest.mark.slow
def test_the_command_launches_its_own_processes(photos, tmp_path):
    """``--devices 2`` runs the command once more; what it says, it says once."""
    command = ["-m", "gankit", "train", "srresnet", "--data", photos, "--validation", photos, *TINY, *NET]
    done = launch(*command, "--devices", "2", "--output", tmp_path / "own")
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr.count("2 processes with a batch of 2: 4 samples a step") == 1
    assert len(done.stdout.splitlines()) == 1
    content = torch.load(tmp_path / "own/last.pt", weights_only=True)
    assert (content["step"], len(content["others"])) == (4, 1)


class Indices(Dataset):
    def __len__(self):
        return 2**40

    def __getitem__(self, index):
        return index


@pytest.mark.parametrize("workers", [0, 1])
def test_processes_share_the_items_of_a_step(workers):
    sources = [batches(Indices(), 3, 2, workers, rank=rank, world=2) for rank in range(2)]
    seen = [[next(source).tolist() for _ in range(2)] for source in sources]
    assert seen == [[[12, 13, 14], [18, 19, 20]], [[15, 16, 17], [21, 22, 23]]]
    alone = batches(Indices(), 6, 2)
    assert [next(alone).tolist() for _ in range(2)] == [a + b for a, b in zip(*seen, strict=True)]


def test_one_process_is_alone():
    assert (ranks.world(), ranks.rank()) == (1, 0)
    assert ranks.agreed(True, False) == (True, False)
    assert ranks.mean([1.5, float("inf")]) == [1.5, float("inf")]
    assert ranks.gathered(3) == [3]
    assert ranks.by_first(lambda: 4) == 4


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
    ],
)
def test_the_first_is_known_before_the_others_are_met(monkeypatch, variables, wanted):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ranks.is_first() == wanted


def test_devices_that_are_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match=r"there are 1 CUDA devices here, not 3"):
        fabric_for("cuda", "fp32", devices=3)


def test_torchrun_knows_how_many_there_are(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert fabric._launched(1, 1) == fabric._launched(4, 2) == (4, 2)
    with pytest.raises(UsageError, match="torchrun launched 4 devices, not 3: omit --devices"):
        fabric._launched(3, 1)


@needs_gloo
@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(two, tmp_path, gankit_log):
    """With a word: a step has another number of items from there on."""
    folder, _ = two
    content = torch.load(folder / "content" / "last.pt", weights_only=True)
    torch.save(content, tmp_path / "last.pt")
    (tmp_path / "log.csv").write_text((folder / "content" / "log.csv").read_text())
    fit(Content(fabric_for("cpu", "fp32")), stream(2), Plan(7, tmp_path, resume=True))
    assert "continues in 1 processes instead of 2" in gankit_log.text
