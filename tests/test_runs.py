"""Runs on disk, tables and pictures made from them, and predictions by them."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageDraw
from scipy.special import log_softmax, softmax

from deepnets import data, evaluation, metrics, predict, runs
from deepnets.compare import effects, figures
from deepnets.errors import UserError
from deepnets.models import create
from deepnets.training import fit


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two networks that learned a little, on the same test images."""
    from deepnets import recipes
    from deepnets.training import Job

    root = tmp_path_factory.mktemp("runs")
    for name, options in (("resnet8", {}), ("resnet14", {"dropout": 0.1})):
        recipe = recipes.get("plain", name, epochs=4, batch_size=16)
        fit(Job(name, "digits", recipe, 0, options, 400, 16), root, verbose=False)
    return root


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
    for figure, tolerance in {
        "test_nll": 1e-3,
        "test_brier": 2e-4,
        "test_nll_calibrated": 1e-3,
    }.items():
        assert again[figure] == pytest.approx(exact[figure], abs=tolerance), figure
    for figure in ("test_ece", "test_ece_calibrated"):  # bins have edges
        assert again[figure] == pytest.approx(exact[figure], abs=2e-3), figure


def test_find_gives_every_finished_run(trained, tmp_path):
    found = runs.find(trained)
    assert [run.label for run in found] == ["resnet14-dropout=0.1", "resnet8"]
    (tmp_path / "x" / "seed0.partial").mkdir(parents=True)
    shutil.copy(found[0].path / "run.json", tmp_path / "x" / "seed0.partial")
    with pytest.raises(UserError, match="no finished run"):
        runs.find(tmp_path)


def test_the_table_holds_what_the_predictions_say(trained):
    table = effects.accuracies(runs.find(trained)).set_index("network")
    for run in runs.find(trained):
        row = table.loc[run.info.model]
        assert row["accuracy"] == run.correct.mean()
        assert (row["low"], row["high"]) == metrics.accuracy_interval(
            run.correct.sum(), len(run.correct)
        )
        assert row["low"] < row["accuracy"] < row["high"]
        assert row["parameters"] == run.info.parameters
        again = metrics.summary(
            run.test["log_probabilities"], run.test["labels"], run.info.temperature
        )
        assert {key: getattr(run.info, key) for key in again} == again
        logits = np.load(run.path / "logits.npy")
        exact = metrics.summary(logits, run.test["labels"], run.info.temperature)
        assert again["test_correct"] == exact["test_correct"]
        for figure in ("test_nll", "test_nll_calibrated", "test_brier"):
            assert again[figure] == pytest.approx(exact[figure], abs=1e-3), figure
        np.testing.assert_array_equal(run.test["predicted"], logits.argmax(1))


def test_pictures_show_every_run(trained):
    found = runs.find(trained)
    figure = figures.curves(found)
    axes = [ax for part in figure.subfigs for ax in part.axes if ax.axison]
    assert len(axes) == 4
    assert "resnet8" in axes[1].get_title()
    assert axes[1].lines[1].get_ydata().tolist() == found[1].history["val_loss"].tolist()
    texts = {text.get_text() for ax in figures.confusions(found).axes for text in ax.texts}
    matrix = metrics.confusion(found[0].test["labels"], found[0].test["predicted"], 10)
    assert {str(count) for count in matrix.diagonal() if count} <= texts


def test_views_hold_components_filters_and_where_the_network_looks(trained):
    run = runs.find(trained)[1]
    network = predict.load_network(run)
    assert run.view("pca").shape == (360, 2)
    filters = network.stages.conv1[0].weight.detach().numpy()
    assert np.abs(run.view("filters") - filters).max() <= np.ptp(filters) / 500
    cams = run.view("cam")
    assert cams.shape == (10, 4, 4)
    assert cams.min() >= 0
    assert str(run.views["cam_stage"]) == "conv4_x"


def test_a_network_to_which_all_images_look_alike_has_views_too(trained):
    network = create("resnet8").eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = evaluation.views(
            network, np.ones((360, 64), np.float32), torch.randn(2, 3, 64, 64), [3, 7]
        )
    assert not found["pca_range"].any()
    dead = replace(runs.find(trained)[1])
    dead.__dict__["views"] = dead.views | found
    labels = [
        label
        for ax in figures.representation(dead).axes
        for label in (ax.get_xlabel(), ax.get_ylabel())
    ]
    assert "first component, 0 % of the variance" in labels


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


def test_quantised_values_come_back_to_half_a_level():
    values = np.random.default_rng(0).normal(size=(30, 2))
    for original, axis in ((values, None), (values * [1, 1000], 0), (np.zeros(3), None)):
        run = runs.Run(Path(), {})
        run.__dict__["views"] = evaluation.quantise("x", original, axis)
        assert np.all(np.abs(run.view("x") - original) <= np.ptp(original, axis) / 500)


