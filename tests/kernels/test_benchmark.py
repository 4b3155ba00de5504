"""The kernels' benchmark without a clock or a GPU: its arithmetic and its table."""

import csv
import xml.etree.ElementTree as ET

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed: pip install '.[test]' installs it on Linux")

from bench.kernels import Shape, measure, predicted, shapes, write

OPERATIONS = sorted({(shape.operation, shape.layout) for shape in shapes()})


@pytest.fixture
def clock(monkeypatch):
    """Run everything once and report 4 µs."""
    ran = []

    def do_bench(run, return_mode):
        assert return_mode == "median"
        ran.append(run())
        return 0.004

    monkeypatch.setattr("triton.testing.do_bench", do_bench)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    return ran


@pytest.mark.parametrize(("operation", "layout"), OPERATIONS)
def test_both_providers_do_the_same(clock, operation, layout):
    channels = 3 if "uint8" in operation else 8
    row = measure(Shape(operation, layout, 2, channels, 6, 10, "a test"), device="cpu")
    assert len(clock) == 4
    assert clock[0].shape == clock[2].shape
    assert (row.eager_us, row.compile_us, row.gankit_us, row.copy_us) == (4.0, 4.0, 4.0, 4.0)
    assert row.percent_of_copy == 100.0
    assert row.gankit_gb_per_s == round(row.ideal_bytes / 4e-6 / 1e9, 1)


def test_ideal_bytes():
    """Against figures worked out by hand: a read, a residual and a write; a byte read for every two written."""
    assert Shape("norm+relu+residual", "planes", 8, 256, 64, 64, "").bytes == 3 * 2 * 8 * 256 * 64 * 64
    assert Shape("from_uint8", "planes", 1, 3, 1080, 1920, "").bytes == 9 * 1080 * 1920
    assert Shape("norm+relu+border", "planes", 1, 1, 4, 4, "").bytes == 2 * (16 + 36)


def test_the_table(tmp_path, clock):
    shape = Shape("norm+relu", "planes", 1, 4, 8, 8, "a test")
    path = tmp_path / "table.csv"
    write(path, [predicted(shape), measure(shape, device="cpu")])
    head, *rest = path.read_text(encoding="utf-8").splitlines()
    assert head.startswith("# ")
    assert "torch" in head
    empty, full = csv.DictReader(rest)
    assert empty["gankit_us"] == "", "a figure that was not measured must stay empty"
    assert full["gankit_us"] == "4.0"
    ET.parse(path.with_suffix(".svg"))
