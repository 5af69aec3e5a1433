"""What README prints can be typed: its commands and its lines of Python run."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepnets import notebook
from deepnets.data.named import OBJECTS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
USE = README.split("## Use it")[1].split("\n## ")[0]


def block(language, text):
    return re.search(rf"(?s)```{language}\n(.*?)```", text)[1]


@pytest.fixture
def desk(tmp_path):
    """A folder with what the commands name: photos, a digit and the results."""
    random = np.random.default_rng(0)
    for label, colour in {"cats": 60, "dogs": 190}.items():
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(12):
            pixels = random.integers(colour - 50, colour + 50, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{i}.png")
    images, _ = notebook.samples("mnist")
    Image.fromarray(255 - images[7, 0]).resize((140, 140)).save(tmp_path / "digit.jpg")
    (tmp_path / "results").symlink_to(ROOT / "results")
    return tmp_path


def test_its_commands_run(desk, python):
    """All but those that download a dataset."""
    lines = [shlex.split(line, comments=True) for line in block("sh", USE).splitlines()]
    commands = [line for line in lines if line[0] == "deepnets" and "--download" not in line]
    assert [command[1] for command in commands] == ["train", "predict", "compare", "report"]
    said = [python("-m", *command, cwd=desk).stdout for command in commands]
    assert "test images" in said[0]
    assert re.search(r"digit\.jpg.*\b7\b", said[1])
    assert "resnet18" in said[2]
    assert "confusion.png" in (desk / "report" / "report.md").read_text()


def test_its_python_runs(python):
    assert python("-c", block("python", USE), cwd=ROOT).stdout.strip() in OBJECTS
