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
    title: str  # what to call it beside results
    classes: tuple[str, ...]
    train: Images
    test: Images
    sha256: str  # of class names, images and labels
    validation: Images | None = None  # only a folder may have its own
    left_out: str = ""  # what of a folder is not used, in words

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
        labels, least = self.train.labels, len(self.classes)

        def draw(size: int) -> tuple[np.ndarray, np.ndarray]:
            what = self.name if limit is None else f"--limit {limit}: {self.name}"
            return stratified(labels, limit, size, seed, what, self.classes)

        if self.validation is None:
            source, size = self.train, facts(self.name).validation or max(len(labels) // 10, least)
            train, validation = draw(size if limit is None else min(size, max(limit // 5, least)))
        else:
            source, validation = self.validation, np.arange(len(self.validation))
            train = np.arange(len(labels)) if limit is None else draw(least)[0]
        digest = hashlib.sha256(train.astype("<i8").tobytes() + validation.astype("<i8").tobytes())
        return self.train.part(train), source.part(validation), digest.hexdigest()


def load(name: str, root: Path | None = None, *, download: bool = False, size: int = 64) -> Dataset:
    """Loads a dataset.

    Args:
        name: `digits`, `mnist`, `cifar10` or `folder:PATH`.
        root: where the files are; `$DEEPNETS_DATA` by default, or else `data`. Decoded copies of
            folders are in `root`/.decoded.
        download: fetch what is missing.
        size: pictures of a folder are cropped and scaled to `size` x `size` pixels, unless all are
            squares of one smaller side.

    Raises:
        UserError: no such dataset, or its files are missing, damaged or too few.
    """
    check_name(name)
    root = root or Path(os.environ.get("DEEPNETS_DATA") or "data")
    known = facts(name)
    if known.read:
        title, classes, left_out = known.title, known.classes, ""
        parts = dict(zip(("train", "test"), known.read(root, download), strict=True))
    else:
        title = folder_title(name)
        classes, parts, left_out = folders.load(folder_path(name), root, size)
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
