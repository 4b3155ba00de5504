"""Odd tensors, damaged headers and cards, archives that unpack to more than the memory: one line each."""

import io
import json
import shutil
import struct
import zipfile

import pytest
import torch

from gankit import cli
from gankit.checkpoints import limits, open_model, save, shipped
from gankit.checkpoints.files import read
from gankit.errors import CheckpointError
from tests.checkpoints.conftest import OPTIONS
from tests.checkpoints.test_bad_files import refused

DEEP = "[" * 100_000


def test_float8_is_read_exactly(tmp_path, generator, batch):
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
        narrow = {name: value.to(dtype) if value.ndim == 4 else value for name, value in generator.state_dict().items()}
        torch.save(narrow, tmp_path / "a.pth")
        wide = {name: value.float() if value.ndim == 4 else value for name, value in narrow.items()}
        generator.load_state_dict(wide)
        assert torch.equal(open_model(tmp_path / "a.pth").generator(batch), generator(batch))


def test_float4_is_refused(tmp_path, generator):
    state = generator.state_dict()
    state["tail.weight"] = torch.zeros(8, 8, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    torch.save(state, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", r"'tail\.weight' is torch\.float4_e2m1fn_x2")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (lambda x: torch.nested.nested_tensor([x[0], x[1]]), r"'tail\.weight' is a nested tensor"),
        (lambda x: x.to("meta"), r"'tail\.weight' is a meta tensor, which has no data"),
        (lambda x: x.to_sparse(), r"'tail\.weight' is torch\.float32, torch\.sparse_coo"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), r"'tail\.weight' is torch\.qint8"),
        (lambda x: x.to(torch.complex64), "torch.complex64"),
        (lambda x: x > 0, "torch.bool"),
        (lambda x: x.new_zeros(1).expand(3, 8, 9, 9), None),
        (lambda x: x.new_zeros(1).expand(1 << 34), "GB in float32, which is more"),
    ],
)
def test_odd_tensors(tmp_path, generator, odd, words):
    state = {**generator.state_dict()}
    state["tail.weight"] = odd(state["tail.weight"])
    torch.save(state, tmp_path / "a.pth")
    if words is None:
        open_model(tmp_path / "a.pth")
    else:
        refused(tmp_path / "a.pth", words)


def with_header(path, change):
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    text = change(json.loads(data[8 : 8 + length])).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def test_metadata_null(tmp_path, generator, batch):
    save(tmp_path / "a.safetensors", generator.state_dict(), "srgan", OPTIONS, dtype=torch.float32)
    with_header(tmp_path / "a.safetensors", lambda header: json.dumps(header | {"__metadata__": None}))
    assert torch.equal(open_model(tmp_path / "a.safetensors").generator(batch), generator(batch))


@pytest.mark.parametrize(
    "options", [DEEP, "[" * 900 + "]" * 900, '{"scale": ' + "[" * 900 + "]" * 900 + "}", "null", "3"]
)
def test_deep_options(tmp_path, generator, options):
    save(tmp_path / "a.safetensors", generator.state_dict(), "srgan", OPTIONS)
    metadata = {"format": "gankit", "model": "srgan", "options": options}
    with_header(tmp_path / "a.safetensors", lambda header: json.dumps(header | {"__metadata__": metadata}))
    refused(tmp_path / "a.safetensors", "damaged|scale must be")


@pytest.mark.parametrize("extra", [DEEP, "[" * 5000 + "]" * 5000])
def test_a_deep_header(tmp_path, generator, extra):
    save(tmp_path / "a.safetensors", generator.state_dict(), "srgan", OPTIONS)
    with_header(tmp_path / "a.safetensors", lambda header: json.dumps(header)[:-1] + f', "x": {extra}}}')
    refused(tmp_path / "a.safetensors", "damaged")


