"""Folders of pictures: their layouts, and a decoded copy that is read from disk and need not fit in
memory.

A picture is decoded once, into a memory-mapped array in the cache. The copy notices files that are
new or changed, or that changed places, and decodes those; an interrupted decoding goes on where it
was.
"""

import errno
import hashlib
import math
import os
import shutil
import stat
import tempfile
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import BaseFileLock, FileLock, SoftFileLock
from tqdm import tqdm

from ..errors import UserError
from . import pictures
from .images import Images, stratified

# What folders of parts are called, in small letters.
PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
CHUNK = 2**25  # bytes that are decoded between two notes of how far it is


@dataclass(frozen=True)
class Folder:
    """What a folder holds: a title, class names, images, and a line for what was left out, if
    anything was.
    """

    title: str
    classes: tuple[str, ...]
    train: Images
    validation: Images | None
    test: Images
    left_out: str


def load(path: Path, root: Path, size: int) -> Folder:
    """Images by class.

    PATH/{train,val,test}/CLASS/IMAGE is taken as it says. Without `test`, `val` is the test set,
    and validation images are drawn from those for training, as they are without `val`. Of
    PATH/CLASS/IMAGE a fixed fifth becomes the test set.

    Args:
        path: of the folder.
        root: of all data; decoded copies are in `root`/cache.
        size: pictures are cropped and scaled to `size` x `size` pixels, unless all are squares of
            one smaller side.

    Raises:
        UserError: there are no such classes, or too few pictures, or some are not readable; says
        which.
    """
    if not path.is_dir():
        raise UserError(f"{path} is not a folder")
    listing = Listing(path, root)
    everything = listing.files
    classes = tuple(next(iter(everything.values())))
    for part, files in everything.items():
        if odd := sorted(set(files) ^ set(classes)):
            raise UserError(
                f"{path}: class {odd[0]!r} is in only one of {next(iter(everything))} and {part}"
            )
    flat = {
        part: [(label, f) for label, name in enumerate(classes) for f in files[name]]
        for part, files in everything.items()
    }
    if "test" not in flat and "validation" in flat:
        flat["test"] = flat.pop("validation")
    if "test" not in flat:
        labels = torch.tensor([label for label, _ in flat["train"]])
        train, test = stratified(labels, None, len(labels) // 5, 0, str(path), classes)
        if missing := sorted(set(range(len(classes))) - set(labels[test].tolist())):
            rare = f"none of the images of class {classes[missing[0]]!r} falls into the fifth for testing"
            raise UserError(
                f"{path}: {rare}: add some, or make {path / 'train'} and {path / 'test'}"
            )
        flat = {
            name: [flat["train"][i] for i in index]
            for name, index in (("train", train), ("test", test))
        }
    array = decoded([file for pairs in flat.values() for _, file in pairs], path, root, size)
    with warnings.catch_warnings(action="ignore"):  # it may be one that must not be written to
        images = torch.from_numpy(array)
    parts = images.split([len(pairs) for pairs in flat.values()])
    held = {
        name: Images(part, torch.tensor([label for label, _ in pairs]))
        for (name, pairs), part in zip(flat.items(), parts, strict=True)
    }
    return Folder(
        title(path),
        classes,
        held["train"],
        held.get("validation"),
        held["test"],
        listing.left_out(),
    )


def title(path: Path) -> str:
    """The name of a folder, however its path is written."""
    return readable(path.resolve().name)


def readable(name: str) -> str:
    """A file's name as text: names of old disks in Latin-1, and a Mac's accents as letters of their
    own, become usual text.
    """
    raw = os.fsencode(name)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return unicodedata.normalize("NFC", text)


class Listing:
    """The pictures of a folder by part and class, and what else lies there.

    Attributes:
        files: paths by part (`train` alone, or some of `PARTS`, in their order) and class, both
        sorted by name.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        # What this program writes may lie there, too.
        ours = (root, root / "cache", root / "MNIST", Path("runs"), Path("assets"))
        self.ours = {place.resolve() for place in ours if place.exists()}
        self.suffixes: Counter[str] = Counter()  # of files beside the pictures
        # pictures outside of class folders, and in folders below those
        self.beside, self.deeper = 0, 0
        folders = self._parts() or {"train": path}
        self.files = {part: self._classes(folder) for part, folder in folders.items()}
        if path not in folders.values():
            for entry in _entries(path):
                if Path(entry.path) not in folders.values():
                    self._count(entry)

    def _parts(self) -> dict[str, Path]:
        """The folders of the parts, if there are some: a `train` that holds folders, and others
        like it.
        """
        found: dict[str, Path] = {}
        for part, names in PARTS.items():
            for entry in _entries(self.path):
                if (
                    entry.name.lower() in names
                    and entry.is_dir()
                    and any(e.is_dir() for e in _entries(Path(entry.path)))
                ):
                    if part in found:
                        raise UserError(
                            f"{self.path}: both {found[part].name} and {entry.name} may be meant for {part}"
                        )
                    found[part] = Path(entry.path)
        return found if "train" in found else {}

    def _classes(self, folder: Path) -> dict[str, list[str]]:
        classes: dict[str, list[str]] = {}
        for entry in _entries(folder):
            if not entry.is_dir():
                self._count(entry)
                continue
            if Path(entry.path).resolve() in self.ours:
                continue
            inside = _entries(Path(entry.path))
            images = [e for e in inside if _is_picture(e)]
            found = [e.path for e in images]
            # no class, or one whose pictures are further down
            if not found and any(e.is_dir() for e in inside):
                self._count(entry)
                continue
            others = Counter(_suffix(e) for e in set(inside) - set(images) if not e.is_dir())
            if not found:
                holds = f"; it has {_counted(others)}" if others else ""
                raise UserError(
                    f"{entry.path} holds no images ({', '.join(sorted(pictures.suffixes()))}){holds}"
                )
            classes.setdefault(readable(entry.name), []).extend(found)
            self.suffixes += others
            for e in inside:
                if e.is_dir():
                    self._count(e)
        if len(classes) < 2:
            deeper = f"; {self.deeper} pictures are in deeper folders" if self.deeper else ""
            raise UserError(
                f"{folder} needs a folder of images for each class, at least two; it has {len(classes)}{deeper}"
            )
        return {name: classes[name] for name in sorted(classes)}

    def _count(self, entry: os.DirEntry) -> None:
        """Count the pictures of what is left out."""
        if not entry.is_dir():
            self.beside += _is_picture(entry)
            return
        for _, folders, names in os.walk(entry.path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            self.deeper += sum(_looks_like_picture(name) for name in names)

    def left_out(self) -> str:
        """What is not used, in words; nothing if there is nothing."""
        beside = f"{self.beside} outside of the folders of classes" * bool(self.beside)
        deeper = f"{self.deeper} in deeper or other folders" * bool(self.deeper)
        counts = [text for text in (_counted(self.suffixes), beside, deeper) if text]
        return f"{title(self.path)}: left out: {', '.join(counts)}" if counts else ""


def _entries(folder: Path) -> list[os.DirEntry]:
    """What is visible in a folder, in the order of the names' text; a Mac's archives have ._X
    beside X.
    """
    with os.scandir(folder) as found:
        return sorted(
            (e for e in found if not e.name.startswith(".")),
            key=lambda e: (readable(e.name), e.name),
        )


def _looks_like_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in pictures.suffixes() and not name.startswith(".")


def _is_picture(entry: os.DirEntry) -> bool:
    return _looks_like_picture(entry.name) and not entry.is_dir()


def _suffix(entry: os.DirEntry) -> str:
    return os.path.splitext(entry.name)[1].lower() or "no suffix"


def _counted(suffixes: Counter[str]) -> str:
    return ", ".join(f"{count} of {suffix}" for suffix, count in sorted(suffixes.items()))


def decoded(files: list[str], path: Path, root: Path, size: int) -> np.ndarray:
    """Pictures as (N, C, side, side), uint8, memory-mapped; C is 1 if none has colour.

    Args:
        files: the pictures, below `path`.
        path: the folder, for which there is one copy in `root`/cache for each size.
        root: of all data; if it cannot be written, the copy is a temporary one.
        size: see `load`.

    Raises:
        UserError: a picture is not readable, or there is no room for the copy.
    """
    marks = np.array([_mark(file, path) for file in files], np.uint64)
    name = hashlib.sha256(
        f"{path.resolve()} {size}".encode("utf-8", "surrogateescape")
    ).hexdigest()[:16]
    # a root that cannot be written costs the next load its time, nothing else
    with suppress(OSError):
        (root / "cache").mkdir(parents=True, exist_ok=True)
        # who comes second finds what the first has decoded
        with _held(root / "cache" / f"{name}.lock"):
            return Copy(root / "cache" / name).filled(files, marks, size)
    try:
        # what is mapped lives on without a name
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            return Copy(Path(folder) / name).filled(files, marks, size)
    except OSError as error:
        places = f"{root / 'cache'} or {tempfile.gettempdir()}"
        raise UserError(
            f"there is no place for the decoded pictures of {path} in {places}: {error.strerror}"
        ) from None


@contextmanager
def _held(file: Path) -> Iterator[None]:
    """Hold a lock; where the file system has none, by the mere existence of a file."""
    lock: BaseFileLock = FileLock(file)
    try:
        lock.acquire()
    except (OSError, NotImplementedError):
        lock = SoftFileLock(file.with_suffix(".softlock"))
        lock.acquire()
    with lock:
        lock.release()  # the first of two
        yield


def _mark(file: str, path: Path) -> int:
    """A number for a file's name, size, times and place on the disk: another one if it is another
    file or was changed.
    """
    try:
        found = os.stat(file)
    except FileNotFoundError:
        raise UserError(f"{file} is a link to nothing; replace or remove it") from None
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{file} is not a regular file; replace or remove it")
    what = (
        file.removeprefix(str(path)).lstrip(os.sep),
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_ino,
    )
    return (
        int.from_bytes(hashlib.blake2b(ascii(what).encode(), digest_size=8).digest(), "little") or 1
    )


def _mapped(file: Path) -> np.ndarray | None:
    """A stored array, which changes are not written to; None if it is missing or damaged."""
    try:
        return np.load(file, mmap_mode="c")
    except (ValueError, EOFError):
        return None
    except OSError:  # it is not there, or the system promises no memory for changes to so much
        with suppress(OSError, ValueError, EOFError):
            return np.load(file, mmap_mode="r")
        return None


def _side(files: list[str], size: int, pool: ThreadPoolExecutor) -> int:
    """The side of all pictures, if they are squares of one up to `size`, else `size`."""
    # others are told of when they are decoded
    sizes = {found for found in pool.map(pictures.size, files) if found}
    width, height = sizes.pop() if len(sizes) == 1 else (size + 1, 0)
    return width if width == height <= size else size


class Copy:
    """Decoded pictures on disk: images (N, C, side, side) in one file, the mark of each in another,
    0 while it is not there.

    Args:
        place: path of the two files, without suffix.
    """

    def __init__(self, place: Path) -> None:
        self.images, self.marks = place.with_suffix(".npy"), place.with_suffix(".marks.npy")
        self.old_images, self.old_marks = (
            place.with_suffix(".old.npy"),
            place.with_suffix(".old.marks.npy"),
        )

    def filled(self, files: list[str], marks: np.ndarray, size: int) -> np.ndarray:
        """The images, memory-mapped, after decoding the `files` whose `marks` are missing; `size`
        as for `load`.

        Raises:
            OSError: there is no room, or no right to write.
            UserError: some pictures are not readable; all others are done.
        """
        try:
            images, there = _mapped(self.images), _mapped(self.marks)
            if (
                images is None
                or there is None
                or len(images) != len(there)
                or not np.array_equal(there, marks)
            ):
                with pictures.quiet(), ThreadPoolExecutor() as pool:
                    side = _side(files, size, pool)
                    self._prepare(images, there, marks, side)
                    self._decode(files, marks, side, pool)
            self._drop_colour()
            images = _mapped(self.images)
            assert images is not None
            return images
        except OSError:
            for file in (self.images, self.marks, self.old_images, self.old_marks):
                with suppress(OSError):
                    file.unlink(missing_ok=True)
            raise

    def _prepare(
        self, images: np.ndarray | None, there: np.ndarray | None, marks: np.ndarray, side: int
    ) -> None:
        """Make empty files, unless some are there to go on with; those of other pictures become the
        old copy.
        """
        shape = (len(marks), 3, side, side)
        if images is not None and there is not None:
            if (
                images.shape == shape
                and there.shape == marks.shape
                and ((there == marks) | (there == 0)).all()
            ):
                return
            self.images.replace(self.old_images)
            self.marks.replace(self.old_marks)
        if shutil.disk_usage(self.images.parent).free < math.prod(shape):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.images))
        np.save(self.marks, np.zeros_like(marks))
        np.lib.format.open_memmap(self.images, "w+", np.uint8, shape)

    def _decode(
        self, files: list[str], marks: np.ndarray, side: int, pool: ThreadPoolExecutor
    ) -> None:
        """Fill in what is missing, from the old copy where that has it."""
        images, there = np.load(self.images, mmap_mode="r"), np.load(self.marks, mmap_mode="r+")
        old_images, old_marks, old = _mapped(self.old_images), _mapped(self.old_marks), {}
        if (
            old_images is not None
            and old_marks is not None
            and old_images.shape[2:] == (side, side)
        ):
            old = dict(zip(old_marks.tolist(), old_images, strict=True))

        def pixels(row: int) -> np.ndarray | UserError:
            try:
                known = old.get(int(marks[row]))
                return (
                    pictures.read_in_thread(files[row], side).transpose(2, 0, 1)
                    if known is None
                    else known
                )
            except UserError as error:
                return error

        todo, bad = np.flatnonzero(there != marks), {}
        step = min(4096, max(1, CHUNK // images[0].nbytes))
        with (
            # not through the map: there a full disk would kill the process
            self.images.open("r+b") as file,
            tqdm(
                None,
                "decoding",
                len(files),
                initial=len(files) - len(todo),
                unit=" images",
                leave=False,
                disable=None,
            ) as bar,
        ):
            for rows in (todo[i : i + step] for i in range(0, len(todo), step)):
                for row, found in zip(rows.tolist(), pool.map(pixels, rows), strict=True):
                    if isinstance(found, UserError):
                        bad[row] = found
                    else:
                        file.seek(images.offset + row * images[0].nbytes)
                        file.write(
                            np.ascontiguousarray(np.broadcast_to(found, images.shape[1:])).data
                        )
                    bar.update()
                file.flush()
                os.fsync(file.fileno())  # the images before the marks that vouch for them
                done = [row for row in rows.tolist() if row not in bad]
                there[done] = marks[done]
                there.flush()
        if bad:
            first, *others = bad
            names = ", ".join(files[row] for row in others[:3]) + f" and {len(others) - 3} more" * (
                len(others) > 3
            )
            raise UserError(f"{bad[first]}" + f"; so with {names}" * bool(others))
        self.old_images.unlink(missing_ok=True)
        self.old_marks.unlink(missing_ok=True)

    def _drop_colour(self) -> None:
        """Keep one channel if no picture has colour."""
        images = np.load(self.images, mmap_mode="r")
        step = max(1, CHUNK // images[0].nbytes)
        parts = [images[i : i + step] for i in range(0, len(images), step)]
        if images.shape[1] == 1 or not all((part[:, :1] == part[:, 1:]).all() for part in parts):
            return
        gray = self.images.with_suffix(".gray.npy")
        try:
            with gray.open("wb") as file:
                shape = (len(images), 1, *images.shape[2:])
                np.lib.format.write_array_header_1_0(
                    file, {"descr": "|u1", "fortran_order": False, "shape": shape}
                )
                for part in parts:
                    file.write(np.ascontiguousarray(part[:, 0]).data)
            gray.replace(self.images)
        finally:
            gray.unlink(missing_ok=True)
