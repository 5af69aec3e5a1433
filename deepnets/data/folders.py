"""Folders of pictures: which lie where, by part and class, and what is left out."""

import os
import unicodedata
from collections import Counter
from pathlib import Path

import torch

from ..errors import UserError
from .cache import decoded
from .images import Images, stratified
from .pictures import SUFFIXES

# What folders of parts are called, in small letters
PARTS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
}  # fmt: skip


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
        if odd := sorted(some.keys() ^ {*classes}):
            raise UserError(f"{path}: class {odd[0]!r} is in only one of train and {part}")
    parts = {
        part: [(label, file) for label, name in enumerate(classes) for file in some[name]]
        for part, some in found.items()
    }
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    if "test" not in parts:
        parts = _with_test(parts["train"], path, classes)
    labels, files = zip(*(pair for pairs in parts.values() for pair in pairs), strict=True)
    sizes = [len(pairs) for pairs in parts.values()]
    images = decoded(files, path, root, size).split(sizes)
    labelled = map(Images, images, torch.tensor(labels).split(sizes))
    return classes, dict(zip(parts, labelled, strict=True)), _left_out(path, files)


def _parts(path: Path) -> dict[str, Path]:
    """Returns the folders of the parts, or else the whole folder to train on.

    There are parts if a folder called `train` holds folders.
    """
    found: dict[str, Path] = {}
    for folder in _folders(path):
        part = PARTS.get(folder.name.lower())
        if part and _folders(folder):
            if part in found:
                raise UserError(f"{found[part]} and {folder} are both for {part}; join them")
            found[part] = folder
    return found if "train" in found else {"train": path}


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Returns the pictures in each folder of a folder, both sorted by name.

    A folder whose pictures are all further down, as the runs of this program are, is no class.
    """
    classes: dict[str, list[Path]] = {}
    for entry in _folders(folder):
        visible = [path for path in _visible(entry) if not path.is_dir()]
        files = [file for file in visible if file.suffix.lower() in SUFFIXES]
        if files:
            classes.setdefault(readable(entry.name), []).extend(files)
        elif not _folders(entry):
            raise UserError(f"{entry} holds no images ({', '.join(SUFFIXES)})")
    if len(classes) < 2:
        few = f"{folder} needs a folder of images for each class, at least two"
        raise UserError(f"{few}; it has {len(classes)}")
    return dict(sorted(classes.items()))


def _with_test(
    pairs: list[tuple[int, Path]], path: Path, classes: tuple[str, ...]
) -> dict[str, list[tuple[int, Path]]]:
    """Moves a fixed fifth of labels and files to the test set, which must have all classes."""
    labels = torch.tensor([label for label, _ in pairs])
    train, test = stratified(labels, None, len(labels) // 5, 0, str(path), classes)
    if missing := sorted(set(range(len(classes))) - set(labels[test].tolist())):
        rare = f"none of the images of class {classes[missing[0]]!r}"
        advice = f"add some, or make {path / 'train'} and {path / 'test'}"
        raise UserError(f"{path}: {rare} falls into the fifth for testing: {advice}")
    return {"train": [pairs[i] for i in train], "test": [pairs[i] for i in test]}


def _left_out(path: Path, used: tuple[Path, ...]) -> str:
    """Counts, in words, the pictures that are not used, and other files beside those that are."""
    classes, others = {file.parent for file in used}, set()
    for top in (path, *classes):  # a class may be a link, which `walk` does not follow
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if not name.startswith(".")]
            others |= {Path(folder, name) for name in names if not name.startswith(".")}
    counts = Counter(
        file.suffix.lower() or "no suffix"
        for file in others.difference(used)
        if file.parent in classes or file.suffix.lower() in SUFFIXES
    )
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


def _visible(folder: Path) -> list[Path]:
    """Returns what is visible in a folder, by name; archives made on a Mac have ._X beside X."""
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(visible, key=lambda path: (readable(path.name), path.name))


def _folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]
