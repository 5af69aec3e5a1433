"""Folders of pictures: which lie where, by part and class, and what is left out."""

import os
import unicodedata
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import UserError
from . import pictures
from .cache import decoded
from .images import Images, stratified

# What folders of parts are called, in small letters
PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class Folder:
    """A folder of pictures, read."""

    title: str
    classes: tuple[str, ...]
    train: Images
    validation: Images | None
    test: Images
    left_out: str
    """What was not used, in words; empty if nothing."""


def load(path: Path, root: Path, size: int) -> Folder:
    """Reads the images of a folder.

    PATH/{train,val,test}/CLASS/IMAGE is taken as it says. Without `test`, `val` is the test set,
    and validation images are drawn from those for training, as they are without `val`. Of
    PATH/CLASS/IMAGE a fixed fifth becomes the test set.

    Args:
        path: of the folder.
        root: of all data; decoded copies are in `root`/cache.
        size: pictures are cropped and scaled to `size` x `size` pixels, unless all are squares of
            one smaller side.

    Raises:
        UserError: there are no such classes, or too few pictures, or some are not readable.
    """
    if not path.is_dir():
        raise UserError(f"{path} is not a folder")
    listing = Listing(path, root)
    first, classes = next((part, tuple(files)) for part, files in listing.files.items())
    for part, files in listing.files.items():
        if odd := sorted(set(files) ^ set(classes)):
            raise UserError(f"{path}: class {odd[0]!r} is in only one of {first} and {part}")
    parts = {
        part: [(label, file) for label, name in enumerate(classes) for file in files[name]]
        for part, files in listing.files.items()
    }
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    if "test" not in parts:
        parts = _with_test(parts["train"], path, classes)
    array = decoded([file for pairs in parts.values() for _, file in pairs], path, root, size)
    with warnings.catch_warnings(action="ignore"):  # the array may not be writable
        images = torch.from_numpy(array)
    read: dict[str, Images] = {}
    pixels = images.split([len(pairs) for pairs in parts.values()])
    for (part, pairs), some in zip(parts.items(), pixels, strict=True):
        read[part] = Images(some, torch.tensor([label for label, _ in pairs]))
    train, validation, test = read["train"], read.get("validation"), read["test"]
    return Folder(title(path), classes, train, validation, test, listing.left_out())


