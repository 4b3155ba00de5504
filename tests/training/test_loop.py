"""The loop: exact continuation, refusals, and what stays after an accident."""

import logging
import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training_making import Toy, flat, ones, rows, same, stream, system

import gankit
from gankit.errors import CheckpointError, OutputError, UsageError
from gankit.training.loop import DivergedError, Plan, fit


def spoilt(at, value):
    """Ones, and something else as the batch of step ``at``."""

    def make(start):
        step = start
        while True:
            step += 1
            yield value if step == at else 1.0

    return make


def interrupt_at(step):
    def notify(progress):
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return notify


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["frozen", "batch"])
@pytest.mark.parametrize("recipe", ["srresnet", "srgan"])
def test_ten_and_ten_steps_are_twenty(tmp_path, recipe, norm):
    def go(folder, steps, resume=False):
        made = system(recipe, 20, norm=norm)
        plan = Plan(steps, tmp_path / folder, validate_every=5, checkpoint_every=4, resume=resume)
        return made, fit(made, stream(), plan)

    _, best = go("whole", 20)
    go("parts", 10)
    _, best_of_parts = go("parts", 20, resume=True)
    whole, parts = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "parts"))
    assert whole["step"] == 20
    assert same(whole, parts), [n for n, v in flat(whole).items() if not same(v, flat(parts).get(n))]
    assert best == best_of_parts
    assert rows(tmp_path / "whole/log.csv") == rows(tmp_path / "parts/log.csv")
    names = {row[1] for row in rows(tmp_path / "whole/log.csv")}
    assert names >= {"content", "validation_score"} | ({"discriminator", "perceptual"} if recipe == "srgan" else set())
    for name in ("best.safetensors", "final.safetensors") if recipe == "srresnet" else ("final.safetensors",):
        first, second = (load_file(tmp_path / folder / name) for folder in ("whole", "parts"))
        assert same(first, second)


def test_interrupted_between_two_lines_of_the_log(tmp_path):
    """Ctrl-C: the step is finished, a checkpoint written, and the log goes on as if nothing had been."""
    for folder in ("whole", "parts"):
        made, plan = system("srgan", 20), Plan(20, tmp_path / folder, validate_every=5, checkpoint_every=100)
        if folder == "parts":
            with pytest.raises(KeyboardInterrupt):
                fit(made, stream(), plan, interrupt_at(12))
            assert torch.load(plan.folder / "last.pt", weights_only=True)["step"] == 13
            made = system("srgan", 20)
            plan = Plan(20, tmp_path / folder, validate_every=5, checkpoint_every=100, resume=True)
        fit(made, stream(), plan)
    whole, parts = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "parts"))
    assert same(whole, parts)
    assert rows(tmp_path / "whole/log.csv") == rows(tmp_path / "parts/log.csv")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_second_interrupt_does_not_wait(tmp_path):
    class Stuck(Toy):
        def step(self, batch, index):
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("the second one was not heard")

    with pytest.raises(KeyboardInterrupt):
        fit(Stuck(), ones, Plan(5, tmp_path))
    assert not (tmp_path / "last.pt").exists()


def test_interrupts_are_left_alone_where_someone_else_takes_them(tmp_path):
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        fit(Toy(), ones, Plan(5, tmp_path), interrupt_at(2))
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [1]


def test_checkpoint_without_newer_entries_is_taken(tmp_path):
    fit(Toy(), ones, Plan(5, tmp_path))
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    del content["log"]
    torch.save(content, tmp_path / "last.pt")
    reached = []
    fit(Toy(), ones, Plan(7, tmp_path, resume=True), lambda progress: reached.append(progress.step))
    assert reached == [6, 7]


def test_average_begun_after_a_checkpoint_without_one(tmp_path):
    fit(Toy(), ones, Plan(5, tmp_path, average=0))
    weight = torch.load(tmp_path / "last.pt", weights_only=True)["modules"]["generator"]["weight"].item()
    toy = Toy()
    fit(toy, ones, Plan(6, tmp_path, average=0.999, resume=True))
    now = toy.generator.weight.item()
    assert toy.saved[-1][1] == pytest.approx(weight + (now - weight) * (1 - 2 / 11))


def test_validation_sees_the_average_in_eval_mode_and_puts_the_weights_back(tmp_path):
    toy = Toy()
    fit(toy, ones, Plan(20, tmp_path, validate_every=10))
    average = torch.load(tmp_path / "last.pt", weights_only=True)["average"]["state"]["weight"].item()
    assert [training for training, _ in toy.validated] == [False, False]
    assert toy.validated[-1][1] == average != toy.generator.weight.item()
    assert toy.generator.training


def test_weights_are_put_back_when_the_validation_fails(tmp_path):
    class Failing(Toy):
        def validate(self, generator):
            raise RuntimeError("no figures")

    toy, plain = Failing(), Toy()
    with pytest.raises(RuntimeError, match="no figures"):
        fit(toy, ones, Plan(5, tmp_path / "a"))
    fit(plain, ones, Plan(5, tmp_path / "b"))
    assert toy.generator.weight.item() == plain.generator.weight.item()
    assert toy.generator.training


