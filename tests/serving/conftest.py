"""One server for the tests that change nothing of it."""

import pytest

for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(package, reason=f"needs {package}: pip install 'gankit[serve]' httpx")

import httpx
import torch
from serving_making import running, translator, upscaler

from tests.latent_networks import weights


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def files(tmp_path_factory):
    """An upscaler, a translator and a conditional sampler."""
    folder = tmp_path_factory.mktemp("models")
    return [upscaler(folder), translator(folder), weights(folder, "cgan")]


@pytest.fixture(scope="package")
def service(files):
    with running(files, hosts=frozenset({"127.0.0.1"}), max_bytes=2**20, max_pixels=10_000) as made:
        yield made


@pytest.fixture
def client(service):
    with httpx.Client(base_url=service.url, timeout=60) as made:
        yield made
