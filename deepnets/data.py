"""Images in: every dataset becomes uint8 tensors, split by seed, with hashes that say which pixels a run saw."""

import hashlib
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
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


@dataclass(frozen=True)
class Images:
    """Images (N, C, H, W), uint8, and their labels (N,), int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> "Images":
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
            limit: train on so many images only; validation then takes at most a fifth of that.

        Returns:
            Training images, validation images, and the SHA-256 of their indices.

        Raises:
            UserError: there are not that many images, or too few to hold every class.
        """
        size = VALIDATION.get(self.name, max(len(self.train) // 10, len(self.classes)))
        rest, validation = _stratified(np.arange(len(self.train)), self.train.labels.numpy(), size, seed, self.name)
        if limit is not None:
            if limit > len(rest):
                raise UserError(f"--limit {limit}: {self.name} has {len(rest)} training images beside the validation split")
            size = min(size, max(limit // 5, len(self.classes)))
            if limit < len(rest):
                _, rest = _stratified(rest, self.train.labels[rest].numpy(), limit, seed, f"--limit {limit}")
            if size < len(validation):
                labels = self.train.labels[validation].numpy()
                _, validation = _stratified(validation, labels, size, seed, f"--limit {limit}")
        digest = hashlib.sha256(rest.astype("<i8").tobytes() + validation.astype("<i8").tobytes()).hexdigest()
        return self.train[torch.from_numpy(rest)], self.train[torch.from_numpy(validation)], digest


def _stratified(index: np.ndarray, labels: np.ndarray, size: int, seed: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Split `index` in two, the second part of `size`."""
    try:
        first, second = train_test_split(index, test_size=size, stratify=labels, random_state=seed)
    except ValueError:
        classes = len(np.unique(labels))
        raise UserError(
            f"{what}: {len(index)} images do not split into {size} and the rest with all {classes} classes in both"
        ) from None
    return first, second


def data_root() -> Path:
    """Where datasets are: `$DEEPNETS_DATA`, or `data`."""
    return Path(os.environ.get("DEEPNETS_DATA") or "data")


def check_name(name: str) -> None:
    """Raise UserError unless `load` knows the name."""
    if name not in ("digits", "mnist", "cifar10") and not re.fullmatch("folder:.+", name):
        raise UserError(f"no dataset is called {name!r}; choose from digits, mnist, cifar10, folder:PATH")


def load(name: str, root: Path | None = None, *, download: bool = False, size: int = 64) -> Dataset:
    """Load a dataset.

    Args:
        name: `digits`, `mnist`, `cifar10` or `folder:PATH`.
        root: where the files are; `data_root()` by default.
        download: fetch what is missing.
        size: pictures of a folder that differ in size are brought to `size` x `size` pixels.

    Raises:
        UserError: no such dataset, or its files are missing, damaged or too few; says what to do.
    """
    check_name(name)
    root = data_root() if root is None else root
    if name == "digits":
        title, classes, train, test = _digits()
    elif name == "mnist":
        title, classes, train, test = _mnist(root, download)
    elif name == "cifar10":
        title, classes, train, test = _cifar10(root, download, size)
    else:
        path = Path(name.removeprefix("folder:")).expanduser()
        title = path.resolve().name
        classes, train, test = _folder(path, root, size)
    digest = hashlib.sha256(repr(classes).encode())
    for part in (train, test):
        digest.update(repr(tuple(part.images.shape)).encode())
        digest.update(part.images.numpy().tobytes())
        digest.update(part.labels.numpy().tobytes())
    return Dataset(name, title, classes, train, test, digest.hexdigest())


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of images (N, C, H, W), uint8, on the scale 0 to 1."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (share * levels).sum()
        means.append(mean.item())
        deviations.append(((share * (levels - mean) ** 2).sum().sqrt()).item())
    return tuple(means), tuple(deviations)


Parts = tuple[str, tuple[str, ...], Images, Images]


def _digits() -> Parts:
    """1,797 handwritten digits of 8x8 pixels (Alpaydin and Kaynak 1998), from scikit-learn; a fixed fifth is the test set.

    The same writers are in both parts, so accuracies are higher than on writers never seen.
    """
    bunch = load_digits()
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    train, test = _stratified(np.arange(len(labels)), labels.numpy(), 360, 0, "digits")
    everything = Images(images, labels)
    classes = tuple(str(digit) for digit in range(10))
    return "Digits", classes, everything[torch.from_numpy(train)], everything[torch.from_numpy(test)]


def _mnist(root: Path, download: bool) -> Parts:
    from torchvision import datasets

    raw = root / "MNIST" / "raw"
    missing = [name for name in MNIST_SHA256 if not (raw / name).is_file()]
    if missing and not download:
        raise UserError(
            f"MNIST is not in {root} ({missing[0]} is missing): add --download, "
            "or set DEEPNETS_DATA to the folder that holds MNIST/raw"
        )
    if missing:
        _download("MNIST", root, lambda: datasets.MNIST(str(root), download=True))
    for name, expected in MNIST_SHA256.items():
        if hashlib.sha256((raw / name).read_bytes()).hexdigest() != expected:
            raise UserError(f"{raw / name} is damaged (its checksum is not MNIST's): delete it and add --download")
    train, test = (datasets.MNIST(str(root), train=part) for part in (True, False))
    classes = tuple(str(digit) for digit in range(10))
    return "MNIST", classes, Images(train.data[:, None], train.targets), Images(test.data[:, None], test.targets)


def _cifar10(root: Path, download: bool, size: int) -> Parts:
    """The original batches, whose checksums torchvision verifies before it opens the pickles, or a folder of images."""
    from torchvision import datasets

    batches, folder = root / "cifar-10-batches-py", root / "cifar10"
    if not batches.is_dir() and folder.is_dir():
        classes, train, test = _folder(folder, root, size)
        lossy = next(folder.rglob("*.jp*g"), None)
        return f"CIFAR-10 ({'JPEG copy' if lossy else 'image folder'})", classes, train, test
    if not batches.is_dir() and not download:
        raise UserError(
            f"CIFAR-10 is not in {root}: add --download, or set DEEPNETS_DATA to a folder "
            "that holds cifar-10-batches-py or cifar10/{train,test}/CLASS/IMAGE"
        )
    if not batches.is_dir():
        _download("CIFAR-10", root, lambda: datasets.CIFAR10(str(root), download=True))
    try:
        train, test = (datasets.CIFAR10(str(root), train=part) for part in (True, False))
    except RuntimeError:
        raise UserError(f"{batches} is incomplete or damaged: delete it and add --download") from None
    parts = [Images(torch.from_numpy(p.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(p.targets)) for p in (train, test)]
    return "CIFAR-10", tuple(train.classes), parts[0], parts[1]


def _download(title: str, root: Path, fetch) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        fetch()
    except (OSError, RuntimeError) as error:
        raise UserError(f"{title} could not be downloaded to {root}: {str(error).splitlines()[0]}") from None


def _folder(path: Path, root: Path, size: int) -> tuple[tuple[str, ...], Images, Images]:
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
        train, test = _stratified(np.arange(len(flat)), labels.numpy(), len(flat) // 5, 0, str(path))
    return classes, everything[torch.from_numpy(train)], everything[torch.from_numpy(test)]


def _list_classes(folder: Path) -> dict[str, list[Path]]:
    listing = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            listing[entry.name] = sorted(f for f in entry.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
            if not listing[entry.name]:
                raise UserError(f"{entry} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    if len(listing) < 2:
        raise UserError(f"{folder} needs a folder of images for each class, at least two; it has {len(listing)}")
    return listing


def _decode_cached(files: list[Path], path: Path, root: Path, size: int) -> Tensor:
    """Decode once; the copy under `root`/cache serves until a file's name, size or time changes."""
    listing = [(str(f.relative_to(path)), (stat := f.stat()).st_size, stat.st_mtime_ns) for f in files]
    fingerprint = hashlib.sha256(repr(listing).encode()).hexdigest()
    key = hashlib.sha256(f"{path.resolve()} {size}".encode()).hexdigest()[:16]
    cache = root / "cache" / f"{key}.npz"
    try:
        with np.load(cache, allow_pickle=False) as stored:
            if str(stored["fingerprint"]) == fingerprint:
                return torch.from_numpy(stored["images"])
    except (OSError, ValueError, KeyError, EOFError):
        pass  # none yet, or a damaged one: decode
    images = _decode(files, size)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        part = cache.with_name(f"{key}.{os.getpid()}.npz")
        np.savez(part, images=images, fingerprint=np.array(fingerprint))
        part.replace(cache)
    except OSError:
        pass  # a root that cannot be written costs the next load its time, nothing else
    return torch.from_numpy(images)


def _decode(files: list[Path], size: int) -> np.ndarray:
    """Pictures to (N, C, H, W), uint8: as they are if all are squares of one side up to `size`, else cropped and scaled to it.

    C is 1 if no picture has colour.
    """
    with ThreadPoolExecutor() as pool:
        shapes = set(_with_progress(pool.map(_image_size, files), len(files), "looking"))
        (width, height), *others = shapes
        side = width if not others and width == height <= size else size
        pixels = _with_progress(pool.map(lambda file: read_image(file, side), files), len(files), "decoding")
        images = np.stack(list(pixels)).transpose(0, 3, 1, 2)
    gray = all((images[:, 0] == images[:, i]).all() for i in (1, 2))
    return np.ascontiguousarray(images[:, :1] if gray else images)


def _with_progress(items: Iterable, total: int, what: str) -> Iterable:
    return tqdm(items, what, total, unit=" images", leave=False, disable=None)


def _image_size(file: Path) -> tuple[int, int]:
    with _open_image(file) as picture:
        return picture.size


def read_image(file: Path, side: int | None = None) -> np.ndarray:
    """A picture as (H, W, 3), uint8, upright, on white where it is transparent; cropped and scaled to `side` if given.

    Raises:
        UserError: the file is no picture.
    """
    with _open_image(file) as picture:
        try:
            upright = ImageOps.exif_transpose(picture)
            if upright.has_transparency_data:
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
            if upright.mode.startswith("I;16"):  # 16 bits a pixel: PIL would clip instead of scale
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            upright = upright.convert("RGB")
        except (OSError, ValueError, SyntaxError):
            raise UserError(f"{file} is a broken image; replace or remove it") from None
        if side is not None and upright.size != (side, side):
            upright = ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS)
        return np.asarray(upright)


def _open_image(file: Path) -> Image.Image:
    try:
        return Image.open(file)
    except FileNotFoundError:
        raise UserError(f"{file} does not exist") from None
    except (OSError, Image.DecompressionBombError, ValueError, SyntaxError):
        raise UserError(f"{file} is not a readable image; replace or remove it") from None
