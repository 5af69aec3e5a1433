"""Datasets: what is loaded, how it is split, and what is said when it cannot be."""

import hashlib
import os
import pickle

import numpy as np
import pytest
import torch
from torchvision import datasets

from deepnets import data
from deepnets.data import Dataset, Images, named
from deepnets.errors import UserError


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
    for name in named.MNIST_SHA256:
        (raw / name).write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match="is damaged"):
        data.load("mnist", tmp_path)


def cifar_batches(root, monkeypatch):
    """A small set in the layout of the original, with the checksums that torchvision will
    expect.
    """
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    sums = {}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
        content = {"label_names": list("abcdefghij")}
        if name != "batches.meta":
            content = {
                "data": random.integers(0, 256, (20, 3072), dtype=np.uint8),
                "labels": [i % 10 for i in range(20)],
            }
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    cifar = datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [[n, sums[n]] for n in sums if n.startswith("data")])
    monkeypatch.setattr(cifar, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(
        cifar,
        "meta",
        {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]},
    )
    return folder


def test_both_versions_of_cifar_give_one_dataset(tmp_path, monkeypatch):
    folder = cifar_batches(tmp_path / "py", monkeypatch)
    binary = tmp_path / "bin" / "cifar-10-batches-bin"
    binary.mkdir(parents=True)
    sums = {}
    for name in named.CIFAR10_SHA256:
        batch = pickle.loads((folder / name.removesuffix(".bin")).read_bytes())
        content = b"".join(
            bytes([label]) + row.tobytes()
            for label, row in zip(batch["labels"], batch["data"], strict=True)
        )
        (binary / name).write_bytes(content)
        sums[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(named, "CIFAR10_SHA256", sums)
    pickled, plain = data.load("cifar10", tmp_path / "py"), data.load("cifar10", tmp_path / "bin")
    assert (plain.title, plain.classes, plain.sha256) == (
        "CIFAR-10",
        pickled.classes,
        pickled.sha256,
    )
    for ours, theirs in ((plain.train, pickled.train), (plain.test, pickled.test)):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)
    first = binary / "data_batch_1.bin"
    content = first.read_bytes()
    for name, damaged in {
        "bit": bytes([content[0] ^ 1]) + content[1:],
        "short": content[:-1],
        "foreign": b"x" * 50,
    }.items():
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


@pytest.mark.parametrize(
    "name", ["mnist", pytest.param("cifar10", marks=pytest.mark.xdist_group("cifar10"))]
)
def test_a_training_on_real_data(name, job, tmp_path, monkeypatch):
    """Validation and test are cut to a few hundred images, as a training's time is theirs."""
    from deepnets import training

    dataset = real(name)
    small = Dataset(
        name,
        dataset.title,
        dataset.classes,
        dataset.train,
        dataset.test[torch.arange(300)],
        dataset.sha256,
    )
    monkeypatch.setattr(data, "load", lambda *_, **__: small)
    run = training.fit(
        job(dataset=name, limit=600, input_size=32, epochs=3), tmp_path, verbose=False
    )
    assert run.accuracy > (0.5 if name == "mnist" else 0.15)
    assert run.info.data_sha256 == dataset.sha256
