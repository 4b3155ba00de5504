"""The code of torch's compiler is kept in gankit's cache, listed and removed."""

import os
import subprocess
import sys

import pytest
import torch

from gankit.backends.cached import cached_files
from gankit.backends.inductor_cache import VARIABLE, use_inductor_cache
from gankit.cli import main
from gankit.paths import cache_folder


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(VARIABLE, "")  # what a test sets is restored
    monkeypatch.delenv(VARIABLE)


def test_it_is_a_folder_for_each_torch():
    use_inductor_cache()
    folder = cache_folder() / "inductor" / f"torch-{torch.__version__}"
    assert os.environ[VARIABLE] == str(folder)
    assert folder.is_dir()


def test_the_users_own_folder_stays(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, "/mine")
    use_inductor_cache()
    assert os.environ[VARIABLE] == "/mine"


def test_a_cache_that_cannot_be_written_changes_nothing(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file in its place")
    use_inductor_cache()
    assert VARIABLE not in os.environ


def test_it_is_listed_and_removed(capsys):
    use_inductor_cache()
    folder = cache_folder() / "inductor" / f"torch-{torch.__version__}"
    (folder / "fxgraph" / "ab").mkdir(parents=True)
    (folder / "fxgraph" / "ab" / "code").write_bytes(bytes(200_000))
    os.utime(folder / "fxgraph" / "ab" / "code", (2e9, 2e9))
    (found,) = cached_files()
    assert (found.kind, found.path, found.size, found.used) == ("inductor", folder, 200_000, 2e9)
    assert main(["cache", "list"]) == 0
    assert "0.2 MB" in capsys.readouterr().out
    assert main(["cache", "verify"]) == 0
    assert main(["cache", "remove", folder.name]) == 0
    assert not folder.exists()
    assert cached_files() == []


@pytest.mark.slow
def test_a_second_run_finds_the_code_of_the_first(tmp_path):
    """The same network in two processes: the second one takes its graph from the cache."""
    code = (
        "import torch\n"
        "from gankit.backends import get\n"
        "from gankit.backends.base import EngineSpec\n"
        "from gankit.models import facts\n"
        "from tests.networks import small_srgan\n"
        "options = {'scale': 2, 'channels': 8, 'blocks': 1}\n"
        "backend, spec = get('compile'), EngineSpec(small_srgan(**options), facts('srgan', options))\n"
        "print('missing' if backend.supports(spec) else '')\n"
        "backend.supports(spec) or backend.load(spec)\n"
        "from torch._dynamo.utils import counters\n"
        "print(counters['inductor']['fxgraph_cache_hit'], counters['aot_autograd']['autograd_cache_hit'])\n"
    )
    hits = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        lines = done.stdout.splitlines()
        if "missing" in lines[0]:
            pytest.skip("no C++ compiler")
        hits.append(sum(map(int, lines[-1].split())))
    files = [item for item in (cache_folder() / "inductor").rglob("*") if item.is_file()]
    assert files
    assert hits[0] == 0 < hits[1]
