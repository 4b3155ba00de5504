"""One of the two generators of a pair, recognised by keys or by file names."""

import pytest
import torch

from gankit.checkpoints.directions import file_for, holds_pair, pick
from gankit.checkpoints.files import read
from gankit.errors import CheckpointError

FORWARD = {"model.1.weight": torch.full((2,), 1.0)}
BACKWARD = {"model.1.weight": torch.full((2,), 2.0)}


def dotted(prefix, state):
    return {f"{prefix}.{name}": value for name, value in state.items()}


@pytest.mark.parametrize(("a", "b"), [("netG_A", "netG_B"), ("G_AB", "G_BA"), ("genA2B", "genB2A"), ("G_A", "G_B")])
@pytest.mark.parametrize("nested", [True, False])
def test_a_file_with_both(tmp_path, a, b, nested):
    path = tmp_path / "pair.pth"
    both = {a: FORWARD, b: BACKWARD} if nested else {**dotted(a, FORWARD), **dotted(b, BACKWARD)}
    torch.save({"epoch": 3, **both, "netD_A": FORWARD}, path)
    assert torch.equal(read(path, "AtoB").tensors["model.1.weight"], FORWARD["model.1.weight"])
    assert torch.equal(read(path, "BtoA").tensors["model.1.weight"], BACKWARD["model.1.weight"])
    with pytest.raises(CheckpointError, match=r"pair.pth: holds the generators of both directions: give --direction"):
        read(path)


def test_both_inside_a_lightning_checkpoint(tmp_path):
    path = tmp_path / "pair.ckpt"
    torch.save({"state_dict": {**dotted("G_A", FORWARD), **dotted("G_B", BACKWARD)}}, path)
    assert torch.equal(read(path, "BtoA").tensors["model.1.weight"], BACKWARD["model.1.weight"])


def test_one_direction_by_its_key(tmp_path):
    path = tmp_path / "half.pth"
    torch.save({"netG_B": BACKWARD}, path)
    assert torch.equal(read(path).tensors["model.1.weight"], BACKWARD["model.1.weight"])
    with pytest.raises(CheckpointError, match="holds the direction BtoA only"):
        read(path, "AtoB")


def test_two_files_beside_each_other(tmp_path):
    first, second = tmp_path / "latest_net_G_A.pth", tmp_path / "latest_net_G_B.pth"
    torch.save(FORWARD, first)
    assert file_for(first, "AtoB") == first
    with pytest.raises(CheckpointError, match=r"G_A.pth: holds the other direction, .* no latest_net_G_B.pth"):
        read(first, "BtoA")
    torch.save(BACKWARD, second)
    for given in (first, second):
        assert torch.equal(read(given, "AtoB").tensors["model.1.weight"], FORWARD["model.1.weight"])
        assert torch.equal(read(given, "BtoA").tensors["model.1.weight"], BACKWARD["model.1.weight"])
    assert read(first, "BtoA").sha256 == read(second).sha256


def test_a_file_that_does_not_tell(tmp_path):
    path = tmp_path / "horse2zebra.pth"
    torch.save(FORWARD, path)
    with pytest.raises(CheckpointError, match="neither its keys nor its name show the direction"):
        read(path, "AtoB")
    assert not holds_pair(FORWARD)
    assert pick(path, FORWARD, None) is FORWARD
