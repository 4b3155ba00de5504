"""Muon and Adam together, learning rates, averages."""

import copy

import pytest
import torch
from torch import nn
from training_making import same

from gankit.training.optimisers import Average, MuonAdam, restore_optimiser, set_learning_rate
from gankit.training.schedules import constant, delayed, warmup_cosine


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3))


def optimiser_of(net, **rates):
    return MuonAdam([net[1].weight], [*net[0].parameters(), net[1].bias], **rates)


def backward(net, seed=0):
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    for parameter in net.parameters():
        parameter.grad = None
    net(x).square().mean().backward()


def test_the_view_is_the_parameter(net):
    optimiser = optimiser_of(net)
    (view,) = optimiser.param_groups[0]["params"]
    assert view.shape == (6, 36)
    assert view.data_ptr() == net[1].weight.data_ptr()
    before = net[1].weight.detach().clone()
    backward(net)
    optimiser.step()
    assert not torch.equal(net[1].weight, before)


def test_muon_part_is_muon_on_the_matrix(net):
    matrix = net[1].weight.detach().clone().view(6, 36)
    muon = torch.optim.Muon([matrix], lr=0.02, weight_decay=0.0)
    optimiser = optimiser_of(net, inner_lr=0.02)
    for seed in range(3):
        backward(net, seed)
        matrix.grad = net[1].weight.grad.clone().view(6, 36)
        muon.step()
        optimiser.step()
        assert torch.equal(net[1].weight.view(6, 36), matrix)


def test_muon_turns_the_gradient_into_a_nearly_orthogonal_step(net):
    before = net[1].weight.detach().clone()
    optimiser = optimiser_of(net, inner_lr=1.0)
    backward(net)
    optimiser.step()
    values = torch.linalg.svdvals((net[1].weight.detach() - before).view(6, 36))
    assert 0.5 < values.min() <= values.max() < 1.5


def test_adam_part_is_adam(net):
    other = copy.deepcopy(net)
    adam = torch.optim.Adam([*other[0].parameters(), other[1].bias], lr=0.01, betas=(0.9, 0.99))
    optimiser = optimiser_of(net, lr=0.01)
    backward(net)
    backward(other)
    adam.step()
    optimiser.step()
    assert torch.equal(net[0].weight, other[0].weight)
    assert torch.equal(net[0].bias, other[0].bias)
    assert torch.equal(net[1].bias, other[1].bias)


def test_a_module_that_moved_is_still_trained(net):
    """Moving to a GPU gives every parameter new memory; so does this."""
    optimiser = optimiser_of(net)
    stays = copy.deepcopy(net)
    other = optimiser_of(stays)
    for parameter in net.parameters():
        parameter.data = parameter.data.clone()
    for seed in range(2):
        backward(net, seed)
        backward(stays, seed)
        optimiser.step()
        other.step()
    assert torch.equal(net[1].weight, stays[1].weight)


def test_state_dict_continues_exactly_and_learning_rates_follow(net):
    whole, parts = copy.deepcopy(net), copy.deepcopy(net)
    first = optimiser_of(whole)
    second = optimiser_of(parts)
    schedule = warmup_cosine(6, warmup=2)
    for step in range(6):
        for module, optimiser in ((whole, first), (parts, second)):
            set_learning_rate(optimiser, schedule(step))
            backward(module, step)
            optimiser.step()
        if step == 2:
            resumed = copy.deepcopy(parts)
            third = optimiser_of(resumed, inner_lr=123.0, lr=456.0)
            third.load_state_dict(copy.deepcopy(second.state_dict()))
            parts, second = resumed, third
            assert [group["initial_lr"] for group in second.param_groups] == [5e-3, 1e-3]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))
    assert [group["lr"] for group in second.param_groups] == [group["lr"] for group in first.param_groups]


