"""The journal: what survives a killed run, a damaged file and many runs."""

import json
import os
import threading

import pytest

from gankit.errors import OutputError
from gankit.pipeline.journal import NAME, Entry, Journal, State, state_of


def entry(name, **more):
    return Entry(**{"result": name, "source": f"/in/{name}", "source_state": State(7, 8), "sha256": "ab", "read": 9.0,
                    "model": "cd", "options": {"precision": "fp32"}} | more)  # fmt: skip


def made(folder, name, content=b"result"):
    """A result that gankit made, with both of its lines."""
    log = Journal(folder)
    log.begin(entry(name))
    (folder / name).write_bytes(content)
    log.finish(entry(name))


def maker(folder, name):
    return Journal(folder).maker(name, state_of(folder / name))


def test_what_was_written_is_read_again(tmp_path):
    made(tmp_path, "caf\udce9 ü.png")
    found = maker(tmp_path, "caf\udce9 ü.png")
    assert (found.source, found.source_state, found.options) == (
        "/in/caf\udce9 ü.png",
        State(7, 8),
        {"precision": "fp32"},
    )
    assert len((tmp_path / NAME).read_bytes().splitlines()) == 2


def test_a_file_of_somebody_else_has_no_maker(tmp_path):
    made(tmp_path, "a.png")
    (tmp_path / "b.png").write_bytes(b"result")
    (tmp_path / "a.png").write_bytes(b"painted over")
    assert maker(tmp_path, "a.png") is None
    assert maker(tmp_path, "b.png") is None


def test_a_run_killed_between_the_file_and_its_line(tmp_path):
    (tmp_path / "mine.png").write_bytes(b"there before")
    for name in ("a.png", "mine.png"):
        Journal(tmp_path).begin(entry(name))
    (tmp_path / "a.png").write_bytes(b"result")
    assert maker(tmp_path, "a.png") is not None
    assert maker(tmp_path, "mine.png") is None, "the file that is there was not replaced"


@pytest.mark.parametrize(
    "tail",
    [b'{"result":"b.p', b"\0\xff\n", b"[" * 100_000, b"null\n", b'{"result":1}\n', b'"text"', b"\n\n", b"1e999\n"],
)
def test_damaged_lines_are_ignored_and_the_next_is_whole(tmp_path, tail):
    made(tmp_path, "a.png")
    with (tmp_path / NAME).open("ab") as file:
        file.write(tail)
    assert maker(tmp_path, "a.png") is not None
    made(tmp_path, "c.png")
    assert maker(tmp_path, "a.png") is not None
    assert maker(tmp_path, "c.png") is not None


@pytest.mark.parametrize("name", ["source_state", "written", "options", "read", "model", "result"])
@pytest.mark.parametrize("value", [[], "x", {"size": "x", "mtime_ns": None}, 10**400])
def test_values_of_other_kinds_are_never_trusted(tmp_path, name, value):
    made(tmp_path, "a.png")
    lines = [json.loads(line) for line in (tmp_path / NAME).read_text().splitlines()]
    (tmp_path / NAME).write_text("".join(json.dumps(line | {name: value}) + "\n" for line in lines))
    Journal(tmp_path).maker("a.png", state_of(tmp_path / "a.png"))  # raises nothing


def test_its_size_is_bounded(tmp_path):
    made(tmp_path, "a.png")
    for _ in range(300):
        made(tmp_path, "b.png")
    assert len((tmp_path / NAME).read_bytes().splitlines()) < 80
    assert maker(tmp_path, "a.png") is not None
    for index in range(200):
        made(tmp_path, f"gone{index}.png")
        (tmp_path / f"gone{index}.png").unlink()
    assert len((tmp_path / NAME).read_bytes().splitlines()) < 80
    assert maker(tmp_path, "b.png") is not None
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_lines_of_several_threads_and_runs_do_not_mix(tmp_path):
    logs = [Journal(tmp_path) for _ in range(4)]

    def write(log, number):
        for index in range(50):
            log.begin(entry(f"{number}-{index}.png", source="x" * 3000))

    threads = [threading.Thread(target=write, args=(log, number)) for number, log in enumerate(logs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / NAME).read_bytes().splitlines()
    assert len({json.loads(line)["result"] for line in lines}) == len(lines) == 200


def test_each_line_is_one_write(tmp_path, monkeypatch):
    """A line in two writes could be cut or mixed with another run's."""
    writes = []

    class Counted:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            writes.append(data)
            return self.file.write(data)

    opened = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda number, *a, **k: Counted(opened(number, *a, **k)))
    Journal(tmp_path / "none")
    Journal(tmp_path).begin(entry("a.png"))
    assert [data.count(b"\n") for data in writes] == [1]


def test_a_journal_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / NAME).mkdir()
    with pytest.raises(OutputError, match=r"\.gankit\.jsonl: cannot be written"):
        Journal(tmp_path).begin(entry("a.png"))
