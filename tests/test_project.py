"""The project as a whole: its dependencies agree, its arrows point one way, what its pages print can
be typed.
"""

import ast
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from PIL import Image
from test_folders import make

from deepnets import notebook
from deepnets.data.named import OBJECTS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text().split("## Use it")[1].split("\n## ")[0]
SOURCES = sorted((ROOT / "deepnets").rglob("*.py"))

# The library from top to bottom: a module imports only what stands in a line below its own.
LAYERS = [
    "cli",
    "notebook",
    "compare predict study",
    "training",
    "evaluation",
    "data digit metrics runs",
    "info",
    "disk models recipes transforms",
    "errors",
]
LAYER = {name: number for number, line in enumerate(LAYERS) for name in line.split()}
# What reads runs knows nothing of what makes them.
READERS = {"compare"}
MAKERS = {"data", "evaluation", "study", "training", "transforms"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    text, places = path.read_text(), path.relative_to(ROOT / "deepnets").with_suffix("").parts
    absolute = re.search(r"^\s*(?:import|from) deepnets\b", text, re.M)
    assert not absolute, "imports of ours are relative"
    assert len(text.splitlines()) <= 400, "a file can be read in a sitting"
    name, found = places[0], set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.level == len(places):
            found |= {node.module.split(".")[0]} if node.module else {n.name for n in node.names}
    others = found - {name, "__version__"}
    assert name.startswith("__") or all(LAYER[name] < LAYER[other] for other in others)
    assert name not in READERS or not others & MAKERS


def block(language, text):
    return re.search(rf"(?s)```{language}\n(.*?)```", text)[1]


def test_what_readme_prints_can_be_typed(tmp_path, python):
    """All but what downloads a dataset, in a folder that has what is named."""
    make(tmp_path / "photos", count=12)
    images, _ = notebook.samples("mnist")
    Image.fromarray(255 - images[7, 0]).resize((140, 140)).save(tmp_path / "digit.jpg")
    (tmp_path / "results").symlink_to(ROOT / "results")
    lines = [shlex.split(line, comments=True) for line in block("sh", README).splitlines()]
    commands = [line for line in lines if line[0] == "deepnets" and "--download" not in line]
    assert [command[1] for command in commands] == ["train", "predict", "compare", "report"]
    said = [python("-m", *command, cwd=tmp_path).stdout for command in commands]
    assert "test images" in said[0]
    assert re.search(r"digit\.jpg.*\b7\b", said[1])
    assert "resnet18" in said[2]
    assert "confusion.png" in (tmp_path / "report" / "report.md").read_text()
    shown = python("-c", block("python", README), cwd=tmp_path).stdout
    assert shown.strip() in OBJECTS


def test_the_network_of_contributing_can_be_added():
    names = {"__package__": "deepnets.models"}
    exec(block("python", (ROOT / "CONTRIBUTING.md").read_text()), names)
    assert names["lenet"]()(torch.randn(2, 3, 64, 64)).shape == (2, 10)


def requirements(lines):
    """What each package's version must be, by its name."""
    return {r.name: r.specifier for r in map(Requirement, lines)}


def test_the_lists_of_packages_and_pythons_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = requirements(project["project"]["dependencies"] + project["dependency-groups"]["dev"])
    lock = (ROOT / "requirements.lock").read_text()
    pins = [Requirement(line) for line in lock.splitlines()]
    for name, bound in wanted.items():
        found = [next(iter(pin.specifier)).version for pin in pins if pin.name == name]
        assert found and all(bound.contains(version) for version in found), name  # noqa: PT018
    assert "://" not in lock

    text = (ROOT / "environment.yaml").read_text()
    conda = re.findall(r"^  - ([\w-]+ ?>=.+)$", text, re.M)
    conda = requirements(line.replace("pytorch", "torch") for line in conda)
    low, high = re.search(
        r"\((\d, \d+)\) <= sys.version_info < \((\d, \d+)\)", (ROOT / "Makefile").read_text()
    ).groups()
    bounds = f">={low.replace(', ', '.')},<{high.replace(', ', '.')}"
    assert str(conda["python"]) == str(SpecifierSet(bounds))
    assert project["project"]["requires-python"] == bounds.partition(",")[0]
    assert conda.items() - {("python", conda["python"])} == wanted.items()
    assert not re.search(r"=\w+_\d|=py\d", text), "a build string ties it to one platform"


PAGES = ["README.md", "CONTRIBUTING.md", *(f"{name}/README.md" for name in (
    "results", "studies", "benchmarks", "tests"))]  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_what_the_pages_point_to_exists(name):
    page = ROOT / name
    links = re.findall(r'\]\(([^)]+)\)|src="([^"]+)"', page.read_text())
    assert links
    for target in map("".join, links):
        file = target.partition("#")[0]
        assert re.match("https?://", target) or (page.parent / file).exists(), target
