"""Keeps the test images that the notebooks show, so that their pictures need no dataset.

python results/images.py    (MNIST and CIFAR-10 must be there: `deepnets train --download`)
"""

import sys
import zipfile
from pathlib import Path

import numpy as np

from deepnets import data, disk, notebook, runs
from deepnets.errors import UserError

HERE = Path(__file__).resolve().parent
EACH = 4  # first test images of each class: of the galleries, and the first one of Grad-CAM
SUREST = 20  # mistakes of a network


def chosen(name: str, labels: np.ndarray) -> list[int]:
    """Returns the indices of the test images to keep of a dataset, by its name and labels (N,).

    They are the first of each class, some from across the test set, and the surest mistakes of the
    first seed of every run of the main study and of the replication.
    """
    found = {index for k in np.unique(labels) for index in np.flatnonzero(labels == k)[:EACH]}
    found |= {*np.linspace(0, len(labels) - 1, 20).astype(int)}
    every = [run for study in ("main", "replication") for run in runs.find(HERE / study)]
    for run in every:
        if (run.info.dataset, run.info.seed) == (name, 0):
            found |= {*notebook.surest_mistakes(run, SUREST)}
    return sorted(map(int, found))


def main() -> int:
    """Writes results/images/*.npz and prints their sizes; returns the exit code."""
    try:
        for name in ("mnist", "cifar10"):
            whole = data.load(name)
            indices = chosen(name, whole.test.labels.numpy())
            kept = {
                "indices": np.array(indices), "images": whole.test.images[indices].numpy(),
                "labels": whole.test.labels[indices].numpy(), "sha256": np.array(whole.sha256),
            }  # fmt: skip
            content = disk.packed(kept, zipfile.ZIP_DEFLATED)
            for path in disk.write_all({HERE / "images" / f"{name}.npz": content}):
                print(f"{path.relative_to(HERE)}: {len(content) / 1e3:.0f} KB")
    except UserError as error:
        print(f"results/images.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
