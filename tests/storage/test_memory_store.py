"""Runs whose inputs and output are URLs of fsspec's own store in memory."""

import json
import time
from pathlib import Path

import pytest
from storage_fakes import png, run, save_weights, statuses, upscaler

from gankit import cli
from gankit.errors import OutputError, UsageError
from gankit.storage import stores
from tests.memory_store import empty_store

NAMES = ("a.png", "b.png", "deep/c.png")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture
def memory():
    store = empty_store()
    for seed, name in enumerate(NAMES):
        store.pipe_file(f"/bucket/in/{name}", png(seed))
    return store


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(NAMES):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(seed))
    return tmp_path / "in"


def results(memory, root="/bucket/out"):
    found = {path[len(root) + 1 :]: memory.cat_file(path) for path in memory.find(root)}
    return {name: content for name, content in found.items() if not name.startswith(".")}


def test_files_and_report_are_those_of_a_folder(memory, folder, tmp_path, weights):
    memory.pipe_file("/bucket/in/broken.png", b"no image")
    memory.pipe_file("/bucket/in/notes.txt", b"text")
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_bytes(b"text")
    with upscaler(weights) as pipeline:
        plain = pipeline.run(folder, tmp_path / "out")
    report = run(weights, "memory://bucket/in", "memory://bucket/out")
    made = results(memory)
    assert set(made) == {*NAMES}
    assert all((tmp_path / "out" / name).read_bytes() == content for name, content in made.items())
    assert [item.status for item in report.images] == [item.status for item in plain.images]
    assert [str(item.source) for item in report.images] == [
        str(item.source).replace(str(folder), "memory://bucket/in") for item in plain.images
    ]
    assert [item.error for item in report.failures] == [
        item.error.replace(str(folder), "memory://bucket/in") for item in plain.failures
    ]
    assert report.totals.ignored == plain.totals.ignored == 1
    assert report.engine.backend == "eager"
    json.dumps(report.to_dict())


def test_a_second_run_does_what_is_missing_or_changed(memory, weights):
    run(weights, "memory://bucket/in", "memory://bucket/out")
    before = results(memory)
    memory.rm_file("/bucket/out/a.png")
    memory.pipe_file("/bucket/in/b.png", png(7))
    report = run(weights, "memory://bucket/in", "memory://bucket/out")
    assert statuses(report) == {"a.png": "done", "b.png": "source", "c.png": "skipped"}
    after = results(memory)
    assert after["a.png"] == before["a.png"]
    assert after["b.png"] != before["b.png"]
    assert set(statuses(run(weights, "memory://bucket/in", "memory://bucket/out")).values()) == {"skipped"}


def test_other_weights_and_options_make_results_again(memory, weights, tmp_path):
    run(weights, "memory://bucket/in", "memory://bucket/out")
    report = run(weights, "memory://bucket/in", "memory://bucket/out", scale=2)
    assert set(statuses(report).values()) == {"option"}
    other = save_weights(tmp_path / "other.safetensors", seed=1)
    report = run(other, "memory://bucket/in", "memory://bucket/out", scale=2)
    assert set(statuses(report).values()) == {"model"}


def test_what_gankit_did_not_make_is_kept(memory, weights):
    memory.pipe_file("/bucket/out/a.png", b"mine")
    lines = []
    report = run(weights, "memory://bucket/in", "memory://bucket/out", lines)
    assert statuses(report)["a.png"] == "kept"
    assert memory.cat_file("/bucket/out/a.png") == b"mine"
    assert any(line.startswith("skipping memory://bucket/out/a.png, which was not made by gankit") for line in lines)
    report = run(weights, "memory://bucket/in", "memory://bucket/out", overwrite=True)
    assert statuses(report)["a.png"] == "done"


def test_a_result_that_was_replaced_by_hand_is_kept(memory, weights):
    run(weights, "memory://bucket/in", "memory://bucket/out")
    memory.pipe_file("/bucket/out/a.png", b"retouched")
    assert statuses(run(weights, "memory://bucket/in", "memory://bucket/out"))["a.png"] == "kept"


