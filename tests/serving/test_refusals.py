"""What is refused: each with its status and one line that says what to do."""

import threading
import time
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(package, reason=f"needs {package}: pip install 'gankit[serve]' httpx")

import httpx  # noqa: E402
import numpy as np  # noqa: E402
from serving_making import noise, png, running  # noqa: E402

GOOD = png()


def lying():
    """A PNG whose header declares 60000 × 60000 pixels."""
    import struct
    import zlib

    head = b"IHDR" + struct.pack(">II", 60000, 60000) + GOOD[24:29]
    return GOOD[:12] + head + struct.pack(">I", zlib.crc32(head)) + GOOD[33:]


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"", 400, "empty"),
        (GOOD[: len(GOOD) // 2], 400, "truncated"),
        (GOOD[:20], 400, "a.png"),
        (b"no image at all", 415, "convert it to PNG"),
        (b"%PDF-1.7 " + bytes(100), 415, "convert it to PNG"),
        (lying(), 413, "more than the limit"),
        (png(np.zeros((101, 100, 3), np.uint8)), 413, "more than the limit"),
    ],
)
def test_images(client, data, status, words):
    answer = client.post("/upscale", files={"image": ("a.png", data)})
    assert answer.status_code == status
    assert list(answer.json()) == ["detail"]
    detail = answer.json()["detail"]
    assert words in detail
    assert "\n" not in detail
    assert "/" not in detail.replace("PNG/", "")


@pytest.mark.parametrize(
    ("path", "query", "status", "words"),
    [
        ("/upscale", {"model": "tyni"}, 404, "did you mean 'tiny'?"),
        ("/upscale", {"model": "swap"}, 404, "use /translate"),
        ("/upscale", {"model": "/etc/passwd"}, 404, "there is no model"),
        ("/upscale", {"strength": 0.5}, 422, "omit the strength"),
        ("/upscale", {"strength": 2}, 422, "'strength'"),
        ("/upscale", {"scale": 2, "width": 9}, 422, "use one or the other"),
        ("/upscale", {"width": 60000, "height": 60000}, 413, "smaller"),
        ("/upscale", {"colour": "red"}, 422, "no argument 'colour'"),
        ("/upscale", {"format": "tiff"}, 422, "'format'"),
        ("/upscale", {"mask_from": 3}, 422, "mask_from"),
        ("/translate", {"direction": "BtoA"}, 422, "omit the direction"),
    ],
)
def test_arguments(client, path, query, status, words):
    answer = client.post(path, params=query, files={"image": ("a.png", GOOD)})
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "words"),
    [
        ("POST", "/upscale", {}, 422, "'image' is missing"),
        ("POST", "/upscale", {"data": {"image": "text"}}, 422, "'image'"),
        ("POST", "/upscale", {"content": b"xx", "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
        ("POST", "/generate", {"params": {"class": 9}}, 422, "classes 0 to 3"),
        ("POST", "/generate", {"headers": {"Accept": "text/html"}}, 406, "image/png"),
        ("GET", "/upscale", {}, 405, "use POST"),
        ("GET", "/nothing", {}, 404, "/openapi.json"),
        ("GET", "/docs", {}, 404, "/openapi.json"),
        ("POST", "/generate", {"headers": {"Origin": "http://elsewhere.example"}}, 403, "web site"),
        ("GET", "/healthz", {"headers": {"Host": "rebound.example"}}, 403, "host"),
    ],
)
def test_requests(client, method, path, more, status, words):
    answer = client.request(method, path, **more)
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text
    assert answer.headers["x-request-id"]


def test_a_body_that_is_too_large(client):
    large = bytes(2**20 + 1)
    declared = client.post("/upscale", files={"image": ("a.png", large)})
    assert declared.status_code == 413

    def chunks():
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(20):
            yield bytes(2**16)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    streamed = client.post("/upscale", content=chunks(), headers=headers)
    assert streamed.status_code == 413
    assert "MiB" in streamed.json()["detail"]


@pytest.fixture(scope="module")
def guarded(files):
    with running(files, token="s3cret", queue=1, upload_seconds=0.5) as made:
        yield made


def test_the_token(guarded):
    with httpx.Client(base_url=guarded.url) as client:
        for path in ("/models", "/metrics", "/nothing"):
            assert client.get(path).status_code == 401
        wrong = client.post("/generate", params={"n": 1}, headers={"Authorization": "Bearer s3cre"})
        assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, "Bearer")
        assert "is wrong" in wrong.json()["detail"]
        assert client.get("/models", headers={"Authorization": "Basic s3cret"}).status_code == 401
        right = client.post("/generate", params={"n": 1}, headers={"Authorization": "bearer s3cret"})
        assert right.status_code == 200
        assert client.get("/").status_code == client.get("/healthz").status_code == 200
        assert client.get("/openapi.json").json()["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert "s3cre" not in guarded.log.getvalue()


def test_a_full_queue_and_a_slow_upload(guarded):
    """While one request uploads, a second is refused; the slow one is given up in time."""
    token = {"Authorization": "Bearer s3cret"}
    slow = HTTPConnection(urlsplit(guarded.url).netloc)
    slow.putrequest("POST", "/upscale")
    for name, value in {**token, "Content-Type": "multipart/form-data; boundary=x", "Content-Length": "1000"}.items():
        slow.putheader(name, value)
    slow.endheaders()
    with httpx.Client(base_url=guarded.url, headers=token) as client:
        while client.get("/healthz").json()["in_flight"] == 0:
            time.sleep(0.01)
        busy = client.post("/upscale", files={"image": ("a.png", GOOD)})
        assert busy.status_code == 429
        assert int(busy.headers["retry-after"]) >= 1
        answer = slow.getresponse()
        assert answer.status == 408
        slow.close()
        assert client.post("/upscale", files={"image": ("a.png", GOOD)}).status_code == 200


def test_a_bug_is_reported_under_its_id(client, service, monkeypatch):
    def broken(*arguments, **more):
        raise KeyError("boom")

    monkeypatch.setattr("gankit.serving.service.encode_bytes", broken)
    answer = client.post("/generate", params={"n": 1})
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in answer.json()["detail"]
    assert "boom" not in answer.text
    service.log.line(answer.headers["x-request-id"])
    assert "boom" in service.log.getvalue()


def test_a_client_that_goes_away_gives_up_its_place(files, monkeypatch):
    """A waiting request of a client that has gone never reaches the engine."""
    gate, ran = threading.Event(), []

    def images(engines, given, original=None):
        ran.append(len(given))
        gate.wait(30)
        return list(given)

    monkeypatch.setattr("gankit.serving.engine_room.run_each", images)
    with running(files) as made, httpx.Client(base_url=made.url, timeout=30) as client:
        first = threading.Thread(target=client.post, args=("/upscale",), kwargs={"files": {"image": ("a.png", GOOD)}})
        first.start()
        while not ran:
            time.sleep(0.01)
        other = {"image": ("b.png", png(noise(5, 6)))}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{made.url}/upscale", files=other, timeout=0.5)
        assert [line["status"] for line in made.log.requests(1, "/upscale")] == [499]
        gate.set()
        first.join()
    assert ran == [1]