def test_best_is_kept_not_the_last(tmp_path):
    scores = iter([1.0, 3.0, 2.0])

    class Scored(Toy):
        def validate(self, generator):
            return {"score": next(scores)}

    toy = Scored()
    best = fit(toy, ones, Plan(6, tmp_path, validate_every=2))
    assert best == {"score": 3.0, "step": 4.0}
    assert [(name, extra["step"]) for name, _, extra in toy.saved] == [
        ("best.safetensors", "2"),
        ("best.safetensors", "4"),
        ("final.safetensors", "6"),
    ]


def test_a_loss_that_is_no_number_stops(tmp_path):
    plan = Plan(20, tmp_path, checkpoint_every=5)
    with pytest.raises(DivergedError, match=r"distance is not finite at step 8; the last good .*last\.pt") as error:
        fit(Toy(), spoilt(8, float("nan")), plan)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    assert content["step"] == 5
    assert torch.isfinite(content["modules"]["generator"]["weight"]).all()
    fit(Toy(), ones, Plan(20, tmp_path, checkpoint_every=5, resume=True))


def test_a_gradient_that_is_no_number_spoils_no_checkpoint(tmp_path):
    plan = Plan(20, tmp_path, checkpoint_every=5)
    with pytest.raises(DivergedError, match="generator's weight is not finite at step 10"):
        fit(Toy(), spoilt(10, "steep"), plan)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 5


class Counted(torch.Tensor):
    """A loss that counts how often somebody waits for its number, or for that of what is computed of it."""

    reads = 0

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        Counted.reads += function in (torch.Tensor.__float__, torch.Tensor.item, torch.Tensor.tolist)
        return super().__torch_function__(function, types, arguments, options or {})


def test_losses_are_read_when_they_are_logged(tmp_path):
    """To read one is to wait for the device, which a step in between must not."""

    class Counting(Toy):
        def step(self, batch, index):
            return {name: loss.as_subclass(Counted) for name, loss in super().step(batch, index).items()}

    Counted.reads = 0
    fit(Counting(), ones, Plan(20, tmp_path / "a", validate_every=100, average=0))
    assert Counted.reads == 2
    Counted.reads = 0
    fit(Counting(), ones, Plan(20, tmp_path / "b", validate_every=100, average=0, checkpoint_every=4))
    assert Counted.reads == 6  # 4, 8, 10, 12, 16, 20: what a checkpoint keeps has been read
    fit(Toy(), ones, Plan(20, tmp_path / "c", validate_every=100, average=0))
    assert rows(tmp_path / "a/log.csv") == rows(tmp_path / "b/log.csv") == rows(tmp_path / "c/log.csv")


def test_a_loss_that_is_no_number_is_found_before_a_sample_grid(tmp_path):
    class Drawing(Toy):
        def sample_grid(self, generator):
            raise AssertionError("drawn after a step that diverged")

    with pytest.raises(DivergedError, match="distance is not finite at step 3"):
        fit(Drawing(), spoilt(3, float("nan")), Plan(20, tmp_path, grid_every=4))


def test_nan_before_any_checkpoint(tmp_path):
    with pytest.raises(DivergedError, match="step 1; no checkpoint was written yet"):
        fit(Toy(), spoilt(1, float("inf")), Plan(5, tmp_path))


def test_a_run_is_not_overwritten(tmp_path):
    fit(Toy(), ones, Plan(3, tmp_path))
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(UsageError, match="holds a run already"):
        fit(Toy(), ones, Plan(3, tmp_path))
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_finished_run_resumes_to_nothing(tmp_path):
    best = fit(Toy(), ones, Plan(3, tmp_path))
    log = (tmp_path / "log.csv").read_bytes()
    assert fit(Toy(), ones, Plan(3, tmp_path, resume=True)) == best
    assert (tmp_path / "log.csv").read_bytes() == log


def test_stop_after(tmp_path):
    reached = []
    fit(Toy(), ones, Plan(50, tmp_path, stop_after=0.0), lambda progress: reached.append(progress.step))
    assert reached == [1]
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 1
    assert not (tmp_path / "final.safetensors").exists()


def test_checkpoints_that_do_not_fit(tmp_path):
    fit(Toy(), ones, Plan(3, tmp_path))
    for recipe in ("srresnet", "srgan"):
        with pytest.raises(CheckpointError, match=r"last\.pt: the checkpoint is of another run") as error:
            fit(system(recipe, 20), stream(), Plan(20, tmp_path, resume=True))
        assert "\n" not in str(error.value)
    (tmp_path / "last.pt").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(CheckpointError, match="cannot be read"):
        fit(Toy(), ones, Plan(5, tmp_path, resume=True))


