"""``gankit doctor``."""

import subprocess
import sys

from gankit import cli
from gankit.backends.choice import environment


def test_this_machine(capsys):
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    for words in ("processor", "memory", "torch", "eager", "openvino", "tensorrt"):
        assert words in out


def test_what_is_missing_is_reported_with_the_way_out(capsys, monkeypatch):
    found = environment.Environment(
        {"processor": "Abacus [9000]"},
        {"torch": "2.13.0", "openvino": None},
        {"eager": (True, "", ("fp32", "bf16")), "openvino": (False, "pip install 'gankit[cpu]'", ())},
    )
    monkeypatch.setattr(environment, "environment", lambda: found)
    assert cli.main(["doctor"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.split()}
    assert "Abacus [9000]" in lines["processor"]  # brackets are not markup
    assert "yes" in lines["eager"]
    assert "fp32, bf16" in lines["eager"]
    assert "pip install 'gankit[cpu]'" in lines["openvino"]


def test_a_machine_without_any_backend_is_a_failure(monkeypatch):
    monkeypatch.setattr(
        environment, "environment", lambda: environment.Environment({}, {}, {"eager": (False, "no", ())})
    )
    assert cli.main(["doctor"]) == 1


def test_it_loads_no_runtime():
    """Versions and precisions are known without the packages, whose imports take seconds."""
    code = (
        "import sys; from gankit import cli; cli.main(['doctor']); "
        "print('loaded:', sorted({'openvino', 'onnxruntime', 'onnx', 'onnxscript', 'triton', 'gankit.checkpoints', "
        "'torch._inductor'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"
