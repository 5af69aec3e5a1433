"""Committed notebooks are what the committed library makes of the committed runs; `make test`
executes them besides.
"""

import re
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbconvert import HTMLExporter

from deepnets import notebook
from deepnets.runs import Run
from notebooks import make

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def lesson(path):
    return nbformat.read(path, as_version=4)


def code(lesson):
    return [cell for cell in lesson.cells if cell.cell_type == "code"]


def test_was_executed_without_complaint_and_can_be_shown_anywhere(path, lesson):
    """Sites refuse large notebooks, and those with the state of widgets."""
    cells = code(lesson)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for output in [output for cell in cells for output in cell.outputs]:
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output["text"]
    assert path.stat().st_size < 2_000_000
    assert "widgets" not in lesson.metadata


def test_pictures_say_what_they_show_on_the_page(path, lesson):
    """Where people read: JupyterLab drops the text of an image that is no HTML, nbconvert too."""
    outputs = [output for cell in code(lesson) for output in cell.outputs]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert kinds <= {"text/html", "text/plain"}
    page = HTMLExporter().from_filename(str(path))[0]
    alone = [re.search(r'alt="([^"]+)"', image)[1] for image in re.findall(r"<img[^>]*>", page)]
    assert 5 < len(alone) <= (25 if path.stem == "datasets" else 12)
    assert len(set(alone)) == len(alone), "each has a text of its own"
    assert min(map(len, alone)) > 20


def test_every_file_that_a_lesson_links_to_is_there(path, lesson):
    prose = [cell.source for cell in lesson.cells if cell.cell_type != "code"]
    links = re.findall(r"\]\(([^)#]+)", "".join(prose))
    assert "../README.md" in links
    assert all((path.parent / link).exists() for link in links if "://" not in link)


def test_is_no_older_than_what_it_shows(lesson):
    """If this fails: `make notebooks`."""
    assert lesson.metadata["deepnets"]["made_from"] == make.digest(lesson)
    code(lesson)[0].source += "\n"
    assert lesson.metadata["deepnets"]["made_from"] != make.digest(lesson)


def drawn(ax):
    return np.asarray(ax.images[0].get_array()).transpose(2, 0, 1)


def test_galleries_show_the_surest_mistakes_and_what_grad_cam_lights():
    (run,) = notebook.stored(["alexnet"], "cifar10")
    found, confidence = notebook.surest_mistakes(run, 30), run.test["probabilities"].max(1)
    assert not run.correct[found].any()
    assert confidence[found].tolist() == sorted(confidence[found], reverse=True)
    assert confidence[found].max() == confidence[~run.correct].max()
    for ax, index in zip(notebook.mistakes(run, 3).axes[:3], found[:3], strict=True):
        answer, label = (run.info.classes[run.test[of][index]] for of in ("predicted", "labels"))
        assert ax.get_title() == f"{answer}?\nlabel {label}"
        np.testing.assert_array_equal(drawn(ax), notebook.images_of(run)[index])
    axes, maps = notebook.lit(run).axes, run.view("cam")
    for ax, image, name, heat in zip(axes, *notebook.samples("cifar10"), maps, strict=True):
        assert ax.get_title() == name
        assert (drawn(ax) <= image).all()
        rows, columns = 2 + np.array(np.unravel_index(heat.argmax(), heat.shape)) * 32 // 7
        assert drawn(ax)[:, rows, columns].sum() > 0.8 * image[:, rows, columns].sum()


def test_training_anew_depends_on_the_changes(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(notebook, "ROOT", tmp_path)
    changes = {"limit": 60, "input_size": 16, "epochs": 1, "batch_size": 16}
    first = notebook.train("resnet8", "digits", **changes)
    again = notebook.train("resnet8", "digits", **changes)
    other = notebook.train("resnet8", "digits", **changes | {"learning_rate": 0.2})
    dropped = notebook.train("resnet8", "digits", **changes | {"dropout": 0.5, "seed": 3})
    assert (dropped.info.options, dropped.info.seed) == ({"dropout": 0.5}, 3)
    assert first.path == again.path != other.path
    assert first.path.is_relative_to(tmp_path / "runs/notebooks")
    assert notebook.images_of(first).shape == (360, 1, 8, 8)
    assert len(np.unique(notebook.images_of(first))) > 2
    elsewhere = Run(first.path, replace(first.info, data_sha256="of others with the same labels"))
    assert np.unique(notebook.images_of(elsewhere)).tolist() == [128]
    assert "not on this machine" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_without_a_dataset_its_pictures_stay(name, monkeypatch, tmp_path, capsys):
    """Those of galleries, of Grad-CAM and of the surest mistakes."""
    monkeypatch.setenv("DEEPNETS_DATA", str(tmp_path))
    notebook._loaded.cache_clear()
    (run,) = notebook.stored(["alexnet"], name)
    images, classes = notebook.images_of(run), run.info.classes
    assert len(images) == run.info.test_total
    first = [int(np.flatnonzero(run.test["labels"] == k)[0]) for k in range(len(classes))]
    for index in [*first, *notebook.surest_mistakes(run, 20)]:
        assert len(np.unique(images[index])) > 2
    gallery, names = notebook.samples(name)
    np.testing.assert_array_equal(gallery, images[first])
    assert names == classes
    assert notebook.datasets([name, "digits"]).keys() == {"digits"}
    assert f'data.load("{name}", download=True)' in capsys.readouterr().out