def test_a_restored_optimiser_keeps_its_own_learning_rates(net):
    """And everything else is the state's."""
    first = optimiser_of(net, inner_lr=0.02, lr=0.01)
    set_learning_rate(first, 0.5)
    backward(net)
    first.step()
    lower = optimiser_of(net, inner_lr=0.002, lr=0.001)
    restore_optimiser(lower, copy.deepcopy(first.state_dict()))
    set_learning_rate(lower, 0.5)
    assert [group["lr"] for group in lower.param_groups] == pytest.approx([0.001, 0.0005])
    for part in ("muon", "adam"):
        assert same(lower.state_dict()[part]["state"], first.state_dict()[part]["state"])
    other = MuonAdam([net[0].weight, net[1].weight], [net[0].bias])
    with pytest.raises(ValueError, match="group"):
        restore_optimiser(other, first.state_dict())


def test_zero_grad_and_closure(net):
    optimiser = optimiser_of(net)
    backward(net)
    optimiser.zero_grad()
    assert all(parameter.grad is None for parameter in net.parameters())
    before = [parameter.detach().clone() for parameter in net.parameters()]
    optimiser.step()  # without gradients nothing moves
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    with pytest.raises(ValueError, match="closure"):
        optimiser.step(lambda: 0.0)


def test_learning_rate_is_a_factor_of_the_first_one(net):
    optimiser = optimiser_of(net, inner_lr=0.02, lr=0.01)
    for factor in (0.5, 0.5, 2.0):
        set_learning_rate(optimiser, factor)
    assert [group["lr"] for group in optimiser.param_groups] == [0.04, 0.02]


def test_warmup_cosine():
    factor = warmup_cosine(1000, warmup=100)
    assert factor(0) == pytest.approx(0.01)
    assert factor(49) == pytest.approx(0.5, rel=0.01)
    assert factor(500) == pytest.approx(0.5)
    assert factor(250) == pytest.approx(0.5 + 0.5 * 2**-0.5)
    assert factor(1000) == factor(2000) == pytest.approx(0, abs=1e-12)
    assert all(factor(step) > factor(step + 1) for step in range(100, 1000))
    floored = warmup_cosine(1000, warmup=0, floor=0.1)
    assert floored(0) == pytest.approx(1)
    assert floored(500) == pytest.approx(0.55)
    assert floored(1000) == pytest.approx(0.1)
    assert constant()(123) == 1


def test_delayed():
    schedule = warmup_cosine(1000, warmup=100)
    late = delayed(schedule, 50)
    assert [late(step) for step in (0, 50, 149, 1050)] == [schedule(step) for step in (0, 0, 99, 1000)]


def test_average_closed_form():
    """After steps from 0 to 1 the rest of the old value is the product of the decays."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    average = Average(module, decay=0.9)
    nn.init.ones_(module.weight)
    rest = 1.0
    for update in range(1, 200):
        average.update(module)
        rest *= min(0.9, (1 + update) / (10 + update))
        assert average.state["weight"].item() == pytest.approx(1 - rest, abs=1e-6)
    assert module.weight.item() == 1


def test_average_takes_buffers():
    norm = nn.BatchNorm2d(2)
    average = Average(norm, decay=0.9)
    norm.running_mean.fill_(11.0)
    norm.num_batches_tracked.fill_(7)
    average.update(norm)
    decay = 2 / 11
    torch.testing.assert_close(average.state["running_mean"], torch.full((2,), 11 * (1 - decay)))
    assert average.state["num_batches_tracked"] == 7
    assert torch.equal(average.state["running_var"], torch.ones(2))


def test_the_average_of_all_tensors_at_once_is_that_of_each():
    """To the last bit, for every type of number."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 3).to(torch.bfloat16))
    average = Average(module, decay=0.99)
    alone = {name: value.clone() for name, value in average.state.items()}
    for update in range(1, 6):
        with torch.no_grad():
            for value in module.state_dict().values():
                value.add_(torch.randn(value.shape) if value.is_floating_point() else 3)
        average.update(module)
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                alone[name].lerp_(value, 1 - min(0.99, (1 + update) / (10 + update)))
            else:
                alone[name].copy_(value)
    assert average.state.keys() == alone.keys()
    assert same(average.state, alone)


def test_an_average_of_no_numbers():
    module = nn.Module()
    average = Average(module)
    average.update(module)
    assert (average.state, average.updates) == ({}, 1)
