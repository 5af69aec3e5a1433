"""Images in: every dataset becomes uint8 tensors, split by seed, with hashes that say which pixels
a run saw.
"""

import hashlib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from ..errors import UserError
from . import folders
from .images import Images, stratified
from .images import statistics as statistics
from .pictures import read_image as read_image

VALIDATION = {"mnist": 10_000, "cifar10": 5_000}  # images; a tenth of the training images elsewhere
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
CIFAR10_SHA256 = {  # of the binary version; five files to train on, then the test images
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


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
        size = VALIDATION.get(self.name, max(len(self.train) // 10, len(self.classes)))
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


Parts = tuple[str, tuple[str, ...], Images, Images]  # title, classes, training and test images


def check_name(name: str) -> None:
    """Raise UserError unless `load` knows the name."""
    if name not in ("digits", "mnist", "cifar10") and not re.fullmatch("(?s)folder:[^\\0]+", name):
        raise UserError(
            f"no dataset is called {name!r}; choose from digits, mnist, cifar10, folder:PATH"
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
    root = root or default_root()
    validation, left_out = None, ""
    if name == "digits":
        title, classes, train, test = _digits()
    elif name == "mnist":
        title, classes, train, test = _mnist(root, download)
    elif name == "cifar10":
        title, classes, train, test = _cifar10(root, download)
    else:
        folder = folders.load(folder_path(name), root, size)
        title, classes, train, test = folder.title, folder.classes, folder.train, folder.test
        validation, left_out = folder.validation, folder.left_out
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


def _digits() -> Parts:
    """1,797 handwritten digits of 8x8 pixels (Alpaydin and Kaynak 1998), from scikit-learn; a fixed
    fifth is the test set.

    The same writers are in both parts, so accuracies are higher than on writers never seen.
    """
    bunch = load_digits()
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    train, test = stratified(labels, None, 360, 0, "digits", "0123456789")
    everything = Images(images, labels)
    return "Digits", tuple("0123456789"), everything[train], everything[test]


def _mnist(root: Path, download: bool) -> Parts:
    from torchvision.datasets import MNIST, mnist

    raw = root / "MNIST" / "raw"
    if not all((raw / name).is_file() for name in MNIST_SHA256):
        _fetch("MNIST", MNIST, root, download, "MNIST/raw/*-ubyte")
    for name, expected in MNIST_SHA256.items():
        if hashlib.sha256((raw / name).read_bytes()).hexdigest() != expected:
            raise UserError(
                f"{raw / name} is damaged (its checksum is not MNIST's): delete it and train with --download"
            )
    read = {"images": mnist.read_image_file, "labels": mnist.read_label_file}
    tensors = [read[name.split("-")[1]](str(raw / name)) for name in MNIST_SHA256]
    train, test = Images(tensors[0][:, None], tensors[1]), Images(tensors[2][:, None], tensors[3])
    return "MNIST", tuple("0123456789"), train, test


def _cifar10(root: Path, download: bool) -> Parts:
    """Read the binary version, or else the Python version, whose checksums torchvision verifies
    before it opens the pickles.

    Both hold the same pixels in the same order.
    """
    from torchvision import datasets

    folder = root / "cifar-10-batches-bin"
    if folder.is_dir():
        parts = [_read_batch(folder / name, expected) for name, expected in CIFAR10_SHA256.items()]
        images, labels = (
            torch.from_numpy(np.concatenate([part[i] for part in parts[:-1]])) for i in (0, 1)
        )
        return (
            "CIFAR-10",
            CIFAR10_CLASSES,
            Images(images, labels),
            Images(*map(torch.from_numpy, parts[-1])),
        )
    if not (root / "cifar-10-batches-py").is_dir():
        _fetch(
            "CIFAR-10",
            datasets.CIFAR10,
            root,
            download,
            "cifar-10-batches-py or cifar-10-batches-bin",
        )
    try:
        pickled = [datasets.CIFAR10(str(root), train=part) for part in (True, False)]
    except RuntimeError:
        raise UserError(
            f"{root / 'cifar-10-batches-py'} is incomplete or damaged: delete it and train with --download"
        ) from None
    pixels = [torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in pickled]
    train, test = (
        Images(x, torch.tensor(part.targets)) for x, part in zip(pixels, pickled, strict=True)
    )
    return "CIFAR-10", tuple(pickled[0].classes), train, test


def _read_batch(file: Path, expected: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a file of the binary version: records of a label byte and 3,072 pixels, red, green and
    blue planes.

    Returns:
        Images (N, 3, 32, 32), uint8, and labels (N,), int64.
    """
    content = file.read_bytes() if file.is_file() else b""
    if hashlib.sha256(content).hexdigest() != expected:
        what = "is damaged (its checksum is not CIFAR-10's)" if content else "is missing"
        raise UserError(f"{file} {what}: delete {file.parent} and train with --download")
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    return records[:, 1:].reshape(-1, 3, 32, 32).copy(), records[:, 0].astype(np.int64)


def _fetch(
    title: str, source: Callable[..., object], root: Path, download: bool, layout: str
) -> None:
    """Download what torchvision calls `source`, or say what to do."""
    if not download:
        raise UserError(
            f"{title} is not in {root}: train with --download, or set DEEPNETS_DATA to a folder with {layout}"
        )
    new = [
        path
        for path in (root / "MNIST" / "raw", root / "MNIST", root, *root.parents)
        if not path.exists()
    ]
    try:
        root.mkdir(parents=True, exist_ok=True)
        source(str(root), download=True)
    except (OSError, RuntimeError) as error:
        for path in new:
            with suppress(OSError):  # something has come after all, or it was not made
                path.rmdir()
        raise UserError(
            f"{title} could not be downloaded to {root}: {str(error).splitlines()[0]}"
        ) from None
