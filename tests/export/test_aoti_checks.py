"""What an AOTInductor package needs, and what is refused before its code is loaded or called."""

import dataclasses
import inspect
import json
import platform
import zipfile

import pytest
import torch
from gankit_export import aoti
from gankit_export.aoti import Input, Needs, Package, PackageError, missing_instructions
from gankit_export.aoti_build import compile_package, image_input, latent_inputs, package_inputs

HERE = Needs(aoti.plain_version(torch.__version__), "cpu", platform.machine(), "", "", (image_input(3, 4),))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.zeros(2, 3, 8, 12), None),
        (torch.zeros(2, 3, 8, 12, dtype=torch.float64), "must be float32, not float64"),
        (torch.zeros(3, 8, 12), "must have 4 axes, not 3"),
        (torch.zeros(2, 1, 8, 12), "must be 1-1024x3x4-16384x4-16384 (multiples of 4), not 2x1x8x12"),
        (torch.zeros(2, 3, 8, 10), "multiples of 4"),
        (torch.zeros(0, 3, 8, 12), "not 0x3x8x12"),
        (torch.zeros(2, 3, 8, 12).to(memory_format=torch.channels_last), "must be contiguous"),
        (torch.zeros(2, 3, 12, 8).transpose(2, 3), "must be contiguous"),
    ],
)
def test_inputs(given, words):
    found = image_input(3, 4).refuses(given)
    assert found is None if words is None else words in found


def test_a_static_input():
    item = image_input(3, 1, (1, 16, 24))
    assert item.refuses(torch.zeros(1, 3, 16, 24)) is None
    assert item.refuses(torch.zeros(1, 3, 24, 16)) == "'input' must be 1x3x16x24, not 1x3x24x16"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"torch": "2.0.0"}, "was compiled with torch 2.0.0"),
        ({"machine": "riscv"}, "was compiled for riscv"),
        ({"device": "cuda"}, "was compiled for cuda, not for cpu"),
    ],
)
def test_machines(change, words):
    found = dataclasses.replace(HERE, **change).lacks("cpu")
    assert found is None if words is None else words in found


def test_instructions(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: False)
    assert missing_instructions("AVX2") is None
    assert missing_instructions("INVALID_VEC_ISA") is None
    assert missing_instructions("AVX512 AVX512_VNNI") == "AVX512"
    assert "a processor with AVX512, which this one lacks" in dataclasses.replace(HERE, isa="AVX512").lacks("cpu")


def test_torch_has_what_the_check_asks():
    assert all(callable(getattr(torch.cpu, test)) for tests in aoti._INSTRUCTIONS.values() for test in tests)


def test_needs_are_written_and_read():
    both = dataclasses.replace(HERE, inputs=latent_inputs(7, 3))
    assert Needs.from_json(json.loads(json.dumps(both.to_json()))) == both


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        None,
        {**HERE.to_json(), "inputs": []},
        {**HERE.to_json(), "isa": 3},
        {**HERE.to_json(), "inputs": [{"name": "x", "dtype": "float32", "axes": [[2, 1, 1]]}]},
        {**HERE.to_json(), "inputs": [{"name": "x", "dtype": "complex64", "axes": [[1, 1, 1]]}]},
        {**HERE.to_json(), "inputs": [{"name": "x", "dtype": "float32", "axes": [[1, 1]]}]},
    ],
)
def test_what_is_no_description(content):
    with pytest.raises(ValueError, match="not what an AOTInductor package needs"):
        Needs.from_json(content)


def package(path, **metadata):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data/aotinductor/model/c.wrapper_metadata.json", json.dumps(metadata))
    return path


def test_files_are_refused_before_their_code_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(torch._inductor, "aoti_load_package", lambda *a, **k: pytest.fail("loaded"))
    (tmp_path / "text.pt2").write_text("text")
    with pytest.raises(PackageError, match="is no AOTInductor package, or is damaged"):
        Package(tmp_path / "text.pt2", HERE)
    with pytest.raises(PackageError, match="and its manifest says ''"):
        Package(package(tmp_path / "a.pt2", AOTI_MACHINE=HERE.machine, AOTI_CPU_ISA="AVX512"), HERE)
    with pytest.raises(PackageError, match="AOTI_MACHINE"):
        Package(package(tmp_path / "b.pt2"), HERE)
    with zipfile.ZipFile(tmp_path / "saved.pt2", "w") as archive:  # torch.export.save writes this suffix, too
        archive.writestr("saved/archive_format", "pt2")
    with pytest.raises(PackageError, match="is no AOTInductor package"):
        Package(tmp_path / "saved.pt2", HERE)


def test_calls_are_refused_before_the_code_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(
        torch._inductor, "aoti_load_package", lambda *a, **k: lambda *given: pytest.fail("called") if given else None
    )
    path = package(tmp_path / "a.pt2", AOTI_MACHINE=HERE.machine, AOTI_CPU_ISA="")
    both = Package(path, dataclasses.replace(HERE, inputs=latent_inputs(7, 3)))
    with pytest.raises(PackageError, match="takes 2 inputs, not 1"):
        both(torch.zeros(1, 7))
    with pytest.raises(PackageError, match="equal batches"):
        both(torch.zeros(2, 7), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(PackageError, match="'input' must be"):
        Package(path, HERE)(torch.zeros(1, 3, 3, 3))


def test_the_calls_of_torch_for_a_gpu(tmp_path, monkeypatch):
    """By contract: this machine has no GPU, so that torch's own signatures check the calls."""
    compiling = inspect.signature(torch._inductor.aoti_compile_and_package)
    loading = inspect.signature(torch._inductor.aoti_load_package)
    seen = {}

    def compile_(*args, **kwargs):
        seen["compile"] = compiling.bind(*args, **kwargs).arguments
        package(tmp_path / "g.pt2", AOTI_MACHINE=platform.machine(), AOTI_CPU_ISA="")

    def load(*args, **kwargs):
        seen["load"] = loading.bind(*args, **kwargs).arguments
        return lambda *given: [given[0]]

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", compile_)
    monkeypatch.setattr(torch._inductor, "aoti_load_package", load)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    inputs = package_inputs(3, 1)
    needs = compile_package(torch.nn.Conv2d(3, 3, 3, padding=1).eval(), tmp_path / "g.pt2", inputs)
    assert seen["compile"]["inductor_configs"] == {"freezing": True}
    needs = dataclasses.replace(needs, device="cuda", capability="90")
    assert "compute capability 80, and this one has 90" in dataclasses.replace(needs, capability="80").lacks("cuda")
    loaded = Package(tmp_path / "g.pt2", needs, "cuda:1")
    assert seen["load"]["device_index"] == 1
    with pytest.raises(PackageError, match="must be on cuda, not on cpu"):
        loaded(torch.zeros(1, 3, 8, 8))


def test_the_words_of_a_shape():
    assert Input("x", "float32", ((1, 1, 1), (2, 8, 2))).shape == "1x2-8 (multiples of 2)"
    assert latent_inputs(7, 0)[0].shape == "1-1048576x7"