def _with_test(
    pairs: list[tuple[int, str]], path: Path, classes: tuple[str, ...]
) -> dict[str, list[tuple[int, str]]]:
    """Moves a fixed fifth of labels and files to the test set, which must have all classes."""
    labels = torch.tensor([label for label, _ in pairs])
    train, test = stratified(labels, None, len(labels) // 5, 0, str(path), classes)
    if missing := sorted(set(range(len(classes))) - set(labels[test].tolist())):
        rare = f"none of the images of class {classes[missing[0]]!r}"
        advice = f"add some, or make {path / 'train'} and {path / 'test'}"
        raise UserError(f"{path}: {rare} falls into the fifth for testing: {advice}")
    return {"train": [pairs[i] for i in train], "test": [pairs[i] for i in test]}


def title(path: Path) -> str:
    """Returns the name of a folder, however its path is written."""
    return readable(path.resolve().name)


def readable(name: str) -> str:
    """Returns a file's name as usual text.

    Names on old disks may be Latin-1, and a Mac stores accents as characters of their own.
    """
    raw = os.fsencode(name)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return unicodedata.normalize("NFC", text)


class Listing:
    """The pictures of a folder by part and class, and counts of what else lies there.

    Attributes:
        files: paths by part (`train` alone, or some of `PARTS`, in their order) and class, both
            sorted by name.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        # What this program writes is no class
        ours = (root, root / "cache", root / "MNIST", Path("runs"), Path("assets"))
        self.ours = {place.resolve() for place in ours if place.exists()}
        self.suffixes: Counter[str] = Counter()  # of files beside the pictures
        self.beside, self.deeper = 0, 0  # pictures outside of class folders, and in folders below
        folders = self._parts() or {"train": path}
        self.files = {part: self._classes(folder) for part, folder in folders.items()}
        if path not in folders.values():
            for entry in _entries(path):
                if Path(entry.path) not in folders.values():
                    self._leave_out(entry)

    def _parts(self) -> dict[str, Path]:
        """Returns the folders of the parts: a `train` that holds folders, and others like it."""
        found: dict[str, Path] = {}
        for part, names in PARTS.items():
            named = [e for e in _entries(self.path) if e.name.lower() in names and e.is_dir()]
            with_folders = [e for e in named if any(i.is_dir() for i in _entries(Path(e.path)))]
            if len(with_folders) > 1:
                both = f"both {with_folders[0].name} and {with_folders[1].name}"
                raise UserError(f"{self.path}: {both} may be meant for {part}")
            for entry in with_folders:
                found[part] = Path(entry.path)
        return found if "train" in found else {}

    def _classes(self, folder: Path) -> dict[str, list[str]]:
        """Returns the pictures of each class in a folder, and counts what is left out."""
        classes: dict[str, list[str]] = {}
        for entry in _entries(folder):
            if entry.is_dir() and Path(entry.path).resolve() in self.ours:
                continue
            inside = _entries(Path(entry.path)) if entry.is_dir() else []
            images = [e.path for e in inside if _is_picture(e)]
            # No class either where all pictures are further down
            if not entry.is_dir() or (not images and any(e.is_dir() for e in inside)):
                self._leave_out(entry)
                continue
            others = Counter(_suffix(e) for e in inside if not (_is_picture(e) or e.is_dir()))
            if not images:
                known = ", ".join(sorted(pictures.suffixes()))
                holds = f"; it has {_counted(others)}" if others else ""
                raise UserError(f"{entry.path} holds no images ({known}){holds}")
            classes.setdefault(readable(entry.name), []).extend(images)
            self.suffixes += others
            for deeper in filter(os.DirEntry.is_dir, inside):
                self._leave_out(deeper)
        if len(classes) < 2:
            few = f"{folder} needs a folder of images for each class, at least two"
            deep = f"; {self.deeper} pictures are in deeper folders" if self.deeper else ""
            raise UserError(f"{few}; it has {len(classes)}{deep}")
        return {name: classes[name] for name in sorted(classes)}

    def _leave_out(self, entry: os.DirEntry) -> None:
        """Counts the pictures that are not used: a file, or all that is below a folder."""
        if not entry.is_dir():
            self.beside += _is_picture(entry)
            return
        for _, folders, names in os.walk(entry.path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            self.deeper += sum(_looks_like_picture(name) for name in names)

    def left_out(self) -> str:
        """Returns what is not used, in words; nothing if there is nothing."""
        beside = f"{self.beside} outside of the folders of classes" * bool(self.beside)
        deeper = f"{self.deeper} in deeper or other folders" * bool(self.deeper)
        counts = [text for text in (_counted(self.suffixes), beside, deeper) if text]
        return f"{title(self.path)}: left out: {', '.join(counts)}" if counts else ""


def _entries(folder: Path) -> list[os.DirEntry]:
    """Returns what is visible in a folder, by name; archives made on a Mac have ._X beside X."""
    with os.scandir(folder) as found:
        visible = [entry for entry in found if not entry.name.startswith(".")]
    return sorted(visible, key=lambda entry: (readable(entry.name), entry.name))


def _looks_like_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in pictures.suffixes() and not name.startswith(".")


def _is_picture(entry: os.DirEntry) -> bool:
    return _looks_like_picture(entry.name) and not entry.is_dir()


def _suffix(entry: os.DirEntry) -> str:
    return os.path.splitext(entry.name)[1].lower() or "no suffix"


def _counted(suffixes: Counter[str]) -> str:
    return ", ".join(f"{count} of {suffix}" for suffix, count in sorted(suffixes.items()))
