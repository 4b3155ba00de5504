"""int8 in the choice: last, by a margin, through the gate of all under auto, and alone on request."""

import json
from dataclasses import asdict, replace

import pytest

from gankit.backends.base import EngineSpec
from gankit.backends.choice import benchmark, candidates, quantised, select
from gankit.backends.choice.machine import machine
from gankit.errors import BackendError, ParityError, UsageError
from gankit.options import EngineOptions
from tests.backends.choice.test_select import Fake, loaded, only, own_choices  # noqa: F401

SHA256 = "ab" * 32


class Quantising(Fake):
    """A backend that runs int8 files: its int8 engine is spoilt by ``far`` and takes ``int8_seconds``."""

    runs_int8 = True

    def __init__(self, name, *, int8_seconds=0.0, **options):
        super().__init__(name, **options)
        self.int8_seconds = int8_seconds

    def open(self, spec):
        engine = super().open(spec)
        engine.artefact = spec.quantised
        return engine


@pytest.fixture
def measured(only, monkeypatch):  # noqa: F811
    """Make these the only backends on a CPU without bf16, with their own speeds in int8."""

    def put(*fakes, bf16=False):
        only(*fakes)

        def timed(engine, inputs):
            seconds = engine.kind.int8_seconds if engine.precision == "int8" else engine.kind.seconds
            return engine.run(*inputs), 0.001 + seconds

        here = replace(machine(), features=("AMX-BF16",) if bf16 else ("AVX2",))
        monkeypatch.setattr(benchmark, "_timed", timed)
        monkeypatch.setattr(candidates, "machine", lambda: here)

    return put


def choose(model, lines=None, **options):
    notify = None if lines is None else lines.append
    return select.select(model, EngineOptions(**options), quantised=SHA256, notify=notify)


def test_auto_takes_int8_that_passes_and_is_faster(loaded, measured):  # noqa: F811
    measured(Quantising("a", seconds=0.01), Fake("b", seconds=0.02))
    lines = []
    chosen = choose(loaded, lines)
    assert chosen.engine.precision == "int8"
    assert "chose a int8" in lines[0]
    again = choose(loaded)
    assert (again.engine.precision, again.engine.spec.quantised) == ("int8", SHA256)
    assert "a int8" in again.summary
    assert "from the cache" in again.summary


def test_auto_needs_a_margin(loaded, measured):  # noqa: F811
    measured(Quantising("a", seconds=0.010, int8_seconds=0.009))
    assert choose(loaded).engine.precision == "fp32"


def test_auto_holds_int8_against_its_own_gate(loaded, measured):  # noqa: F811
    measured(Quantising("a", seconds=0.01, noise=("int8",)))
    lines = []
    assert choose(loaded, lines).engine.precision == "fp32"
    assert any(line.startswith("a int8 failed the parity check") and "below 45 dB" in line for line in lines)


def test_auto_does_not_try_int8_where_bf16_is_fast(loaded, measured):  # noqa: F811
    measured(Quantising("a", seconds=0.01), bf16=True)
    assert choose(loaded).engine.precision == "bf16"


def test_other_precisions_do_not_run_int8(loaded, measured):  # noqa: F811
    measured(Quantising("a", seconds=0.01))
    assert choose(loaded, precision="fp32").engine.precision == "fp32"


def test_int8_on_request_runs_alone_and_has_a_gate_of_its_own(loaded, measured):  # noqa: F811
    first, second = Quantising("a", int8_seconds=0.01), Fake("b")
    measured(first, second, bf16=True)
    chosen = choose(loaded, precision="int8")
    assert (chosen.engine.backend, chosen.engine.precision) == ("a", "int8")
    assert second.loads == 0
    assert all(engine.spec.quantised for engine in first.engines)
    measured(Quantising("a", noise=("int8",)))
    with pytest.raises(ParityError, match="no engine reaches 38 dB"):
        select.select(loaded, EngineOptions(precision="int8"), quantised="cd" * 32)


def test_int8_is_refused_where_it_does_not_run(loaded, measured):  # noqa: F811
    measured(Fake("b"), Quantising("a"))
    with pytest.raises(BackendError, match="does not run int8; use --backend openvino or onnxruntime"):
        choose(loaded, backend="b", precision="int8")
    spec = EngineSpec(loaded.module, loaded.facts, device="cuda", quantised=SHA256)
    assert "runs int8 on the CPU only" in Quantising("a", precisions={"cuda": ("fp32",)}).supports(spec)


def test_a_damaged_file_in_the_cache_is_deleted_and_reported(loaded, tmp_path):  # noqa: F811
    lines = []
    stem, folder = quantised.stem(loaded), quantised.folder()
    folder.mkdir(parents=True)
    path = folder / f"{stem}-{quantised.digest_of([])}-{SHA256}.onnx"
    path.write_bytes(b"damaged")
    path.with_name(path.name + ".json").write_text("{}")
    assert quantised.look_up(stem, notify=lines.append) is None
    assert list(folder.iterdir()) == []
    assert "has changed since gankit wrote it" in lines[0]
    spec = EngineSpec(loaded.module, loaded.facts, quantised=SHA256)
    with pytest.raises(BackendError, match="is not in the cache; run with --precision int8 again"):
        quantised.quantised_file(spec)


def test_files_of_other_weights_facts_and_images_have_other_names(loaded):  # noqa: F811
    others = replace(loaded, sha256="1" * 64), replace(loaded, facts=replace(loaded.facts, minimum=8))
    assert len({quantised.stem(item) for item in (loaded, *others)}) == 3
    assert len({quantised.digest_of(item) for item in ([], [b"a"], [b"a", b"b"], [b"ab"])}) == 4


def test_calibration_needs_int8():
    with pytest.raises(UsageError, match="use it with the precision int8"):
        EngineOptions(calibration="photos")
    options = EngineOptions(precision="int8", calibration="photos")
    assert options.of_results() == {"precision": "int8", "calibration": "photos"}
    assert json.dumps(asdict(options))
