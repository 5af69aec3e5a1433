"""The committed runs: each is of a study, and of one training. Their figures: test_compare.py."""

from pathlib import Path

import numpy as np
import pytest
import torch

import deepnets
from deepnets import models, notebook, runs, study
from deepnets.runs import Run
from results import images

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
STUDIES = sorted({path.relative_to(RESULTS).parts[0] for path in RESULTS.rglob("run.json")})


@pytest.mark.parametrize("name", STUDIES)
def test_every_run_is_of_its_study_and_of_one_training(name):
    """As the study file plans it, setting by setting; all that is stored agrees."""
    planned = [job.settings() for job in study.plan(ROOT / "studies" / f"{name}.toml")]
    for run in runs.find(RESULTS / name):
        info, values = run.info, run.info.values()
        assert {key: values[key] for key in planned[0]} in planned, run.path
        assert (run.correct.sum(), len(run.correct)) == (info.test_correct, info.test_total)
        assert len(run.history) == info.epochs
        network = models.blueprint(info.model, len(info.classes), info.in_channels, **info.options)
        assert info.parameters == models.count_parameters(network)


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
