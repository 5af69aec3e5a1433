"""A run: what one training leaves on disk. Analysis reads runs and nothing else; no dataset and no GPU is needed."""

import hashlib
import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from .errors import UserError

INFO = (
    "tier", "model", "options", "dataset", "dataset_title", "data_sha256", "split_sha256", "classes", "recipe", "seed",
    "epochs", "train_images", "validation_images", "limit", "input_size", "in_channels", "image_side", "mean", "std",
    "parameters", "macs", "test_correct", "test_total", "test_nll", "test_brier", "test_ece", "temperature",
    "test_nll_calibrated", "test_ece_calibrated", "robustness",
    "train_seconds", "images_per_second", "device", "precision", "threads", "versions", "commit", "warnings",
)  # fmt: skip
CORRUPTIONS = ("noise", "blur", "contrast")  # of test images, in `robustness`
LOWEST = 25.0  # nats: a log-probability below -25 is stored as -25
HISTORY = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        path: its folder.
        info: `run.json`: settings, figures and circumstances, the keys of `INFO`; newer runs have a few more.
    """

    path: Path
    info: dict[str, Any]

    @classmethod
    def load(cls, path: str | Path) -> "Run":
        """Read a run's folder.

        Raises:
            UserError: the folder is no run, or a damaged one.
        """
        path = Path(path)
        try:
            info = json.loads((path / "run.json").read_text())
        except OSError:
            raise UserError(f"{path} is not a run: it has no run.json") from None
        except ValueError:
            raise UserError(f"{path / 'run.json'} is damaged: it is not JSON") from None
        missing = [key for key in INFO if not isinstance(info, dict) or key not in info]
        if missing:
            raise UserError(f"{path / 'run.json'} is not a run's: {missing[0]!r} is missing")
        if not isinstance(info["recipe"], dict):
            raise UserError(f"{path / 'run.json'} is not a run's: its recipe is no table")
        return cls(path, info)

    @property
    def accuracy(self) -> float:
        """Share of the test images that were predicted right."""
        return self.info["test_correct"] / self.info["test_total"]

    @property
    def label(self) -> str:
        """The network with the options that were changed."""
        return labelled(self.info["model"], self.info["options"])

    @property
    def recipe(self) -> str:
        """The recipe with the fields that were changed."""
        return self.info["recipe"]["name"]

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU trained it; the first such runs tell by the device's name alone."""
        return self.info.get("device_type") == "cuda" or self.info["device"].startswith("NVIDIA")

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row an epoch, the columns of `HISTORY`; losses are means over images, in nats; accuracies are shares."""
        try:
            return pd.read_csv(self.path / "history.csv")[list(HISTORY)]
        except (OSError, ValueError, KeyError):
            raise UserError(f"{self.path / 'history.csv'} is missing or damaged") from None

    @cached_property
    def test(self) -> dict[str, np.ndarray]:
        """What is known of each test image, in the test set's order.

        `labels` (N,), `predicted` (N,); `log_probabilities` and `probabilities` (N, classes), as 256 levels keep them; and, by
        the name of each corruption, whether the image so corrupted is predicted right (N,), bool.
        """
        stored = self._arrays("test.npz")
        try:
            found = {"labels": stored["labels"].astype(int)}
            if "doubt_levels" in stored:  # runs of the earlier study
                found |= {
                    "predicted": stored["predicted"].astype(int),
                    "probabilities": 1 - (stored["doubt_levels"] / 255) ** 2,
                }
            else:
                found["log_probabilities"] = restored(stored["levels"])
                found["predicted"] = found["log_probabilities"].argmax(1)
                found["probabilities"] = np.exp(found["log_probabilities"])
                for name in CORRUPTIONS:
                    found[name] = np.unpackbits(stored[name], count=len(found["labels"])).astype(bool)
        except KeyError as error:
            raise UserError(f"{self.path / 'test.npz'} lacks {error}") from None
        if any(len(values) != self.info["test_total"] for values in found.values()):
            raise UserError(f"{self.path / 'test.npz'} is not this run's: it has not {self.info['test_total']} images")
        return found

    @cached_property
    def views(self) -> dict[str, np.ndarray]:
        """What only the weights could show, see `views.compute`."""
        return self._arrays("views.npz")

    def view(self, name: str) -> np.ndarray:
        """The `pca`, `filters` or `cam` values that `views.quantise` stored in 256 levels."""
        low, high = self.views[f"{name}_range"]
        return low + self.views[f"{name}_levels"].astype(np.float32) * ((high - low) / 255)

    @property
    def correct(self) -> np.ndarray:
        """Whether each test image was predicted right (N,), bool."""
        return self.test["labels"] == self.test["predicted"]

    def _arrays(self, name: str) -> dict[str, np.ndarray]:
        try:
            with (self.path / name).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return dict(stored)
        except Exception:  # a damaged archive fails in a dozen ways
            raise UserError(f"{self.path / name} is missing or damaged") from None


def find(root: str | Path) -> list[Run]:
    """Every finished run below `root`, sorted by path.

    Raises:
        UserError: there is no such folder, or no run in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder of runs")
    runs = [Run.load(p.parent) for p in sorted(root.rglob("run.json")) if p.parent.suffix != ".partial"]
    if not runs:
        raise UserError(f"there is no finished run in {root}")
    return runs


