"""``gankit cache`` on real files."""

import os
import shutil

import pytest
import torch

from gankit import backends
from gankit.backends.base import EngineSpec
from gankit.backends.cached import cached_files
from gankit.cli import main
from gankit.models import facts
from gankit.paths import cache_folder
from tests.backends.test_tensorrt import facts_of
from tests.networks import small_srgan

OPTIONS = {"scale": 2, "channels": 8, "blocks": 1}


def use(spec):
    with backends.get("onnxruntime").load(spec) as engine:
        engine.run(torch.zeros(1, 3, 8, 8))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A cache with an exported model, which takes seconds to make."""
    pytest.importorskip("onnxruntime")
    made, folder = EngineSpec(small_srgan(**OPTIONS), facts("srgan", OPTIONS)), tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANKIT_CACHE", str(folder))
        use(made)
    return made, folder


@pytest.fixture
def spec(exported, monkeypatch, tmp_path):
    """A cache with an exported model, an engine, timings, a lock and a choice, used in this order, each a day apart."""
    from gankit_export.tensorrt.store import EngineStore

    made, cache = exported
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    shutil.copytree(cache, tmp_path / "cache")
    folder = cache_folder()
    EngineStore(folder / "tensorrt").get("my-net", "d" * 64, lambda: (b"plan" * 100, facts_of(b"")))
    (folder / "tensorrt" / "timings-00.bin").write_bytes(b"timings")
    (folder / "choices").mkdir()
    (folder / "choices" / "00.json").write_text("{}")
    for day, pattern in enumerate(("onnx/*.onnx", "tensorrt/*.engine", "tensorrt/*.bin", "choices/*.json"), 1):
        (path,) = folder.glob(pattern)
        os.utime(path, (day * 86400, day * 86400))
    return made


def test_path_and_list(spec, capsys):
    assert main(["cache", "path"]) == 0
    assert capsys.readouterr().out.strip() == str(cache_folder())
    assert [item.kind for item in cached_files()] == ["choice", "timings", "tensorrt", "onnx"]
    assert [item.model for item in cached_files()] == ["", "", "my-net", "srgan"]
    assert main(["cache", "list"]) == 0
    text = capsys.readouterr().out
    for word in ("srgan", "my-net", "1970-01-02", "4 files,"):
        assert word in text


def test_a_use_is_noted(spec):
    use(spec)
    assert cached_files()[0].kind == "onnx"


def test_verify_finds_and_removes_what_has_changed(spec, capsys):
    assert main(["cache", "verify"]) == 0
    assert "4 of 4 files are as gankit wrote them" in capsys.readouterr().out
    for item in cached_files():
        if item.kind != "timings":
            item.path.write_bytes(item.path.read_bytes()[:-1])
    assert main(["cache", "verify"]) == 1
    text = capsys.readouterr().out
    assert text.count("has changed since gankit wrote it") == 2
    assert "1 of 4" in text
    assert main(["cache", "verify", "--remove"]) == 1
    assert [item.kind for item in cached_files()] == ["timings"]
    assert main(["cache", "verify"]) == 0


def test_remove_by_name_and_pattern(spec, capsys):
    assert main(["cache", "remove", "my-net"]) == 0
    assert "removed 1 file," in capsys.readouterr().out
    assert not list((cache_folder() / "tensorrt").glob("my-net*.json"))
    assert main(["cache", "remove", "srgan-*.onnx", "00.json"]) == 0
    assert [item.kind for item in cached_files()] == ["timings"]
    assert main(["cache", "remove", "--all"]) == 0
    assert cached_files() == []
    assert main(["cache", "list"]) == 0


def test_remove_until_the_rest_fits(spec, capsys):
    size = next(item.size for item in cached_files() if item.kind == "onnx")
    assert main(["cache", "remove", "--max-size", f"{(size - 1) / 1e6:.6f}MB"]) == 0
    assert [item.kind for item in cached_files()] == ["choice", "timings", "tensorrt"]
    use(spec)
    assert main(["cache", "remove", "--max-size", f"{(size + 1) / 1e6:.6f}MB"]) == 0
    assert next(item.kind for item in cached_files()) == "onnx"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "give names, --all or --max-size"),
        (["srgan", "--all"], "one of them only"),
        (["srgn"], "did you mean 'srgan'?"),
        (["--max-size", "much"], "is not a size"),
    ],
)
def test_wrong_use_removes_nothing(spec, arguments, text, capsys):
    assert main(["cache", "remove", *arguments]) == 2
    assert text in capsys.readouterr().err
    assert len(cached_files()) == 4


def test_an_empty_cache(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "none"))
    for words in (["list"], ["verify"], ["remove", "--all"]):
        assert main(["cache", *words]) == 0
    assert main(["cache", "remove", "srgan"]) == 2
    assert "the cache holds no models" in capsys.readouterr().err
