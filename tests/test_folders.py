"""Folders of pictures: which are taken, which are left out, and a decoded copy that is right,
complete and not in memory.
"""

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deepnets import data, disk, predict
from deepnets.data import cache, folders, images, pictures
from deepnets.errors import UserError
from deepnets.training import fit


def picture(path, colour, side=12, height=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((height or side, side, 3), colour, np.uint8)
    pixels[0, 0] = 255 - pixels[0, 0]
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes of twenty 12x12 pictures."""
    for number in range(20):
        picture(tmp_path / "pets" / "cat" / f"{number:02}.png", (200, number, 0))
        picture(tmp_path / "pets" / "dog" / f"{number:02}.png", (0, number, 200))
    return tmp_path / "pets"


def test_a_folder_is_read_once_and_again_when_it_changed(folder, tmp_path, monkeypatch):
    root = tmp_path / "root"
    first = data.load(f"folder:{folder}", root)
    assert first.classes == ("cat", "dog")
    assert (len(first.train), len(first.test)) == (32, 8)
    assert first.train.images.shape[1:] == (3, 12, 12)
    assert first.test.labels.bincount().tolist() == [4, 4]
    red = first.train.images[first.train.labels == 0][:, 0].float().mean()
    assert red > 190

    decoded, read = [], pictures.read_image
    monkeypatch.setattr(pictures, "read_image", lambda *a: (decoded.append(1), read(*a))[1])
    assert data.load(f"folder:{folder}", root).sha256 == first.sha256
    assert not decoded
    picture(folder / "cat" / "00.png", (1, 2, 3))
    os.utime(folder / "cat" / "00.png", ns=(1, 1))
    second = data.load(f"folder:{folder}", root)
    assert second.sha256 != first.sha256
    assert len(decoded) == 1
    for damaged in (".npz", ".pixels"):
        (file,) = (root / "cache").glob(f"*{damaged}")
        file.write_bytes(b"damaged")
        assert data.load(f"folder:{folder}", root).sha256 == second.sha256


def test_a_finished_run_is_not_passed_off_as_one_of_pictures_that_changed(
    folder, job, tmp_path, monkeypatch
):
    monkeypatch.setenv("DEEPNETS_DATA", str(tmp_path / "root"))
    one = job(dataset=f"folder:{folder}", limit=None, epochs=1, input_size=12)
    assert (
        fit(one, tmp_path / "runs", verbose=False).path
        == fit(one, tmp_path / "runs", verbose=False).path
    )
    picture(folder / "cat" / "new.png", (1, 2, 3))
    with pytest.raises(UserError, match="data_sha256"):
        fit(one, tmp_path / "runs", verbose=False)


def test_train_and_test_folders_gray_pictures_and_other_sizes(tmp_path):
    for part, count in (("train", 6), ("test", 3)):
        for name, level in (("a", 10), ("b", 240)):
            for number in range(count):
                picture(
                    tmp_path / "set" / part / name / f"{number}.png", (level,) * 3, 100 + number, 80
                )
    dataset = data.load(f"folder:{tmp_path / 'set'}", tmp_path / "root", size=32)
    assert (len(dataset.train), len(dataset.test)) == (12, 6)
    assert dataset.train.images.shape[1:] == (1, 32, 32)


def test_a_root_that_cannot_be_written_is_no_obstacle(folder, tmp_path):
    (tmp_path / "file").write_text("")
    assert len(data.load(f"folder:{folder}", tmp_path / "file").train) == 32


def test_a_broken_folder_is_named(folder, tmp_path):
    root = tmp_path / "root"

    def refused(path, says):
        with pytest.raises(UserError, match=says) as error:
            data.load(f"folder:{path}", root)
        assert "\n" not in str(error.value)

    refused(tmp_path / "nowhere", "is not a folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "at least two; it has 0")
    picture(tmp_path / "one" / "cat" / "1.png", 5)
    refused(tmp_path / "one", "at least two; it has 1")
    (tmp_path / "one" / "dog").mkdir()
    refused(tmp_path / "one", "dog holds no images")
    picture(tmp_path / "one" / "dog" / "1.png", 5)
    refused(tmp_path / "one", "single image of class 'cat', 'dog'")
    (folder / "cat" / "07.png").write_bytes(b"no picture")
    refused(folder, r"07\.png is not a readable image")
    picture(folder / "cat" / "07.png", 90, 40)
    whole = (folder / "cat" / "07.png").read_bytes()
    (folder / "cat" / "07.png").write_bytes(whole[: len(whole) // 2])
    refused(folder, r"07\.png is")
    picture(tmp_path / "odd" / "train" / "cat" / "1.png", 5)
    picture(tmp_path / "odd" / "train" / "dog" / "1.png", 5)
    picture(tmp_path / "odd" / "test" / "cat" / "1.png", 5)
    picture(tmp_path / "odd" / "test" / "cow" / "1.png", 5)
    refused(tmp_path / "odd", "'cow' is in only one")


def test_hidden_files_are_no_images(folder, tmp_path):
    (folder / "cat" / "._00.png").write_bytes(b"what a Mac leaves beside a picture")
    assert len(data.load(f"folder:{folder}", tmp_path / "root").train) == 32


def test_a_class_that_testing_would_not_see_is_named(folder, tmp_path):
    for number in range(2):
        picture(folder / "ant" / f"{number}.png", number)
    with pytest.raises(UserError, match="none of the images of class 'ant'"):
        data.load(f"folder:{folder}", tmp_path / "root")


def test_an_interrupted_decoding_goes_on_where_it_was(folder, tmp_path, monkeypatch):
    root, read, seen = tmp_path / "root", pictures.read_image, []

    def interrupted(file, side):
        seen.append(file)
        if len(seen) == 25:
            raise KeyboardInterrupt
        return read(file, side)

    monkeypatch.setattr(cache, "CHUNK", 8 * 3 * 12 * 12)
    monkeypatch.setattr(cache, "NOTED", 0)
    monkeypatch.setattr(pictures, "read_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.load(f"folder:{folder}", root)
    first = set(seen[:16])  # two chunks of eight at least are noted
    seen.clear()
    monkeypatch.setattr(
        pictures, "read_image", lambda file, side: (seen.append(file), read(file, side))[1]
    )
    again = data.load(f"folder:{folder}", root)
    assert not first & set(seen)
    assert again.sha256 == data.load(f"folder:{folder}", tmp_path / "other").sha256


def test_only_what_is_new_is_decoded(folder, tmp_path, monkeypatch):
    root, read, seen = tmp_path / "root", pictures.read_image, []
    monkeypatch.setattr(
        pictures,
        "read_image",
        lambda file, side: (seen.append(Path(file).name), read(file, side))[1],
    )
    data.load(f"folder:{folder}", root)
    assert len(seen) == 40
    seen.clear()
    picture(folder / "cat" / "new.png", (9, 9, 200))
    (folder / "dog" / "00.png").unlink()
    changed = data.load(f"folder:{folder}", root)
    assert seen == ["new.png"]
    seen.clear()
    assert changed.sha256 == data.load(f"folder:{folder}", tmp_path / "other").sha256
    assert len(list((root / "cache").iterdir())) == 3, "pixels, an index and a lock"


def test_what_a_copy_had_before_does_not_show(folder, tmp_path):
    """Neither the colour nor the side of pictures that are gone."""
    for number in range(20):
        picture(folder / ("cat", "dog")[number % 2] / f"gray{number}.png", (number,) * 3, 40)
    assert data.load(f"folder:{folder}", tmp_path / "root").train.images.shape[1:] == (3, 64, 64)
    for file in folder.glob("*/[0-9]*.png"):
        file.unlink()
    gray = data.load(f"folder:{folder}", tmp_path / "root")
    assert gray.train.images.shape[1:] == (1, 40, 40)
    assert gray.sha256 == data.load(f"folder:{folder}", tmp_path / "other").sha256


@pytest.mark.parametrize("what", ["files", "folders", "contents"])
def test_pictures_that_changed_places_are_noticed(folder, tmp_path, what):
    """Of one size and date, as from an archive of bitmaps."""
    for name in ("cat", "dog"):
        for file in sorted((folder / name).iterdir()):
            Image.open(file).save(file.with_suffix(".bmp"))
            file.unlink()
            os.utime(file.with_suffix(".bmp"), (1e9, 1e9))
    before = data.load(f"folder:{folder}", tmp_path / "root")
    one, other, aside = folder / "cat", folder / "dog", folder / ".aside"
    if what != "folders":
        one, other = one / "03.bmp", other / "03.bmp"
    if what == "contents":
        contents = one.read_bytes(), other.read_bytes()
        one.write_bytes(contents[1])
        other.write_bytes(contents[0])
        for file in (one, other):
            os.utime(file, (1e9, 1e9))
    else:
        for source, target in ((one, aside), (other, one), (aside, other)):
            source.rename(target)
    assert data.load(f"folder:{folder}", tmp_path / "root").sha256 != before.sha256


def test_a_full_disk_or_one_that_may_not_be_written_costs_time_and_nothing_else(
    folder, tmp_path, monkeypatch
):
    whole = data.load(f"folder:{folder}", tmp_path / "root")
    usage, cache = shutil.disk_usage, tmp_path / "full" / "cache"
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda path: usage(path)._replace(free=0) if Path(path) == cache else usage(path),
    )
    assert data.load(f"folder:{folder}", tmp_path / "full").sha256 == whole.sha256
    assert not [file for file in cache.iterdir() if file.suffix != ".lock"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(path)._replace(free=0))
    with pytest.raises(UserError, match="no place for the decoded pictures"):
        data.load(f"folder:{folder}", tmp_path / "full")


def test_a_disk_that_fills_at_the_index_costs_time_and_nothing_else(folder, tmp_path, monkeypatch):
    whole = data.load(f"folder:{folder}", tmp_path / "root")
    write = disk.write

    def full(path, *parts):
        if path.is_relative_to(tmp_path / "full"):
            raise UserError(f"{path} cannot be written: No space left on device")
        write(path, *parts)

    monkeypatch.setattr(disk, "write", full)
    assert data.load(f"folder:{folder}", tmp_path / "full").sha256 == whole.sha256
    left = (tmp_path / "full" / "cache").iterdir()
    assert not [file for file in left if file.suffix != ".lock"]


def test_an_index_of_another_program_is_made_anew(folder, tmp_path):
    whole = data.load(f"folder:{folder}", tmp_path / "root")
    (index,) = (tmp_path / "root" / "cache").glob("*.npz")
    np.savez(index, something=np.arange(3))
    assert data.load(f"folder:{folder}", tmp_path / "root").sha256 == whole.sha256


def test_pictures_that_stay_on_disk_train_as_those_in_memory_do(folder, job, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPNETS_DATA", str(tmp_path / "root"))
    one = job(dataset=f"folder:{folder}", limit=None, epochs=2, batch_size=5, input_size=12)
    runs, decoded = [], folders.decoded
    for kind, read in ((images.Rows, decoded), (torch.Tensor, lambda *how: decoded(*how)[:])):
        monkeypatch.setattr(folders, "decoded", read)
        train = data.load(one.dataset, size=12).split(0)[0]
        assert isinstance(train.images, kind)
        whole = train[torch.arange(len(train))].images
        assert data.statistics(train.images) == data.statistics(whole)
        runs.append(fit(one, tmp_path / kind.__name__, verbose=False))
    for name in ("logits.npy", "model.safetensors"):
        assert (runs[0].path / name).read_bytes() == (runs[1].path / name).read_bytes()
    assert runs[0].info.mean == runs[1].info.mean


# --- layouts


def make(path, classes=("ant", "bee"), count=6, suffix=".png"):
    for level, name in enumerate(classes):
        for number in range(count):
            picture(path / name / f"{number}{suffix}", (40 * level, 9 * number, 200))


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val"),
        ("train", "valid"),
        ("Train", "Validation"),
        ("training", "testing"),
        ("train", "test"),
    ],
)
def test_two_parts_are_for_training_and_testing(tmp_path, names):
    for name, count in zip(names, (6, 3), strict=True):
        make(tmp_path / "set" / name, count=count)
    dataset = data.load(f"folder:{tmp_path / 'set'}", tmp_path / "root")
    assert (len(dataset.train), dataset.validation, len(dataset.test)) == (12, None, 6)


def test_of_three_parts_one_is_for_validation_whatever_the_seed(tmp_path, job, monkeypatch):
    monkeypatch.setenv("DEEPNETS_DATA", str(tmp_path / "root"))
    for name, count in (("train", 10), ("val", 4), ("test", 3)):
        make(tmp_path / "set" / name, count=count)
    name = f"folder:{tmp_path / 'set'}"
    dataset = data.load(name)
    for seed in (0, 1):
        train, validation, _ = dataset.split(seed)
        assert torch.equal(train.images[:], dataset.train.images[:])
        assert torch.equal(validation.images[:], dataset.validation.images[:])
    assert dataset.split(0)[2] == dataset.split(1)[2]
    train, validation, _ = dataset.split(0, 12)
    assert train.labels.bincount().tolist() == [6, 6]
    assert len(validation) == 8
    run = fit(
        job(dataset=name, limit=None, epochs=1, input_size=12), tmp_path / "runs", verbose=False
    )
    assert [
        getattr(run.info, key) for key in ("train_images", "validation_images", "test_total")
    ] == [20, 8, 6]
    picture(tmp_path / "set" / "val" / "ant" / "0.png", 7)
    assert data.load(name).sha256 != dataset.sha256


def test_training_images_alone_are_divided_and_other_folders_said(tmp_path):
    make(tmp_path / "set" / "train", count=20)
    for number in range(5):
        picture(tmp_path / "set" / "test" / f"{number}.png", 9)  # to be predicted, without classes
    dataset = data.load(f"folder:{tmp_path / 'set'}", tmp_path / "root")
    assert (len(dataset.train), len(dataset.test)) == (32, 8)
    assert dataset.left_out.endswith("left out: 5 in deeper or other folders")


def test_a_class_may_be_called_train(tmp_path):
    make(tmp_path / "set", classes=("bus", "test", "train"), count=10)
    assert data.load(f"folder:{tmp_path / 'set'}", tmp_path / "root").classes == (
        "bus",
        "test",
        "train",
    )


def test_one_name_in_two_forms_of_unicode_is_one_class(tmp_path):
    for part, form in (("train", "NFC"), ("test", "NFD")):
        make(tmp_path / "set" / part, classes=(unicodedata.normalize(form, "café"), "tea"))
    assert data.load(f"folder:{tmp_path / 'set'}", tmp_path / "root").classes == ("café", "tea")
    make(tmp_path / "one", classes=("cafe\u0301", "tea"), count=10)
    make(tmp_path / "one", classes=("caf\xe9",), count=10, suffix=".bmp")
    dataset = data.load(f"folder:{tmp_path / 'one'}", tmp_path / "root")
    assert dataset.classes == ("café", "tea")
    assert len(dataset.train) + len(dataset.test) == 30


def test_names_in_latin_1_become_text(tmp_path, job, monkeypatch):
    monkeypatch.setenv("DEEPNETS_DATA", str(tmp_path / "root"))
    make(tmp_path / os.fsdecode(b"f\xfcnf"), classes=(os.fsdecode(b"caf\xe9"), "tea"), count=10)
    name = f"folder:{tmp_path / os.fsdecode(b'f' + bytes([0xFC]) + b'nf')}"
    dataset = data.load(name)
    assert (dataset.title, dataset.classes) == ("fünf", ("café", "tea"))
    run = fit(
        job(dataset=name, limit=None, epochs=1, input_size=12), tmp_path / "runs", verbose=False
    )
    assert run.path.is_relative_to(tmp_path / "runs" / "folder-fünf")


def test_what_is_left_out_is_counted_said_and_kept(tmp_path, job, monkeypatch, capsys):
    monkeypatch.setenv("DEEPNETS_DATA", str(tmp_path / "root"))
    pets = tmp_path / "pets"
    make(pets, count=12)
    for number in range(20):
        (pets / "ant" / f"{number}.HEIC").write_bytes(b"from a phone")
    (pets / "bee" / "notes.txt").touch()
    (pets / "bee" / ".DS_Store").touch()
    make(pets / "ant", classes=("more",), count=3)
    picture(pets / "cover.png", 5)
    says = "pets: left out: 3 in deeper or other folders, 20 of .heic, 1 of .txt, 1 outside of the folders of classes"
    run = fit(job(dataset=f"folder:{pets}", limit=None, epochs=1, input_size=12), tmp_path / "runs")
    assert says in capsys.readouterr().out.splitlines()[0]
    assert says in run.info.warnings


def test_what_this_program_writes_is_no_class(tmp_path, monkeypatch):
    make(tmp_path / "photos", count=12)
    monkeypatch.chdir(tmp_path / "photos")
    first = data.load("folder:.")
    for name in ("runs/folder-photos/resnet8/tuned/seed0/run.json", "data/MNIST/raw/x"):
        Path(name).parent.mkdir(parents=True)
        Path(name).touch()
    picture(Path("assets/photos-curves.png"), 5)
    again = data.load("folder:.")
    assert (again.classes, again.sha256, again.left_out, again.title) == (
        ("ant", "bee"),
        first.sha256,
        "",
        "photos",
    )


def test_one_folder_however_it_is_written_and_wherever_it_is(folder, job, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPNETS_DATA", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)

    def train(name):
        return fit(
            job(dataset=name, limit=None, epochs=1, input_size=12), tmp_path / "runs", verbose=False
        )

    run = train("folder:pets")
    for name in (
        "folder:pets/",
        "folder:./pets",
        f"folder:{folder}",
        "folder:../" + tmp_path.name + "/pets/.",
    ):
        assert train(name).path == run.path
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    np.testing.assert_array_equal(predict.evaluate(run), run.test["predicted"])
    folder.rename(tmp_path / "elsewhere" / "animals")
    with pytest.raises(UserError, match="say --dataset folder:PATH"):
        predict.evaluate(run)
    np.testing.assert_array_equal(
        predict.evaluate(run, dataset="folder:animals/"), run.test["predicted"]
    )
    picture(tmp_path / "elsewhere" / "animals" / "cat" / "00.png", 5)
    with pytest.raises(UserError, match="another copy"):
        predict.evaluate(run, dataset="folder:animals")


def test_a_class_of_a_single_image_is_named(tmp_path):
    for place in (tmp_path / "flat", tmp_path / "parts" / "train", tmp_path / "parts" / "test"):
        make(place, classes=tuple("abcdefgh"), count=10)
        make(place, classes=("wren",), count=1)
    with pytest.raises(UserError, match="single image of class 'wren'"):
        data.load(f"folder:{tmp_path / 'flat'}", tmp_path / "root")
    with pytest.raises(UserError, match="single image of class 'wren'"):
        data.load(f"folder:{tmp_path / 'parts'}", tmp_path / "root").split(0)


def test_every_bad_picture_is_named_at_once_and_the_others_are_done(folder, tmp_path, monkeypatch):
    for number in (3, 5):
        (folder / "cat" / f"{number:02}.png").write_bytes(b"no picture")
    with pytest.raises(
        UserError, match=r"0[35]\.png is not a readable image.*; so with .*0[35]\.png$"
    ):
        data.load(f"folder:{folder}", tmp_path / "root")
    for number in (3, 5):
        (folder / "cat" / f"{number:02}.png").unlink()
    read, seen = pictures.read_image, []
    monkeypatch.setattr(
        pictures, "read_image", lambda file, side: (seen.append(file), read(file, side))[1]
    )
    assert len(data.load(f"folder:{folder}", tmp_path / "root").train) == 31
    assert not seen


def test_a_pipe_among_the_pictures_is_named(folder, tmp_path):
    os.mkfifo(folder / "cat" / "x.jpg")
    with pytest.raises(UserError, match=r"x\.jpg is not a regular file"):
        data.load(f"folder:{folder}", tmp_path / "root")


def test_guessing_is_called_so(tmp_path, job, monkeypatch):
    monkeypatch.setenv("DEEPNETS_DATA", str(tmp_path / "root"))
    random = np.random.default_rng(0)
    for name, count in (("healthy", 95), ("sick", 5)):
        (tmp_path / "scans" / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(random.integers(0, 255, (12, 12), np.uint8)).save(
                tmp_path / "scans" / name / f"{number}.png"
            )
    run = fit(
        job(dataset=f"folder:{tmp_path / 'scans'}", limit=None, input_size=12),
        tmp_path / "runs",
        verbose=False,
    )
    assert any(
        "not better than guessing: always saying 'healthy'" in warning
        for warning in run.info.warnings
    )
