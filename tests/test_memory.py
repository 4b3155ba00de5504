"""Memory that is left: on the machine, in its control groups, and under limits."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from PIL import Image

from gankit import checkpoints, cli, models
from gankit.checkpoints import limits
from gankit.errors import NoMemoryError
from gankit.memory import FreedMemory, available_memory, require
from gankit.options import EngineOptions
from gankit.pipeline.starting import affordable
from gankit.pipeline.workspace import Workspace

GIB = 1 << 30


@pytest.fixture
def large_machine(monkeypatch):
    class Free:
        available = 64 * GIB

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Free)


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(text))


def group(path, most, used, cached=0, version=2):
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    prefix = "" if version == 2 else "total_"
    stat = f"anon 1\n{prefix}active_file {cached // 4}\n{prefix}inactive_file {cached - cached // 4}\n"
    return {f"{path}/{names[0]}": most, f"{path}/{names[1]}": used, f"{path}/memory.stat": stat}


def test_without_groups(tmp_path, large_machine):
    assert available_memory(root=tmp_path) == 64 * GIB
    write(tmp_path, {"proc/self/cgroup": "0::/\n"})
    assert available_memory(root=tmp_path) == 64 * GIB


def test_version_2(tmp_path, large_machine):
    """The least of the group's own and its parents' limits; cached files are not in the way."""
    base = "sys/fs/cgroup"
    write(tmp_path, {"proc/self/cgroup": "0::/work/job\n"} | group(f"{base}/work/job", "max", 5 * GIB))
    assert available_memory(root=tmp_path) == 64 * GIB
    write(tmp_path, group(f"{base}/work", 8 * GIB, 7 * GIB, cached=4 * GIB))
    assert available_memory(root=tmp_path) == 5 * GIB
    write(tmp_path, group(f"{base}/work/job", 6 * GIB, 5 * GIB))
    assert available_memory(root=tmp_path) == GIB
    write(tmp_path, group(f"{base}/work/job", 6 * GIB, 7 * GIB))
    assert available_memory(root=tmp_path) == 0


def test_version_1_in_a_container(tmp_path, large_machine):
    """The path is the host's; the container sees its own group as the root."""
    write(tmp_path, {"proc/self/cgroup": "5:devices:/docker/1f\n4:cpu,memory:/docker/1f\n0::/\n"})
    write(tmp_path, group("sys/fs/cgroup/memory", 4 * GIB, 3 * GIB, GIB, version=1))
    assert available_memory(root=tmp_path) == 2 * GIB


def test_this_machine():
    assert 0 < available_memory() <= psutil.virtual_memory().total


