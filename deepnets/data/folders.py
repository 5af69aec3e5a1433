"""Folders of pictures: which lie where, by part and class, and what is left out."""

import os
import unicodedata
from collections import Counter
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


def load(path: Path, root: Path, size: int) -> tuple[tuple[str, ...], dict[str, Images], str]:
    """Reads the images of a folder.

    PATH/{train,val,test}/CLASS/IMAGE is taken as it says. Without `test`, `val` is the test set,
    and validation images are drawn from those for training, as they are without `val`. Of
    PATH/CLASS/IMAGE a fixed fifth becomes the test set. `root` and `size` are those of `data.load`.

    Returns:
        Names of classes; the images that are `train`, `test` and perhaps `validation`; and what
        was left out, in words.
    """
    if not path.is_dir():
        raise UserError(f"{path} is not a folder")
    found = {part: _classes(folder) for part, folder in _parts(path).items()}
    classes = tuple(found["train"])
    for part, some in found.items():
        if odd := sorted(some.keys() ^ found["train"].keys()):
            raise UserError(f"{path}: class {odd[0]!r} is in only one of train and {part}")
    parts = {
        part: [(label, file) for label, name in enumerate(classes) for file in some[name]]
        for part, some in found.items()
    }
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    if "test" not in parts:
        parts = _with_test(parts["train"], path, classes)
    pairs = [pair for part in parts.values() for pair in part]
    files = [file for _, file in pairs]
    everything = Images(decoded(files, path, root, size), torch.tensor([k for k, _ in pairs]))
    rows = torch.arange(len(pairs)).split([len(part) for part in parts.values()])
    images = {part: everything.part(some) for part, some in zip(parts, rows, strict=True)}
    return classes, images, _left_out(path, files)


def _parts(path: Path) -> dict[str, str]:
    """Returns the folders of the parts, or else the whole folder to train on.

    There are parts if a folder called `train` holds folders.
    """
    found: dict[str, str] = {}
    for part, names in PARTS.items():
        for folder in _folders(path):
            if folder.name.lower() in names and _folders(folder):
                if part in found:
                    raise UserError(
                        f"{found[part]} and {folder.path} are both for {part}; join them"
                    )
                found[part] = folder.path
    return found if "train" in found else {"train": str(path)}


def _classes(folder: str) -> dict[str, list[str]]:
    """Returns the pictures in each folder of a folder, both sorted by name.

    A folder whose pictures are all further down, as the runs of this program are, is no class.
    """
    classes: dict[str, list[str]] = {}
    for entry in _folders(folder):
        images = [e.path for e in _visible(entry) if _is_picture(e.name) and not e.is_dir()]
        if not images and not _folders(entry):
            known = ", ".join(pictures.SUFFIXES)
            raise UserError(f"{entry.path} holds no images ({known})")
        if images:
            classes.setdefault(readable(entry.name), []).extend(images)
    if len(classes) < 2:
        few = f"{folder} needs a folder of images for each class, at least two"
        raise UserError(f"{few}; it has {len(classes)}")
    return {name: classes[name] for name in sorted(classes)}


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


def _left_out(path: Path, used: list[str]) -> str:
    """Counts, in words, the pictures that are not used, and other files beside those that are."""
    classes, taken, others = {*map(os.path.dirname, used)}, {*used}, set()
    for top in (str(path), *classes):  # a class may be a link, which `walk` does not follow
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if not name.startswith(".")]
            files = {os.path.join(folder, name) for name in names if not name.startswith(".")}
            others |= {f for f in files - taken if folder in classes or _is_picture(f)}
    counts = Counter(map(_suffix, others))
    said = ", ".join(f"{count} of {suffix}" for suffix, count in sorted(counts.items()))
    return f"left out: {said}" if said else ""


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


def _visible(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """Returns what is visible in a folder, by name; archives made on a Mac have ._X beside X."""
    with os.scandir(folder) as found:
        visible = [entry for entry in found if not entry.name.startswith(".")]
    return sorted(visible, key=lambda entry: (readable(entry.name), entry.name))


def _folders(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    return [entry for entry in _visible(folder) if entry.is_dir()]


def _is_picture(name: str) -> bool:
    return _suffix(name) in pictures.SUFFIXES


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "no suffix"
