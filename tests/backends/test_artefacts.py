"""Exported files: found again, made again, and never a reason to stop."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gankit import backends
from gankit.backends import artefacts
from gankit.backends.artefacts import open_onnx, sources
from gankit.backends.base import EngineSpec
from gankit.errors import BackendError
from gankit.models import facts
from gankit.paths import cache_folder
from tests.networks import small_srgan

OPTIONS = {"scale": 2, "channels": 8, "blocks": 1}


@pytest.fixture
def spec(monkeypatch, tmp_path):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    artefacts._private_folder.cache_clear()
    return EngineSpec(small_srgan(**OPTIONS), facts("srgan", OPTIONS))


@pytest.fixture
def exports(monkeypatch):
    """An exporter that writes its own name, and the paths that it wrote."""
    written = []

    def export_onnx(module, path, **_):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("exported")
        written.append(path)

    monkeypatch.setattr("gankit_export.onnx.export_onnx", export_onnx)
    return written


def read(path):
    """A runtime that opens good files only."""
    if (text := path.read_text()) != "exported":
        raise RuntimeError(f"{text} is no protobuf")
    return path


def test_a_file_is_exported_once(spec, exports):
    path = open_onnx(spec, read)
    assert open_onnx(spec, read) == path
    assert exports == [path]
    assert cache_folder() in path.parents


def test_other_weights_options_versions_or_code_have_their_own_file(spec, exports, monkeypatch):
    paths = {open_onnx(spec, read)}
    paths.add(open_onnx(replace(spec, generator=small_srgan(**OPTIONS, seed=1)), read))
    paths.add(open_onnx(replace(spec, facts=facts("srgan", {**OPTIONS, "blocks": 2})), read))
    monkeypatch.setattr(artefacts, "_version", lambda package: "99")
    paths.add(open_onnx(spec, read))
    monkeypatch.setattr(artefacts, "sources", lambda *packages: "other")
    paths.add(open_onnx(spec, read))
    assert len(paths) == 5


def test_a_damaged_file_is_exported_again_once(spec, exports):
    path = open_onnx(spec, read)
    path.write_text("damaged")
    assert open_onnx(spec, read).read_text() == "exported"
    assert exports == [path, path]
    tried = []

    def never(path):
        tried.append(path)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        open_onnx(spec, never)
    assert len(tried) == 2


@pytest.mark.parametrize("error", [ImportError("libfoo"), MemoryError()])
def test_a_file_that_is_not_at_fault_stays(error, spec, exports):
    path = open_onnx(spec, read)

    def fail(path):
        raise error

    with pytest.raises(type(error)):
        open_onnx(spec, fail)
    assert path.exists()
    assert len(exports) == 1


def in_the_way(folder):
    """A cache folder that nobody, root neither, can write into."""
    folder.write_text("a file")


@pytest.mark.parametrize("where", ["", "onnx"])
def test_a_cache_that_cannot_be_used_is_replaced_by_one_folder(where, spec, exports):
    folder = cache_folder()
    if where:
        folder.mkdir()
    in_the_way(folder / where)
    path = open_onnx(spec, read)
    assert open_onnx(spec, read) == path
    assert exports == [path]
    other = open_onnx(replace(spec, generator=small_srgan(**OPTIONS, seed=1)), read)
    assert other.parent == path.parent != folder


def test_a_full_disk_is_no_reason_to_stop(spec, monkeypatch):
    full = cache_folder()

    def export_onnx(module, path, **_):
        if full in path.parents:
            raise OSError(28, "No space left on device")
        path.write_text("exported")

    monkeypatch.setattr("gankit_export.onnx.export_onnx", export_onnx)
    path = open_onnx(spec, read)
    assert full not in path.parents
    assert list((full / "onnx").iterdir()) == []
    monkeypatch.setattr(artefacts, "_private_folder", lambda: full)
    with pytest.raises(BackendError, match=r"cannot be written \(No space left on device\); set GANKIT_CACHE"):
        open_onnx(spec, read)


def test_a_generator_that_cannot_be_exported_is_reported_in_one_line(spec, monkeypatch):
    from gankit_export.onnx import ExportError

    def export_onnx(*_, **__):
        raise ExportError("no graph")

    monkeypatch.setattr("gankit_export.onnx.export_onnx", export_onnx)
    with pytest.raises(BackendError, match="'srgan': no graph"):
        open_onnx(spec, read)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_runtimes_mend_a_damaged_file(name, spec):
    backend = backends.get(name)
    if (why := backend.supports(spec)) is not None:
        pytest.skip(why)
    backend.load(spec).close()
    (path,) = (cache_folder() / "onnx").iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    with backend.load(spec) as engine:
        assert engine.run(torch.zeros(1, 3, 8, 8)).shape == (1, 3, 16, 16)


def test_the_code_has_a_fingerprint(monkeypatch, tmp_path):
    sources.cache_clear()
    both = sources("gankit.backends", "gankit_export")
    assert both != sources("gankit_export")
    assert sources("gankit_no_such_package") == sources()
    package = tmp_path / "some_code"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    before = sources("some_code")
    (package / "more.py").write_text("x = 1")
    sources.cache_clear()
    assert sources("some_code") != before