def test_what_the_user_allows():
    """The whole process counts, not only what it allocates from now on."""
    used = psutil.Process().memory_info().rss
    assert 0 <= available_memory(used + 50_000_000) <= 60_000_000
    assert available_memory(used // 2) == 0
    with pytest.raises(
        NoMemoryError, match=r"^the moon takes about 5\.0 GB of memory, and \d+ MB are available; look up$"
    ):
        require(5_000_000_000, "the moon", "look up", used + 50_000_000)


def test_a_container_limits_weights_and_engines(monkeypatch):
    """One limit holds for all: half of it for a weights file, a quarter for the tiles of an engine."""
    monkeypatch.setattr("gankit.memory._group_rooms", lambda root: [400_000_000])
    assert limits.limit() == 200_000_000
    engine = SimpleNamespace(device="cpu", precision="fp32", wants="tiles", pixel_bytes=None)
    assert Workspace(engine, models.facts("srgan"), 40).max_pixels() == 100_000_000 // (3 * 4 * 64 * 16)


def test_little_memory_compares_no_backends(monkeypatch):
    """There is room for eager, but not for an export and all runtimes side by side."""
    monkeypatch.setattr("gankit.memory._group_rooms", lambda root: [300_000_000])
    lines = []
    assert affordable(EngineOptions(), models.facts("srgan"), lines.append).backend == "eager"
    assert "300 MB of memory are available, and comparing backends takes about 5" in lines[0]
    assert lines[0].endswith("using eager")
    pinned = EngineOptions(backend="openvino")
    assert affordable(pinned, models.facts("srgan"), lines.append) == pinned
    monkeypatch.setattr("gankit.memory._group_rooms", lambda root: [100_000_000])
    with pytest.raises(NoMemoryError, match=r"an engine for 'srgan' takes about 201 MB .*; free some memory$"):
        affordable(pinned, models.facts("srgan"), lines.append)


LIMITED = """
import resource
from gankit.memory import available_memory
import psutil
own = psutil.Process().memory_info()
{}
print(available_memory())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's limits")
@pytest.mark.parametrize(("kind", "used"), [("RLIMIT_AS", "vms"), ("RLIMIT_DATA", "data")])
def test_resource_limits(kind, used):
    limit = f"resource.setrlimit(resource.{kind}, (own.{used} + 200_000_000,) * 2)"
    done = subprocess.run([sys.executable, "-c", LIMITED.format(limit)], capture_output=True, text=True, check=True)
    assert 150_000_000 < int(done.stdout) <= 200_000_000


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    options = {"blocks": 1, "channels": 8}
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    checkpoints.save(path, models.build("srgan", options).state_dict(), "srgan", options)
    return path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's limits")
@pytest.mark.parametrize("megabytes", [300, 600, 650])
def test_a_limited_process_ends_with_one_line(weights, tmp_path, megabytes):
    """Below what torch's libraries take. Python and the loader have errors of their own, which nobody understands."""
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    arguments = ["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "o"), "-b", "eager", "-m", str(weights)]
    code = (
        "import resource, sys; from gankit.cli import main; "
        f"resource.setrlimit(resource.RLIMIT_AS, ({megabytes} << 20,) * 2); sys.exit(main({arguments!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(r"error: .*(ulimit -v|takes about).*\n", done.stderr)


def test_an_image_above_the_limit_fails_with_one_line_and_others_go_on(weights, tmp_path, capsys):
    """The limit is that of the whole process, which the run keeps to. A BMP cannot run by strips."""
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((4000, 4000, 3), np.uint8)).save(tmp_path / "in" / "large.bmp")
    Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(tmp_path / "in" / "small.png")
    limit = f"{psutil.Process().memory_info().rss / 1e6 + 700:.0f}MB"
    command = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "o"), "-b", "eager", "-m", str(weights)]
    assert cli.main([*command, "--max-memory", limit]) == 1
    said = capsys.readouterr()
    assert "an image of 4000×4000 pixels takes about 1.7 GB of memory, and" in said.err
    assert "use a larger --max-memory" in said.err
    assert "1 done, 1 failed" in said.out
    assert [path.name for path in (tmp_path / "o").glob("[!.]*")] == ["small.png"]


def test_freed_memory_is_returned_after_a_new_size_only(monkeypatch):
    """The pages that the next image of the same size takes would be cleared for nothing."""
    returned = []
    heap = SimpleNamespace(mallinfo2=lambda: SimpleNamespace(fordblks=1 << 30), malloc_trim=returned.append)
    monkeypatch.setattr("gankit.memory._heap", lambda: heap)
    freed = FreedMemory()
    for shape in [(1, 3, 8, 8), (1, 3, 8, 8), (1, 3, 9, 8), (1, 3, 8, 8)]:
        freed.after(shape)
    assert len(returned) == 2
    for side in range(20, 30):
        freed.after((1, 3, side, side))
    freed.after((1, 3, 8, 8))
    assert len(returned) == 13


@pytest.mark.parametrize(("free", "room", "count"), [(100, 8000, 0), (200, 8000, 1), (100, 900, 0), (100, 700, 1)])
def test_little_freed_memory_stays_for_images_of_other_sizes(monkeypatch, free, room, count):
    """Else each image of a folder of many sizes would have its pages cleared once more."""
    returned = []
    heap = SimpleNamespace(mallinfo2=lambda: SimpleNamespace(fordblks=free << 20), malloc_trim=returned.append)
    monkeypatch.setattr("gankit.memory._heap", lambda: heap)
    monkeypatch.setattr("gankit.memory.available_memory", lambda limit: room << 20)
    FreedMemory().after((1, 3, 8, 8))
    assert len(returned) == count


SIZES = """
import re, sys
from pathlib import Path
import numpy as np
import gankit

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

rng = np.random.default_rng(0)
heights, widths = (np.concatenate([rng.permutation(200), rng.permutation(200)]) + 24 for _ in range(2))
with gankit.Upscaler(sys.argv[1], backend=sys.argv[2], precision="fp32", threads=1) as upscaler:
    for count, (height, width) in enumerate(zip(heights, widths), 1):
        upscaler(np.full((height, width, 3), 100, np.uint8))
        if count in (50, 400):
            print(resident())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize("backend", ["eager", "openvino", "onnxruntime"])
def test_memory_stays_flat_over_images_of_400_sizes(weights, backend):
    if backend != "eager":
        pytest.importorskip(backend)
    command = [sys.executable, "-c", SIZES, str(weights), backend]
    unset = {name: value for name, value in os.environ.items() if "CAPACITY" not in name}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=unset)
    at_50, at_400 = map(float, done.stdout.split())
    assert at_400 <= 1.1 * at_50
