"""One server for the tests that change nothing of it. Each file skips without the packages of the service."""

import pytest


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def files(tmp_path_factory):
    """An upscaler, a translator and a conditional sampler."""
    from serving_making import translator, upscaler

    from tests.latent_networks import weights

    folder = tmp_path_factory.mktemp("models")
    return [upscaler(folder), translator(folder), weights(folder, "cgan")]


@pytest.fixture(scope="package")
def service(files):
    from serving_making import running

    with running(files, hosts=frozenset({"127.0.0.1"}), max_bytes=2**20, max_pixels=10_000) as made:
        yield made


@pytest.fixture
def client(service):
    import httpx

    with httpx.Client(base_url=service.url, timeout=60) as made:
        yield made
