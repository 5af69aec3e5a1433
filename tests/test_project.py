"""The project as a whole: its dependencies agree, its arrows point one way, its functions say what
they do.
"""

import ast
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "deepnets").rglob("*.py"))

# What each module may import of ours: the arrows of the design, which go one way.
ARROWS = {
    "errors": set(),
    "models": {"errors"},
    "pictures": {"errors"},
    "digit": set(),
    "images": {"errors"},
    "folders": {"errors", "images", "pictures"},
    "data": {"errors", "folders", "images", "pictures"},
    "transforms": set(),
    "recipes": {"errors"},
    "metrics": set(),
    "effects": {"metrics"},
    "corruptions": set(),
    "recorded": set(),
    "disk": {"errors"},
    "runs": {"disk", "errors"},
    "checkpoint": {"disk", "errors"},
    "environment": {"disk", "errors", "runs"},
    "views": {"models"},
    "training": {
        "checkpoint", "corruptions", "data", "disk", "environment", "errors", "metrics", "models", "recipes", "recorded",
        "runs", "transforms", "views",
    },
    "dispatch": {"environment", "models", "runs", "training"},
    "cluster": {"data", "dispatch", "environment", "errors", "runs", "training"},
    "study": {"cluster", "data", "dispatch", "errors", "recipes", "runs", "training"},
    "predict": {"checkpoint", "data", "digit", "environment", "errors", "models", "pictures", "runs", "transforms"},
    "figures": {"disk", "metrics", "runs"},
    "drawings": {"figures"},
    "analysis": {"errors", "metrics", "runs"},
    "report": {"analysis", "disk", "errors", "runs"},
    "assets": {"figures", "runs"},
    "bench": {"data", "environment", "errors", "models", "recipes", "training", "transforms"},
    "notebook": {"analysis", "data", "drawings", "errors", "figures", "models", "recipes", "report", "runs", "training"},
    "cli": {
        "analysis", "assets", "bench", "data", "disk", "errors", "models", "predict", "recipes",
        "report", "runs", "study", "training",
    },
}  # fmt: skip


def module(path: Path) -> str:
    return path.relative_to(ROOT / "deepnets").with_suffix("").parts[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_arrows(path):
    if path.name in ("__init__.py", "__main__.py") and path.parent.name == "deepnets":
        return
    assert not re.search(r"^\s*(?:import|from) deepnets\b", path.read_text(), re.M), (
        "imports of ours are relative"
    )
    inside_models = path.parent.name == "models"
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        if inside_models and node.level == 1:
            continue  # models among themselves
        names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
        assert set(names) - {"__version__"} <= ARROWS[module(path)], f"line {node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_and_public_function_says_what_it_does(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        public = [node]
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            public += [n for n in node.body if isinstance(n, ast.FunctionDef)]
        for item in public:
            if not isinstance(item, ast.FunctionDef | ast.ClassDef) or item.name.startswith("_"):
                continue
            if item.name == "forward" and ast.get_docstring(node):
                continue  # the class says it
            text = ast.get_docstring(item)
            assert text, f"{item.name}, line {item.lineno}"
            parameters = (
                []
                if isinstance(item, ast.ClassDef)
                else [a.arg for a in item.args.args + item.args.kwonlyargs]
            )
            parameters = [name for name in parameters if name not in ("self", "cls")]
            if len(parameters) > 2 and "Options:" not in text:
                missing = [name for name in parameters if not re.search(rf"\b{name}\b", text)]
                assert not missing, f"{item.name}, line {item.lineno}, does not speak of {missing}"


def lines_of_code(path):
    """Docstrings, comments and blank lines, which help to read the others, are not counted."""
    text = path.read_text()
    documentation = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            documentation |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(
        bool(line.strip()) and line.strip()[0] != "#" and number not in documentation
        for number, line in lines
    )


def test_the_way_from_images_to_a_run_can_be_read_in_a_sitting():
    """The networks, and what training is made of, with room for a network of one's own; the rest is
    not needed to follow it, and no file of it is long.
    """
    needed = {"models", *ARROWS["training"], "training"}
    assert sum(lines_of_code(path) for path in SOURCES if module(path) in needed) <= 2900
    assert max(lines_of_code(path) for path in SOURCES) <= 540


def test_the_network_of_the_readme_can_be_added():
    code = re.search(
        r"```python\n(# deepnets/models/lenet.py\n.*?)```",
        (ROOT / "README.md").read_text(),
        re.DOTALL,
    )[1]
    names = {"__package__": "deepnets.models"}
    exec(code, names)
    assert names["lenet"]()(torch.randn(2, 3, 64, 64)).shape == (2, 10)


def requirements(lines):
    """Names and lower bounds."""
    return dict(re.fullmatch(r"([\w-]+)\s*>=\s*([\d.]+)", line.strip()).groups() for line in lines)


def version(text):
    return tuple(int(part) for part in text.split("."))


def test_the_three_lists_of_packages_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = requirements(project["project"]["dependencies"] + project["dependency-groups"]["dev"])

    pins = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        name, pin = re.match(r"([\w-]+)==([\d.]+)", line).groups()
        pins.setdefault(name, []).append(pin)
    for name, bound in wanted.items():
        assert all(version(pin) >= version(bound) for pin in pins[name]), name
    assert "://" not in (ROOT / "requirements.lock").read_text()

    text = (ROOT / "environment.yaml").read_text()
    conda = re.findall(r"^  - ([\w-]+ ?>=[\d.]+)(?:,<[\d.]+)?$", text, re.M)
    conda = {
        {"pytorch": "torch"}.get(name, name): bound for name, bound in requirements(conda).items()
    }
    assert conda.pop("python") == project["project"]["requires-python"].removeprefix(">=")
    assert conda == wanted
    assert not re.search(r"=\w+_\d|=py\d", text), (
        "a build string ties the environment to one platform"
    )


def test_conda_has_the_pythons_of_the_makefile():
    low, high = re.search(
        r"\((\d, \d+)\) <= sys.version_info < \((\d, \d+)\)", (ROOT / "Makefile").read_text()
    ).groups()
    bounds = f"python >={low.replace(', ', '.')},<{high.replace(', ', '.')}"
    assert f"  - {bounds}\n" in (ROOT / "environment.yaml").read_text()


def test_git_ignores_an_environment_that_is_a_link(tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".venv").symlink_to("elsewhere")
    command = ["git", "-C", tmp_path, "status", "--porcelain"]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        == "?? .gitignore\n"
    )


def test_ci_runs_the_readmes_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    "page", ["README.md", "results/README.md", "studies/README.md", "benchmarks/README.md"]
)
def test_what_the_pages_point_to_exists(page):
    targets = [
        "".join(found)
        for found in re.findall(r'\]\(([^)]+)\)|src="([^"]+)"', (ROOT / page).read_text())
    ]
    assert targets
    for target in targets:
        file, _, heading = target.partition("#")
        if not re.match(r"https?://", target):
            path = (ROOT / page).parent / file if file else ROOT / page
            assert path.exists(), target
            assert not heading or heading in anchors(path.read_text()), target


def anchors(markdown):
    """What code hosts call the headings of a page."""
    text = re.sub(r"(?s)```.*?```", "", markdown)
    return {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"(?m)^#+ (.+)$", text)
    }