@pytest.mark.parametrize("damage", ["missing", "not json", "list", "key"])
def test_a_folder_that_is_no_run_is_refused(trained, tmp_path, damage):
    if damage != "missing":
        text = {"not json": "{", "list": "[]", "key": '{"model": "resnet8"}'}[damage]
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError) as error:
        runs.Run.load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["test.npz", "history.csv", "views.npz"])
@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 no archive"])
def test_damaged_parts_of_a_run_are_named(trained, tmp_path, name, content):
    shutil.copytree(runs.find(trained)[1].path, tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    if content is not None:
        (tmp_path / "run" / name).write_bytes(content)
    run = runs.Run.load(tmp_path / "run")
    with pytest.raises(UserError, match=name):
        _ = {
            "test.npz": lambda: run.test,
            "history.csv": lambda: run.history["epoch"],
            "views.npz": lambda: run.views,
        }[name]()


def test_predictions_of_other_test_images_are_named(trained, tmp_path):
    shutil.copytree(runs.find(trained)[1].path, tmp_path / "run")
    stored = dict(np.load(tmp_path / "run" / "test.npz"))
    np.savez(
        tmp_path / "run" / "test.npz", **{name: values[:100] for name, values in stored.items()}
    )
    with pytest.raises(UserError, match=r"test\.npz is not this run's: it has not 360 images"):
        _ = runs.Run.load(tmp_path / "run").test


# --- predictions


def test_a_stored_test_image_is_predicted_as_in_the_run(trained, tmp_path):
    """Through a PNG of the exact pixels, with the digit as wide as the dataset has it."""
    run = runs.find(trained)[1]
    digits = data.load("digits")
    classify, agree = predict.classifier(run), 0
    for index in range(40):
        Image.fromarray(digits.test.images[index, 0].numpy()).resize((80, 80), 0).save(
            tmp_path / "d.png"
        )
        classes, _ = classify(tmp_path / "d.png")
        agree += classes[0][0] == str(run.test["predicted"][index])
    assert agree >= 30
    classes, _ = predict.classifier(run, top=10)(tmp_path / "d.png")
    assert sum(share for _, share in classes) == pytest.approx(1)


def test_stored_weights_give_the_stored_predictions_again(trained, tmp_path, capsys):
    from deepnets.cli import main

    for run in runs.find(trained):
        np.testing.assert_array_equal(predict.evaluate(run), run.test["predicted"])
        assert (predict.evaluate(run, precision="fp32") == run.test["predicted"]).mean() > 0.97
    assert main(["evaluate", str(run.path)]) == 0
    assert (
        f"{100 * run.accuracy:.2f} % of 360 test images; the run says {100 * run.accuracy:.2f} %"
        in capsys.readouterr().out
    )
    shutil.copytree(run.path, tmp_path / "run")
    stored = dict(np.load(tmp_path / "run" / "test.npz"))
    np.savez(
        tmp_path / "run" / "test.npz", **stored | {"levels": np.roll(stored["levels"], 1, axis=1)}
    )
    assert main(["evaluate", str(tmp_path / "run")]) == 1, "other predictions than those stored"
    info = json.loads((run.path / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(info | {"data_sha256": "0"}))
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert "another copy" in capsys.readouterr().err


def test_weights_are_tested_as_the_run_was_also_mirrored_and_on_a_folder(tmp_path, monkeypatch):
    from deepnets import recipes
    from deepnets.training import Job

    for number in range(60):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3)).astype(np.uint8)
        pixels[:, : 24 if number % 2 else 12] //= 4
        Image.fromarray(pixels).save(folder / f"{number}.png")
    job = Job(
        "resnet8",
        f"folder:{tmp_path / 'photos'}",
        recipes.get("best", "resnet8", epochs=2, batch_size=8),
        input_size=32,
    )
    run = fit(job, tmp_path / "runs", verbose=False, precision="fp32")
    np.testing.assert_array_equal(predict.evaluate(run), run.test["predicted"])
    monkeypatch.setattr(
        predict,
        "prepare",
        lambda file, run: (data.load(job.dataset, size=32).test.images[[file]], []),
    )
    # Its own temperature may divide by so little that every probability is 1
    run = runs.Run(run.path, replace(run.info, temperature=1.0))
    every = softmax(np.load(run.path / "logits.npy"), axis=1)
    unsure = int(every.max(1).argmin())
    classes, _ = predict.classifier(run, top=1)(unsure)
    stored = every[unsure]
    assert classes[0][1] == pytest.approx(stored.max(), abs=1e-5)
    recipe = replace(run.info.recipe, flip_test=False)
    run = runs.Run(run.path, replace(run.info, recipe=recipe))
    classes, _ = predict.classifier(run, top=1)(unsure)
    assert classes[0][1] != pytest.approx(stored.max(), abs=1e-5), "the mirror image counted"


