"""The committed runs: each is of a study, and of one training. Their tables: test_compare.py."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

import deepnets
from deepnets import models, notebook, runs, study
from deepnets.runs import Run
from results import images, make

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
        assert len(run.history) == info.epochs
        network = models.blueprint(info.model, len(info.classes), info.in_channels, **info.options)
        assert info.parameters == models.count_parameters(network)


def test_every_run_is_a_row_of_the_tables():
    count = sum(len(runs.find(RESULTS / name)) for name in make.STUDIES if name in STUDIES)
    assert len(pd.read_csv(RESULTS / "seeds.csv")) == count


def calibration_error(p, labels):
    gaps, bins = (p.argmax(1) == labels) - p.max(1), np.ceil(p.max(1) * 15)
    return sum(abs(gaps[bins == k].sum()) for k in range(16)) / len(labels)


@pytest.mark.parametrize("name", STUDIES)
def test_figures_are_those_of_the_stored_predictions(name):
    """Recomputed with NumPy and scikit-learn from test.npz, without the library."""
    for run in runs.find(RESULTS / name):
        info, stored = run.info, np.load(run.path / "test.npz")
        labels, scores = stored["labels"].astype(int), np.exp(-25 * (stored["levels"] / 255) ** 2)
        p = scores / scores.sum(1, keepdims=True)
        q = scores ** (1 / info.temperature)
        wanted = {
            "test_correct": accuracy_score(labels, p.argmax(1), normalize=False),
            "test_total": len(labels),
            "test_nll": log_loss(labels, p, labels=range(10)),
            "test_brier": ((p - np.eye(10)[labels]) ** 2).sum(1).mean(),
            "test_ece": calibration_error(p, labels),
            "test_ece_calibrated": calibration_error(q / q.sum(1, keepdims=True), labels),
        }
        assert {key: getattr(info, key) for key in wanted} == pytest.approx(wanted), run.path
        for kind in ("noise", "blur", "contrast"):
            right = np.unpackbits(stored[kind], count=info.robustness["images"])
            assert right.sum() == info.robustness[kind], run.path


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_the_images_and_weights_that_ship_are_those_of_the_runs(name):
    """The images that the runs choose, and weights that give the predictions stored for them, but
    for how another processor rounds.
    """
    folder = RESULTS / "main" / name / "resnet20" / "tuned" / "seed0"
    network, classes, transform = deepnets.load(folder)
    kept, run = notebook.kept(name), Run.load(folder)
    labels, stored = run.test["labels"], run.test["log_probabilities"][kept["indices"]]
    assert list(classes) == run.info.classes
    assert kept["indices"].tolist() == images.chosen(name, labels)
    assert kept["labels"].tolist() == labels[kept["indices"]].tolist()
    with torch.no_grad():
        found = network(transform(torch.from_numpy(kept["images"]))).log_softmax(1).numpy()
    assert np.abs(np.exp(found) - np.exp(stored)).mean() < 0.01
    assert (found.argmax(1) == stored.argmax(1)).mean() > 0.97
