"""The named datasets, each with all that is known of it, and what holds for folders of images."""

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from ..errors import UserError
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

Parts = tuple[Images, Images]  # to train on and to test


@dataclass(frozen=True)
class Facts:
    """What is known of a dataset by its name."""

    title: str
    classes: tuple[str, ...]
    read: Callable[[Path, bool], Parts]
    """Reads the images from a folder of datasets, and downloads them first if told to."""
    standard: Policy
    """Augmentation of our recipes."""
    published: Policy
    """Augmentation of the published comparison's improved networks."""
    validation: int | None = None
    """Number of validation images; a tenth of the training images by default."""
    digit: float | None = None
    """Share of the image's side that a digit fills; None where the images are not digits."""

    def policy(self, augment: str) -> Policy | None:
        """Returns how a recipe's `augment` (`none`, `standard`, `published`) changes images."""
        return {"none": None, "standard": self.standard, "published": self.published}[augment]


def _digits(root: Path, download: bool) -> Parts:
    """Reads scikit-learn's 1,797 digits of 8x8 pixels (Alpaydin and Kaynak 1998).

    A fixed fifth is the test set. Both parts have the same writers, so accuracies are higher than
    on new ones.
    """
    bunch = load_digits()
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    train, test = stratified(labels, None, 360, 0, "digits", "0123456789")
    return Images(images[train], labels[train]), Images(images[test], labels[test])


def _mnist(root: Path, download: bool) -> Parts:
    """Reads MNIST's four files, whose checksums are verified."""
    from torchvision.datasets import MNIST, mnist

    raw = root / "MNIST" / "raw"
    if not all((raw / name).is_file() for name in MNIST_SHA256):
        _fetch("MNIST", MNIST, root, download, "MNIST/raw/*-ubyte")
    for name, expected in MNIST_SHA256.items():
        if hashlib.sha256((raw / name).read_bytes()).hexdigest() != expected:
            wrong = "is damaged (its checksum is not MNIST's)"
            raise UserError(f"{raw / name} {wrong}: delete it and train with --download")
    files = [str(raw / name) for name in MNIST_SHA256]
    train = Images(mnist.read_image_file(files[0])[:, None], mnist.read_label_file(files[1]))
    test = Images(mnist.read_image_file(files[2])[:, None], mnist.read_label_file(files[3]))
    return train, test


def _cifar10(root: Path, download: bool) -> Parts:
    """Reads the binary version, or else the Python version: the same pixels in the same order.

    Torchvision verifies the checksums of the Python version before it opens the pickles.
    """
    from torchvision import datasets

    folder = root / "cifar-10-batches-bin"
    if folder.is_dir():
        parts = [_read_batch(folder / name, expected) for name, expected in CIFAR10_SHA256.items()]
        pixels, classes = (np.concatenate([part[i] for part in parts[:-1]]) for i in (0, 1))
        train = Images(torch.from_numpy(pixels), torch.from_numpy(classes))
        return train, Images(*map(torch.from_numpy, parts[-1]))
    if not (root / "cifar-10-batches-py").is_dir():
        layout = "cifar-10-batches-py or cifar-10-batches-bin"
        _fetch("CIFAR-10", datasets.CIFAR10, root, download, layout)
    try:
        pickled = [datasets.CIFAR10(str(root), train=part) for part in (True, False)]
    except RuntimeError:
        wrong = "cifar-10-batches-py is incomplete or damaged"
        raise UserError(f"{root}/{wrong}: delete it and train with --download") from None
    images = [torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in pickled]
    train, test = (Images(i, torch.tensor(p.targets)) for i, p in zip(images, pickled, strict=True))
    return train, test


def _read_batch(file: Path, expected: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads a file of the binary version: a label byte, then red, green and blue 32x32 pixels.

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
    """Downloads a dataset with torchvision's `source`, or says what to do."""
    if not download:
        advice = f"train with --download, or set DEEPNETS_DATA to a folder with {layout}"
        raise UserError(f"{title} is not in {root}: {advice}")
    places = (root / "MNIST" / "raw", root / "MNIST", root, *root.parents)
    new = [path for path in places if not path.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        source(str(root), download=True)
    except (OSError, RuntimeError) as error:
        for path in new:
            with suppress(OSError):  # it was not made, or something came after all
                path.rmdir()
        why = str(error).splitlines()[0]
        raise UserError(f"{title} could not be downloaded to {root}: {why}") from None


DIGITS = tuple("0123456789")
OBJECTS = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
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
FOLDER = Facts("", (), lambda root, download: None, Policy(shift=1 / 8, flip=True), JITTERED)  # type: ignore


def facts(name: str) -> Facts:
    """Returns what is known of a dataset; a name that is not known is a folder's."""
    return DATASETS.get(name, FOLDER)


def check_name(name: str) -> None:
    """Raises UserError unless `load` knows the name."""
    if name not in DATASETS and not re.fullmatch("(?s)folder:[^\\0]+", name):
        choice = ", ".join([*DATASETS, "folder:PATH"])
        raise UserError(f"no dataset is called {name!r}; choose from {choice}")
