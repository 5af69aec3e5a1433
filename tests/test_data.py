"""Datasets: what is loaded, how it is split, and what is said when it cannot be."""

import hashlib
import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from deepnets import data
from deepnets.data import Dataset, Images
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


def test_digits_are_scikit_learns_and_the_test_set_is_fixed():
    digits = data.load("digits")
    assert len(digits.train) == 1437
    assert len(digits.test) == 360
    assert digits.train.images.shape[1:] == (1, 8, 8)
    assert digits.train.images.dtype == torch.uint8
    assert digits.train.images.max() == 255
    assert digits.sha256 == data.load("digits").sha256
    pixels = {image.numpy().tobytes() for image in digits.train.images}
    assert not [image for image in digits.test.images if image.numpy().tobytes() in pixels]


def test_the_split_is_stratified_disjoint_and_a_function_of_the_seed():
    digits = data.load("digits")
    train, validation, digest = digits.split(3)
    assert (len(train), len(validation)) == (1437 - 143, 143)
    again = digits.split(3)
    assert digest == again[2]
    assert torch.equal(train.images, again[0].images)
    assert digest != digits.split(4)[2]
    seen = {image.numpy().tobytes() for image in train.images}
    assert not [image for image in validation.images if image.numpy().tobytes() in seen]
    shares = validation.labels.bincount() / len(validation) - train.labels.bincount() / len(train)
    assert shares.abs().max() < 0.01


def test_a_limit_is_stratified_and_keeps_validation_in_proportion():
    train, validation, _ = data.load("digits").split(0, 100)
    assert train.labels.bincount().tolist() == [10] * 10
    assert len(validation) == 20


def test_the_validation_split_of_the_large_sets_has_the_agreed_size():
    labels = torch.arange(60_000) % 10
    part = Images(torch.zeros(60_000, 1, 1, 1, dtype=torch.uint8), labels)
    for name, size in (("mnist", 10_000), ("cifar10", 5_000)):
        train, validation, _ = Dataset(name, name, tuple("0123456789"), part, part, "").split(0)
        assert len(validation) == size
        assert len(train) == 60_000 - size


def test_statistics_are_numpys():
    images = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8)
    mean, std = data.statistics(images)
    pixels = images.numpy() / 255
    assert mean == pytest.approx(pixels.mean((0, 2, 3)))
    assert std == pytest.approx(pixels.std((0, 2, 3)))


# --- a folder of images


def test_a_folder_is_read_once_and_again_when_it_changed(folder, tmp_path, monkeypatch):
    root = tmp_path / "root"
    first = data.load(f"folder:{folder}", root)
    assert first.classes == ("cat", "dog")
    assert (len(first.train), len(first.test)) == (32, 8)
    assert first.train.images.shape[1:] == (3, 12, 12)
    assert first.test.labels.bincount().tolist() == [4, 4]
    red = first.train.images[first.train.labels == 0][:, 0].float().mean()
    assert red > 190

    decoded = []
    decode = data._decode
    monkeypatch.setattr(data, "_decode", lambda *a: (decoded.append(1), decode(*a))[1])
    assert data.load(f"folder:{folder}", root).sha256 == first.sha256
    assert not decoded
    picture(folder / "cat" / "00.png", (1, 2, 3))
    os.utime(folder / "cat" / "00.png", ns=(1, 1))
    assert data.load(f"folder:{folder}", root).sha256 != first.sha256
    assert decoded
    for cache in (root / "cache").iterdir():
        cache.write_bytes(b"damaged")
    data.load(f"folder:{folder}", root)
    assert len(decoded) == 2

    def full(file, **arrays):
        file.write_bytes(b"half")
        raise OSError("no space left")

    for cache in (root / "cache").iterdir():
        cache.write_bytes(b"damaged")
    before = sorted((root / "cache").iterdir())
    monkeypatch.setattr(np, "savez", full)
    data.load(f"folder:{folder}", root)
    assert sorted((root / "cache").iterdir()) == before, "nothing is left of what could not be written"


