"""What the documentation says holds: its commands, file names and links; the Dockerfiles and the packages' markers."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from gankit.cli import gankit

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
PAGES = [*DOCS, ROOT / "CONTRIBUTING.md"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DOCKERFILES = ("Dockerfile", "Dockerfile.cuda")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def console_lines() -> list[tuple[str, str]]:
    """Every command that a page asks its reader to type, with the page."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            found += [(relative(page), line[2:]) for line in block.splitlines() if line.startswith("$ ")]
    return found


def parse(words: list[str]) -> tuple[click.Command, dict[str, object]]:
    """The command that some words call, and its options as they are written; raises what click finds wrong."""
    command: click.Command = gankit
    while isinstance(command, click.Group):
        if command.name == "evaluate" and words and words[0].startswith("-"):
            words = ["upscale", *words]
        name, found, words = command.resolve_command(click.Context(command), words)
        assert found is not None, name
        command = found
    options, rest, _ = command.make_parser(click.Context(command)).parse_args(list(words))
    assert rest == []
    return command, options


def test_there_are_commands_to_look_at():
    assert len(console_lines()) > 30


@pytest.mark.parametrize(("page", "line"), [pair for pair in console_lines() if pair[1].startswith("gankit ")])
def test_commands_in_the_pages_parse(page, line):
    command, options = parse(shlex.split(line, comments=True)[1:])
    missing = [item.name for item in command.params if item.required and not options.get(item.name)]
    assert missing == []
    choices = [item for item in command.params if isinstance(item.type, click.Choice)]
    for item in choices:
        value = options.get(item.name)
        assert value is None or value in item.type.choices


def test_a_command_that_does_not_exist_is_found():
    with pytest.raises(click.UsageError):
        parse(["upscale", "photos/", "--output", "out/", "--fidelity", "3"])
    with pytest.raises(click.UsageError):
        parse(["paint", "photos/"])


def test_every_extra_in_the_pages_exists():
    known = set(PROJECT["project"]["optional-dependencies"])
    asked = {
        extra
        for page in PAGES
        for extras in re.findall(r"'\.\[([a-z0-9,-]+)\]'", page.read_text(encoding="utf-8"))
        for extra in extras.split(",")
    }
    assert {"cpu", "docs"} <= asked <= known
    table = (ROOT / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE)) == known


@pytest.mark.parametrize("page", [path for path in PAGES if path.name != "CONTRIBUTING.md"], ids=relative)
def test_files_that_a_page_names_exist(page):
    roots = "gankit|export|kernels|tests|bench|docs|examples"
    named = re.findall(rf"`((?:{roots})/[\w./-]*)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_architecture_has_every_room():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.name for path in (ROOT / "gankit").iterdir() if (path / "__init__.py").exists()}
    assert rooms <= set(re.findall(r"^\| `gankit/(\w+)/` \|", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_local_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target and "/generated/" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = {name for block in re.findall(r"```{toctree}\n(.*?)```", index, re.DOTALL) for name in block.split()}
    pages = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in DOCS} - {"index"}
    assert pages <= listed


@pytest.mark.parametrize(
    "folder", ["gankit", "export/gankit_export", "kernels/gankit_kernels"], ids=lambda name: Path(name).name
)
def test_packages_say_that_they_are_typed(folder):
    assert (ROOT / folder / "py.typed").exists()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"][Path(folder).name]


def test_the_project_has_its_addresses():
    assert {"Documentation", "Source", "Changelog", "Issues"} <= set(PROJECT["project"]["urls"])


def test_what_the_documentation_needs_is_pinned():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0].lower() for line in lines if "==" in line}
    wanted = {re.split(r"[\[<>=;]", line)[0] for line in PROJECT["project"]["optional-dependencies"]["docs"]}
    assert wanted <= pinned


def instructions(name: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions and their arguments, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_dockerfiles_are_well_formed(name):
    found = instructions(name)
    assert {word for word, _ in found} <= {"FROM", "RUN", "ENV", "COPY", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}
    assert found[0] == ("FROM", "python:3.12-slim")
    last = dict(found)
    assert json.loads(last["ENTRYPOINT"]) == ["gankit"]
    assert json.loads(last["CMD"]) == ["--help"]
    assert last["USER"] not in ("root", "0")
    assert [word for word, _ in found].index("USER") < [word for word, _ in found].index("ENTRYPOINT")
    installs = [rest for word, rest in found if word == "RUN" and "pip install" in rest]
    assert installs
    assert all("--constraint /src/constraints.txt" in rest for rest in installs)
    extras = {
        extra for rest in installs for part in re.findall(r"/src\[([a-z,]+)\]", rest) for extra in part.split(",")
    }
    assert {"cpu", "serve"} <= extras <= set(PROJECT["project"]["optional-dependencies"])
    text = (ROOT / name).read_text(encoding="utf-8")
    assert re.search(
        r"^#   docker run .*--publish 127\.0\.0\.1:8000:8000 .* serve --host 0\.0\.0\.0$", text, re.MULTILINE
    )
    for rest in (rest for word, rest in found if word == "RUN"):
        assert shlex.split(rest), "the shell's quotes are closed"


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_dockerfiles_copy_what_the_build_needs(name):
    copied = {source for word, rest in instructions(name) if word == "COPY" for source in rest.split()[:-1]}
    assert [source for source in copied if not (ROOT / source).exists()] == []
    setuptools = PROJECT["tool"]["setuptools"]["packages"]["find"]["where"]
    needed = {"gankit" if folder == "." else folder for folder in setuptools}
    assert needed | {"pyproject.toml", "constraints.txt", PROJECT["project"]["readme"], "LICENSE"} <= copied
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in kept
    assert {f"!{source}" for source in copied} <= set(kept)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_dockerfiles_say_that_they_were_not_built(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "has not been built" in text[: text.index("FROM")]
    assert "Neither has been built" in (ROOT / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")


def test_pre_commit_runs_what_ci_runs():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    entries = [line.split(":", 1)[1].split()[:2] for line in hooks.splitlines() if "entry:" in line]
    assert entries == [["ruff", "check"], ["ruff", "format"], ["mypy"]]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert all(" ".join(entry) in script for entry in entries)
