"""The report of a run as a page."""

import base64
import io
import math
import os
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gankit import cli
from gankit.pipeline import html_report
from gankit.pipeline.html_report import write_html
from gankit.pipeline.report import EngineReport, ImageReport, ModelReport, Report, VideoReport

VOID = {"meta", "img", "input", "br"}


class Page(HTMLParser):
    """What a browser would read: the text, the tags, and the addresses that it would fetch."""

    def __init__(self, text):
        super().__init__()
        self.words, self.tags, self.addresses, self.open = [], [], [], []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def pair(tmp_path):
    """A source of 20×16 and a result of twice that, with an edge in the same place."""
    pixels = np.zeros((16, 20, 3), np.uint8)
    pixels[:, 12:] = 200
    Image.fromarray(pixels).save(tmp_path / "in.png")
    Image.fromarray(pixels.repeat(2, 0).repeat(2, 1)).save(tmp_path / "out.png")
    return tmp_path / "in.png", tmp_path / "out.png"


def report(*images, **more):
    engine = EngineReport("eager", "fp32", "cpu", "auto", "auto", math.inf, 0.0, 0.1)
    return Report(images, 0, 2.0, engine, ModelReport("srgan", 4, "w", "0" * 64), versions={"gankit": "1"}, **more)


def written(tmp_path, done):
    write_html(done, tmp_path / "r.html")
    return Page((tmp_path / "r.html").read_text(encoding="utf-8"))


def test_before_and_after(pair, tmp_path):
    page = written(tmp_path, report(ImageReport(*pair, "done", input_size=(20, 16), output_size=(40, 32))))
    assert "1 done" in page.text
    assert "srgan ×4 on eager fp32 (cpu), parity with fp32 exact" in page.text
    assert "20×16" in page.text
    kind, data = zip(*(address.split(",") for address in page.addresses), strict=True)
    assert kind == ("data:image/jpeg;base64",) * 2, "the page fetches nothing"
    before, after = (np.asarray(Image.open(io.BytesIO(base64.b64decode(item)))).astype(int) for item in data)
    assert before.shape == after.shape == (32, 40, 3)
    assert np.abs(after - np.asarray(Image.open(pair[1]))).max() < 12
    assert np.abs(before - after).mean() < 12, "the same part"
    assert page.tags.count("input") == 1


def test_names_are_text(tmp_path):
    name = os.fsdecode(b"<script>alert(1)</script>&\xff.png")
    error = f"{name}: the file is empty (0 bytes)"
    page = written(
        tmp_path, report(ImageReport(Path(name), Path("o.png"), "failed", error), unread=(Path("<b>.heic"),))
    )
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert "1 failed" in page.text
    assert page.text.count("<script>alert(1)</script>&?.png") == 2
    assert "<b>.heic" in page.text


def test_what_is_not_shown_says_why(pair, tmp_path, monkeypatch):
    clip = VideoReport(3, 3, 0, 1.0, "libx264", "yuv420p")
    Image.new("RGB", (32, 32)).save(tmp_path / "cropped.png")
    images = [
        ImageReport(tmp_path / "clip.mp4", tmp_path / "clip_x4.mp4", "done", video=clip),
        ImageReport(pair[0], tmp_path / "gone.png", "done"),
        ImageReport(pair[0], tmp_path / "cropped.png", "done"),
        ImageReport(pair[0], pair[1], "skipped"),
    ]
    page = written(tmp_path, report(*images))
    assert page.tags.count("input") == 1
    for words in ("clip.mp4 is not shown: a clip", "gone.png: no such file", "the result shows a part of the source"):
        assert words in page.text
    monkeypatch.setattr(html_report, "MOST_SHOWN", 2)
    assert "The first 2 images are shown." in written(tmp_path, report(*images)).text


def test_of_a_run_that_did_nothing(tmp_path):
    assert "0 done" in written(tmp_path, Report((), 0, 0.0, None, None)).text


def test_the_command(pair, tmp_path):
    from gankit import checkpoints, models

    options = {"blocks": 1, "channels": 8}
    checkpoints.save(tmp_path / "w.safetensors", models.build("edsr", options).state_dict(), "edsr", options)
    words = ["upscale", pair[0], "-m", tmp_path / "w.safetensors", "-o", tmp_path / "o", "-b", "eager", "-q"]
    assert cli.main([*map(str, words), "--report", str(tmp_path / "o" / "r.html")]) == 0
    page = Page((tmp_path / "o" / "r.html").read_text(encoding="utf-8"))
    assert "1 done" in page.text
    assert len(page.addresses) == 2
