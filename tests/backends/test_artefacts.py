"""Exported files: found again, made again, and never a reason to stop."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gankit import backends
from gankit.backends import artefacts
from gankit.backends.artefacts import open_onnx
from gankit.backends.base import EngineSpec
from gankit.errors import BackendError
from gankit.models import facts
from gankit.models.deferred import Deferred
from gankit.paths import cache_folder
from gankit.version import sources
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
    assert len(exports) == 1
    assert cache_folder() in path.parents
    assert list(path.parent.iterdir()) == [path]
    assert artefacts.sha256_in_name(path) == hashlib.sha256(b"exported").hexdigest()


def test_a_file_whose_checksum_is_known_needs_no_generator(spec, exports):
    path = open_onnx(spec, read)
    unread = Deferred(lambda: pytest.fail("the generator was read"))
    known = replace(spec, module=unread, artefact=artefacts.sha256_in_name(path))
    assert open_onnx(known, read) == path
    assert not unread.made


@pytest.mark.parametrize("artefact", ["*", "../*", "0" * 64, "[0-9a-f]" * 64])
def test_a_checksum_that_no_file_has_changes_nothing(spec, exports, artefact):
    path = open_onnx(spec, read)
    assert open_onnx(replace(spec, artefact=artefact), read) == path
    assert len(exports) == 1


def test_a_known_file_that_was_changed_is_exported_again(spec, exports):
    path, lines = open_onnx(spec, read), []
    path.write_text("another")
    known = replace(spec, artefact=artefacts.sha256_in_name(path), notify=lines.append)
    assert open_onnx(known, read).read_text() == "exported"
    assert len(exports) == 2
    assert lines == [f"{path}: this cached file has changed since gankit wrote it; exporting the model again"]


def test_other_weights_options_versions_or_code_have_their_own_file(spec, exports, monkeypatch):
    paths = {open_onnx(spec, read)}
    paths.add(open_onnx(replace(spec, module=small_srgan(**OPTIONS, seed=1)), read))
    paths.add(open_onnx(replace(spec, facts=facts("srgan", {**OPTIONS, "blocks": 2})), read))
    monkeypatch.setattr(artefacts, "installed_version", lambda package: "99")
    paths.add(open_onnx(spec, read))
    monkeypatch.setattr(artefacts, "sources", lambda *packages: "other")
    paths.add(open_onnx(spec, read))
    assert len(paths) == 5


@pytest.mark.parametrize("text", ["damaged", "exporteD", "", "exported "])
def test_a_file_that_changed_is_exported_again_once_and_said(spec, exports, text):
    """Whether a runtime would open it or not."""
    lines = []
    spec = replace(spec, notify=lines.append)
    path = open_onnx(spec, read)
    path.write_text(text)
    assert open_onnx(spec, lambda path: path).read_text() == "exported"
    assert lines == [f"{path}: this cached file has changed since gankit wrote it; exporting the model again"]
    assert open_onnx(spec, read) == path
    assert (len(exports), len(lines)) == (2, 1)


def test_a_changed_file_that_cannot_be_deleted_is_not_used(spec, exports, monkeypatch):
    path = open_onnx(spec, read)
    path.write_text("damaged")
    real = Path.unlink

    def refuse(self, missing_ok=False):
        if self == path:
            raise PermissionError(13, "Permission denied")
        real(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    assert open_onnx(spec, lambda path: path).read_text() == "exported"


def test_a_file_that_no_runtime_opens_is_exported_again_once(spec, exports):
    lines = []
    spec = replace(spec, notify=lines.append)
    path = open_onnx(spec, read)
    tried = []

    def never(path):
        tried.append(path)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        open_onnx(spec, never)
    assert len(tried) == 2
    assert lines == [f"{path}: this cached file cannot be opened; exporting the model again"]


def test_nothing_half_is_left_where_the_export_fails(spec, monkeypatch):
    def export_onnx(module, path, **_):
        path.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr("gankit_export.onnx.export_onnx", export_onnx)
    with pytest.raises(KeyboardInterrupt):
        open_onnx(spec, read)
    assert list((artefacts.cache_folder() / "onnx").iterdir()) == []


def test_a_name_that_is_no_file_name(spec, exports):
    path = open_onnx(replace(spec, facts=replace(spec.facts, name="../my [net]*" + "n" * 300)), read)
    assert path.parent == artefacts.cache_folder() / "onnx"
    assert path.name.startswith(".._my__net__nnn")
    assert open_onnx(replace(spec, facts=replace(spec.facts, name="../my [net]*" + "n" * 300)), read) == path
    assert len(exports) == 1


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
    assert len(exports) == 1
    other = open_onnx(replace(spec, module=small_srgan(**OPTIONS, seed=1)), read)
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_file_that_changes_during_the_run_is_not_compiled(spec):
    backend = backends.get("openvino")
    if (why := backend.supports(spec)) is not None:
        pytest.skip(why)
    with backend.load(spec) as engine:
        engine.run(torch.zeros(1, 3, 8, 8))
        (path,) = (artefacts.cache_folder() / "onnx").iterdir()
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(BackendError, match="changed or deleted during the run"):
            engine.run(torch.zeros(1, 3, 8, 8, dtype=torch.uint16))


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
