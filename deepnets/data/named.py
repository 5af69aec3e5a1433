"""The named datasets, each with all that is known of it, and what holds for folders of images."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits

from ..errors import UserError
from ..recipes import Recipe
from ..transforms import Policy
from .images import Images, stratified

MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
CIFAR10_SHA256 = {  # of the binary version: five files of training images, then the test images
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}

DIGITS = tuple("0123456789")
OBJECTS = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
Parts = tuple[Images, Images]  # to train on and to test


@dataclass(frozen=True)
class Facts:
    """What is known of a dataset by its name."""

    title: str
    classes: tuple[str, ...]
    # Reads images from a folder of datasets, downloads them if told to; None for `folder:PATH`
    read: Callable[[Path, bool], Parts] | None
    standard: Policy  # augmentation of our recipes
    published: Policy  # augmentation of the published comparison's improved networks
    validation: int | None = None  # images; a tenth of the training images by default
    digit: float | None = None  # share of the side that a digit fills; None of other images

    def policy(self, augment: str) -> Policy | None:
        """Returns how a recipe's `augment` changes images."""
        return {
            "none": None,
            "shift": replace(self.standard, flip=False),
            "standard": self.standard,
            "published": self.published,
        }[augment]

    def flips_test(self, recipe: Recipe) -> bool:
        """Returns whether a recipe has test images mirrored, too: if it mirrors those to train."""
        policy = self.policy(recipe.augment)
        return recipe.flip_test and policy is not None and policy.flip


def _digits(root: Path, download: bool) -> Parts:
    """Reads scikit-learn's 1,797 digits of 8x8 pixels (Alpaydin and Kaynak 1998).

    A fixed fifth is the test set. Both parts have the same writers, so accuracies are higher than
    on new ones.
    """
    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    digits = _images(pixels, bunch.target)
    train, test = stratified(digits.labels, None, 360, 0, "digits", DIGITS)
    return digits[train], digits[test]


def _mnist(root: Path, download: bool) -> Parts:
    """Reads MNIST's four files, which begin with headers of 16 and 8 bytes."""
    from torchvision.datasets import MNIST

    raw = root / "MNIST" / "raw"
    if not all((raw / name).is_file() for name in MNIST_SHA256):
        _torchvision(MNIST, root, download, "MNIST/raw/*-ubyte")
    files = [_checked(raw / name, sha256, "MNIST") for name, sha256 in MNIST_SHA256.items()]
    images = [
        np.frombuffer(file, np.uint8, offset=16).reshape(-1, 1, 28, 28) for file in files[::2]
    ]
    labels = [np.frombuffer(file, np.uint8, offset=8) for file in files[1::2]]
    train, test = map(_images, images, labels)
    return train, test


def _cifar10(root: Path, download: bool) -> Parts:
    """Reads the binary version, or else the Python version: the same pixels in the same order.

    Torchvision verifies the checksums of the Python version before it opens the pickles.
    """
    from torchvision.datasets import CIFAR10

    folder = root / "cifar-10-batches-bin"
    if folder.is_dir():
        files = [_checked(folder / name, sha, "CIFAR-10") for name, sha in CIFAR10_SHA256.items()]
        # A label byte, then red, green and blue of 32x32 pixels
        records = np.frombuffer(b"".join(files), np.uint8).reshape(-1, 1 + 3 * 32 * 32)
        train, test = (
            _images(part[:, 1:].reshape(-1, 3, 32, 32), part[:, 0])
            for part in np.split(records, [len(records) // len(files) * 5])
        )
        return train, test
    layout = "cifar-10-batches-py or cifar-10-batches-bin"
    train, test = (
        _images(part.data.transpose(0, 3, 1, 2), part.targets)
        for part in _torchvision(CIFAR10, root, download, layout)
    )
    return train, test


def _checked(file: Path, sha256: str, title: str) -> bytes:
    """Reads a file whose hash is known; raises UserError if it has another."""
    content = file.read_bytes() if file.is_file() else b""
    if hashlib.sha256(content).hexdigest() != sha256:
        what = f"is damaged (its checksum is not {title}'s)" if content else "is missing"
        raise UserError(f"{file} {what}: delete {file.parent} and train with --download")
    return content


def _images(pixels: np.ndarray, labels: npt.ArrayLike) -> Images:
    """Returns copies of pixels (N, C, H, W) and labels (N,) as tensors."""
    return Images(torch.tensor(pixels), torch.tensor(labels, dtype=torch.int64))


def _torchvision(source: type, root: Path, download: bool, layout: str) -> list[Any]:
    """Returns torchvision's training and test set; downloads them if told to."""
    try:
        return [source(str(root), train=part, download=download) for part in (True, False)]
    except Exception as error:  # of the network, a full disk, a damaged file of whatever kind
        why = str(error).partition("\n")[0]
        if download:
            raise UserError(f"{source.__name__} could not be downloaded to {root}: {why}") from None
        advice = f"train with --download, or set DEEPNETS_DATA to a folder with {layout}"
        raise UserError(f"{source.__name__} is not in {root}, or damaged: {advice}") from None


# The published comparison resizes first (Skoularikis 2021).
TURNED = Policy(degrees=15, shift=0.1, scale=0.2, resized=True)
JITTERED = Policy(degrees=10, shift=0.1, scale=0.2, flip=True, shear=10, colour=0.2, resized=True)
DATASETS = {
    # Shifts of one pixel of 8, two of 28, four of 32. A mirrored digit is none, so none is flipped.
    "digits": Facts(
        "Digits", DIGITS, _digits, Policy(degrees=10, shift=1 / 8, scale=0.1), TURNED, digit=1.0
    ),
    "mnist": Facts(
        "MNIST", DIGITS, _mnist, Policy(degrees=10, shift=2 / 28, scale=0.1), TURNED,
        validation=10_000, digit=20 / 28,
    ),
    "cifar10": Facts(
        "CIFAR-10", OBJECTS, _cifar10, Policy(shift=4 / 32, flip=True), JITTERED,
        validation=5_000,
    ),
}  # fmt: skip
FOLDER = Facts("", (), None, Policy(shift=1 / 8, flip=True), JITTERED)


def facts(name: str) -> Facts:
    """Returns what is known of a dataset; a name that is not known is a folder's."""
    return DATASETS.get(name, FOLDER)


def check_name(name: str) -> None:
    """Raises UserError unless `load` knows the name."""
    if name not in DATASETS and not re.fullmatch("(?s)folder:[^\\0]+", name):
        choice = ", ".join([*DATASETS, "folder:PATH"])
        raise UserError(f"no dataset is called {name!r}; choose from {choice}")
