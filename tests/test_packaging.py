"""What the package holds, what its rooms may know of each other, and what the README promises."""

import ast
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "gankit": ROOT / "gankit",
    "gankit_export": ROOT / "export" / "gankit_export",
    "gankit_kernels": ROOT / "kernels" / "gankit_kernels",
}
LINES = [
    "pip install -c constraints.txt '.[cpu]' && gankit upscale examples/ --output upscaled/",
    "pip install -c constraints.txt -e '.[cpu,test]' && pytest",
]
HIGH = {"pipeline", "storage", "cluster", "video", "serving", "training", "evaluation", "cli"}
ROOMS = {"images", "datasets", "models", "checkpoints", "backends"} | HIGH


def sources(package: str) -> list[Path]:
    return sorted(PACKAGES[package].rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file names, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def knows(path: Path, module: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for name in imports(path))


@pytest.mark.parametrize("package", ["gankit_export", "gankit_kernels"])
def test_export_and_kernels_know_nothing_of_gankit(package):
    assert sources(package)
    other = "gankit_kernels" if package == "gankit_export" else "gankit_export"
    assert [path for path in sources(package) if knows(path, "gankit") or knows(path, other)] == []


@pytest.mark.parametrize(
    ("room", "unknown"),
    [
        ("images", {"datasets", "models", "checkpoints", "backends"} | HIGH),
        ("datasets", {"models", "checkpoints", "backends"} | HIGH),
        ("models", {"datasets", "checkpoints", "backends"} | HIGH),
        ("checkpoints", {"datasets", "backends"} | HIGH),
        ("backends", {"datasets"} | HIGH),
        ("pipeline", {"storage", "cluster", "video", "serving", "training", "cli"}),
        ("storage", {"models", "checkpoints", "backends", "cluster", "serving", "training", "evaluation", "cli"}),
        ("cluster", {"models", "checkpoints", "backends", "serving", "training", "evaluation", "cli"}),
        ("video", {"models", "checkpoints", "backends", "serving", "training", "evaluation", "cli"}),
        ("serving", {"video", "datasets", "backends", "cluster", "training", "evaluation", "cli"}),
        ("training", {"serving", "cli"}),
        ("evaluation", {"serving", "training", "cli"}),
    ],
)
def test_the_arrows_run_one_way(room, unknown):
    wrong = [
        f"{path.relative_to(ROOT)} imports gankit.{other}"
        for path in sorted((PACKAGES["gankit"] / room).rglob("*.py"))
        for other in sorted(unknown)
        if knows(path, f"gankit.{other}")
    ]
    assert wrong == []


def test_the_pipeline_sees_the_protocol_and_the_choice_only():
    allowed = tuple(f"gankit.backends.{name}" for name in ("base", "calls", "choice", "memory"))
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((PACKAGES["gankit"] / "pipeline").rglob("*.py"))
        for name in imports(path)
        if name.startswith("gankit.backends.") and not name.startswith(allowed)
    ]
    assert wrong == []


def test_no_module_imports_itself_in_a_circle():
    """Function-level imports count; those for type checkers do not."""
    graph = {name: imported(path, modules) for modules in [every_module()] for name, path in modules.items()}
    while graph:
        ends = {name for name, names in graph.items() if not names & set(graph)}
        assert ends, f"a circle among {sorted(graph)}"
        graph = {name: names for name, names in graph.items() if name not in ends}


