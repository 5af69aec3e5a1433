"""What the paper reads: every number is the run's, cells without a run are dashes, and figures fit
their column.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deepnets import latex, metrics, paper_figures, runs, tables
from deepnets.errors import UserError
from deepnets.runs import Run

IMAGES, CLASSES = 500, ("cat", "dog", "f_x")


def made(model, recipe, accuracy, seed=0, dataset="cifar10", tier="small", **changes):
    """A run that is right on exactly that share of its test images."""
    generator = np.random.default_rng([*f"{model} {recipe}".encode(), seed])
    labels = np.arange(IMAGES) % len(CLASSES)
    predicted = labels.copy()
    wrong = generator.permutation(IMAGES)[round(accuracy * IMAGES) :]
    predicted[wrong] = (labels[wrong] + 1) % len(CLASSES)
    probabilities = np.full((IMAGES, len(CLASSES)), 0.1)
    probabilities[np.arange(IMAGES), predicted] = 0.8
    summary = metrics.summary(np.log(probabilities), labels, 1.0)
    info = {
        "tier": tier, "model": model, "options": {}, "dataset": dataset, "dataset_title": f"{dataset} (JPEG copy)",
        "data_sha256": dataset, "classes": CLASSES, "seed": seed, "epochs": 2, "train_images": 100, "validation_images": 20,
        "recipe": {
            "name": recipe, "batch_size": 32, "learning_rate": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0005,
            "label_smoothing": 0.1, "schedule": "steps", "warmup": 0.05, "clip": 0.0, "augment": True,
        },
        "input_size": 64, "parameters": 10**6, "macs": 10**8, "train_seconds": 90.0, "images_per_second": 5.0, "threads": 2,
        "device": "any", "precision": "fp32", "versions": {"torch": "2.10.0"}, "warnings": [], "limit": 100,
        "robustness": {"images": 100, "clean": 90, "noise": 50, "blur": 70, "contrast": 60},
    }  # fmt: skip
    run = Run(Path(f"{tier}-{dataset}-{model}-{recipe}-{seed}"), info | summary | changes)
    run.__dict__["test"] = {
        "labels": labels,
        "predicted": predicted,
        "probabilities": probabilities,
    }
    run.__dict__["history"] = pd.DataFrame({"epoch": [1, 2], "val_accuracy": [0.3, accuracy]})
    return run


@pytest.fixture(scope="module")
def few():
    """One family, complete, and one network under one recipe; one dataset."""
    family = [
        made(model, recipe, 0.5 + 0.2 * (model != "resnet18") + 0.1 * (recipe == "tuned"))
        for model in ("resnet18", "resnet18_improved")
        for recipe in ("plain", "tuned")
    ]
    return [*family, made("alexnet", "plain", 0.45)]


@pytest.fixture(scope="module")
def written(few, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated")
    latex.write(few, folder, few, few, [])
    return folder


def test_numbers_are_those_of_the_runs(few):
    found = latex.numbers(few)
    assert found["cifar10/resnet18_improved/tuned/accuracy"] == "80.00"
    assert found["cifar10/resnet18_improved/primary/value"] == "$+$20.00"
    assert found["cifar10/resnet18_improved/primary/relation"] == "better than"
    assert found["cifar10/resnet18_improved/primary/holm"].startswith("$p")
    assert found["cifar10/resnet18_improved/recipe/value"] == "$+$10.00"
    assert found["cifar10/resnet18_improved/interaction/value"] == "0.00"
    assert found["cifar10/alexnet/plain/blur"] == "70.00"
    assert found["study/steps"] == "8"  # two epochs of 100 images in four batches
    assert (found["cifar10/mistakes/true"], found["cifar10/mistakes/said"]) in {
        ("cat", "dog"),
        ("dog", r"f\_x"),
        (r"f\_x", "cat"),
    }
    assert not [key for key in found if key.startswith("mnist")]


def test_seeds_are_averaged_their_spread_is_told_and_single_ones_are_marked(few):
    more = [*few, made("alexnet", "plain", 0.51, seed=1), made("resnet18", "tuned", 0.99, seed=1)]
    found = latex.numbers(more)
    assert (found["cifar10/best"], found["cifar10/best/accuracy"]) == ("ResNet18+", "80.00"), (
        "not the one with one lucky seed"
    )
    assert found["cifar10/resnet18/tuned/accuracy"] == "79.50"
    assert (found["cifar10/spread/tuned"], found["cifar10/spread/plain"]) == ("39.00", "6.00")
    rows = {
        line.split(" &")[0]: line.count("ast")
        for line in tables.results_table(more).splitlines()
        if " & " in line
    }
    assert (rows["AlexNet"], rows["ResNet18"], rows["ResNet18+"]) == (0, 1, 2)


def test_what_hardly_left_guessing_has_a_dagger_and_is_never_bold(few):
    failed = [*few[1:], made("resnet18", "plain", 0.35)]
    assert tables.results_table(failed).count("dagger") == 1
    (row,) = (
        line
        for line in tables.effects_table(failed).splitlines()
        if line.startswith(r"ResNet18 & \textbf")
    )
    assert row.count("dagger") == 3
    assert row.count("textbf") == 1, "the primary comparison, which holds no such cell"


def test_images_that_no_network_gets_right_are_counted(few):
    tuned = [run for run in few if run.recipe == "tuned"]
    both = sum(1 for a, b in zip(*(run.correct for run in tuned), strict=True) if not a and not b)
    assert latex.numbers(few)["cifar10/mistakes/all_wrong"] == str(both)


def test_what_a_network_costs_is_told_once(written):
    found = (written / "numbers.tex").read_text()
    assert r"\resdef{models/resnet18/macs}{148.1}" in found
    assert "small/models" not in found


def test_every_row_of_a_table_has_all_columns_and_missing_runs_are_dashes(written):
    for path in written.glob("*.tex"):
        rows = [line for line in path.read_text().splitlines() if line.endswith(r"\\")]
        widths = {
            1 + row.count("&") + sum(int(n) - 1 for n in re.findall(r"multicolumn\{(\d+)\}", row))
            for row in rows
        }
        assert len(widths) <= 1, path.name
    lines = (written / "results.tex").read_text().splitlines()
    row = next(line for line in lines if line.startswith("AlexNet"))
    assert row.startswith("AlexNet & 45.00 & [40.")
    assert row.endswith(r"& -- &  & -- &  & -- &  \\")


def test_the_same_runs_give_the_same_bytes_and_figures_that_publishers_take(few, written, tmp_path):
    again = {path.name: path.read_bytes() for path in latex.write(few, tmp_path, few, few, [])}
    assert again == {path.name: path.read_bytes() for path in written.iterdir()}
    for name in paper_figures.FIGURES:
        content = again[f"{name}.pdf"]
        assert b"/Type3" not in content
        width = float(re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", content)[1]) / 72
        assert width == pytest.approx(paper_figures.COLUMN) or width == pytest.approx(
            paper_figures.PAGE
        )


def test_letters_in_figures_are_at_least_six_points(few):
    for name, draw in paper_figures.FIGURES.items():
        figure = draw(few)
        figure.canvas.draw()
        sizes = [
            text.get_fontsize()
            for text in figure.findobj(lambda a: hasattr(a, "get_fontsize"))
            if text.get_text()
        ]
        assert min(sizes) >= 6, name


def test_a_panel_without_runs_is_left_out_and_its_row_and_column_stay_named(few):
    figure = paper_figures.curves([*few, made("vgg16", "tuned", 0.9, dataset="mnist")])
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [bool(ax.lines) for ax in shown] == [True] * 3, (
        "alexnet and resnet18 on one dataset, vgg16 on the other"
    )
    assert [ax.get_ylabel().split(",")[0] for ax in shown] == ["cifar10", "", "mnist"]
    assert [ax.get_legend().get_texts()[0].get_text() for ax in shown] == [
        "AlexNet",
        "ResNet18",
        "VGG16",
    ]
    assert shown[2].lines[0].get_ydata() == pytest.approx([70, 10]), "errors in percent"


def test_runs_under_neither_recipe_leave_no_panel():
    figure = paper_figures.curves([made("resnet18", "best", 0.9)])
    figure.canvas.draw()
    assert not [ax for ax in figure.axes if ax.get_visible()]


def test_hours_of_a_gpu_are_told_from_hours_of_cores(few):
    gpu = made("vgg16", "tuned", 0.9, device="NVIDIA H100", train_seconds=720.0, threads=8)
    found = latex.numbers([*few, gpu])
    expected = {
        "device": "any",
        "threads": "2 threads",
        "hours": "0.1",
        "gpu": "NVIDIA H100",
        "gpu/hours": "0.2",
    }
    assert {key: found[f"study/{key}"] for key in expected} == expected
    assert "study/gpu" not in latex.numbers(few)
    assert latex.numbers([gpu])["study/device"] == "NVIDIA H100"


def test_short_trainings_have_numbers_and_tables_of_their_own(few, tmp_path):
    full = [made("resnet18", "tuned", 0.9, tier="full"), made("alexnet", "plain", 0.7, tier="full")]
    control = [
        made(
            "resnet20",
            "plain-augment=True",
            0.8,
            tier="control",
            dataset_title="CIFAR-10 (JPEG copy)",
        )
    ]
    control += [
        made(
            "resnet20",
            "plain-augment=True",
            0.9,
            tier="control",
            dataset="folder:a",
            dataset_title="CIFAR-10",
        )
    ]
    control += [
        made(
            "resnet20",
            "plain-augment=True",
            0.7,
            tier="control",
            dataset="mnist",
            dataset_title="MNIST",
        )
    ]
    copy = [
        made("resnet20", "tuned", accuracy, seed) for seed, accuracy in enumerate((0.6, 0.8, 0.1))
    ]
    titled = {"dataset": "folder:a", "dataset_title": "CIFAR-10"}
    both = [
        made("resnet20", "tuned", accuracy, seed, **titled)
        for seed, accuracy in enumerate((0.8, 0.7))
    ] + copy
    latex.write(full, tmp_path, few, control, copy)
    assert "compression/" not in (tmp_path / "numbers.tex").read_text(), (
        "one copy alone says nothing"
    )
    changed = made("resnet18_improved", "tuned-augment=False", 0.7)
    latex.write(full, tmp_path, [*few, changed], control, both)
    found = (tmp_path / "numbers.tex").read_text()
    assert r"\resdef{cifar10/alexnet/plain/accuracy}{70.00}" in found
    assert r"\resdef{small/cifar10/alexnet/plain/accuracy}{45.00}" in found
    assert r"\resdef{small/study/tier}{small}" in found
    assert r"\resdef{control/copy/resnet20/plain/accuracy}{80.00}" in found
    assert r"\resdef{control/original/resnet20/plain/accuracy}{90.00}" in found
    assert r"\resdef{compression/value}{$-$5.00}" in found
    assert r"\resdef{compression/seeds}{2 seeds}" in found
    rows = [
        line for line in (tmp_path / "small.tex").read_text().splitlines() if line.endswith(r"\\")
    ]
    assert r"AlexNet & 45.00\rlap{$^{\ast}$} & -- & -- & -- & 0.1 \\" in rows, (
        "90 seconds of two threads"
    )
    assert (
        r"ResNet18+ & 70.00\rlap{$^{\ast}$} & 80.00\rlap{$^{\ast}$} & -- & -- & 0.1 \\" in rows
    ), "without the single change"
    assert "ResNet18+ & augmentation & " in (tmp_path / "changes.tex").read_text()
    with pytest.raises(UserError, match="one tier"):
        latex.write([*full, few[0]], tmp_path, few, control, copy)
    with pytest.raises(UserError, match="one tier"):
        latex.write(full, tmp_path, [*few, full[0]], control, copy)


def test_changes_that_one_seed_tells_from_none_and_several_do_not_are_counted(few, tmp_path):
    others = [made("resnet18_improved", "tuned", 0.8, seed) for seed in (1, 2)]
    steady = [made("resnet18_improved", "tuned-augment=False", 0.3, seed) for seed in range(3)]
    lucky = [
        made("resnet18_improved", "tuned-weight_decay=0.0", share, seed)
        for seed, share in enumerate((0.3, 0.8, 0.9))
    ]
    late = [made("resnet18_improved", "tuned-schedule=constant", 0.3, seed) for seed in (1, 2)]
    small = [
        *few,
        *others,
        *steady,
        *lucky,
        *late,
        made("resnet18_improved", "tuned-label_smoothing=0.0", 0.3),
    ]
    elsewhere = [
        made(run.label, run.recipe, 0.5, run.info["seed"], dataset="mnist") for run in small
    ]
    latex.write(few, tmp_path, small + elsewhere, few, [])
    found = (tmp_path / "numbers.tex").read_text()
    for name, count in (("several", "three"), ("first", "two"), ("shown", "two")):
        assert rf"\resdef{{small/changes/{name}}}{{{count}}}" in found
    assert r"\resdef{small/changes/resnet18_improved/augment=False/value}{$+$50.00}" in found
    latex.write(few, tmp_path, few, few, [])
    assert "changes/" not in (tmp_path / "numbers.tex").read_text(), "there are none"


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (1.0, "1"),
        (0.5, "0.50"),
        (0.0312, "0.031"),
        (0.001, "0.0010"),
        (3.14e-5, r"$3.1\cdot10^{-5}$"),
        (0, r"$<10^{-10}$"),
    ],
)
def test_p_values_have_two_digits(p, text):
    assert tables.p_value(p) == text


def test_runs_that_do_not_belong_together_are_refused(few):
    with pytest.raises(UserError, match="tier"):
        latex.numbers(latex._alike([*few, made("alexnet", "plain", 0.4, tier="full")]))
    with pytest.raises(UserError, match="differ"):
        latex._alike([*few, made("alexnet", "tuned", 0.4, epochs=3)])
    with pytest.raises(UserError, match="none"):
        latex._alike(runs.find(Path(__file__).parent.parent / "results" / "demo"))
    with pytest.raises(UserError, match="none"):
        latex._alike([made("resnet8", "tuned", 0.4)])
