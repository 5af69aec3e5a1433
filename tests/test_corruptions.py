"""Corruptions do what they are called, to every image alike in every run, and a run counts what
they cost.
"""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

import deepnets
from deepnets import data, evaluation
from deepnets.info import CORRUPTIONS
from deepnets.training import fit


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_images_are_corrupted_the_same_way_whole_or_in_parts(images, name, monkeypatch):
    before = images.clone()
    first = evaluation.corrupt(images, name)
    torch.rand(7)  # whatever happens to the global generator
    monkeypatch.setattr(evaluation, "CHUNK", 16)
    assert torch.equal(first, evaluation.corrupt(images, name))
    assert torch.equal(images, before)
    assert (first.dtype, first.shape) == (torch.uint8, images.shape)
    assert not torch.equal(first, images)


def test_noise_has_its_deviation_and_no_bias():
    grey = torch.full((50, 1, 32, 32), 128, dtype=torch.uint8)
    changed = evaluation.corrupt(grey, "noise").double() - 128
    assert changed.std().item() == pytest.approx(25.5, rel=0.02)
    assert abs(changed.mean().item()) < 0.5


def test_blur_and_contrast_are_torchvisions(images):
    blurred = F.gaussian_blur(images.double(), [9, 9], [1.0, 1.0])
    # they differ at the edge
    difference = (evaluation.corrupt(images, "blur").double() - blurred)[..., 4:-4, 4:-4]
    assert difference.abs().max() <= 0.6
    grey = images[:, :1]
    pale = F.adjust_contrast(grey, 0.4).double()
    assert (evaluation.corrupt(grey, "contrast").double() - pale).abs().max() <= 1
    red = torch.tensor([240, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    changed = evaluation.corrupt(red, "contrast").flatten().tolist()
    assert changed == [144, 48, 48], "around the mean of all channels"


def test_a_run_keeps_what_its_network_gets_right_under_each(job, tmp_path):
    run = fit(job(epochs=3), tmp_path, verbose=False, device="cpu", precision="fp32")
    test, (network, _, transform) = data.load("digits").test, deepnets.load(run.path)
    assert run.info.robustness["images"] == len(test)
    assert run.info.robustness["clean"] == run.correct.sum()
    for name in CORRUPTIONS:
        with torch.no_grad():
            predicted = network(transform(evaluation.corrupt(test.images, name))).argmax(1)
        assert np.array_equal(run.test[name], (predicted == test.labels).numpy())
        assert run.info.robustness[name] == run.test[name].sum()
