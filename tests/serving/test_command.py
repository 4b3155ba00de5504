"""The command: a process of its own, its URL, its end by a signal, and what it refuses to start with."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(package, reason=f"needs {package}: pip install 'gankit[serve]' httpx")

import httpx  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from serving_making import noise, pixels, png, upscaler  # noqa: E402

from gankit.cli import main  # noqa: E402
from gankit.serving.server import allowed_hosts, is_loopback, listen, url_of  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def start(*arguments, **environment):
    command = [sys.executable, "-m", "gankit", "serve", "--port", "0", "-b", "eager", "--precision", "fp32"]
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    line = process.stdout.readline()
    assert line.startswith("gankit serves at http://127.0.0.1:"), (line, process.stderr.read())
    return process, line.split()[3]


@pytest.mark.slow
def test_sigterm_finishes_what_was_accepted_and_refuses_what_is_new(tmp_path):
    """The image takes a while, so that the signal arrives while it runs and another waits."""
    slow = upscaler(tmp_path, "slow", channels=32, blocks=8)
    process, url = start("-m", slow, GANKIT_TOKEN="t", OMP_NUM_THREADS="1")
    headers, answers = {"Authorization": "Bearer t"}, {}
    image = noise(256, 256)

    def ask(number):
        files = {"image": ("a.png", png(image))}
        answers[number] = httpx.post(f"{url}upscale", files=files, headers=headers, timeout=120)

    with httpx.Client(base_url=url, headers=headers) as client:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        while client.get("/healthz").json()["in_flight"] < 2:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        until = time.monotonic() + 30
        refused = False
        while not refused and time.monotonic() < until:
            try:
                refused = httpx.get(f"{url}healthz").status_code == 503
            except httpx.TransportError:
                refused = True
        assert refused
    for thread in threads:
        thread.join()
    out, log = process.communicate(timeout=60)
    assert [answers[number].status_code for number in range(2)] == [200, 200]
    assert answers[0].content == answers[1].content
    assert pixels(answers[0]).shape == (512, 512, 3)
    assert process.returncode == 0
    assert "stopped" in out
    assert "Traceback" not in log


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch, capsys):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name))
    assert main(["serve"]) == 2
    assert (
        capsys.readouterr().err
        == "error: serve needs packages that are missing (uvicorn): pip install 'gankit[serve]'\n"
    )


def test_its_help_imports_none_of_it():
    code = (
        "import sys\nfrom gankit.cli import main\nmain(['serve', '--help'])\n"
        "sys.exit(bool({'fastapi', 'uvicorn', 'torch', 'pydantic', 'prometheus_client'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "nothing.safetensors"], "nothing.safetensors"),
        (["--host", "no.such.host.invalid"], "use 127.0.0.1"),
        (["--token", " x"], "--token"),
        (["--precision", "fp16", "--bf16"], "contradict"),
    ],
)
def test_wrong_options(arguments, words, capsys):
    assert main(["serve", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_two_models_of_one_name(files, tmp_path, capsys):
    assert main(["serve", "-m", str(files[0]), "-m", str(upscaler(tmp_path))]) == 2
    assert "two models are called 'tiny'" in capsys.readouterr().err


def test_a_port_in_use(files, capsys):
    with listen("127.0.0.1", 0) as used:
        port = used.getsockname()[1]
        assert url_of("127.0.0.1", used) == f"http://127.0.0.1:{port}/"
        assert url_of("::", used) == f"http://[::1]:{port}/"
        assert main(["serve", "-m", str(files[0]), "--port", str(port)]) == 2
    assert "use another --port" in capsys.readouterr().err


def test_loopback():
    assert [is_loopback(host) for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.0.2", "example.org")] == [False] * 4
    assert allowed_hosts("0.0.0.0") is None
    assert allowed_hosts("127.0.0.1") == {"localhost", "127.0.0.1", "::1"}


@pytest.mark.slow
def test_a_strength_between_the_two_models_that_ship(tmp_path, capsys):
    """The pixels are those of `gankit upscale --strength`, and strengths are rounded to twentieths."""
    process, url = start("-m", "srgan", "-m", "srresnet")
    data = png(noise(8, 9))
    try:
        query = {"model": "srgan", "strength": 0.26}
        served = httpx.post(f"{url}upscale", files={"image": ("a.png", data)}, params=query, timeout=120)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    (tmp_path / "a.png").write_bytes(data)
    arguments = ["upscale", str(tmp_path / "a.png"), "-m", "srgan", "--strength", "0.25", "-b", "eager", "-q"]
    assert main([*arguments, "--precision", "fp32", "-o", str(tmp_path / "out")]) == 0
    own = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert (pixels(served) == own).all()
