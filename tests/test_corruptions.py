"""Corruptions do what they are called, to every image alike in every run, and a run counts what
they cost.
"""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from deepnets import data, evaluation
from deepnets.info import CORRUPTIONS
from deepnets.predict import load_network
from deepnets.training import fit
from deepnets.transforms import Transform


@pytest.fixture
def images():
    return torch.randint(
        0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_images_are_corrupted_the_same_way(images, name):
    before = images.clone()
    torch.manual_seed(1)
    first = evaluation.corrupt(images, name)
    torch.manual_seed(2)
    assert torch.equal(first, evaluation.corrupt(images, name))
    assert torch.equal(images, before)
    assert first.dtype == torch.uint8
    assert first.shape == images.shape
    assert not torch.equal(first, images)


def test_noise_has_its_deviation_and_no_bias():
    grey = torch.full((50, 1, 32, 32), 128, dtype=torch.uint8)
    changed = evaluation.corrupt(grey, "noise").double() - 128
    assert changed.std().item() == pytest.approx(25.5, rel=0.02)
    assert abs(changed.mean().item()) < 0.5


def test_blur_is_torchvisions(images):
    expected = tv.gaussian_blur(images.double(), [9, 9], [1.0, 1.0])
    # they differ at the edge
    difference = (evaluation.corrupt(images, "blur").double() - expected)[..., 4:-4, 4:-4]
    assert difference.abs().max() <= 0.6


def test_contrast_is_torchvisions():
    grey = torch.randint(
        0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    difference = (
        evaluation.corrupt(grey, "contrast").double() - tv.adjust_contrast(grey, 0.4).double()
    )
    assert difference.abs().max() <= 1
    red = torch.tensor([240, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    assert evaluation.corrupt(red, "contrast").flatten().tolist() == [144, 48, 48], (
        "around the mean of all channels"
    )


def test_an_unknown_corruption_is_an_error(images):
    with pytest.raises(ValueError, match="fog"):
        evaluation.corrupt(images, "fog")


def test_a_run_keeps_what_its_network_gets_right_under_each(job, tmp_path):
    run = fit(job(epochs=3), tmp_path, verbose=False, device="cpu", precision="fp32")
    test = data.load("digits").test
    network, transform = (
        load_network(run),
        Transform(16, tuple(run.info.mean), tuple(run.info.std)),
    )
    assert run.info.robustness["images"] == len(test) == 360
    assert run.info.robustness["clean"] == run.correct.sum()
    for name in CORRUPTIONS:
        with torch.no_grad():
            predicted = network(transform(evaluation.corrupt(test.images, name))).argmax(1)
        assert np.array_equal(run.test[name], (predicted == test.labels).numpy())
        assert run.info.robustness[name] == run.test[name].sum()


def test_corrupting_in_parts_changes_nothing(images, monkeypatch):
    whole = {name: evaluation.corrupt(images, name) for name in CORRUPTIONS}
    monkeypatch.setattr(evaluation, "CHUNK", 16)
    for name, expected in whole.items():
        assert torch.equal(evaluation.corrupt(images, name), expected), name
