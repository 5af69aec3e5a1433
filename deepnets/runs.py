"""Runs: what a training leaves on disk, readable without a dataset or a GPU."""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from . import disk
from .errors import UserError
from .info import CORRUPTIONS, Info
from .recipes import labelled as labelled

Arrays = dict[str, np.ndarray]
LOWEST = 25.0  # nats: a log-probability below -25 is stored as -25
HISTORY = (
    "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """Holds a finished run."""

    path: Path  # its folder
    info: Info

    @classmethod
    def load(cls, path: str | Path) -> "Run":
        """Reads a run's folder; raises UserError if it is none, or a damaged one."""
        file = Path(path) / "run.json"
        if not file.is_file():
            raise UserError(f"{path} is not a run: it has no run.json")
        content = disk.read(file)
        try:
            return cls(file.parent, Info.read(json.loads(content)))
        except (UserError, ValueError, RecursionError) as problem:  # the last of nested brackets
            raise UserError(f"{file} is not a run's: {problem}") from None

    @property
    def accuracy(self) -> float:
        """Share of the test images that are classified correctly."""
        return self.info.test_correct / self.info.test_total

    @property
    def label(self) -> str:
        """The network's name with the options that were changed."""
        return labelled(self.info.model, self.info.options)

    @property
    def recipe(self) -> str:
        """The recipe's name with the fields that were changed."""
        return self.info.recipe.name

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row an epoch with the columns of `HISTORY`; losses in nats, accuracies as shares."""
        file = self.path / "history.csv"
        try:
            table = pd.read_csv(io.BytesIO(disk.read(file)))[list(HISTORY)].astype(float)
        except (UserError, ValueError, KeyError):
            raise UserError(f"{file} is missing or damaged") from None
        if len(table) != self.info.epochs or not np.isfinite(table).to_numpy().all():
            lack = f"it has not a row of numbers for each of {self.info.epochs} epochs"
            raise UserError(f"{file} is not this run's: {lack}")
        return table.astype({"epoch": int})

    @cached_property
    def test(self) -> Arrays:
        """Labels and predictions of the test images, in the test set's order.

        `labels` (N,) and `predicted` (N,), int; `log_probabilities` and `probabilities`
        (N, classes), restored from 256 levels; and under the name of each corruption whether the
        corrupted image is classified correctly (N,), bool.
        """
        images = self.info.test_total
        stored = self._arrays("test.npz", levels=(images, len(self.info.classes)))
        log_probabilities = restored(stored["levels"])
        right = {name: np.unpackbits(stored[name], count=images) for name in CORRUPTIONS}
        return {name: bits.astype(bool) for name, bits in right.items()} | {
            "labels": stored["labels"].astype(int),
            "predicted": log_probabilities.argmax(1),
            "log_probabilities": log_probabilities,
            "probabilities": np.exp(log_probabilities),
        }

    @cached_property
    def views(self) -> Arrays:
        """What only the weights can show: see `evaluation.views`."""
        return self._arrays("views.npz", pca_levels=(self.info.test_total, 2))

    def _arrays(self, name: str, **shapes: tuple[int, ...]) -> Arrays:
        """Reads a file; if an array has another shape than here, the file is another run's."""
        found = disk.read_arrays(self.path / name)
        for key, shape in shapes.items():
            if key not in found or found[key].shape != shape:
                raise UserError(f"{self.path / name} is not this run's: {key!r} are of others")
        return found

    def view(self, name: str) -> np.ndarray:
        """Returns the `pca`, `filters` or `cam` values, which are stored in 256 levels."""
        low, high = self.views[f"{name}_range"]
        return low + self.views[f"{name}_levels"].astype(np.float32) * ((high - low) / 255)

    @property
    def correct(self) -> np.ndarray:
        """Whether each test image is classified correctly (N,), bool."""
        return self.test["labels"] == self.test["predicted"]


def find(root: str | Path) -> list[Run]:
    """Returns all finished runs below a folder, by path; raises UserError if there is none."""
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder of runs")
    folders = [file.parent for file in sorted(root.rglob("run.json"))]
    runs = [Run.load(folder) for folder in folders if folder.suffix != ".partial"]
    if not runs:
        raise UserError(f"there is no finished run in {root}")
    return runs


def weights_sha256(folder: Path) -> str:
    """Returns the hash of a run's weights, in hexadecimal digits."""
    with (folder / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def partial_folder(folder: Path) -> Path:
    """Returns where a run lives until it is finished, beside its final place."""
    return folder.with_name(f"{folder.name}.partial")


def levels(log_probabilities: np.ndarray) -> np.ndarray:
    """Returns log-probabilities (N, classes), in nats, as 256 levels, uint8.

    Level 0 is certain, level 255 is -25 nats or less. The square root makes the levels finest near
    certainty. Where rounding would bring another class up to the most probable one, that class goes
    a level down, so that the prediction is kept.
    """
    found = np.round(255 * np.sqrt(np.clip(-log_probabilities / LOWEST, 0, 1))).astype(np.uint8)
    every, predicted = np.arange(len(found)), log_probabilities.argmax(1)
    found[every, predicted] = np.minimum(found[every, predicted], 254)
    tied = found <= found[every, predicted][:, None]
    tied[every, predicted] = False
    return found + tied.astype(np.uint8)


def restored(levels: np.ndarray) -> np.ndarray:
    """Returns the log-probabilities (N, classes), in nats, that levels stand for."""
    return log_softmax(-LOWEST * (levels / 255) ** 2, axis=1)


def write(
    folder: Path, info: Info, history: list[dict[str, float]], test: Arrays, views: Arrays
) -> None:
    """Writes what `Run` reads: a row of `HISTORY` an epoch, and the arrays of its `.npz` files."""
    table = pd.DataFrame(history, columns=list(HISTORY))
    text = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    disk.write(folder / "history.csv", text.encode())
    # LZMA makes it a tenth smaller than NumPy's own compression.
    disk.write(folder / "test.npz", disk.packed(test, zipfile.ZIP_LZMA))
    disk.write(folder / "views.npz", disk.packed(views, zipfile.ZIP_DEFLATED))
    disk.write(folder / "run.json", f"{json.dumps(info.values(), indent=1)}\n".encode())
