"""Folders of pictures: which are taken, which are left out, and a decoded copy that is right,
complete and not in memory.
"""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deepnets import data, predict
from deepnets.data import cache, images, pictures
from deepnets.errors import UserError
from deepnets.training import fit


def picture(path, colour, side=12, height=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((height or side, side, 3), colour, np.uint8)
    pixels[0, 0] = 255 - pixels[0, 0]
    Image.fromarray(pixels).save(path)


def make(path, classes=("cat", "dog"), count=20, suffix=".png", **size):
    for level, name in enumerate(classes):
        for number in range(count):
            picture(path / name / f"{number:02}{suffix}", (40 * level, number, 200), **size)
    return path


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPNETS_DATA", str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.fixture
def folder(tmp_path):
    """Two classes of twenty 12x12 pictures."""
    return make(tmp_path / "pets")


@pytest.fixture
def train(job, tmp_path):
    def run(path, **fields):
        values = {"limit": None, "epochs": 1, "input_size": 12} | fields
        return fit(job(dataset=f"folder:{path}", **values), tmp_path / "runs", verbose=False)

    return run


def load(path, root=None, **how):
    return data.load(f"folder:{path}", root, **how)


def test_a_folder_is_decoded_once_and_again_when_it_or_the_copy_changed(folder, root, spy):
    seen = spy(pictures, "read_image")
    first = load(folder)
    assert first.classes == ("cat", "dog")
    assert (len(first.train), len(first.test)) == (32, 8)
    assert first.train.images.shape[1:] == (3, 12, 12)
    assert first.test.labels.bincount().tolist() == [4, 4]
    assert first.train.images[first.train.labels == 0][:, 0].float().mean() < 3
    assert load(folder).sha256 == first.sha256
    assert len(seen) == 40
    picture(folder / "cat" / "00.png", (1, 2, 3))
    os.utime(folder / "cat" / "00.png", ns=(1, 1))
    assert load(folder).sha256 != first.sha256
    (copy,) = (root / ".decoded").glob("*.npy")
    assert len(list(copy.parent.iterdir())) == 2, "the last copy and a lock"
    changed, whole = load(folder).sha256, copy.read_bytes()
    for damage in (b"", b"PK\x03\x04", b"\x93NUMPY damaged", whole[:1000]):
        copy.write_bytes(damage)
        assert load(folder).sha256 == changed
        assert copy.read_bytes() == whole


def test_pictures_that_changed_places_are_noticed(tmp_path):
    """Of one size and date, as from an archive of bitmaps."""
    folder = make(tmp_path / "pets", suffix=".bmp")
    first, second = folder / "cat" / "03.bmp", folder / "dog" / "03.bmp"
    found = {load(folder).sha256}
    for content, file in ((first.read_bytes(), second), (second.read_bytes(), first)):
        date = file.stat().st_mtime_ns
        file.write_bytes(content)
        os.utime(file, ns=(date, date))
        found.add(load(folder).sha256)
    (folder / "cat").rename(folder / ".x")
    (folder / "dog").rename(folder / "cat")
    (folder / ".x").rename(folder / "dog")
    assert len({*found, load(folder).sha256}) == 4


@pytest.mark.parametrize("where", ["no folder", "full"])
def test_a_root_that_cannot_hold_the_copy_is_one_line(folder, tmp_path, monkeypatch, where):
    def fill(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill)
    if where == "no folder":
        (tmp_path / "full").write_text("")
    with pytest.raises(UserError, match="no place for the decoded pictures"):
        load(folder, tmp_path / "full")
    assert {file.suffix for file in tmp_path.rglob("full/*/*")} <= {".lock"}


def test_a_copy_in_a_root_that_cannot_be_written_is_read(folder, root, monkeypatch):
    whole = load(folder).sha256
    monkeypatch.setattr(cache, "FileLock", lambda *_: pytest.fail("it writes"))
    assert load(folder).sha256 == whole


def test_pictures_that_stay_on_disk_train_as_those_in_memory_do(folder, train, monkeypatch):
    found = []
    for kind, large in ((images.Rows, 0), (torch.Tensor, 2**28)):
        monkeypatch.setattr(images, "LARGE", large)
        part = load(folder, size=12).split(0)[0]
        assert isinstance(part.images, kind)
        whole = part[torch.arange(len(part))].images
        assert data.statistics(part.images) == data.statistics(whole)
        run = train(folder, epochs=2, batch_size=5)
        found.append([(run.path / name).read_bytes() for name in ("logits.npy", "test.npz")])
        shutil.rmtree(run.path)
    assert found[0] == found[1]


# --- what is refused


def empty(folder):
    shutil.rmtree(folder / "cat")
    (folder / "cat").mkdir()


BROKEN = {  # how a folder is spoiled, and what its error says
    "one class": (lambda folder: shutil.rmtree(folder / "cat"), "at least two; it has 1"),
    "no images": (empty, "cat holds no images"),
    "single image": (lambda f: picture(f / "wren/1.png", 5), "class 'wren' has the fewest"),
    "too few to test": (lambda f: make(f, ("ant",), 2), "none of the images of class 'ant'"),
    "other classes in test": (
        lambda f: make(make(f / "train").with_name("test"), ("cat", "cow")), "'cow' is in only one",
    ),
    "two folders for a part": (
        lambda f: [make(f / name) for name in ("train", "val", "dev")], "both for validation",
    ),
    "no pictures": (
        lambda f: [(f / "cat" / f"0{n}.png").write_bytes(b"no picture") for n in (3, 5)],
        r"03\.png is not a readable image.*; so with .*05\.png$",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "says"), BROKEN.values(), ids=BROKEN)
def test_a_broken_folder_is_named(folder, spoil, says):
    spoil(folder)
    with pytest.raises(UserError, match=says):
        load(folder)


# --- layouts


@pytest.mark.parametrize("names", [("train", "val"), ("Train", "Valid"), ("training", "testing")])
def test_two_parts_are_for_training_and_testing(tmp_path, names):
    """Their pictures have any size."""
    for name, count in zip(names, (6, 3), strict=True):
        make(tmp_path / "set" / name, count=count, side=100 + count, height=80)
    dataset = load(tmp_path / "set", size=32)
    assert (len(dataset.train), dataset.validation, len(dataset.test)) == (12, None, 6)
    assert dataset.train.images.shape[1:] == (3, 32, 32)
    classes = ("bus", "test", "train")
    assert load(make(tmp_path / "classes", classes)).classes == classes, "no parts are in them"


def test_of_three_parts_one_is_for_validation_whatever_the_seed(tmp_path):
    for name, count in (("train", 10), ("val", 4), ("test", 3)):
        make(tmp_path / "set" / name, count=count)
    dataset = load(tmp_path / "set")
    for seed in (0, 1):
        for part, whole in zip(dataset.split(seed), (dataset.train, dataset.validation)):  # noqa: B905, and a hash
            assert torch.equal(part.images[:], whole.images[:])
    assert dataset.split(0)[2] == dataset.split(1)[2]
    some, validation, _ = dataset.split(0, 12)
    assert some.labels.bincount().tolist() == [6, 6]
    assert len(validation) == 8
    picture(tmp_path / "set" / "val" / "cat" / "00.png", 7)
    assert load(tmp_path / "set").sha256 != dataset.sha256


def test_names_in_two_forms_of_unicode_and_in_latin_1_become_text(tmp_path, train):
    classes = ("cafe\u0301", os.fsdecode(b"caf\xe9"), "tea")
    run = train(make(tmp_path / os.fsdecode(b"f\xfcnf"), classes, 10))
    assert run.path.is_relative_to(tmp_path / "runs" / "folder-fünf")
    assert (run.info.dataset_title, run.info.classes) == ("fünf", ["café", "tea"])
    assert run.info.train_images + run.info.validation_images + run.info.test_total == 30


def test_what_is_left_out_is_counted_said_and_kept(folder, job, tmp_path, capsys):
    """And folders without pictures of their own, as runs are, are no classes."""
    for number in range(20):
        (folder / "cat" / f"{number}.HEIC").write_bytes(b"from a phone")
    for name in ("notes.txt", ".DS_Store", "._00.png"):
        (folder / "dog" / name).touch()
    make(folder / "cat", ("more",), 3)
    picture(folder / "cover.png", 5)
    (folder / "runs" / "digits").mkdir(parents=True)
    settings = job(dataset=f"folder:{folder}", limit=None, epochs=1, input_size=12)
    run = fit(settings, tmp_path / "runs")
    says = "left out: 20 of .heic, 4 of .png, 1 of .txt"
    assert says in capsys.readouterr().out.splitlines()[0]
    assert says in run.info.warnings
    assert run.info.classes == ["cat", "dog"]
    assert run.info.train_images + run.info.validation_images + run.info.test_total == 40


# --- runs


def test_one_folder_however_it_is_written_and_wherever_it_is(folder, train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = train("pets")
    for name in ("pets/", "./pets", folder, f"../{tmp_path.name}/pets/."):
        assert train(name).path == run.path
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    np.testing.assert_array_equal(predict.evaluate(run), run.test["predicted"])
    folder.rename("animals")
    with pytest.raises(UserError, match="is not a folder"):
        predict.evaluate(run)
    again = predict.evaluate(run, dataset="folder:animals/")
    np.testing.assert_array_equal(again, run.test["predicted"])
    picture(Path("animals/cat/00.png"), 5)
    with pytest.raises(UserError, match="another copy"):
        predict.evaluate(run, dataset="folder:animals")
    with pytest.raises(UserError, match="data_sha256"):
        train(Path("animals").rename(tmp_path / "pets"))
