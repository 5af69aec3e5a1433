"""Images in: every dataset becomes uint8 tensors, split by seed, with hashes that say which pixels a run saw."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from tqdm import tqdm

from .errors import UserError

VALIDATION = {"mnist": 10_000, "cifar10": 5_000}  # images; a tenth of the training images elsewhere
IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
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
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Images:
    """Images (N, C, H, W), uint8, and their labels (N,), int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | np.ndarray) -> "Images":
        return Images(self.images[index], self.labels[index])


@dataclass(frozen=True)
class Dataset:
    """A dataset: its name, the title to print with results, class names, training and test images, hash of all of them."""

    name: str
    title: str
    classes: tuple[str, ...]
    train: Images
    test: Images
    sha256: str

    def split(self, seed: int, limit: int | None = None) -> tuple[Images, Images, str]:
        """Draw the validation images from the training images, both with the classes' proportions.

        Args:
            seed: decides the draw.
            limit: train on so many images only; validation then takes a fifth of that, if that is fewer than usual, but as many
                images as there are classes at least.

        Returns:
            Training images, validation images, and the SHA-256 of their indices.

        Raises:
            UserError: there are not that many images, or fewer than classes in one part, or a class has a single one.
        """
        size = VALIDATION.get(self.name, max(len(self.train) // 10, len(self.classes)))
        if limit is not None:
            size = min(size, max(limit // 5, len(self.classes)))
        what = self.name if limit is None else f"--limit {limit}: {self.name}"
        train, validation = _stratified(self.train.labels, limit, size, seed, what)
        digest = hashlib.sha256(train.astype("<i8").tobytes() + validation.astype("<i8").tobytes())
        return self.train[train], self.train[validation], digest.hexdigest()


def _stratified(labels: Tensor, first: int | None, second: int, seed: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices of `first` (None: of all other) and of `second` images, both with the classes' proportions."""
    sizes = {"train_size": first, "test_size": second}
    try:
        chosen, others = train_test_split(np.arange(len(labels)), **sizes, stratify=labels, random_state=seed)
    except ValueError:
        sought = f"{first or 'the rest'} and {second} with all {len(labels.unique())} classes in both"
        raise UserError(f"{what}: {len(labels)} images do not split into {sought}") from None
    return chosen, others


Parts = tuple[str, tuple[str, ...], Images, Images]  # title, classes, training and test images


def check_name(name: str) -> None:
    """Raise UserError unless `load` knows the name."""
    if name not in ("digits", "mnist", "cifar10") and not re.fullmatch("folder:.+", name):
        raise UserError(f"no dataset is called {name!r}; choose from digits, mnist, cifar10, folder:PATH")


def default_root() -> Path:
    """The folder of the datasets: `$DEEPNETS_DATA`, or else `data`."""
    return Path(os.environ.get("DEEPNETS_DATA") or "data")


def load(name: str, root: Path | None = None, *, download: bool = False, size: int = 64) -> Dataset:
    """Load a dataset.

    Args:
        name: `digits`, `mnist`, `cifar10` or `folder:PATH`.
        root: where the files are; `$DEEPNETS_DATA` by default, or else `data`.
        download: fetch what is missing.
        size: pictures of a folder are brought to `size` x `size` pixels, unless all are squares of one smaller side.

    Raises:
        UserError: no such dataset, or its files are missing, damaged or too few; says what to do.
    """
    check_name(name)
    root = root or default_root()
    if name == "digits":
        title, classes, train, test = _digits()
    elif name == "mnist":
        title, classes, train, test = _mnist(root, download)
    elif name == "cifar10":
        title, classes, train, test = _cifar10(root, download)
    else:
        title, classes, train, test = _folder(folder_path(name), root, size)
    digest = hashlib.sha256(repr(classes).encode())
    for part in (train, test):
        digest.update(repr(tuple(part.images.shape)).encode())
        digest.update(part.images.numpy().tobytes())
        digest.update(part.labels.numpy().tobytes())
    return Dataset(name, title, classes, train, test, digest.hexdigest())


def folder_path(name: str) -> Path:
    """The PATH of a dataset called `folder:PATH`."""
    return Path(os.path.expanduser(name.removeprefix("folder:")))  # pathlib's raises where there is no such home


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of images (N, C, H, W), uint8, on the scale 0 to 1."""
    counts = torch.stack([channel.flatten().bincount(minlength=256) for channel in images.unbind(1)]).double()
    shares, levels = counts / counts.sum(1, keepdim=True), torch.arange(256, dtype=torch.float64) / 255
    mean = shares @ levels
    std = (shares * (levels - mean[:, None]) ** 2).sum(1).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


def _digits() -> Parts:
    """1,797 handwritten digits of 8x8 pixels (Alpaydin and Kaynak 1998), from scikit-learn; a fixed fifth is the test set.

    The same writers are in both parts, so accuracies are higher than on writers never seen.
    """
    bunch = load_digits()
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    train, test = _stratified(labels, None, 360, 0, "digits")
    everything = Images(images, labels)
    return "Digits", tuple("0123456789"), everything[train], everything[test]


def _mnist(root: Path, download: bool) -> Parts:
    from torchvision.datasets import MNIST, mnist

    raw = root / "MNIST" / "raw"
    if not all((raw / name).is_file() for name in MNIST_SHA256):
        _fetch("MNIST", MNIST, root, download, "MNIST/raw/*-ubyte")
    for name, expected in MNIST_SHA256.items():
        if hashlib.sha256((raw / name).read_bytes()).hexdigest() != expected:
            raise UserError(f"{raw / name} is damaged (its checksum is not MNIST's): delete it and train with --download")
    read = {"images": mnist.read_image_file, "labels": mnist.read_label_file}
    tensors = [read[name.split("-")[1]](str(raw / name)) for name in MNIST_SHA256]
    train, test = Images(tensors[0][:, None], tensors[1]), Images(tensors[2][:, None], tensors[3])
    return "MNIST", tuple("0123456789"), train, test


def _cifar10(root: Path, download: bool) -> Parts:
    """Read the binary version, or else the Python version, whose checksums torchvision verifies before it opens the pickles.

    Both hold the same pixels in the same order.
    """
    from torchvision import datasets

    folder = root / "cifar-10-batches-bin"
    if folder.is_dir():
        parts = [_read_batch(folder / name, expected) for name, expected in CIFAR10_SHA256.items()]
        images, labels = (torch.from_numpy(np.concatenate([part[i] for part in parts[:-1]])) for i in (0, 1))
        return "CIFAR-10", CIFAR10_CLASSES, Images(images, labels), Images(*map(torch.from_numpy, parts[-1]))
    if not (root / "cifar-10-batches-py").is_dir():
        _fetch("CIFAR-10", datasets.CIFAR10, root, download, "cifar-10-batches-py or cifar-10-batches-bin")
    try:
        pickled = [datasets.CIFAR10(str(root), train=part) for part in (True, False)]
    except RuntimeError:
        raise UserError(
            f"{root / 'cifar-10-batches-py'} is incomplete or damaged: delete it and train with --download"
        ) from None
    pixels = [torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in pickled]
    train, test = (Images(x, torch.tensor(part.targets)) for x, part in zip(pixels, pickled, strict=True))
    return "CIFAR-10", tuple(pickled[0].classes), train, test


def _read_batch(file: Path, expected: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a file of the binary version: records of a label byte and 3,072 pixels, red, green and blue planes.

    Returns:
        Images (N, 3, 32, 32), uint8, and labels (N,), int64.
    """
    content = file.read_bytes() if file.is_file() else b""
    if hashlib.sha256(content).hexdigest() != expected:
        what = "is damaged (its checksum is not CIFAR-10's)" if content else "is missing"
        raise UserError(f"{file} {what}: delete {file.parent} and train with --download")
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    return records[:, 1:].reshape(-1, 3, 32, 32).copy(), records[:, 0].astype(np.int64)


def _fetch(title: str, source: Callable[..., object], root: Path, download: bool, layout: str) -> None:
    """Download what torchvision calls `source`, or say what to do."""
    if not download:
        raise UserError(f"{title} is not in {root}: train with --download, or set DEEPNETS_DATA to a folder with {layout}")
    new = [path for path in (root / "MNIST" / "raw", root / "MNIST", root, *root.parents) if not path.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        source(str(root), download=True)
    except (OSError, RuntimeError) as error:
        for path in new:
            with suppress(OSError):  # something has come after all, or it was not made
                path.rmdir()
        raise UserError(f"{title} could not be downloaded to {root}: {str(error).splitlines()[0]}") from None


def _folder(path: Path, root: Path, size: int) -> Parts:
    """Images by class: PATH/{train,test}/CLASS/* or PATH/CLASS/*, of which a fixed fifth becomes the test set."""
    if not path.is_dir():
        raise UserError(f"{path} is not a folder")
    parts = [path / "train", path / "test"] if all((path / p).is_dir() for p in ("train", "test")) else [path]
    files = {part: _list_classes(part) for part in parts}
    classes = tuple(files[parts[0]])
    for part, listing in files.items():
        if tuple(listing) != classes:
            odd = sorted(set(listing) ^ set(classes))[0]
            raise UserError(f"{part}: class {odd!r} is in only one of train and test")
    flat = [(label, file) for part in parts for label, name in enumerate(classes) for file in files[part][name]]
    labels = torch.tensor([label for label, _ in flat])
    everything = Images(_decode_cached([file for _, file in flat], path, root, size), labels)
    if len(parts) == 2:
        count = sum(map(len, files[parts[0]].values()))
        train, test = np.split(np.arange(len(flat)), [count])
    else:
        train, test = _stratified(labels, None, len(flat) // 5, 0, str(path))
        if missing := sorted(set(range(len(classes))) - set(labels[test].tolist())):
            rare = f"none of the images of class {classes[missing[0]]!r} falls into the fifth for testing"
            raise UserError(f"{path}: {rare}: add some, or make {path / 'train'} and {path / 'test'}")
    return path.resolve().name, classes, everything[train], everything[test]


def _list_classes(folder: Path) -> dict[str, list[Path]]:
    listing = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            listing[entry.name] = sorted(f for f in entry.iterdir() if _is_image(f))
            if not listing[entry.name]:
                raise UserError(f"{entry} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    if len(listing) < 2:
        raise UserError(f"{folder} needs a folder of images for each class, at least two; it has {len(listing)}")
    return listing


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")  # a Mac's archives have ._X beside X


def _decode_cached(files: list[Path], path: Path, root: Path, size: int) -> Tensor:
    """Decode once; the copy under `root`/cache serves until a file's name, size or time changes."""
    listing = [(str(f.relative_to(path)), (stat := f.stat()).st_size, stat.st_mtime_ns) for f in files]
    fingerprint = hashlib.sha256(repr(listing).encode()).hexdigest()
    key = hashlib.sha256(f"{path.resolve()} {size}".encode()).hexdigest()[:16]
    cache = root / "cache" / f"{key}.npz"
    # There may be none yet, or a damaged one, which fails in a dozen ways: decode.
    with suppress(Exception), cache.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        if str(stored["fingerprint"]) == fingerprint:
            return torch.from_numpy(stored["images"])
    images = _decode(files, size)
    part = cache.with_name(f"{key}.{os.getpid()}.npz")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(part, images=images, fingerprint=np.array(fingerprint))
        part.replace(cache)
    except OSError:
        pass  # a root that cannot be written costs the next load its time, nothing else
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return torch.from_numpy(images)


def _decode(files: list[Path], size: int) -> np.ndarray:
    """Pictures to (N, C, H, W), uint8: as they are if all are squares of one side up to `size`, else cropped and scaled to it.

    C is 1 if no picture has colour.
    """
    with ThreadPoolExecutor() as pool:
        shapes = set(pool.map(_image_size, files))
        (width, height), *others = shapes
        side = width if not others and width == height <= size else size
        pixels = pool.map(lambda file: read_image(file, side), files)
        images = np.stack(list(tqdm(pixels, "decoding", len(files), unit=" images", leave=False, disable=None)))
    images = images.transpose(0, 3, 1, 2)
    gray = all((images[:, 0] == images[:, i]).all() for i in (1, 2))
    return np.ascontiguousarray(images[:, :1] if gray else images)


def _image_size(file: Path) -> tuple[int, int]:
    with _opened(file) as picture:
        return picture.size


def read_image(file: Path, side: int | None = None) -> np.ndarray:
    """A picture as (H, W, 3), uint8, upright, on white where it is transparent; cropped and scaled to `side` if given.

    Raises:
        UserError: the file is no picture, or one whose brightness has no known range.
    """
    with _opened(file) as picture:
        upright = ImageOps.exif_transpose(picture)
        if upright.has_transparency_data:
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
        if upright.mode.startswith("I;16") or (upright.mode == "I" and picture.format == "PPM"):
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))  # of 16 bits; PIL would clip, not scale
        if upright.mode in ("I", "F"):
            raise UserError(f"{file} has 32 bits a pixel, of which nothing says what is white; save it with 8 or 16")
        upright = upright.convert("RGB")
        if side is not None and upright.size != (side, side):
            upright = ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS)
        return np.asarray(upright)


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """A picture; whatever is wrong with its file, found now or when its pixels are read, is a UserError."""
    try:
        with Image.open(file) as picture:
            yield picture
    except FileNotFoundError:
        raise UserError(f"{file} does not exist") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UserError(f"{file} is not a readable image; replace or remove it") from None
