"""Requests that wait share calls of the engine, and a crowd of clients loses nothing."""

import asyncio
import threading
import time

import pytest

for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(package, reason=f"needs {package}: pip install 'gankit[serve]' httpx")

import httpx  # noqa: E402
import numpy as np  # noqa: E402
from serving_making import noise, pixels, png, running  # noqa: E402

CLIENTS = 64


def images(count, height=12, width=16):
    return [png(noise(height, width, seed)) for seed in range(count)]


async def ask(url, data, limit=1, **query):
    """Ask ``limit`` at a time, and return the answers in order."""
    gate = asyncio.Semaphore(limit)
    limits = httpx.Limits(max_connections=limit)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:

        async def one(item):
            async with gate:
                return await client.post("/upscale", files={"image": ("a.png", item)}, params=query)

        return await asyncio.gather(*(one(item) for item in data))


@pytest.mark.slow
def test_a_crowd_of_clients_gets_what_each_would_get_alone(files):
    given = images(8)
    with running(files, queue=CLIENTS) as made:
        alone = [answer.content for answer in asyncio.run(ask(made.url, given))]
        answers = asyncio.run(ask(made.url, given * 12, limit=CLIENTS))
        lines = made.log.requests(8 + 96, "/upscale")
    assert [answer.status_code for answer in answers] == [200] * 96
    assert all(answer.content == alone[index % 8] for index, answer in enumerate(answers))
    assert len({answer.headers["x-request-id"] for answer in answers}) == 96
    assert len(lines) == 104


def test_a_crowd_at_a_short_queue_gets_results_or_the_time_to_try_again(files):
    given = images(4)
    with running(files, queue=4) as made:
        alone = [answer.content for answer in asyncio.run(ask(made.url, given))]
        answers = asyncio.run(ask(made.url, given * 16, limit=CLIENTS))
        health = httpx.get(f"{made.url}/healthz").json()
    assert {answer.status_code for answer in answers} == {200, 429}
    for index, answer in enumerate(answers):
        if answer.status_code == 200:
            assert answer.content == alone[index % 4]
        else:
            assert int(answer.headers["retry-after"]) >= 1
    assert health == {"status": "ok", "in_flight": 0, "waiting": 0}


@pytest.fixture
def held(monkeypatch):
    """The first call of the engine waits until ``set``; ``calls`` has the sizes of all calls."""
    from gankit.serving import engine_room

    gate, calls, original = threading.Event(), [], engine_room.run_each

    def run(engines, given):
        calls.append([image.pixels.shape[:2] for image in given])
        assert gate.wait(60)
        return original(engines, given)

    def key(engines, image):
        return (image.pixels.dtype.str, image.pixels.shape), 4

    monkeypatch.setattr(engine_room, "run_each", run)
    monkeypatch.setattr("gankit.pipeline.engines.Engines.batch_key", key)
    gate.calls = calls
    return gate


def test_waiting_images_of_one_size_share_a_call(files, held):
    """As many as the pipeline allows, whatever lies between them; images of other sizes keep their turn."""
    given = [*images(1, 5, 5), *images(3), *images(2, 6, 7), *images(3, 12, 16)]
    with running(files) as made:

        def open_the_gate():
            while httpx.get(f"{made.url}/healthz").json()["waiting"] < len(given) - 1:
                time.sleep(0.01)
            held.set()

        opener = threading.Thread(target=open_the_gate)
        first = threading.Thread(target=asyncio.run, args=(ask(made.url, given[:1]),))
        first.start()
        while not held.calls:
            time.sleep(0.01)
        opener.start()
        answers = asyncio.run(ask(made.url, given[1:], limit=16))
        first.join()
        opener.join()
        lines = made.log.requests(len(given), "/upscale")
        alone = asyncio.run(ask(made.url, given[1:]))
    shared = [call for call in held.calls[1 : len(held.calls) - len(given) + 1] if call]
    assert sorted(len(call) for call in shared) == [2, 2, 4]
    assert all(len(set(call)) == 1 for call in shared)
    assert sorted(line["batch"] for line in lines) == [1, 2, 2, 2, 2, 4, 4, 4, 4]
    for answer, single in zip(answers, alone, strict=True):
        assert np.abs(pixels(answer).astype(int) - pixels(single)).max() <= 1  # a batch may round differently


def test_an_image_that_fails_leaves_the_others_of_its_batch(files, held, monkeypatch):
    from gankit.errors import NotFiniteError
    from gankit.serving import engine_room

    inner = engine_room.run_each
    bad = noise(12, 16, 99)

    def run(engines, given):
        if any((image.pixels == bad).all() for image in given if image.pixels.shape == bad.shape):
            held.calls.append(len(given))
            raise NotFiniteError("too bright; use --precision fp32")
        return inner(engines, given)

    monkeypatch.setattr(engine_room, "run_each", run)
    given = [*images(1, 5, 5), *images(2), png(bad)]
    with running(files) as made:
        first = threading.Thread(target=asyncio.run, args=(ask(made.url, given[:1]),))
        first.start()
        while not held.calls:
            time.sleep(0.01)

        def open_the_gate():
            while httpx.get(f"{made.url}/healthz").json()["waiting"] < 3:
                time.sleep(0.01)
            held.set()

        opener = threading.Thread(target=open_the_gate)
        opener.start()
        answers = asyncio.run(ask(made.url, given[1:], limit=8))
        first.join()
        opener.join()
    assert [answer.status_code for answer in answers] == [200, 200, 500]
    assert "too bright" in answers[2].json()["detail"]
    assert 3 in held.calls, "they shared a call"


def test_the_least_recently_used_model_is_closed(files, tmp_path):
    from serving_making import upscaler

    from gankit.serving.pipelines import Pipelines

    more = [upscaler(tmp_path, f"m{number}") for number in range(3)]
    closed = []
    with pytest.MonkeyPatch.context() as patch:
        original = Pipelines._make

        def make(self, generator):
            pipeline = original(self, generator)
            close = pipeline.close
            pipeline.close = lambda: (closed.append(generator.served.name), close())
            return pipeline

        patch.setattr(Pipelines, "_make", make)
        with running(more, open_models=2) as made:
            for name in ("m0", "m1", "m0", "m2"):
                asyncio.run(ask(made.url, images(1), model=name))
            assert closed == ["m1"]
    assert sorted(closed) == ["m0", "m1", "m2"]