def test_resuming_with_the_other_recipe(tmp_path):
    fit(system("srgan", 5), stream(), Plan(5, tmp_path, validate_every=100))
    with pytest.raises(CheckpointError, match="it has generator, discriminator"):
        fit(system("srresnet", 20), stream(), Plan(20, tmp_path, resume=True))


def test_folder_that_cannot_be_one(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        fit(Toy(), ones, Plan(3, tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot be written"):
        fit(Toy(), ones, Plan(3, tmp_path / "file" / "below"))


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    fit(Toy(), ones, Plan(3, tmp_path))
    before = (tmp_path / "last.pt").read_bytes()

    def full(content, path):
        path.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match=r"last\.pt: cannot be written"):
        fit(Toy(), ones, Plan(6, tmp_path, resume=True))
    assert (tmp_path / "last.pt").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_log_lines_are_means_and_a_torn_line_is_dropped(tmp_path):
    seen = []
    fit(Toy(), ones, Plan(14, tmp_path, validate_every=100), lambda progress: seen.append(progress.losses["distance"]))
    found = {(int(step), name): float(value) for step, name, value in rows(tmp_path / "log.csv")[1:]}
    assert found[10, "distance"] == pytest.approx(sum(seen[:10]) / 10, rel=1e-5)
    assert found[14, "distance"] == pytest.approx(sum(seen[10:]) / 4, rel=1e-5)
    with (tmp_path / "log.csv").open("a") as file:
        file.write("15,distance,1\n1")
    fit(Toy(), ones, Plan(15, tmp_path, resume=True))
    assert [row[0] for row in rows(tmp_path / "log.csv") if row[1] == "distance"] == ["10", "14", "15"]


def test_losses_that_begin_later_are_means_of_their_own_steps(tmp_path):
    class Late(Toy):
        def step(self, batch, index):
            return {**super().step(batch, index), **({"late": torch.tensor(4.0)} if index >= 5 else {})}

    fit(Late(), ones, Plan(10, tmp_path))
    assert ["10", "late", "4"] in rows(tmp_path / "log.csv")


@pytest.mark.parametrize("recipe", ["srresnet", "srgan"])
def test_bf16_reaches_every_convolution(recipe, tmp_path):
    made = (
        system(recipe, 3, precision="bf16", head_start=0) if recipe == "srgan" else system(recipe, 3, precision="bf16")
    )
    seen = set()
    watched = made.modules.get("discriminator", made.generator).modules()
    for module in watched:
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    made.step(next(stream()(0)), 0)
    assert seen == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for module in made.modules.values() for p in module.parameters())


def test_head_start_trains_the_discriminator_alone():
    made = system("srgan", 20, head_start=2)
    source = stream()(0)

    def weights(name):
        return {key: value.clone() for key, value in made.modules[name].state_dict().items()}

    for index in range(3):
        before = weights("generator"), weights("discriminator")
        named = made.step(next(source), index)
        assert same(weights("generator"), before[0]) == (index < 2)
        assert not same(weights("discriminator"), before[1])
        assert ("adversarial" in named) == (index >= 2)
    assert all(parameter.requires_grad for parameter in made.modules["discriminator"].parameters())


def test_head_start_must_leave_steps():
    with pytest.raises(UsageError, match="20 steps leave none for the generator"):
        system("srgan", 20, head_start=20)


def test_generator_step_leaves_the_discriminator():
    """Its parameters get no gradient from the generator's loss, and the generator gets one from each term."""
    zero = dict.fromkeys(("content_weight", "consistency_weight", "perceptual_weight", "adversarial_weight"), 0.0)
    for term in zero:
        made = system("srgan", 20, head_start=0, **{**zero, term: 1.0})
        made.step(next(stream()(0)), 0)
        assert made.generator.tail.bias.grad.abs().sum() > 0, term
        if term == "perceptual_weight":
            own = [parameter.grad.clone() for parameter in made.modules["discriminator"].parameters()]
            alone = system("srgan", 20, head_start=19)
            alone.step(next(stream()(0)), 0)
            others = [parameter.grad for parameter in alone.modules["discriminator"].parameters()]
            assert same(own, others)


@pytest.mark.slow
def test_the_loss_falls_and_the_weights_load(tmp_path, caplog):
    seen = []
    with caplog.at_level(logging.INFO):
        made = system("srresnet", 80, inner_lr=0.02, lr=5e-3)
        made.schedules = {}  # their warm-up alone is longer than this
        plan = Plan(80, tmp_path, validate_every=40, checkpoint_every=80)
        fit(made, stream(batch=8, seed=0), plan, lambda progress: seen.append(progress.losses["content"]))
    assert sum(seen[-10:]) < 0.6 * sum(seen[:10])
    net = gankit.load(tmp_path / "best.safetensors")
    state = torch.load(tmp_path / "last.pt", weights_only=True)["average"]["state"]
    for name, value in gankit.load(tmp_path / "final.safetensors").state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, state[name], atol=1e-3, rtol=1e-3)
    assert net(torch.rand(1, 3, 5, 6)).shape == (1, 3, 20, 24)
