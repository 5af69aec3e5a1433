"""The committed runs: each is of a study, and of one training. Their figures: test_compare.py."""

from pathlib import Path

import numpy as np
import pytest
import torch

import deepnets
from deepnets import models, notebook, runs, study
from deepnets.runs import Run
from results import images, make

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
STUDIES = [name for name in make.STUDIES if (RESULTS / name).is_dir()]

FOLDERS = sorted(path.parent for path in RESULTS.rglob("run.json"))


@pytest.mark.parametrize("name", STUDIES)
def test_every_run_is_of_a_study(name):
    """As its study file plans it, setting by setting."""
    planned = [job.settings() for job in study.plan(ROOT / "studies" / f"{name}.toml")]
    for run in runs.find(RESULTS / name):
        values = run.info.values()
        assert {key: values[key] for key in planned[0]} in planned, run.path


@pytest.mark.parametrize("path", FOLDERS, ids=lambda path: str(path.relative_to(RESULTS)))
def test_figures_history_and_parameters_are_of_one_training(path):
    run = Run.load(path)
    assert (run.correct.sum(), len(run.correct)) == (run.info.test_correct, run.info.test_total)
    assert len(run.history) == run.info.epochs
    shape = len(run.info.classes), run.info.in_channels
    network = models.blueprint(run.info.model, *shape, **run.info.options)
    assert run.info.parameters == models.count_parameters(network)


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_the_weights_that_ship_give_the_stored_predictions(name):
    """For the test images that the repository keeps; another processor may round otherwise."""
    folder = RESULTS / "main" / name / "resnet20" / "tuned" / "seed0"
    network, classes, transform = deepnets.load(folder)
    kept, run = notebook.kept(name), Run.load(folder)
    assert list(classes) == run.info.classes
    with torch.no_grad():
        found = network(transform(torch.from_numpy(kept["images"]))).log_softmax(1).numpy()
    stored = run.test["log_probabilities"][kept["indices"]]
    assert np.abs(np.exp(found) - np.exp(stored)).mean() < 0.01
    assert (found.argmax(1) == stored.argmax(1)).mean() > 0.97


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_the_images_that_are_kept_are_those_that_the_runs_choose(name):
    labels = Run.load(RESULTS / "main" / name / "resnet20" / "tuned" / "seed0").test["labels"]
    kept = notebook.kept(name)
    assert kept["indices"].tolist() == images.chosen(name, labels)
    assert kept["labels"].tolist() == labels[kept["indices"]].tolist()
