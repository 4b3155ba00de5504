"""gankit's own files: what is written comes back, whole or not at all."""

import hashlib
import json
import struct

import pytest
import torch
from safetensors import safe_open

from gankit.checkpoints import open_model, save
from gankit.errors import CheckpointError, OutputError
from gankit.models import build
from tests.checkpoints.conftest import OPTIONS


def test_round_trip(tmp_path, generator, batch):
    path = tmp_path / "a.safetensors"
    written = save(path, generator.state_dict(), "srresnet", OPTIONS, metadata={"steps": "7"})
    loaded = open_model(path)
    assert loaded.facts.name == "srresnet"
    assert dict(loaded.facts.options) == OPTIONS
    assert loaded.sha256 == written == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.path == path
    assert not loaded.generator.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in loaded.generator.parameters())
    torch.testing.assert_close(loaded.generator(batch), generator(batch), atol=2e-3, rtol=0)
    assert list(tmp_path.iterdir()) == [path]
    with safe_open(path, "pt") as file:
        assert file.metadata()["steps"] == "7"


def test_fp32_storage_is_exact_and_channels_last_is_taken(tmp_path, generator, batch):
    path = tmp_path / "a.safetensors"
    generator = generator.to(memory_format=torch.channels_last)
    save(path, generator.state_dict(), "srgan", OPTIONS, dtype=torch.float32)
    for name, value in open_model(path).generator.state_dict().items():
        torch.testing.assert_close(value, generator.state_dict()[name], atol=0, rtol=0)


def test_equal_weights_make_equal_files(tmp_path, generator, batch):
    """safetensors alone writes the header in another order each time."""
    path, sums = tmp_path / "a.safetensors", set()
    notes = {name: "1" * size for size, name in enumerate("hgfedcba")}
    for again in range(8):
        order = dict(sorted(notes.items(), reverse=bool(again % 2)))
        options = dict(sorted(OPTIONS.items(), reverse=bool(again % 2)))
        sums.add(save(path, generator.state_dict(), "srgan", options, metadata=order))
    assert len(sums) == 1
    with safe_open(path, "pt") as file:
        assert notes.items() <= file.metadata().items()
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0
    torch.testing.assert_close(open_model(path).generator(batch), generator(batch), atol=2e-3, rtol=0)


def test_what_fp16_cannot_hold_stays_fp32(tmp_path, generator):
    state = generator.state_dict()
    state["body.0.bn1.running_var"][:] = 1e6
    state["tail.weight"][:] = 1e5
    save(tmp_path / "a.safetensors", state, "srgan", OPTIONS)
    loaded = open_model(tmp_path / "a.safetensors").generator.state_dict()
    assert (loaded["body.0.bn1.running_var"] == 1e6).all()
    assert (loaded["tail.weight"] == 1e5).all()
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.get_tensor("head.0.weight").dtype == torch.float16
        assert file.get_tensor("body.0.bn1.weight").dtype == torch.float32
        assert "body.0.bn1.num_batches_tracked" not in file.keys()  # noqa: SIM118 - not a mapping


def test_non_finite_weights_are_not_saved(tmp_path, generator):
    state = generator.state_dict()
    state["tail.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"tail\.weight"):
        save(tmp_path / "a.safetensors", state, "srgan", OPTIONS)
    assert not list(tmp_path.iterdir())


def test_folder_that_is_a_file(tmp_path, generator):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        save(tmp_path / "file" / "a.safetensors", generator.state_dict(), "srgan", OPTIONS)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model": "srgann"}, "did you mean 'srgan'"),
        ({"options": "{"}, "damaged header"),
        ({"options": "[1]"}, "damaged header"),
        ({"options": '{"depth": 3}'}, "depth"),
        ({"options": '{"scale": 3}'}, "scale must be"),
        ({"options": '{"scale": 4.0}'}, "scale must be"),
        ({"options": '{"channels": -1}'}, "channels must be"),
        ({"options": '{"channels": 1e300}'}, "channels must be"),
        ({"options": '{"blocks": 1000000000}'}, "blocks must be"),
        ({"options": '{"blocks": true}'}, "blocks must be"),
        ({"options": '{"in_channels": 0}'}, "in_channels must be"),
        ({"options": '{"blocks": 3}'}, "missing"),
        ({"options": '{"scale": 2, "channels": 4, "blocks": 2}'}, "should be"),
    ],
)
def test_header_that_makes_no_sense(tmp_path, generator, changes, text):
    path = tmp_path / "a.safetensors"
    save(path, generator.state_dict(), "srgan", OPTIONS)
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"].update(changes)
    new = json.dumps(header).encode()
    new += b" " * (-len(new) % 8)
    path.write_bytes(struct.pack("<Q", len(new)) + new + data[8 + length :])
    with pytest.raises(CheckpointError, match=text) as caught:
        open_model(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path):
    """The length comes first; one in 32 begins with the byte that begins a pickle."""
    net = build("srgan", {"channels": 4, "blocks": 1})
    seen = set()
    for size in range(0, 520, 8):
        path = tmp_path / "net.safetensors"
        save(path, net.state_dict(), "srgan", {"channels": 4, "blocks": 1}, metadata={"note": "x" * size})
        seen.add(path.read_bytes()[0])
        open_model(path)
    assert 0x80 in seen