def bomb(path, declared, files=1):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for index in range(files):
            archive.writestr(f"archive/data/{index}", bytes(declared // files))


def test_an_archive_that_unpacks_to_much_more_is_refused_unread(tmp_path, monkeypatch):
    bomb(tmp_path / "a.pth", 600 << 20, files=4)
    assert (tmp_path / "a.pth").stat().st_size < 10 << 20
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("loaded"))
    refused(tmp_path / "a.pth", r"MB unpack to 0\.629 GB, which is more than the 0\.268 GB that are allowed")


def test_an_archive_larger_than_half_of_the_free_memory(tmp_path, generator, monkeypatch):
    torch.save(generator.state_dict(), tmp_path / "a.pth")
    monkeypatch.setattr(limits, "limit", lambda: 10_000)
    refused(tmp_path / "a.pth", "unpack to")
    torch.save(generator.state_dict(), tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    refused(tmp_path / "b.pth", "GB in float32, which is more than")


def test_the_limit_follows_the_memory(monkeypatch):
    import psutil

    for free, allowed in ((1 << 30, 1 << 29), (1 << 40, 4 << 30)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: type("M", (), {"available": free}))
        assert limits.limit() == allowed


@pytest.mark.parametrize(
    "change",
    [
        lambda card: card.pop("model"),
        lambda card: card.pop("options"),
        lambda card: card.update(model={}),
        lambda card: card.update(model="no such"),
        lambda card: card.update(options=[1]),
        lambda card: card.update(options={"scale": 7}),
        lambda card: card.update(options={"nothing": 7}),
        lambda card: card.update(sha256=3),
    ],
)
def test_damaged_cards(tmp_path, monkeypatch, change, capsys):
    for name in ("srgan.json", "srgan.safetensors"):
        shutil.copy(shipped.weights_path("srgan").with_name(name), tmp_path / name)
    monkeypatch.setattr(shipped, "files", lambda package: tmp_path)
    found = json.loads((tmp_path / "srgan.json").read_text())
    change(found)
    (tmp_path / "srgan.json").write_text(json.dumps(found))
    with pytest.raises(CheckpointError, match=r"srgan\.json: the card of 'srgan' is damaged: reinstall"):
        shipped.card("srgan")
    assert cli.main(["models", "srgan"]) == 2
    assert "the card of 'srgan' is damaged" in capsys.readouterr().err


def test_a_deep_card(tmp_path, monkeypatch):
    (tmp_path / "srgan.json").write_text(DEEP)
    monkeypatch.setattr(shipped, "files", lambda package: tmp_path)
    with pytest.raises(CheckpointError, match="is damaged"):
        shipped.card("srgan")


def test_a_card_with_control_characters(tmp_path, monkeypatch, capsys):
    found = shipped.card("srgan")
    (tmp_path / "srgan.json").write_text(json.dumps(found | {"notes": ["\x1b[31mred\x07 \ud800"], "data": 7}))
    monkeypatch.setattr(shipped, "files", lambda package: tmp_path)
    assert cli.main(["models", "srgan"]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\\x1b" in said


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("net.param", b"7767517\n3 3\nInput data 0 1 data\n", "an ncnn model .*: give the PyTorch file"),
        ("net.bin", b"\x47\x6b\x30\x01" + bytes(64), "an ncnn model"),
        ("net.onnx", b"\x08\x0a\x12\x07pytorch" + bytes(64), "is no ONNX file, or is damaged"),
        ("net.h5", b"\x89HDF\r\n\x1a\n" + bytes(64), "Keras"),
        ("net.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "a Git LFS pointer"),
        ("net.pth", b"<!DOCTYPE html><title>404</title>", "a web page, not a weights file"),
    ],
)
def test_other_kinds_of_files_are_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, words)


def test_the_weights_of_ncnn_beside_their_layers(tmp_path):
    (tmp_path / "net.param").write_bytes(b"7767517\n")
    (tmp_path / "net.bin").write_bytes(bytes(64))
    refused(tmp_path / "net.bin", "an ncnn model")


def test_an_archive_of_something_else(tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("readme.txt", "x")
    (tmp_path / "a.pth").write_bytes(content.getvalue())
    refused(tmp_path / "a.pth", "truncated or damaged")


def test_what_is_beside_the_generator_may_be_large_in_name_only(tmp_path, generator):
    torch.save({"netG": generator.state_dict(), "queue": torch.zeros(1).expand(1 << 40)}, tmp_path / "a.pth")
    assert read(tmp_path / "a.pth").tensors
