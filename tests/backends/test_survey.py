"""What the doctor says is true."""

import psutil
import torch

from gankit.backends.machine import machine
from gankit.backends.survey import installed, survey


def test_survey_names_every_backend_and_the_way_out():
    found = survey()
    assert {"eager", "compile", "onnxruntime", "openvino", "tensorrt"} <= set(found.backends)
    assert found.backends["eager"][0]
    for usable, why, _ in found.backends.values():
        assert usable or why


def test_versions_are_the_installed_ones():
    assert installed()["torch"] == torch.__version__.split("+")[0] or installed()["torch"] == torch.__version__


def test_machine_is_this_one():
    here = machine()
    assert 1 <= here.cores <= psutil.cpu_count()
    assert ("AVX-512" in here.features) == (torch.backends.cpu.get_cpu_capability() == "AVX512")
    assert (here.gpu is None) == (not torch.cuda.is_available())
