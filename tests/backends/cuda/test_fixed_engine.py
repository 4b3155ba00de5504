"""torch.compile on a GPU: code for one shape, and code for all; on a pretended GPU, with a compiler that only notes."""

import pytest
import torch
from fake_gpu import FakeCuda
from test_cuda_engine import FACTS, LATENT, FromLatents, Net, image, spec

from gankit.backends import get
from gankit.backends.base import EngineSpec, Shapes
from gankit.backends.choice import candidates
from gankit.backends.compiled_engines import FixedEngine, compiled
from gankit.backends.modules import ModuleEngine
from gankit.options import EngineOptions

STATIC = Shapes(4, (8, 10))


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """What was compiled how, and the shapes that the compiled code ran."""
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    gpu = FakeCuda("late")
    monkeypatch.setattr("gankit.backends.cuda.engine.cuda_of", lambda device: gpu)
    monkeypatch.setattr("gankit.backends.compiled_engines.ready", lambda given, compiled: given.generator)
    found = {"gpu": gpu, "options": [], "shapes": []}

    def compile_(module, **options):
        found["options"].append(options)

        def run(*given):
            found["shapes"].append(tuple(given[0].shape))
            return module(*given)

        return run

    monkeypatch.setattr(torch, "compile", compile_)
    return found


def plain(given):
    return ModuleEngine("plain", EngineSpec(given.generator, given.facts, device="cpu"), given.generator)


def test_a_fixed_shape_has_code_of_its_own_and_others_run_without(compiler):
    given = spec(Net(), FACTS, shapes=STATIC)
    engine = compiled("compile", given)
    assert isinstance(engine, FixedEngine)
    assert compiler["options"] == [{"dynamic": False, "fullgraph": True}]
    assert set(compiler["shapes"]) == {(4, 3, 8, 10)}
    compiler["shapes"].clear()
    wanted = plain(given)
    whole, part, other = image(0, (4, 3, 8, 10)), image(1, (3, 3, 8, 10)), image(2, (4, 3, 6, 10))
    pending = [engine.submit(batch) for batch in (whole, part, other)]
    for call, batch in zip(pending, (whole, part, other), strict=True):
        assert torch.equal(call.result(), wanted.run(batch))
    assert torch.equal(engine.run(part), wanted.run(part))
    assert set(compiler["shapes"]) == {(4, 3, 8, 10)}  # also for three images, and not for another size
    assert compiler["gpu"].faults == []


def test_a_fixed_shape_is_replayed_as_a_graph(compiler):
    given = spec(Net(), FACTS, shapes=STATIC)
    engine, wanted = compiled("compile", given), plain(given)
    for index in range(8):
        batch = image(index, (4 - index % 2, 3, 8, 10))
        assert torch.equal(engine.run(batch), wanted.run(batch))
    assert compiler["gpu"].captures == [[(4, 3, 8, 10)]]
    assert compiler["gpu"].replays >= 4


def test_samples_of_a_fixed_batch(compiler):
    given = spec(FromLatents(), LATENT, shapes=Shapes(batch=5))
    engine, wanted = compiled("compile", given), plain(given)
    for count in (5, 2, 1):
        latents, classes = torch.randn(count, 6), torch.arange(count) % 3
        torch.testing.assert_close(engine.run(latents, classes), wanted.run(latents, classes), rtol=0, atol=1e-6)
    assert compiler["options"] == [{"dynamic": False}]
    assert set(compiler["shapes"]) == {(5, 6)}
    assert compiler["gpu"].faults == []


@pytest.mark.parametrize("shapes", [Shapes(), Shapes(batch=4), Shapes(tile=(8, 10))])
def test_other_shapes_have_code_for_all_sizes(compiler, shapes):
    engine = compiled("compile", spec(Net(), FACTS, shapes=shapes))
    assert not isinstance(engine, FixedEngine)
    assert compiler["options"] == [{"dynamic": True, "fullgraph": True}]


def test_the_mode_for_little_overhead_is_graphs_alone():
    """So that the engine's own graphs lack nothing of it."""
    from torch._inductor import list_mode_options

    assert list_mode_options("reduce-overhead") == {"triton.cudagraphs": True}


def test_compile_is_measured_with_the_kernels_and_without(monkeypatch):
    monkeypatch.setattr("gankit.backends.compiled.cuda_available", lambda: True)
    monkeypatch.setattr("gankit.backends.compiled.find_spec", lambda name: name)
    given = spec(Net(), FACTS, kernels=True, device="cuda")
    (group,) = candidates.candidates(given, EngineOptions(backend="compile", precision="fp16", device="cuda"))
    assert [str(item) for item in group] == ["compile fp16 on cuda", "compile fp16 on cuda with torch's kernels"]
    assert [item.spec.kernels for item in group] == [True, False]
    assert get("compile").slow_start  # so that `auto` measures both for long jobs only
