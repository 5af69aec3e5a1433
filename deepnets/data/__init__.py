"""Datasets: uint8 images and labels, split by seed, with hashes of what a run saw."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import folders
from .images import Images, stratified
from .images import statistics as statistics
from .named import check_name as check_name
from .named import facts as facts
from .pictures import read_image as read_image


@dataclass(frozen=True)
class Dataset:
    """A dataset, read."""

    name: str
    title: str
    """What to call it beside results."""
    classes: tuple[str, ...]
    train: Images
    test: Images
    sha256: str
    """Hash of class names, images and labels."""
    validation: Images | None = None
    """Only a folder may have its own."""
    left_out: str = ""
    """What of a folder is not used, in words."""

    def split(self, seed: int, limit: int | None = None) -> tuple[Images, Images, str]:
        """Draws the validation images from the training images, both with the classes' proportions.

        If the dataset has validation images of its own, these are used, all of them.

        Args:
            seed: of the draw.
            limit: train on so many images only; then at most a fifth as many are for validation,
                but at least as many as there are classes.

        Returns:
            Training images, validation images, and the SHA-256 of their indices.

        Raises:
            UserError: there are too few images, or a class has a single one.
        """
        size = facts(self.name).validation or max(len(self.train) // 10, len(self.classes))
        if limit is not None:
            size = min(size, max(limit // 5, len(self.classes)))
        if self.validation is not None and limit is None:
            train = np.arange(len(self.train))
        else:
            what = self.name if limit is None else f"--limit {limit}: {self.name}"
            labels = self.train.labels
            if self.validation is not None:  # none is drawn but one a class, which is not used
                size = len(self.classes)
            train, drawn = stratified(labels, limit, size, seed, what, self.classes)
        source = self.validation or self.train
        validation = np.arange(len(self.validation)) if self.validation else drawn
        digest = hashlib.sha256(train.astype("<i8").tobytes() + validation.astype("<i8").tobytes())
        return self.train.part(train), source.part(validation), digest.hexdigest()


def load(name: str, root: Path | None = None, *, download: bool = False, size: int = 64) -> Dataset:
    """Loads a dataset.

    Args:
        name: `digits`, `mnist`, `cifar10` or `folder:PATH`.
        root: where the files are; `$DEEPNETS_DATA` by default, or else `data`.
        download: fetch what is missing.
        size: pictures of a folder are brought to `size` x `size` pixels, unless all are squares of
            one smaller side.

    Raises:
        UserError: no such dataset, or its files are missing, damaged or too few.
    """
    check_name(name)
    root = root or Path(os.environ.get("DEEPNETS_DATA") or "data")
    if is_folder(name):
        title = folder_title(name)
        classes, parts, left_out = folders.load(folder_path(name), root, size)
    else:
        title, classes, left_out = facts(name).title, facts(name).classes, ""
        parts = dict(zip(("train", "test"), facts(name).read(root, download), strict=True))
    digest = hashlib.sha256(repr(classes).encode())
    for part in (parts[key] for key in ("train", "test", "validation") if key in parts):
        digest.update(repr(tuple(part.images.shape)).encode())
        for images in part.images.split(256):  # they may be larger than memory
            digest.update(images.contiguous().numpy().data)
        digest.update(part.labels.numpy().data)
    return Dataset(name, title, classes, sha256=digest.hexdigest(), left_out=left_out, **parts)


def is_folder(name: str) -> bool:
    """Returns whether a dataset's name is `folder:PATH`."""
    return name.startswith("folder:")


def folder_path(name: str) -> Path:
    """Returns the path in `folder:PATH`."""
    # pathlib's expanduser raises for an unknown user; this leaves the path as it is
    return Path(os.path.expanduser(name.removeprefix("folder:")))


def folder_title(name: str) -> str:
    """Returns the name of the folder in `folder:PATH`, however its path is written."""
    return folders.readable(folder_path(name).resolve().name)
