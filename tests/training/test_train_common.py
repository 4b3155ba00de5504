"""What the commands of all recipes share."""

import subprocess
import sys

import click
import pytest
import torch
from click.testing import CliRunner
from training_making import Toy, ones

from gankit.cli import progress_train
from gankit.cli.train.common import Common, common, run
from gankit.errors import GankitError
from gankit.training.loop import DivergedError, Progress, fit
from gankit.training.state import prepare


class Saving(Toy):
    def save_generator(self, path, state, extra):
        for direction in ("AtoB", "BtoA"):
            path.with_name(f"{path.stem}_{direction}.safetensors").write_bytes(b"")


def command(make=Toy, unit="", **defaults):
    """A recipe with one option of its own."""

    @click.command()
    @common(steps=20, batch=7, **defaults)
    @click.option("--rate", type=float, default=0.1)
    def train(common, rate):
        seen.append((common, rate))
        run(common, lambda plan, notify: fit(make(), ones, plan, notify), unit=unit)

    seen = []
    train.seen = seen
    return train


def invoke(made, *arguments):
    result = CliRunner().invoke(made, [str(part) for part in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("place", ["new/run", "there/new"])
def test_a_refused_run_leaves_no_empty_folder(tmp_path, place):
    """The folders that it made itself, and no others."""

    def refuse():
        assert (tmp_path / place).parent.exists()
        raise GankitError("no")

    (tmp_path / "there").mkdir()

    def start(plan, notify):
        prepare(plan.folder, resume=False)
        return refuse()

    @click.command()
    @common(steps=20, batch=7)
    def train(common):
        run(common, start)

    result = CliRunner().invoke(train, ["--output", str(tmp_path / place)])
    assert isinstance(result.exception, GankitError)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_folder_that_was_there_stays_and_so_do_files(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, text in (("empty", None), ("new/run", "a")):

        @click.command()
        @common(steps=20, batch=7)
        def train(common, text=text):
            def start(plan, notify):
                prepare(plan.folder, resume=False)
                if text:
                    (plan.folder / "log.csv").write_text(text)
                raise GankitError("no")

            run(common, start)

        CliRunner().invoke(train, ["--output", str(tmp_path / folder)])
    assert (tmp_path / "empty").exists()
    assert (tmp_path / "new/run/log.csv").read_text() == "a"


def test_options_reach_the_plan(tmp_path):
    made = command(validate_every=3, grid_every=5, average=0.9)
    invoke(made, "--output", tmp_path / "a", "--rate", "0.5", "--stop-after", "9", "--steps", "6", "--seed", "4")
    ((given, rate),) = made.seen
    assert rate == 0.5
    assert given == Common(
        output=tmp_path / "a",
        steps=6,
        batch=7,
        validate_every=3,
        checkpoint_every=500,
        grid_every=5,
        average=0.9,
        tensorboard=False,
        device="auto",
        devices=1,
        nodes=1,
        precision="auto",
        workers=0,
        seed=4,
        resume=False,
        stop_after=9.0,
        quiet=False,
    )
    plan = given.plan()
    for name in ("steps", "validate_every", "checkpoint_every", "grid_every", "average", "tensorboard", "stop_after"):
        assert getattr(plan, name) == getattr(given, name)
    assert plan.folder == given.output


def test_every_option_has_a_line_of_help():
    made = command()
    text = CliRunner().invoke(made, ["--help"]).output
    for name in (
        "steps",
        "batch",
        "grid-every",
        "average",
        "devices",
        "nodes",
        "tensorboard",
        "resume",
        "workers",
    ):
        assert f"--{name} " in text
    assert "[default: 7" in " ".join(text.split())


def test_what_is_reported_at_the_end(tmp_path):
    result = invoke(command(), "--output", tmp_path / "a")
    assert result.stdout.startswith("best -0.")
    assert result.stdout.strip().endswith(f"at step 20: {tmp_path / 'a' / 'best.safetensors'}")
    assert "step 20: score -0." in result.stderr
    result = invoke(command(unit="dB"), "--output", tmp_path / "b")
    assert " dB at step 20" in result.stdout
    assert " dB on the validation images" in result.stderr
    result = invoke(command(), "--output", tmp_path / "c", "--quiet")
    assert result.stderr == ""

    class Several(Saving):
        keeps_best = False

    result = invoke(command(Several), "--output", tmp_path / "d")
    files = [str(tmp_path / "d" / f"final_{direction}.safetensors") for direction in ("AtoB", "BtoA")]
    assert result.stdout == f"weights of step 20: {' and '.join(files)}\n"
    result = invoke(command(), "--output", tmp_path / "e", "--stop-after", "0")
    assert result.stdout == "stopped at step 1 of 20; --resume continues from the last checkpoint\n"


def test_a_log_file_gets_lines(tmp_path, monkeypatch):
    """Losses, steps and images a second, time left."""
    monkeypatch.setattr(progress_train, "_SECONDS", -1.0)
    result = invoke(command(), "--output", tmp_path)
    line = next(line for line in result.stderr.splitlines() if line.startswith("step 10 of 20: "))
    assert "distance 0." in line
    speed, images = (float(line.split(unit)[0].split()[-1]) for unit in (" step/s", " images/s"))
    assert images == pytest.approx(7 * speed, rel=0.01, abs=1)
    assert line.endswith(" left")


def test_a_quiet_run_does_not_look_at_the_losses(tmp_path, monkeypatch):
    """On a GPU every look waits for all that it has still to compute."""

    def looked(progress):
        raise AssertionError("looked at")

    monkeypatch.setattr(Progress, "losses", property(looked))
    invoke(command(), "--output", tmp_path, "--quiet")
    assert (tmp_path / "log.csv").read_text().count("distance") == 2


@pytest.mark.parametrize(
    ("option", "value"), [("--steps", 0), ("--batch", 0), ("--average", 1), ("--grid-every", -1), ("--devices", 0)]
)
def test_wrong_values(tmp_path, option, value):
    result = CliRunner().invoke(command(), ["--output", str(tmp_path / "a"), option, str(value)])
    assert result.exit_code == 2
    assert option in result.output
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("torchrun", [False, True])
def test_other_processes_end_without_a_word(tmp_path, monkeypatch, torchrun):
    monkeypatch.setenv("RANK", "1")
    if torchrun:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    else:
        monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)

    def failing():
        raise DivergedError("no number")

    arguments = ["--output", str(tmp_path), *([] if torchrun else ["--devices", "2"])]
    result = CliRunner().invoke(command(failing), arguments)
    assert result.exit_code == int(torchrun)
    assert result.output == ""
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(GankitError, match="no number"):
        CliRunner().invoke(command(failing), ["--output", str(tmp_path)], catch_exceptions=False)


def test_one_process_in_the_environment_of_another_launcher(tmp_path, monkeypatch):
    """A cluster's variables are not ours: a run of one device writes and tells."""
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    result = invoke(command(), "--output", tmp_path)
    assert result.stdout.startswith("best ")
    assert (tmp_path / "last.pt").exists()


def test_help_needs_no_torch():
    """Neither the list of recipes nor the options of each."""
    code = (
        "import sys; from click.testing import CliRunner\n"
        "from gankit import cli; from gankit.training.recipes import RECIPES\n"
        "for name in ([], *([name] for name in RECIPES)):\n"
        "    result = CliRunner().invoke(cli.gankit, ['train', *name, '--help'])\n"
        "    assert result.exit_code == 0, result.output\n"
        "    assert not name or f'gankit train {name[0]} --data' in result.output, name\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_python_m_gankit():
    done = subprocess.run([sys.executable, "-m", "gankit", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[0]) == (0, "gankit,")


def test_the_best_average_of_none(tmp_path):
    invoke(command(), "--output", tmp_path, "--average", "0")
    assert torch.load(tmp_path / "last.pt", weights_only=True)["average"] is None