def test_a_failed_put_leaves_nothing_and_the_next_run_does_it(memory, weights, monkeypatch):
    send = stores.Remote._send

    def fails(store, path, key):
        if key.endswith("/b.png"):
            raise OSError("connection lost")
        send(store, path, key)

    monkeypatch.setattr(stores.Remote, "_send", fails)
    report = run(weights, "memory://bucket/in", "memory://bucket/out")
    assert [item.error for item in report.failures] == ["memory://bucket/out/b.png: cannot be written: connection lost"]
    assert set(results(memory)) == {"a.png", "deep/c.png"}
    monkeypatch.undo()
    report = run(weights, "memory://bucket/in", "memory://bucket/out")
    assert statuses(report) == {"a.png": "skipped", "b.png": "done", "c.png": "skipped"}


def test_a_store_without_whole_puts_gets_a_temporary_name_first(memory, weights, monkeypatch):
    monkeypatch.setattr(stores, "_WHOLE", frozenset())
    seen, send = [], stores.Remote._send

    def records(store, path, key):
        seen.append(key)
        send(store, path, key)
        if "b.png" in key:
            raise OSError("disk full")

    monkeypatch.setattr(stores.Remote, "_send", records)
    run(weights, "memory://bucket/in", "memory://bucket/out")
    assert all(key.endswith(".part") for key in seen)
    assert set(results(memory)) == {"a.png", "deep/c.png"}
    assert [path for path in memory.find("/bucket/out") if path.endswith(".part")] == []


def test_an_interrupted_run_is_continued(memory, weights, monkeypatch):
    """What was written before the end is known to be gankit's, though the journal says only that it was begun."""
    finish = stores.write_bytes
    written = []

    def dies(store, name, content, scratch):
        if written:
            raise KeyboardInterrupt  # the run was killed before it could write the journal a second time
        written.append(name)
        finish(store, name, content, scratch)

    monkeypatch.setattr("gankit.storage.journal.write_bytes", dies)
    with pytest.raises(KeyboardInterrupt):
        run(weights, "memory://bucket/in", "memory://bucket/out")
    monkeypatch.undo()
    memory.rm_file("/bucket/out/b.png")
    report = run(weights, "memory://bucket/in", "memory://bucket/out")
    assert statuses(report) == {"a.png": "skipped", "b.png": "done", "c.png": "skipped"}


def test_more_images_than_a_group_are_all_done(memory, weights):
    for seed in range(40):
        memory.pipe_file(f"/bucket/many/{seed}.png", png(seed))
    states = []
    report = run(weights, "memory://bucket/many", "memory://bucket/out", progress=states.append)
    assert report.totals.done == 40
    assert len(results(memory)) == 40
    assert states[-1].total == 40
    assert max(state.done for state in states) == 40
    assert states[-1].part == 1.0
    true = states[-1].total_mp
    assert all(abs(state.total_mp - true) < 0.2 * true for state in states)  # the sizes of later groups are estimated
    seen = []
    run(weights, "memory://bucket/many", "memory://bucket/again", each=lambda report: seen.append(str(report.source)))
    assert sorted(seen) == sorted(f"memory://bucket/many/{seed}.png" for seed in range(40))


def test_patterns_single_objects_and_an_output_inside_the_input(memory, weights):
    report = run(weights, "memory://bucket/in/?.png", "memory://bucket/in/out")
    assert set(statuses(report)) == {"a.png", "b.png"}
    report = run(weights, "memory://bucket/in", "memory://bucket/in/out")  # results are no sources
    assert statuses(report) == {"a.png": "skipped", "b.png": "skipped", "c.png": "done"}
    report = run(weights, "memory://bucket/in/a.png", "memory://bucket/one", suffix="_big")
    assert set(results(memory, "/bucket/one")) == {"a_big.png"}
    with pytest.raises(UsageError, match=r"memory://bucket/in/a.png: the result of .* would replace it"):
        run(weights, "memory://bucket/in", "memory://bucket/in")


def test_between_a_folder_and_a_store(memory, folder, tmp_path, weights):
    run(weights, str(folder), "memory://bucket/up")
    run(weights, "memory://bucket/in", str(tmp_path / "down"))
    made = results(memory, "/bucket/up")
    assert set(made) == {*NAMES}
    assert all((tmp_path / "down" / name).read_bytes() == content for name, content in made.items())
    assert set(statuses(run(weights, str(folder), "memory://bucket/up")).values()) == {"skipped"}
    assert set(statuses(run(weights, "memory://bucket/in", str(tmp_path / "down"))).values()) == {"skipped"}


