"""Runs on disk, what their figures stand for, corruptions, and weights that are tested again."""

import shutil

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torchvision.transforms.v2 import functional as F

import deepnets
from deepnets import cli, data, evaluation, metrics, predict, runs
from deepnets.info import CORRUPTIONS
from deepnets.models import create


@pytest.mark.parametrize("sharpness", [1.0, 2.0, 4.0])
def test_levels_keep_the_figures_and_every_prediction(sharpness):
    """From unsure to overconfident networks."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 10_000)
    logits = sharpness * (random.normal(size=(10_000, 10)) + 2 * np.eye(10)[labels])
    logits[:50, :2] = logits[:50].max(1, keepdims=True) + np.array([0, 1e-9])  # nearly tied
    kept = runs.restored(runs.levels(log_softmax(logits, axis=1)))
    np.testing.assert_array_equal(kept.argmax(1), logits.argmax(1))
    exact, again = (metrics.summary(values, labels, 1.5) for values in (logits, kept))
    tolerances = {"nll": 1e-3, "brier": 2e-4, "nll_calibrated": 1e-3}
    tolerances |= {"ece": 2e-3, "ece_calibrated": 2e-3}  # bins have edges
    for name, tolerance in tolerances.items():
        assert again[f"test_{name}"] == pytest.approx(exact[f"test_{name}"], abs=tolerance), name


def test_find_gives_every_finished_run(finished, tmp_path):
    for name in ("seed0", "seed1.partial"):
        shutil.copytree(finished.path, tmp_path / "x" / name)
    assert [run.path for run in runs.find(tmp_path)] == [tmp_path / "x" / "seed0"]


def test_figures_are_of_the_stored_predictions(finished):
    test, info = finished.test, finished.info
    again = metrics.summary(test["log_probabilities"], test["labels"], info.temperature)
    assert {key: getattr(info, key) for key in again} == again
    logits = np.load(finished.path / "logits.npy")
    np.testing.assert_array_equal(test["predicted"], logits.argmax(1))


def test_views_hold_components_filters_and_where_the_network_looks(finished):
    network = predict.load_network(finished)
    assert finished.view("pca").shape == (360, 2)
    filters = network.stages.conv1[0].weight.detach().numpy()
    assert np.abs(finished.view("filters") - filters).max() <= np.ptp(filters) / 500
    cams = finished.view("cam")
    assert cams.shape == (10, 4, 4)
    assert cams.min() >= 0
    assert str(finished.views["cam_stage"]) == "conv4_x"


def test_a_network_to_which_all_images_look_alike_has_views_too():
    alike, images = np.ones((360, 64), np.float32), torch.randn(2, 3, 64, 64)
    found = evaluation.views(create("resnet8").eval(), alike, images, [3, 7])
    assert not found["pca_range"].any()


def test_grad_cam_is_the_papers_formula():
    torch.manual_seed(0)
    network = create("resnet8").eval()
    images = torch.randn(2, 3, 16, 16)
    stage, cams = evaluation.grad_cam(network, images, [3, 7])
    maps = network.maps(images)[stage]
    # ResNet's head is a mean and a linear layer, so the gradient is a row of its weights over the
    # area (Zhou et al. 2016)
    weights = network.classifier[1].weight[[3, 7]] / (maps.shape[-1] ** 2)
    expected = (weights[:, :, None, None] * maps).sum(1).relu()
    torch.testing.assert_close(cams, expected.detach())


# --- corruptions


def test_noise_has_its_deviation_and_no_bias():
    gray = torch.full((50, 1, 32, 32), 128, dtype=torch.uint8)
    changed = evaluation.corrupt(gray, "noise").double() - 128
    assert changed.std().item() == pytest.approx(25.5, rel=0.02)
    assert abs(changed.mean().item()) < 0.5


def test_blur_and_contrast_are_torchvisions():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (9, 3, 32, 32), np.uint8))
    blurred = F.gaussian_blur(images.double(), [9, 9], [1.0, 1.0])
    # they differ at the edge
    difference = (evaluation.corrupt(images, "blur").double() - blurred)[..., 4:-4, 4:-4]
    assert difference.abs().max() <= 0.6
    gray = images[:, :1]
    pale = F.adjust_contrast(gray, 0.4).double()
    assert (evaluation.corrupt(gray, "contrast").double() - pale).abs().max() <= 1
    red = torch.tensor([240, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    changed = evaluation.corrupt(red, "contrast").flatten().tolist()
    assert changed == [144, 48, 48], "around the mean of all channels"


def test_a_run_keeps_what_its_network_gets_right_under_each(finished, monkeypatch):
    """The corruptions are always the same, of all images at once or in parts."""
    test, (network, _, transform) = data.load("digits").test, deepnets.load(finished.path)
    predictor = evaluation.Predictor(network, transform, "fp32")
    monkeypatch.setattr(evaluation, "CHUNK", 100)
    again = evaluation.evaluate(predictor, test, test).figures["robustness"]
    assert again == finished.info.robustness
    assert (again["images"], again["clean"]) == (len(test), finished.correct.sum())
    for name in CORRUPTIONS:
        predicted = predictor(evaluation.corrupt(test.images, name))[1].argmax(1)
        assert np.array_equal(finished.test[name], (predicted == test.labels).numpy())
        assert again[name] == finished.test[name].sum()


# --- weights


def test_stored_weights_give_the_stored_predictions_again(finished, tmp_path, capsys):
    torch.set_float32_matmul_precision("high")
    np.testing.assert_array_equal(predict.evaluate(finished), finished.test["predicted"])
    assert torch.get_float32_matmul_precision() == "highest"
    assert cli.main(["evaluate", str(finished.path)]) == 0
    share = f"{100 * finished.accuracy:.2f} %"
    assert f"{share} of 360 test images; the run says {share}" in capsys.readouterr().out
    copy = shutil.copytree(finished.path, tmp_path / "run")
    stored = dict(np.load(copy / "test.npz"))
    np.savez(copy / "test.npz", **stored | {"levels": np.roll(stored["levels"], 1, axis=1)})
    assert cli.main(["evaluate", str(copy)]) == 1, "other predictions than those stored"
    (copy / "model.safetensors").write_bytes(b"junk")
    assert cli.main(["evaluate", str(copy)]) == 2
    assert "is damaged" in capsys.readouterr().err
