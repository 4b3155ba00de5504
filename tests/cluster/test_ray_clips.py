"""Clips on a Ray of this machine with two workers, each of which makes one clip at a time."""

import numpy as np
import pytest
import torch
from PIL import Image

from gankit import checkpoints, cli, models

ray = pytest.importorskip("ray", reason="Ray is not installed")
pytest.importorskip("ray.data", reason="Ray Data is not installed")
av = pytest.importorskip("av", reason="PyAV is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def folder(tmp_path):
    """Two clips and an image."""
    rng, made = np.random.default_rng(0), tmp_path / "in"
    (made / "sub").mkdir(parents=True)
    for name in ("a.mp4", "sub/b.mp4"):
        with av.open(str(made / name), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width = stream.height = 32
            for _ in range(4):
                frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (32, 32, 3), np.uint8), "rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(made / "c.png")
    return made


def results(root):
    found = (path for path in root.rglob("*.*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def test_clips_and_images_are_those_of_a_run_without_a_cluster(folder, tmp_path, capsys):
    torch.manual_seed(0)
    options = {"blocks": 1, "channels": 8}
    net = models.build("srgan", options).eval()
    net.tail.bias.data.fill_(0.5)
    checkpoints.save(tmp_path / "small.safetensors", net.state_dict(), "srgan", options)
    given = ["upscale", folder, "-m", tmp_path / "small.safetensors", "--backend", "eager", "--precision", "fp32"]
    given += ["--threads", "1", "--preset", "ultrafast"]
    assert cli.main([*map(str, given), "-o", str(tmp_path / "plain"), "-q"]) == 0
    there = [*map(str, given), "-o", str(tmp_path / "out"), "--cluster", "local"]
    assert cli.main([*there, "--report", str(tmp_path / "r.json")]) == 0
    assert "3 done" in capsys.readouterr().out
    made = results(tmp_path / "out")
    assert set(made) == {"a.mp4", "sub/b.mp4", "c.png"}
    assert made == results(tmp_path / "plain")
    assert [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".gankit-clip")] == []
    assert cli.main(there) == 0
    assert "3 skipped" in capsys.readouterr().out