def test_a_finished_run_is_not_passed_off_as_one_of_pictures_that_changed(folder, job, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPNETS_DATA", str(tmp_path / "root"))
    one = job(dataset=f"folder:{folder}", limit=None, epochs=1, input_size=12)
    assert fit(one, tmp_path / "runs", verbose=False).path == fit(one, tmp_path / "runs", verbose=False).path
    picture(folder / "cat" / "new.png", (1, 2, 3))
    with pytest.raises(UserError, match="data_sha256"):
        fit(one, tmp_path / "runs", verbose=False)


def test_train_and_test_folders_gray_pictures_and_other_sizes(tmp_path):
    for part, count in (("train", 6), ("test", 3)):
        for name, level in (("a", 10), ("b", 240)):
            for number in range(count):
                picture(tmp_path / "set" / part / name / f"{number}.png", (level,) * 3, 100 + number, 80)
    dataset = data.load(f"folder:{tmp_path / 'set'}", tmp_path / "root", size=32)
    assert (len(dataset.train), len(dataset.test)) == (12, 6)
    assert dataset.train.images.shape[1:] == (1, 32, 32)


def test_a_root_that_cannot_be_written_is_no_obstacle(folder, tmp_path):
    (tmp_path / "file").write_text("")
    assert len(data.load(f"folder:{folder}", tmp_path / "file").train) == 32


@pytest.mark.parametrize("form", ["transparent", "palette", "gray16", "pgm16", "rotated"])
def test_pictures_of_every_form_become_rgb(tmp_path, form):
    path = tmp_path / "picture.png"
    if form == "transparent":
        Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(path)
        assert data.read_image(path).min() == 255
    elif form == "palette":
        Image.new("RGB", (4, 4), (9, 9, 9)).convert("P").save(path)
        assert data.read_image(path).shape == (4, 4, 3)
    elif form == "gray16":
        Image.fromarray(np.full((4, 4), 51200, np.uint16)).save(path)
        assert data.read_image(path).max() == 200
    elif form == "pgm16":
        (tmp_path / "picture.pgm").write_bytes(b"P5 2 1 65535 " + np.array([51200, 256], ">u2").tobytes())
        assert data.read_image(tmp_path / "picture.pgm")[0, :, 0].tolist() == [200, 1]
    else:
        image = Image.new("RGB", (6, 4))
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(tmp_path / "picture.jpg", exif=exif)
        assert data.read_image(tmp_path / "picture.jpg").shape == (6, 4, 3)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_brightness_of_no_known_range_is_refused(tmp_path, kind):
    Image.fromarray(np.ones((4, 4), kind)).save(tmp_path / "picture.tiff")
    with pytest.raises(UserError, match=r"picture\.tiff has 32 bits a pixel"):
        data.read_image(tmp_path / "picture.tiff")


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
    refused(tmp_path / "one", "do not split")
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


# --- files that are missing or damaged


def test_missing_data_is_named_with_what_would_help(tmp_path):
    for name in ("mnist", "cifar10"):
        with pytest.raises(UserError, match="--download"):
            data.load(name, tmp_path)
        assert not list(tmp_path.iterdir())


def test_a_download_without_network_is_one_line(tmp_path):
    for name in ("mnist", "cifar10"):
        with pytest.raises(UserError, match="could not be downloaded") as error:
            data.load(name, tmp_path / "new" / "data", download=True)
        assert "\n" not in str(error.value)
        assert not list(tmp_path.iterdir())


def test_a_damaged_mnist_is_refused(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in data.MNIST_SHA256:
        (raw / name).write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match="is damaged"):
        data.load("mnist", tmp_path)


def cifar_batches(root, monkeypatch):
    """A small set in the layout of the original, with the checksums that torchvision will expect."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    sums = {}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
        content = {"label_names": list("abcdefghij")}
        if name != "batches.meta":
            content = {"data": random.integers(0, 256, (20, 3072), dtype=np.uint8), "labels": [i % 10 for i in range(20)]}
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    cifar = datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [[n, sums[n]] for n in sums if n.startswith("data")])
    monkeypatch.setattr(cifar, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(cifar, "meta", {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]})
    return folder


def test_both_versions_of_cifar_give_one_dataset(tmp_path, monkeypatch):
    folder = cifar_batches(tmp_path / "py", monkeypatch)
    binary = tmp_path / "bin" / "cifar-10-batches-bin"
    binary.mkdir(parents=True)
    sums = {}
    for name in data.CIFAR10_SHA256:
        batch = pickle.loads((folder / name.removesuffix(".bin")).read_bytes())
        content = b"".join(bytes([label]) + row.tobytes() for label, row in zip(batch["labels"], batch["data"], strict=True))
        (binary / name).write_bytes(content)
        sums[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(data, "CIFAR10_SHA256", sums)
    monkeypatch.setattr(data, "CIFAR10_CLASSES", tuple("abcdefghij"))
    pickled, plain = data.load("cifar10", tmp_path / "py"), data.load("cifar10", tmp_path / "bin")
    assert (plain.title, plain.classes, plain.sha256) == ("CIFAR-10", pickled.classes, pickled.sha256)
    for ours, theirs in ((plain.train, pickled.train), (plain.test, pickled.test)):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)
    first = binary / "data_batch_1.bin"
    content = first.read_bytes()
    for name, damaged in {"bit": bytes([content[0] ^ 1]) + content[1:], "short": content[:-1], "foreign": b"x" * 50}.items():
        first.write_bytes(damaged)
        with pytest.raises(UserError, match=r"data_batch_1\.bin is damaged") as error:
            data.load("cifar10", tmp_path / "bin")
        assert "\n" not in str(error.value), name
    (binary / "data_batch_1.bin").write_bytes(content)
    (binary / "test_batch.bin").unlink()
    with pytest.raises(UserError, match=r"test_batch\.bin is missing"):
        data.load("cifar10", tmp_path / "bin")


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


def test_cifar_batches_are_read_and_a_changed_pickle_is_never_opened(tmp_path, monkeypatch):
    folder = cifar_batches(tmp_path, monkeypatch)
    cifar = data.load("cifar10", tmp_path)
    assert (len(cifar.train), len(cifar.test), cifar.title) == (100, 20, "CIFAR-10")
    assert cifar.train.images.shape[1:] == (3, 32, 32)
    stored = pickle.loads((folder / "data_batch_1").read_bytes())["data"]
    assert np.array_equal(cifar.train.images[:20].numpy().reshape(20, -1), stored)
    monkeypatch.chdir(tmp_path)
    (folder / "data_batch_3").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(UserError, match="damaged"):
        data.load("cifar10", tmp_path)
    assert not (tmp_path / "attacked").exists()


# --- the real sets, where they are


def real(name):
    try:
        return data.load(name)
    except UserError as error:
        if "is not in" not in str(error):  # damaged, say
            raise
        pytest.skip(f"no real data: {error}")


def test_real_mnist():
    mnist = real("mnist")
    assert (len(mnist.train), len(mnist.test)) == (60_000, 10_000)
    mean, std = data.statistics(mnist.train.images)
    assert (mean[0], std[0]) == pytest.approx((0.1307, 0.3081), abs=5e-5)
    assert mnist.train.labels[:5].tolist() == [5, 0, 4, 1, 9]


@pytest.mark.xdist_group("cifar10")  # decoded once
def test_real_cifar10():
    cifar = real("cifar10")
    assert (len(cifar.train), len(cifar.test)) == (50_000, 10_000)
    assert cifar.test.labels.bincount().tolist() == [1000] * 10
    assert cifar.classes[0] == "airplane"
    mean, std = data.statistics(cifar.train.images)
    assert mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=5e-5)
    assert std == pytest.approx((0.2470, 0.2435, 0.2616), abs=5e-5)
    # Of every run that is stored: those of the binary and of the Python version.
    assert cifar.sha256 == "e307418287407a5e660d51e11954ab84f77ab2d8d7b7a84ed9da8c064447fe83"


@pytest.mark.parametrize("name", ["mnist", pytest.param("cifar10", marks=pytest.mark.xdist_group("cifar10"))])
def test_a_training_on_real_data(name, job, tmp_path, monkeypatch):
    """Validation and test are cut to a few hundred images, as a training's time is theirs."""
    from deepnets import training

    dataset = real(name)
    small = Dataset(name, dataset.title, dataset.classes, dataset.train, dataset.test[torch.arange(300)], dataset.sha256)
    monkeypatch.setattr(data, "load", lambda *_, **__: small)
    run = training.fit(job(dataset=name, limit=600, input_size=32, epochs=3), tmp_path, verbose=False)
    assert run.accuracy > (0.5 if name == "mnist" else 0.15)
    assert run.info["data_sha256"] == dataset.sha256
