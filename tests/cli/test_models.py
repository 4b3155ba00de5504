"""``gankit models``: the list, and every model's facts."""

import pytest

from gankit import cli
from gankit.models import MODELS


def test_the_list(capsys):
    assert cli.main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[1:] if not line.startswith(" ")} == set(MODELS)
    assert len(lines) == 1 + len(MODELS), "one line each, also where a terminal has 80 columns"
    assert all(len(line) <= 80 for line in lines)
    assert "installed" in next(line for line in lines if line.startswith("srgan"))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_can_be_shown(name, capsys):
    assert cli.main(["models", name]) == 0
    said = capsys.readouterr().out
    assert "multiply-accumulates" in said
    assert "parameters" in said


def test_figures_of_the_published_networks(capsys):
    cli.main(["models", "cyclegan"])
    said = capsys.readouterr().out
    assert "11,378,179" in said
    assert "49.5 G for 256×256 input" in said or "49.6 G for 256×256 input" in said
    assert "the whole picture" in said
    cli.main(["models", "srgan"])
    said = capsys.readouterr().out
    assert "1,547,350" in said
    assert "40 input pixels on each side" in said
    assert "sha256" in said


def test_unknown(capsys):
    assert cli.main(["models", "cycelgan"]) == 2
    assert "did you mean 'cyclegan'" in capsys.readouterr().err
