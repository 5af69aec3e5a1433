"""Datasets: what is loaded, how it is split, and what is said when it cannot be."""

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from deepnets import data
from deepnets.data import Dataset, Images, named
from deepnets.errors import UserError
from deepnets.runs import Run


def contents(images):
    return {image.numpy().tobytes() for image in images}


def test_digits_are_scikit_learns_and_the_test_set_is_fixed():
    digits = data.load("digits")
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert digits.train.images.shape[1:] == (1, 8, 8)
    assert (digits.train.images.dtype, digits.train.images.max()) == (torch.uint8, 255)
    assert digits.sha256 == data.load("digits").sha256
    assert not contents(digits.test.images) & contents(digits.train.images)


def test_the_split_is_stratified_disjoint_limited_and_a_function_of_the_seed():
    digits = data.load("digits")
    train, validation, digest = digits.split(3)
    assert (len(train), len(validation)) == (1437 - 143, 143)
    again = digits.split(3)
    assert digest == again[2] != digits.split(4)[2]
    assert torch.equal(train.images, again[0].images)
    assert not contents(validation.images) & contents(train.images)
    shares = validation.labels.bincount() / len(validation) - train.labels.bincount() / len(train)
    assert shares.abs().max() < 0.01
    some, validation, _ = digits.split(0, 100)
    assert some.labels.bincount().tolist() == [10] * 10
    assert len(validation) == 20


@pytest.mark.parametrize(("name", "size"), [("mnist", 10_000), ("cifar10", 5_000)])
def test_the_validation_split_of_the_large_sets_has_the_agreed_size(name, size):
    part = Images(torch.zeros(60_000, 1, 1, 1, dtype=torch.uint8), torch.arange(60_000) % 10)
    train, validation, _ = Dataset(name, name, tuple("0123456789"), part, part, "").split(0)
    assert (len(validation), len(train)) == (size, 60_000 - size)


def test_statistics_are_numpys():
    images = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8)
    mean, std = data.statistics(images)
    pixels = images.numpy() / 255
    assert mean == pytest.approx(pixels.mean((0, 2, 3)))
    assert std == pytest.approx(pixels.std((0, 2, 3)))


# --- files that are missing or damaged


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_missing_data_and_a_download_without_network_are_one_line(name, tmp_path):
    with pytest.raises(UserError, match="--download"):
        data.load(name, tmp_path)
    with pytest.raises(UserError, match="could not be downloaded"):
        data.load(name, tmp_path / "new" / "data", download=True)


def test_mnist_is_read_as_torchvision_reads_it_unless_it_is_damaged(tmp_path, monkeypatch):
    random, sha256 = np.random.default_rng(0), {}
    (raw := tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for name in named.MNIST_SHA256:
        shape = (20, 28, 28) if "images" in name else (20,)
        header = np.array([0x800 + len(shape), *shape], ">u4").tobytes()
        content = header + random.integers(0, 10, shape, np.uint8).tobytes()
        (raw / name).write_bytes(content)
        sha256[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(named, "MNIST_SHA256", sha256)
    mnist = data.load("mnist", tmp_path)
    for ours, part in ((mnist.train, True), (mnist.test, False)):
        theirs = datasets.MNIST(str(tmp_path), train=part)
        assert torch.equal(ours.images[:, 0], theirs.data)
        assert torch.equal(ours.labels, theirs.targets)
    content = (raw / name).read_bytes()
    (raw / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match="is damaged"):
        data.load("mnist", tmp_path)


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Both versions of a small set in the layout of the original, with the right checksums."""
    pickled, binary = tmp_path / "py/cifar-10-batches-py", tmp_path / "bin/cifar-10-batches-bin"
    pickled.mkdir(parents=True)
    binary.mkdir(parents=True)
    random, md5, sha256 = np.random.default_rng(0), {}, {}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        pixels, labels = random.integers(0, 256, (20, 3072), np.uint8), np.arange(20) % 10
        content = pickle.dumps({"data": pixels, "labels": labels.tolist()})
        (pickled / name).write_bytes(content)
        md5[name] = hashlib.md5(content).hexdigest()
        content = np.c_[labels.astype(np.uint8), pixels].tobytes()
        (binary / f"{name}.bin").write_bytes(content)
        sha256[f"{name}.bin"] = hashlib.sha256(content).hexdigest()
    *train, test = md5.items()
    monkeypatch.setattr(datasets.CIFAR10, "train_list", train)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [test])
    monkeypatch.setattr(datasets.CIFAR10, "_load_meta", lambda self: None)  # names of classes
    monkeypatch.setattr(named, "CIFAR10_SHA256", sha256)
    return pickled, binary


def test_both_versions_of_cifar_give_one_dataset(cifar):
    pickled, binary = (data.load("cifar10", folder.parent) for folder in cifar)
    assert pickled.sha256 == binary.sha256
    assert (len(binary.train), len(binary.test), binary.title) == (100, 20, "CIFAR-10")
    assert torch.equal(binary.train.labels, pickled.train.labels)
    stored = pickle.loads((cifar[0] / "data_batch_1").read_bytes())["data"]
    assert np.array_equal(binary.train.images[:20].numpy(), stored.reshape(20, 3, 32, 32))


@pytest.mark.parametrize("damaged", [b"\1", b"", None], ids=["bit", "short", "missing"])
def test_a_damaged_binary_cifar_is_refused(cifar, damaged):
    file = cifar[1] / "data_batch_1.bin"
    content = file.read_bytes()
    file.unlink()
    if damaged is not None:
        file.write_bytes(damaged + content[1:])
    with pytest.raises(UserError, match=r"data_batch_1\.bin is (damaged|missing)"):
        data.load("cifar10", cifar[1].parent)


def test_a_changed_pickle_is_never_opened(cifar, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    attack = type("Attack", (), {"__reduce__": lambda self: (os.system, ("touch attacked",))})
    (cifar[0] / "data_batch_3").write_bytes(pickle.dumps(attack()))
    with pytest.raises(UserError, match="damaged"):
        data.load("cifar10", cifar[0].parent)
    assert not (tmp_path / "attacked").exists()


# --- the real sets, where they are


@pytest.mark.parametrize(
    ("name", "sizes", "mean", "std"),
    [
        ("mnist", (60_000, 10_000), (0.1307,), (0.3081,)),
        ("cifar10", (50_000, 10_000), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ],
)
def test_the_real_sets_are_those_of_the_runs(name, sizes, mean, std):
    try:
        found = data.load(name)
    except UserError as error:
        if "is not in" not in str(error):  # damaged, say
            raise
        pytest.skip(f"no real data: {error}")
    assert (len(found.train), len(found.test)) == sizes
    for ours, published in zip(data.statistics(found.train.images), (mean, std), strict=True):
        assert ours == pytest.approx(published, abs=5e-5)
    results = Path(__file__).parent.parent / "results"
    run = Run.load(results / "main" / name / "resnet20" / "tuned" / "seed0")
    assert found.sha256 == run.info.data_sha256
