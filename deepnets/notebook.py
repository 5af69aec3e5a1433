"""What the notebooks share: the runs they show, and the images these saw.

The environment variable `DEEPNETS_PROFILE` decides where a run comes from. `full`, the default, loads it from the committed
results; `smoke` trains for real, but on a few hundred digits and into a folder that goes away, so that tests need neither
minutes nor a network.
"""

import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from . import data, recipes, runs
from .errors import UserError
from .runs import Run
from .training import Job, fit

PROFILE = os.environ.get("DEEPNETS_PROFILE", "full")
ROOT = Path(__file__).resolve().parent.parent


def run(
    model: str,
    dataset: str,
    recipe: str = "tuned",
    *,
    seed: int = 0,
    tier: str = "small",
    train: bool = False,
    options: dict[str, Any] | None = None,
    **changes: Any,
) -> Run:
    """A committed run, or a new training.

    Args:
        model: see `models.create`.
        dataset: see `data.load`.
        recipe: `plain`, `tuned` or `best`.
        seed: of the run.
        tier: of the study that the committed run belongs to.
        train: train anew, into `runs/notebooks`; the same call continues and then reports that training.
        options: of the network.
        changes: fields of the recipe, and `limit` and `input_size` of the job, for a new training.

    Raises:
        UserError: the run is not there, or what is asked for makes no sense.
    """
    options = options or {}
    if PROFILE == "smoke":
        size = 64 if model.startswith("alexnet") else 32
        job = Job(model, "digits", recipes.get(recipe, model, epochs=2, batch_size=32), seed, options, 200, size)
        return fit(job, _smoke_folder().name)
    if train:
        settings = {key: changes.pop(key) for key in ("limit", "input_size") if key in changes}
        return fit(
            Job(model, dataset, recipes.get(recipe, model, **changes), seed, options, **settings), ROOT / "runs/notebooks"
        )
    folder = ROOT / "results" / tier / dataset / runs.model_label(model, options) / recipe / f"seed{seed}"
    if not folder.is_dir():
        raise UserError(f"there is no committed run in {folder.relative_to(ROOT)}; use train=True")
    return Run.load(folder)


def images_of(run: Run) -> np.ndarray:
    """The test images (N, C, H, W), uint8, that a run predicted, in its order."""
    return data.load(run.info["dataset"], ROOT / "data" if "DEEPNETS_DATA" not in os.environ else None).test.images.numpy()


@cache
def _smoke_folder() -> tempfile.TemporaryDirectory:
    """One a process, gone at its end."""
    return tempfile.TemporaryDirectory()
