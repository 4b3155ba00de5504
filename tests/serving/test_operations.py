"""What the operations answer: the pixels of the command line, in the format that was asked for."""

import io

import pytest

for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(package, reason=f"needs {package}: pip install 'gankit[serve]' httpx")

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from serving_making import noise, pixels, png  # noqa: E402

from gankit.cli import main  # noqa: E402


def cli(command, source, folder, model, *more):
    """The file that the command line writes."""
    (folder / "in").mkdir()
    (folder / "in" / source[0]).write_bytes(source[1])
    arguments = [command, str(folder / "in"), "-o", str(folder / "out"), "-m", str(model), "-b", "eager", "-q"]
    assert main([*arguments, "--precision", "fp32", "--threads", "1", *more]) == 0
    return next(path for path in (folder / "out").iterdir() if not path.name.startswith(".")).read_bytes()


def sources():
    rgba = np.dstack([noise(9, 11), noise(9, 11, 1, channels=1)])
    wide = np.random.default_rng(2).integers(0, 65536, (8, 10), dtype=np.uint16)
    return {"rgb": png(), "gray": png(noise(7, 9, channels=1)), "rgba": png(rgba), "sixteen": png(wide)}


@pytest.mark.parametrize("kind", sources())
def test_the_file_is_that_of_the_command_line(client, files, tmp_path, kind):
    data = sources()[kind]
    answer = client.post("/upscale", files={"image": (f"{kind}.png", data)}, params={"model": "tiny"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.content == cli("upscale", (f"{kind}.png", data), tmp_path, files[0])


@pytest.mark.parametrize(("name", "suffix"), [("jpeg", "jpg"), ("webp", "webp")])
def test_formats_and_sizes(client, files, tmp_path, name, suffix):
    query = {"format": name, "quality": 60, "scale": 1.5, "strip_metadata": True, "mark_ai": True}
    data = png()
    answer = client.post("/upscale", files={"image": ("a.png", data)}, params=query)
    assert answer.headers["content-type"] == f"image/{name}"
    assert pixels(answer).shape == (18, 24, 3)
    more = ["--format", name, "--quality", "60", "--scale", "1.5", "--strip-metadata", "--mark-ai"]
    assert answer.content == cli("upscale", ("a.png", data), tmp_path, files[0], *more)


def test_translation(client, files, tmp_path):
    data = png(noise(13, 17))
    answer = client.post("/translate", files={"image": ("a.png", data)})
    assert answer.content == cli("translate", ("a.png", data), tmp_path, files[1])


def test_samples_are_those_of_the_command_line(client, files, tmp_path):
    grid = tmp_path / "grid.png"
    arguments = ["generate", "-m", str(files[2]), "-o", str(tmp_path / "out"), "-n", "6", "--seed", "3", "-q"]
    assert main([*arguments, "--grid", str(grid)]) == 0
    answer = client.post("/generate", params={"n": 6, "seed": 3})
    assert answer.content == grid.read_bytes()
    one = client.post("/generate", params={"n": 1, "seed": 3})
    assert one.content == (tmp_path / "out" / "000000.png").read_bytes()
    fixed = client.post("/generate", params={"n": 1, "seed": 3, "class": 2})
    assert fixed.content != one.content


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("image/webp,image/*;q=0.8", "image/webp"),
        ("image/*", "image/png"),
        ("image/png;q=0.1, image/jpeg", "image/jpeg"),
        ("image/*, image/png;q=0", "image/jpeg"),
    ],
)
def test_the_accepted_format(client, accept, media):
    answer = client.post("/generate", params={"n": 1}, headers={"Accept": accept})
    assert answer.headers["content-type"] == media
    assert Image.open(io.BytesIO(answer.content)).format == media.removeprefix("image/").upper()


def test_what_a_format_cannot_hold_is_named(client):
    rgba = np.dstack([noise(9, 11), noise(9, 11, 1, channels=1)])
    answer = client.post("/upscale", files={"image": ("a.png", png(rgba))}, params={"format": "jpeg"})
    assert answer.headers["x-gankit-notes"] == "JPEG does not hold transparency"


def test_the_models(client):
    body = client.get("/models").json()
    known = {each["name"]: each for each in body["models"]}
    assert {name: each["task"] for name, each in known.items()} == {
        "tiny": "upscale",
        "swap": "translate",
        "cgan": "generate",
    }
    assert (known["tiny"]["scale"], known["cgan"]["classes"]) == (2, 4)
    assert body["max_pixels"] == 10_000


def test_health_and_metrics(client):
    assert client.get("/healthz").json() == {"status": "ok", "in_flight": 0, "waiting": 0}
    client.post("/upscale", files={"image": ("a.png", png())})
    client.get("/no/such/path")
    text = client.get("/metrics").text
    counters = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(counters['gankit_requests_total{path="/upscale",status="200"}']) >= 1
    assert float(counters['gankit_requests_total{path="other",status="404"}']) >= 1
    assert float(counters['gankit_engine_seconds_count{model="tiny"}']) >= 1
    assert float(counters["gankit_requests_in_flight"]) == 0
    assert "/no/such" not in text


def test_the_log_has_a_line_for_each_request(client, service):
    headers = {"X-Request-Id": "mine-1"}
    answer = client.post("/upscale", files={"image": ("secret.png", png())}, params={"model": "tiny"}, headers=headers)
    assert answer.headers["x-request-id"] == "mine-1"
    line = service.log.line("mine-1")
    assert (line["status"], line["model"], line["batch"], line["level"]) == (200, "tiny", 1, "info")
    assert line["sent"] == len(answer.content)
    assert "secret" not in service.log.getvalue()
    odd = client.get("/healthz", headers={"X-Request-Id": "a b{}"})
    assert odd.headers["x-request-id"] != "a b{}"


def test_the_page_has_a_policy_and_loads_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for path in ("/page.css", "/page.js"):
        assert client.get(path).status_code == 200
    texts = [page.text, client.get("/page.css").text, client.get("/page.js").text]
    assert not [text for text in texts if "https://" in text or "innerHTML" in text]


def test_headers_say_how_the_time_was_spent(client):
    answers = [
        client.post("/upscale", files={"image": ("a.png", png(noise(40, 60)))}),
        client.post("/generate?n=2"),
    ]
    for answer in answers:
        assert answer.status_code == 200
        parts = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
        times = {name: float(value) for name, value in parts.items()}
        assert list(times) == ["decode", "queue", "engine", "encode"]
        share = float(answer.headers["x-gankit-engine-share"])
        assert 0 < share <= 1
        assert share == pytest.approx(times["engine"] / sum(times.values()), abs=0.05)
        assert answer.headers["x-gankit-engine"]
    described = client.get("/openapi.json").json()["paths"]["/upscale"]["post"]["responses"]["200"]["headers"]
    assert "X-Gankit-Engine-Share" in described
