"""A run: what one training leaves on disk. Analysis reads runs and nothing else; no dataset and no
GPU is needed.
"""

import hashlib
import io
import json
import reprlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from . import disk
from .errors import UserError

CORRUPTIONS = ("noise", "blur", "contrast")  # of test images, in `robustness`
LARGEST = 1 << 28  # bytes of a run's predictions
LOWEST = 25.0  # nats: a log-probability below -25 is stored as -25
# Type and shape of the arrays in `views.npz`; -1 stands for the test images, 0 for any number.
VIEWS: dict[str, tuple[Any, ...]] = {
    "pca_levels": ("u", -1, 2), "pca_range": ("f", 2, 2), "pca_share": ("f", 2), "filters_levels": ("u", 0, 0, 0, 0),
    "filters_range": ("f", 2), "cam_levels": ("u", 0, 0, 0), "cam_range": ("f", 2), "cam_stage": ("U",),
}  # fmt: skip
HISTORY = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
    "seconds",
)

Rule = tuple[str, Callable[[Any], bool]]


def _whole(low: int, high: int) -> Rule:
    return (
        f"a whole number from {low:,} to {high:,}",
        lambda value: type(value) is int and low <= value <= high,
    )


def _number(low: float, high: float) -> Rule:
    return (
        f"a number from {low:g} to {high:g}",
        lambda value: type(value) in (int, float) and low <= value <= high,
    )


def _list(what: str, rule: Rule, low: int = 0, high: int = 65_536) -> Rule:
    return (
        f"a list of {what}",
        lambda value: (
            isinstance(value, list) and low <= len(value) <= high and all(map(rule[1], value))
        ),
    )


def _table(what: str, rules: dict[str, Rule], others: Rule | None = None) -> Rule:
    """A table with the keys of `rules`; what it has besides is as `others` say, and else
    anything.
    """

    def fits(value: Any) -> bool:
        if not isinstance(value, dict) or rules.keys() - value.keys():
            return False
        rest = [value[key] for key in value.keys() - rules.keys()] if others else []
        return all(rules[key][1](value[key]) for key in rules) and all(
            others[1](item) for item in rest if others
        )

    return f"a table of {what}", fits