def labelled(name: str, changes: dict[str, Any]) -> str:
    """A network's or a recipe's name with what was changed in it: `resnet18-stem=3x3`, `tuned-augment=none`."""
    spelled = {key: "+".join(map(str, value)) if isinstance(value, tuple) else value for key, value in changes.items()}
    return "-".join([name, *(f"{key}={value}" for key, value in sorted(spelled.items()))])


def short_title(title: str) -> str:
    """A dataset's title without what it says of the copy: `CIFAR-10` of `CIFAR-10 (JPEG copy)`."""
    return title.partition(" (")[0]


def weights_sha256(folder: Path) -> str:
    """The hash of the weights in a run's `folder`, in hexadecimal digits."""
    with (folder / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def partial_folder(folder: Path) -> Path:
    """Where a run lives until it is finished, beside its final place."""
    return folder.with_name(f"{folder.name}.partial")


def levels(log_probabilities: np.ndarray) -> np.ndarray:
    """Return log-probabilities (N, classes), in nats, as 256 levels, uint8: 0 for certain, 255 for -25 nats and below.

    The root gives its finest levels to what is almost certain. A class that rounding would bring up to the most probable
    one goes a level down, so that the prediction is kept.
    """
    found = np.round(255 * np.sqrt(np.clip(-log_probabilities / LOWEST, 0, 1))).astype(np.uint8)
    every, predicted = np.arange(len(found)), log_probabilities.argmax(1)
    found[every, predicted] = np.minimum(found[every, predicted], 254)
    tied = found <= found[every, predicted][:, None]
    tied[every, predicted] = False
    return found + tied.astype(np.uint8)


def restored(levels: np.ndarray) -> np.ndarray:
    """Return the log-probabilities (N, classes), in nats, that `levels` keeps."""
    return log_softmax(-LOWEST * (levels / 255) ** 2, axis=1)


def write(
    folder: Path,
    info: dict[str, Any],
    history: list[dict[str, float]],
    labels: np.ndarray,
    levels: np.ndarray,
    right: dict[str, np.ndarray],
    views: dict[str, np.ndarray],
) -> None:
    """Write what `Run.load` reads into a folder; weights and logits are not its business.

    Args:
        folder: of the run.
        info: contents of `run.json`.
        history: a row of `HISTORY` each epoch.
        labels: of the test images (N,).
        levels: what `levels` makes of the classes' log-probabilities (N, classes).
        right: by the name of each corruption, whether the image so corrupted is predicted right (N,), bool.
        views: see `views.compute`.
    """
    pd.DataFrame(history, columns=list(HISTORY)).to_csv(folder / "history.csv", index=False, float_format="%.6g")
    small = np.uint8 if levels.shape[1] <= 256 else np.uint16
    arrays = {"labels": labels.astype(small), "levels": levels} | {name: np.packbits(right[name]) for name in CORRUPTIONS}
    with zipfile.ZipFile(folder / "test.npz", "w", zipfile.ZIP_LZMA) as archive:  # a tenth smaller than NumPy's own
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, values, allow_pickle=False)
    np.savez_compressed(folder / "views.npz", **views)  # type: ignore[arg-type]
    (folder / "run.json").write_text(json.dumps(info, indent=1) + "\n")
