"""Committed notebooks are what the committed library makes of the committed runs; `make test`
executes them besides.
"""

import ast
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import nbformat
import numpy as np
import pytest
from torch import nn

from deepnets import models, notebook
from deepnets.errors import UserError
from deepnets.models.googlenet import INCEPTION, Inception
from deepnets.runs import Run

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def code(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_each_family_has_one():
    assert [path.stem for path in NOTEBOOKS] == [
        "alexnet",
        "comparison",
        "datasets",
        "googlenet",
        "resnet",
        "vgg",
    ]


def test_was_executed_from_top_to_bottom_without_complaint(path):
    cells = code(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output["text"]


def test_can_be_shown_anywhere(path):
    """Sites refuse large notebooks, and those with the state of widgets."""
    assert path.stat().st_size < 2_000_000
    assert "widgets" not in nbformat.read(path, as_version=4).metadata


def test_pictures_say_what_they_show(path):
    pictures = [
        output
        for cell in code(path)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert pictures
    assert all(picture.metadata["image/png"]["alt"] for picture in pictures)


AN_HOUR_EACH = """
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report):
    report.duration = 3600.0
"""


def test_times_are_printed_and_fail_nothing(tmp_path):
    shutil.copy(NOTEBOOKS[0].parent / "conftest.py", tmp_path)
    (tmp_path / "test_slow.py").write_text("def test():\n    pass")
    (tmp_path / "hour.py").write_text(AN_HOUR_EACH)
    command = [sys.executable, "-m", "pytest", "-p", "hour", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "test_slow.py: 10800 s" in done.stdout.splitlines(), "setting up, running, tearing down"


def test_defines_nothing(path):
    for cell in code(path):
        tree = ast.parse(cell.source)
        assert not [
            node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
        ], cell.source


@pytest.mark.skip(
    reason="the notebooks show the earlier study, and are made again with the new one"
)
def test_is_no_older_than_what_it_shows(path):
    """If this fails: `make notebooks`."""
    stored = nbformat.read(path, as_version=4)
    assert stored.metadata["deepnets"]["made_from"] == notebook.digest(stored)


def test_code_decides_the_digest():
    stored = nbformat.read(NOTEBOOKS[0], as_version=4)
    before = notebook.digest(stored)
    code_cell = next(cell for cell in stored.cells if cell.cell_type == "code")
    code_cell.source += "\n"
    assert notebook.digest(stored) != before


def test_a_run_that_is_not_there_is_named():
    with pytest.raises(
        UserError, match=r"no committed run in results/full/mnist/resnet8/tuned/seed3; train=True"
    ):
        notebook.run("resnet8", "mnist", seed=3)


def test_a_misspelt_argument_is_not_ignored():
    with pytest.raises(UserError, match="'teir' is no argument"):
        notebook.run("resnet18", "mnist", teir="full")


def test_a_committed_run_is_of_the_tier_that_was_asked_for():
    asked = [notebook.run("resnet18", "mnist", tier=tier).info for tier in ("full", "small")]
    assert [info["tier"] for info in asked] == ["full", "small"]
    assert asked[0]["train_images"] > asked[1]["train_images"]


def test_training_anew_depends_on_the_changes(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(notebook, "ROOT", tmp_path)
    changes = {"limit": 60, "input_size": 16, "epochs": 1, "batch_size": 16}
    first = notebook.run("resnet8", "digits", train=True, **changes)
    again = notebook.run("resnet8", "digits", train=True, **changes)
    other = notebook.run("resnet8", "digits", train=True, **changes | {"learning_rate": 0.2})
    assert first.path == again.path != other.path
    assert first.path.is_relative_to(tmp_path / "runs/notebooks")
    assert notebook.images_of(first).shape == (360, 1, 8, 8)
    assert len(np.unique(notebook.images_of(first))) > 2
    elsewhere = Run(
        first.path, first.info | {"data_sha256": "of other images with the same labels"}
    )
    assert np.unique(notebook.images_of(elsewhere)).tolist() == [128]
    assert "not on this machine" in capsys.readouterr().out


def test_the_smoke_profile_trains_on_digits_and_leaves_nothing(monkeypatch):
    monkeypatch.setattr(notebook, "SMOKE", True)
    run = notebook.run("resnet8", "cifar10")
    assert (run.info["dataset"], run.info["train_images"]) == ("digits", 200)
    assert not run.path.is_relative_to(Path.cwd())


def test_pictures_are_the_same_bytes_each_time():
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            notebook,
            "display",
            lambda image, caption: shown.append((image.data, image.alt, caption.data)),
        )
        for _ in range(2):
            notebook.show(notebook.drawing("resnet20", 32), "a drawing")
    assert shown[0] == shown[1]
    assert shown[0][1:] == ("a drawing", "*a drawing.*")


def test_a_run_that_is_given_twice_counts_once():
    found = notebook.committed("again")
    assert notebook.by_dataset(found + found) == {"CIFAR-10 (JPEG copy)": found}


def test_a_block_is_drawn_from_its_layers():
    texts = [
        text.get_text()
        for text in notebook.block(Inception(INCEPTION["3a"], 5, {}).branches, "stack")
        .axes[0]
        .texts
    ]
    reduced = [
        ["1x1, 96, ReLU", "3x3, 128, ReLU"],
        ["1x1, 16, ReLU", "5x5, 32, ReLU"],
        ["max pool 3x3", "1x1, 32, ReLU"],
    ]
    assert [text for text in texts if text] == ["map", "stack", "1x1, 64, ReLU", *chain(*reduced)]
    first = models.blueprint("resnet18").stages.conv3_x[0]
    paths = notebook.block([first.residual, first.shortcut], "add").axes[0].texts
    layers = [
        "3x3, 128, stride 2\nbatch norm, ReLU",
        "3x3, 128\nbatch norm",
        "1x1, 128, stride 2\nbatch norm",
    ]
    assert [text.get_text() for text in paths if text.get_text()] == ["map", "add", *layers]
    padded = models.blueprint("resnet20").stages.conv3_x[0].shortcut
    boxes = notebook.block([first.shortcut, padded], "add").axes[0].texts[2:]
    colours = [text.get_bbox_patch().get_facecolor() for text in boxes if text.get_text()]
    assert len(set(colours)) == 2, "what has weights has another colour"
    with pytest.raises(TypeError, match="how is GELU"):
        notebook.block([nn.GELU()], "add")


def test_shapes_are_the_traces():
    table = notebook.shapes("resnet20", 32)
    assert table["output"].iloc[0] == "16 x 32 x 32"
    assert np.sum([int(n.replace(",", "")) for n in table["parameters"]]) == 269_722