def every_module() -> dict[str, Path]:
    found = {}
    for package, folder in PACKAGES.items():
        for path in sources(package):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, modules: dict[str, Path]) -> set[str]:
    """The modules of ours that a file imports when it runs."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names if alias.name in modules)
            elif isinstance(child, ast.ImportFrom):
                for alias in child.names:
                    inner = f"{child.module}.{alias.name}"
                    found.add(inner if inner in modules else child.module or "")
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return {name for name in found if name in modules and modules[name] != path}


def test_evaluate_trains_nothing_but_its_classifier():
    folder = PACKAGES["gankit"] / "cli" / "evaluate"
    trained = [path.name for path in sorted(folder.rglob("*.py")) if knows(path, "gankit.training")]
    assert trained == ["train_classifier.py"]


def test_every_room_is_in_the_rules():
    rooms = {path.name for path in PACKAGES["gankit"].iterdir() if (path / "__init__.py").exists()}
    assert rooms - {"weights"} == ROOMS


def test_nothing_prints_but_the_command_line():
    wrong = []
    for package in PACKAGES:
        for path in sources(package):
            if PACKAGES["gankit"] / "cli" in path.parents:
                continue
            calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
            wrong += [path for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
    assert wrong == []


@pytest.mark.parametrize("package", [*PACKAGES])
def test_files_are_short(package):
    lengths = {path: len(path.read_text().splitlines()) for path in sources(package)}
    assert {path: length for path, length in lengths.items() if length > 330} == {}


@pytest.mark.parametrize(
    ("code", "also"),
    [
        ("import gankit", "numpy"),
        ("from gankit.cli import main; main(['--help'])", "numpy"),
        ("from gankit.cli import main; main(['upscale', '--help'])", "imagecodecs"),
        ("import gankit.models, gankit.backends, gankit.pipeline.upscaler, gankit.evaluation", "onnxscript"),
    ],
)
def test_no_torch_before_it_is_used(code, also):
    heavy = "{'torch', 'onnx', 'onnxruntime', 'openvino', '" + also + "'}"
    checked = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nassert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", checked], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_the_readme_begins_with_the_two_lines():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    first = re.search(r"^```.*\n((?:.*\n)*?)```", text, re.MULTILINE)
    assert first is not None
    assert first[1].splitlines() == LINES


def test_ci_reads_the_lines_from_the_readme():
    script = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in script
    assert all(line not in script for line in LINES), "the lines stand in the README, and nowhere else"
    awk = re.search(r"< <\((awk .*)\)\n", script)
    assert awk is not None
    found = subprocess.run(["bash", "-c", awk[1]], cwd=ROOT, check=True, capture_output=True, text=True)
    assert found.stdout.splitlines() == LINES


def test_every_direct_dependency_is_pinned():
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"
    )
    assert pins["torch"] == "2.13.0"
    assert pins["triton"] == "3.7.1"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["cpu"], *extras["train"], *extras["test"]]
    wanted += [*extras["int8"], *extras["spandrel"], *extras["plot"]]
    names = {re.split(r"[\[<>=]", line)[0] for line in wanted} - {"gankit"}
    assert names - set(pins) == set()


def test_local_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


@pytest.mark.parametrize("model", ["srresnet", "srgan"])
def test_the_readmes_quality_is_that_of_the_cards(model):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "TODO" not in text
    row = next(line for line in text.splitlines() if line.startswith(f"| `{model}` |"))
    card = json.loads((ROOT / "gankit" / "weights" / f"{model}.json").read_text(encoding="utf-8"))
    known = {
        f"{table['mean']['psnr_y']:.2f} / {table['mean']['ssim_y']:.4f}"
        for figures in card["figures"].values()
        for label, table in figures.get("results", {}).items()
        if label != "bicubic"
    }
    stated = re.findall(r"\d+\.\d+ / \d\.\d+", row)
    assert len(stated) == 2
    assert set(stated) <= known


def test_examples_have_a_source_and_a_licence():
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    images = [path for path in (ROOT / "examples").iterdir() if path.suffix != ".md"]
    assert len(images) >= 3
    for path in images:
        assert path.stat().st_size < 60_000
        line = next(line for line in text.splitlines() if f"`{path.name}`" in line)
        assert "CC0" in line or "public domain" in line


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> list[str]:
    """Names in a wheel of the files as they stand, built in a copy so that no build folder is left behind."""
    pytest.importorskip("setuptools", minversion="77")
    import shutil

    copy = tmp_path_factory.mktemp("copy")
    for name in ("gankit", "export", "kernels", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    code = "import sys\nfrom setuptools import build_meta\nprint(build_meta.build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(copy)]
    built = subprocess.run(command, cwd=copy, check=True, capture_output=True, text=True)
    with zipfile.ZipFile(copy / built.stdout.splitlines()[-1]) as archive:
        return archive.namelist()


def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel if ".dist-info/" not in name}
    assert tops == set(PACKAGES)
    assert not [name for name in wheel if "test" in name.lower()]
    for package, folder in PACKAGES.items():
        expected = {f"{package}/{path.relative_to(folder).as_posix()}" for path in sources(package)}
        assert expected <= set(wheel)
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_the_wheel_holds_the_weights(wheel):
    assert {"gankit/weights/parity.png", "gankit/py.typed"} <= set(wheel)
    for name in ("srgan", "srresnet"):
        assert {f"gankit/weights/{name}.safetensors", f"gankit/weights/{name}.json"} <= set(wheel)


def test_the_wheel_holds_the_page(wheel):
    assert {f"gankit/serving/page/page.{suffix}" for suffix in ("html", "css", "js")} <= set(wheel)
