"""Images in: every dataset becomes uint8 tensors, split by seed, with hashes of what a run saw."""

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
    """A dataset: its name, the title to print with results, class names, training and test images,
    hash of all of them.

    A folder may come with `validation` images, and with a line for what is `left_out` of it.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    train: Images
    test: Images
    sha256: str
    validation: Images | None = None
    left_out: str = ""

    def split(self, seed: int, limit: int | None = None) -> tuple[Images, Images, str]:
        """Draw the validation images from the training images, both with the classes' proportions.

        Where the dataset has validation images, these are taken, all of them, whatever the seed.

        Args:
            seed: decides the draw.
            limit: train on so many images only; validation then takes a fifth of that, if that is
                fewer than usual, but as many images as there are classes at least.

        Returns:
            Training images, validation images, and the SHA-256 of their indices.

        Raises:
            UserError: there are not that many images, or fewer than classes in one part, or a class
            has a single one.
        """
        size = facts(self.name).validation or max(len(self.train) // 10, len(self.classes))
        if limit is not None:
            size = min(size, max(limit // 5, len(self.classes)))
        what = self.name if limit is None else f"--limit {limit}: {self.name}"
        if self.validation is None:
            train, validation = stratified(self.train.labels, limit, size, seed, what, self.classes)
        else:
            train, validation = np.arange(len(self.train)), np.arange(len(self.validation))
            if limit is not None:
                train, _ = stratified(
                    self.train.labels, limit, len(self.classes), seed, what, self.classes
                )
        digest = hashlib.sha256(train.astype("<i8").tobytes() + validation.astype("<i8").tobytes())
        return (
            self.train.part(train),
            (self.validation or self.train).part(validation),
            digest.hexdigest(),
        )


def default_root() -> Path:
    """The folder of the datasets: `$DEEPNETS_DATA`, or else `data`."""
    return Path(os.environ.get("DEEPNETS_DATA") or "data")


def load(name: str, root: Path | None = None, *, download: bool = False, size: int = 64) -> Dataset:
    """Load a dataset.

    Args:
        name: `digits`, `mnist`, `cifar10` or `folder:PATH`.
        root: where the files are; `$DEEPNETS_DATA` by default, or else `data`.
        download: fetch what is missing.
        size: pictures of a folder are brought to `size` x `size` pixels, unless all are squares of
            one smaller side.

    Raises:
        UserError: no such dataset, or its files are missing, damaged or too few; says what to do.
    """
    check_name(name)
    known, root = facts(name), root or default_root()
    title, classes, validation, left_out = known.title, known.classes, None, ""
    if is_folder(name):
        folder = folders.load(folder_path(name), root, size)
        title, classes, train, test = folder.title, folder.classes, folder.train, folder.test
        validation, left_out = folder.validation, folder.left_out
    else:
        train, test = known.read(root, download)
    digest = hashlib.sha256(repr(classes).encode())
    for part in filter(None, (train, test, validation)):
        digest.update(repr(tuple(part.images.shape)).encode())
        for images in part.images.split(1024):  # they may be larger than memory
            digest.update(images.contiguous().numpy().data)
        digest.update(part.labels.numpy().data)
    return Dataset(name, title, classes, train, test, digest.hexdigest(), validation, left_out)


def is_folder(name: str) -> bool:
    """Whether it is the name of a folder."""
    return name.startswith("folder:")


def folder_title(name: str) -> str:
    """The name of the folder of a dataset called `folder:PATH`, however the path is written."""
    return folders.title(folder_path(name))


def folder_from(name: str, start: Path) -> str:
    """The way from `start` to that folder, which holds when both are moved together; on another
    Windows drive there is none.
    """
    folder = folder_path(name).resolve()
    try:
        return os.path.relpath(folder, start.resolve())
    except ValueError:
        return str(folder)


def folder_path(name: str) -> Path:
    """The PATH of a dataset called `folder:PATH`."""
    # pathlib's raises where there is no such home
    return Path(os.path.expanduser(name.removeprefix("folder:")))