def test_names_that_no_file_can_have_are_reported(memory, weights):
    memory.store["/bucket/in/x//y.png"] = memory.store["/bucket/in/a.png"]
    report = run(weights, "memory://bucket/in", "memory://bucket/out")
    assert [item.error.split(":")[-1] for item in report.failures] == [
        " the name of this object cannot be that of a file; copy it to another name"
    ]
    assert report.totals.done == 3


def test_nothing_stays_in_the_temporary_folder(memory, weights, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run(weights, "memory://bucket/in", "memory://bucket/out")
    assert [*tmp_path.iterdir()] == []


def test_an_output_that_cannot_be_written_ends_the_run_at_once(memory, weights, monkeypatch):
    def refuses(store, path, key):
        raise PermissionError(13, "Access Denied")

    monkeypatch.setattr(stores.Remote, "_send", refuses)
    with pytest.raises(OutputError, match=r"memory://bucket/out/.* cannot be written"):
        run(weights, "memory://bucket/in", "memory://bucket/out")


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ("memory://bucket/none", {}, "memory://bucket/none: no such"),
        ("nosuch://bucket/in", {}, "nosuch://bucket/in: .*use s3://"),
        ("memory://bucket/in", {"keep_time": True}, "omit --keep-time"),
        ("memory://bucket/in", {"compare": True}, "omit it"),
    ],
)
def test_wrong_use(memory, weights, inputs, options, message):
    with pytest.raises(UsageError, match=message):
        run(weights, inputs, "memory://bucket/out", **options)


def test_an_output_is_needed(memory, weights):
    with pytest.raises(UsageError, match="need --output"):
        run(weights, "memory://bucket/in", None)


def test_missing_packages_are_named(memory, weights, monkeypatch):
    def missing(url, **_):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(UsageError, match=r"run: pip install gcsfs$"):
        run(weights, "gs://bucket/in", "memory://bucket/out")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"run: pip install 'gankit\[remote\]'"):
        run(weights, "gs://bucket/in", "memory://bucket/out")


def test_the_command(memory, weights, tmp_path, capsys):
    given = ["upscale", "memory://bucket/in", "-o", "memory://bucket/out", "-m", str(weights), "--backend", "eager"]
    assert cli.main([*given, "--dry-run"]) == 0
    assert "memory://bucket/in/a.png -> memory://bucket/out/a.png\n" in capsys.readouterr().out
    assert results(memory) == {}
    assert cli.main([*given, "--precision", "fp32", "--report", str(tmp_path / "r.json")]) == 0
    assert "3 done" in capsys.readouterr().out
    images = json.loads(Path(tmp_path / "r.json").read_text())["images"]
    assert images[0]["source"] == "memory://bucket/in/a.png"
    assert set(results(memory)) == {*NAMES}


def test_file_urls_are_paths(folder, tmp_path, weights):
    given = ["upscale", folder.as_uri(), "-o", (tmp_path / "out").as_uri(), "-m", str(weights), "--backend", "eager"]
    assert cli.main([*given, "--precision", "fp32", "--quiet"]) == 0
    assert (tmp_path / "out" / ".gankit.jsonl").exists()
    with upscaler(weights) as pipeline:
        report = pipeline.run(folder, tmp_path / "out")
    assert {item.status for item in report.images} == {"skipped"}


def test_the_report_states_the_share_of_the_engine(memory, weights, monkeypatch):
    """The engine also waits for what is fetched, and for what is put."""
    totals = run(weights, "memory://bucket/in", "memory://bucket/out").totals
    assert totals.engine_seconds / totals.seconds <= totals.engine_share <= 1
    assert totals.bottleneck in ("engine", "decoder", "encoder")
    assert run(weights, "memory://bucket/in", "memory://bucket/out").totals.engine_share is None  # all are skipped
    fetch, put = stores.Remote.fetch, stores.Remote.put
    with monkeypatch.context() as slow:
        slow.setattr(stores.Remote, "fetch", lambda *given: time.sleep(0.3) or fetch(*given))
        assert run(weights, "memory://bucket/in", "memory://bucket/slow_in").waits.decode_seconds >= 0.3
    monkeypatch.setattr(stores.Remote, "put", lambda *given: time.sleep(0.3) or put(*given))
    assert run(weights, "memory://bucket/in", "memory://bucket/slow_out").waits.encode_seconds >= 0.3