TEXT: Rule = "a text", lambda value: isinstance(value, str)
PLAIN: Rule = "plain", lambda value: isinstance(value, str | bool) or _number(-1e6, 1e6)[1](value)
MANY = 10_000_000  # images
SECONDS = _number(0, 1e12)
NATS = _number(0, 1e6)
SHARE = _number(0, 1)
COUNT = _whole(0, 10**15)
# What `run.json` says, and what of it can be true.
INFO: dict[str, Rule] = {
    "tier": TEXT, "model": TEXT, "options": _table("options", {}, PLAIN), "dataset": TEXT, "dataset_title": TEXT,
    "data_sha256": TEXT, "split_sha256": TEXT, "classes": _list("two classes or more", TEXT, 2),
    "recipe": _table(
        "a recipe's fields", {"name": TEXT, "learning_rate": _number(0, 1e6), "batch_size": _whole(1, MANY), "flip_test": PLAIN}
    ),
    "seed": _whole(0, 2**32 - 1), "epochs": _whole(1, 1_000_000), "train_images": _whole(1, MANY),
    "validation_images": _whole(1, MANY), "limit": ("a whole number or null", lambda v: v is None or _whole(1, MANY)[1](v)),
    "input_size": _whole(8, 1024), "in_channels": _whole(1, 4), "image_side": _whole(1, 16_384),
    "mean": _list("shares, one a channel", SHARE, 1, 4), "std": _list("shares, one a channel", _number(1e-9, 1), 1, 4),
    "parameters": COUNT, "macs": COUNT, "test_correct": _whole(0, MANY), "test_total": _whole(1, MANY),
    "test_nll": NATS, "test_brier": _number(0, 2), "test_ece": SHARE, "temperature": _number(0.01, 100),
    "test_nll_calibrated": NATS, "test_ece_calibrated": SHARE,
    "robustness": _table("counts of images", {name: _whole(0, MANY) for name in ("images", "clean", *CORRUPTIONS)}),
    "train_seconds": SECONDS, "images_per_second": SECONDS, "device": TEXT, "precision": TEXT, "threads": _whole(1, 65_536),
    "versions": _table("versions", {}, TEXT), "commit": TEXT, "warnings": _list("texts", TEXT),
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        path: its folder.
        info: `run.json`: settings, figures and circumstances, the keys of `INFO`; newer runs have a
            few more.
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
        file = path / "run.json"
        if not file.is_file():
            raise UserError(f"{path} is not a run: it has no run.json")
        info = disk.read_json(file)
        if not isinstance(info, dict):
            raise UserError(f"{file} is not a run's: it holds no table")
        for key, (what, fits) in INFO.items():
            if key not in info:
                raise UserError(f"{file} is not a run's: {key!r} is missing")
            if not fits(info[key]):
                raise UserError(
                    f"{file} is not a run's: {key} is {reprlib.repr(info[key])}, not {what}"
                )
        tested, right = (
            info["robustness"]["images"],
            (info["robustness"][name] for name in ("clean", *CORRUPTIONS)),
        )
        if (
            info["test_correct"] > info["test_total"]
            or not 1 <= tested <= info["test_total"]
            or max(right) > tested
        ):
            raise UserError(f"{file} is not a run's: more images are right than there are")
        if not len(info["mean"]) == len(info["std"]) == info["in_channels"]:
            raise UserError(
                f"{file} is not a run's: mean and std are not of {info['in_channels']} channels"
            )
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
        """One row an epoch, the columns of `HISTORY`; losses are means over images, in nats;
        accuracies are shares.
        """
        file = self.path / "history.csv"
        try:
            table = pd.read_csv(io.BytesIO(disk.read(file, 1 << 28)))[list(HISTORY)].astype(float)
        except (UserError, ValueError, KeyError):
            raise UserError(f"{file} is missing or damaged") from None
        if len(table) != self.info["epochs"] or not np.isfinite(table).to_numpy().all():
            raise UserError(
                f"{file} is not this run's: it has not a row of numbers for each of {self.info['epochs']} epochs"
            )
        return table.astype({"epoch": int})

    @cached_property
    def test(self) -> dict[str, np.ndarray]:
        """What is known of each test image, in the test set's order.

        `labels` (N,), `predicted` (N,); `log_probabilities` and `probabilities` (N, classes), as
        256 levels keep them; and, by the name of each corruption, whether the image so corrupted is
        predicted right (N,), bool.
        """
        file, images, classes = (
            self.path / "test.npz",
            self.info["test_total"],
            len(self.info["classes"]),
        )
        stored = disk.read_arrays(file, min(images * (classes + 32) + (1 << 16), LARGEST))

        def known(name: str, below: int, *shape: int) -> np.ndarray:
            """The array of that name, of whole numbers `below` so many."""
            if name not in stored:
                raise UserError(f"{file} lacks {name!r}")
            values = stored[name]
            if values.shape[:1] != shape[:1]:
                raise UserError(f"{file} is not this run's: it has not {images} images")
            if (
                values.shape != shape
                or values.dtype.kind not in "iu"
                or values.min() < 0
                or values.max() >= below
            ):
                raise UserError(
                    f"{file} is not this run's: its {name!r} are not of {classes} classes"
                )
            return values

        found = {"labels": known("labels", classes, images).astype(int)}
        if "doubt_levels" in stored:  # runs of the earlier study
            doubt = known("doubt_levels", 256, images, classes)
            predicted = known("predicted", classes, images).astype(int)
            return found | {"predicted": predicted, "probabilities": 1 - (doubt / 255) ** 2}
        found["log_probabilities"] = restored(known("levels", 256, images, classes))
        found["predicted"] = found["log_probabilities"].argmax(1)
        found["probabilities"] = np.exp(found["log_probabilities"])
        for name in CORRUPTIONS:
            packed = known(name, 256, -(-images // 8)).astype(np.uint8)
            found[name] = np.unpackbits(packed, count=images).astype(bool)
        return found

    @cached_property
    def views(self) -> dict[str, np.ndarray]:
        """What only the weights could show, see `views.compute`."""
        file, images = self.path / "views.npz", self.info["test_total"]
        found = disk.read_arrays(file, 2 * images + (1 << 24))
        for name, (kind, *shape) in VIEWS.items():
            wanted = [images if side == -1 else side for side in shape]
            if name not in found:
                raise UserError(f"{file} lacks {name!r}")
            values = found[name]
            fits = len(values.shape) == len(wanted) and all(
                s in (0, t) for s, t in zip(wanted, values.shape, strict=True)
            )
            if values.dtype.kind != kind or not values.size or not fits:
                raise UserError(
                    f"{file} is not this run's: its {name!r} are of another shape or type"
                )
        if not all(np.isfinite(found[f"{name}_range"]).all() for name in ("pca", "filters", "cam")):
            raise UserError(f"{file} is not a run's: not all of its numbers are finite")
        return found

    def view(self, name: str) -> np.ndarray:
        """The `pca`, `filters` or `cam` values that `views.quantise` stored in 256 levels."""
        low, high = self.views[f"{name}_range"]
        return low + self.views[f"{name}_levels"].astype(np.float32) * ((high - low) / 255)

    @property
    def correct(self) -> np.ndarray:
        """Whether each test image was predicted right (N,), bool."""
        return self.test["labels"] == self.test["predicted"]


def find(root: str | Path) -> list[Run]:
    """Every finished run below `root`, sorted by path.

    Raises:
        UserError: there is no such folder, or no run in it.
    """
    root = Path(root)
    if not root.is_dir():
        # An installed wheel has no results.
        hint = "; run this in a clone of the repository" if root.parts[:1] == ("results",) else ""
        raise UserError(f"{root} is not a folder of runs{hint}")
    runs = [
        Run.load(p.parent) for p in sorted(root.rglob("run.json")) if p.parent.suffix != ".partial"
    ]
    if not runs:
        raise UserError(f"there is no finished run in {root}")
    return runs


def labelled(name: str, changes: dict[str, Any]) -> str:
    """A network's or a recipe's name with what was changed in it: `resnet18-stem=3x3`,
    `tuned-augment=none`.
    """
    spelled = {
        key: "+".join(map(str, value)) if isinstance(value, tuple) else value
        for key, value in changes.items()
    }
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
    """Return log-probabilities (N, classes), in nats, as 256 levels, uint8: 0 for certain, 255 for
    -25 nats and below.

    The root gives its finest levels to what is almost certain. A class that rounding would bring up
    to the most probable one goes a level down, so that the prediction is kept.
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
        right: by the name of each corruption, whether the image so corrupted is predicted right
            (N,), bool.
        views: see `views.compute`.
    """
    table = pd.DataFrame(history, columns=list(HISTORY)).to_csv(
        index=False, float_format="%.6g", lineterminator="\n"
    )
    disk.write(folder / "history.csv", table.encode())
    small = np.uint8 if levels.shape[1] <= 256 else np.uint16
    arrays = {"labels": labels.astype(small), "levels": levels} | {
        name: np.packbits(right[name]) for name in CORRUPTIONS
    }
    # a tenth smaller than NumPy's own
    disk.write(folder / "test.npz", disk.packed(arrays, zipfile.ZIP_LZMA))
    disk.write(folder / "views.npz", disk.packed(views, zipfile.ZIP_DEFLATED))
    disk.write(folder / "run.json", f"{json.dumps(info, indent=1)}\n".encode())
