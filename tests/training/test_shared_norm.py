"""BatchNorm over all processes: two processes with half of the images each are one with all of them."""

import copy

import pytest
import torch
from test_ranks import HERE, launch, needs_gloo
from torch import nn
from two_norms import network

from gankit.training.shared_norm import SharedBatchNorm1d, SharedBatchNorm2d, share_norms


@needs_gloo
@pytest.mark.slow
def test_two_processes_with_half_the_images_are_one(tmp_path):
    done = launch("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, HERE / "two_norms.py", tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    done = launch(HERE / "two_norms.py", tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    first, second, alone = (
        torch.load(tmp_path / f"norms{name}.pt", weights_only=True) for name in ("2-0", "2-1", "1-0")
    )
    assert (first["shared"], alone["shared"]) == (3, 0)
    for name, value in alone["state"].items():
        assert torch.equal(first["state"][name], second["state"][name]), name
        torch.testing.assert_close(
            first["state"][name], value, rtol=2e-4, atol=2e-4, msg=lambda text, n=name: f"{n}: {text}"
        )
    assert first["losses"] == pytest.approx(alone["losses"], rel=1e-3)
    torch.testing.assert_close(first["eval"], alone["eval"], rtol=1e-3, atol=1e-3)


def test_the_class_alone_changes():
    net = network()
    before, parameters = copy.deepcopy(net.state_dict()), [id(each) for each in net.parameters()]
    assert share_norms(net) == 3
    assert share_norms(net) == 0
    assert [type(net[index]) for index in (1, 4, 7)] == [SharedBatchNorm2d, SharedBatchNorm2d, SharedBatchNorm1d]
    assert all(isinstance(net[index], nn.BatchNorm1d | nn.BatchNorm2d) for index in (1, 4, 7))
    assert [id(each) for each in net.parameters()] == parameters
    after = net.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("affine", [True, False])
def test_the_formula_is_torchs(monkeypatch, momentum, affine):
    """Of one process that believes in others which add nothing."""
    monkeypatch.setattr("gankit.training.ranks.world", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda values: values)
    plain = nn.BatchNorm2d(4, momentum=momentum, affine=affine).double()
    shared = copy.deepcopy(plain)
    share_norms(shared)
    for seed in range(3):
        x = torch.randn(3, 4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3 + 7
        one, two = x.clone().requires_grad_(True), x.clone().requires_grad_(True)
        wanted, made = plain(one), shared(two)
        torch.testing.assert_close(made, wanted)
        weights = torch.randn_like(x)
        torch.testing.assert_close(
            torch.autograd.grad((made * weights).sum(), two)[0], torch.autograd.grad((wanted * weights).sum(), one)[0]
        )
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value)
    torch.testing.assert_close(shared.eval()(x), plain.eval()(x))


def test_bf16_images_have_float32_statistics(monkeypatch):
    monkeypatch.setattr("gankit.training.ranks.world", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda values: values)
    shared = nn.BatchNorm2d(4)
    share_norms(shared)
    x = (torch.randn(4, 4, 8, 8) + 50).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        made = shared(x)
    assert made.dtype == torch.bfloat16
    wanted = nn.BatchNorm2d(4)(x.float())
    assert (made.float() - wanted).abs().max() < 0.02