def draw_seven(path, ink, paper, mode):
    image = Image.new("RGB", (300, 200), paper)
    ImageDraw.Draw(image).line([(100, 40), (180, 40), (130, 170)], fill=ink, width=18)
    image.convert(mode).save(path)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_dark_ink_on_light_paper_is_said_and_equals_the_inverse(trained, tmp_path, mode):
    run = runs.find(trained)[1]
    draw_seven(tmp_path / "light.png", (0, 0, 0), (255, 255, 255), mode)
    draw_seven(tmp_path / "dark.png", (255, 255, 255), (0, 0, 0), mode)
    classify = predict.classifier(run)
    light, dark = classify(tmp_path / "light.png"), classify(tmp_path / "dark.png")
    assert light[0] == dark[0]
    assert "light background: inverted" in light[1]
    assert "light background: inverted" not in dark[1]


def test_gray_paper_becomes_black_and_pale_ink_white(trained, tmp_path):
    run = runs.find(trained)[1]
    draw_seven(tmp_path / "best.png", (255,) * 3, (0,) * 3, "L")
    draw_seven(tmp_path / "gray.png", (40,) * 3, (170,) * 3, "L")
    best, gray = (
        predict.prepare(tmp_path / f"{name}.png", run)[0].float() for name in ("best", "gray")
    )
    assert (best - gray).abs().max() <= 2


def test_a_bold_digit_that_fills_its_picture_is_found(trained, tmp_path):
    image = Image.new("L", (30, 60))
    ImageDraw.Draw(image).rectangle([6, 2, 23, 57], fill=255)
    image.save(tmp_path / "one.png")
    pixels, _ = predict.prepare(tmp_path / "one.png", runs.find(trained)[1])
    assert pixels.max() == 255


def test_a_digit_of_the_dataset_stays_nearly_as_it_is(trained, tmp_path):
    run = runs.find(trained)[1]
    images = data.load("digits").test.images[:100]
    changed = []
    for image in images:
        Image.fromarray(image[0].numpy()).save(tmp_path / "digit.png")
        changed.append(predict.prepare(tmp_path / "digit.png", run)[0][0])
    distances = torch.cdist(torch.stack(changed).flatten(1).double(), images.flatten(1).double())
    assert (distances.argmin(1) == torch.arange(len(images))).double().mean() > 0.8, (
        "most are nearest to themselves"
    )


def test_a_thin_stroke_keeps_its_ink(trained, tmp_path):
    run = runs.find(trained)[1]
    image = Image.new("L", (300, 500))
    ImageDraw.Draw(image).rectangle([150, 50, 152, 450], fill=255)
    image.save(tmp_path / "one.png")
    pixels, _ = predict.prepare(tmp_path / "one.png", run)
    assert pixels.amax(2).count_nonzero() == 1
    assert pixels.max() > 0


def test_what_cannot_be_predicted_is_named(trained, tmp_path):
    run = runs.find(trained)[1]
    Image.new("RGB", (50, 50), "white").save(tmp_path / "blank.png")
    specks = Image.new("L", (3000, 3000))
    specks.putpixel((100, 100), 255)
    specks.putpixel((2900, 2900), 255)
    specks.save(tmp_path / "specks.png")
    with pytest.raises(UserError, match=r"specks\.png.*no digit stands out"):
        predict.prepare(tmp_path / "specks.png", run)
    with pytest.raises(UserError, match=r"blank\.png.*no digit stands out"):
        predict.classifier(run)(tmp_path / "blank.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(UserError, match=r"text\.png is not a readable image"):
        predict.classifier(run)(tmp_path / "text.png")
    with pytest.raises(UserError, match="does not exist"):
        predict.classifier(run)(tmp_path / "none.png")
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(UserError, match="is damaged"):
        predict.classifier(runs.Run.load(tmp_path / "run"))(tmp_path / "blank.png")
    (tmp_path / "run" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="has no weights"):
        predict.classifier(runs.Run.load(tmp_path / "run"))(tmp_path / "blank.png")


def test_history_is_a_table_of_numbers(trained):
    history = runs.find(trained)[0].history
    assert all(pd.api.types.is_numeric_dtype(kind) for kind in history.dtypes)
    assert history["epoch"].tolist() == [1, 2, 3, 4]
