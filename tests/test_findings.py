"""What READMEs and notebooks say of the committed runs: tables are made of them, and sentences with
figures agree with them.
"""

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from deepnets import analysis, metrics, models, recipes, report, runs, study
from deepnets.runs import Run

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "results/README.md")
ALIKE, COPY = "not distinguishable", "CIFAR-10 (JPEG copy)"
TEXT = re.sub(r"\s+", " ", "\n".join((ROOT / page).read_text() for page in PAGES))


def notes(name):
    """The text of a notebook."""
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    return re.sub(
        r"\s+", " ", "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    )


def test_the_tables_are_made_from_the_committed_runs():
    full, control = (runs.find(ROOT / "results" / tier) for tier in ("full", "control"))
    blocks = {
        "demo": report.runs_table(runs.find(ROOT / "results" / "demo")),
        "overview": report.overview_table(full, control),
        "small": report.study_table(runs.find(ROOT / "results" / "small")),
        "full": report.study_table(full),
        "reported": report.reported_table(full, control),
        "bench": report.bench_table(json.loads((ROOT / "benchmarks" / "cpu.json").read_text())),
    }
    for page, text in report.filled([ROOT / page for page in PAGES], blocks).items():
        assert page.read_text() == text


def test_every_committed_run_is_of_a_study():
    """As its study file plans it, setting by setting. (The earlier study's are of recipes and
    networks that are no more.)
    """
    for name in ("main", "replication"):
        planned = [job.settings() for job in study.plan(ROOT / "studies" / f"{name}.toml")]
        for run in runs.find(ROOT / "results" / name):
            assert {key: run.info.get(key) for key in planned[0]} in planned, run.path


@pytest.mark.parametrize("name", ["main", "replication"])
def test_stored_figures_are_those_of_the_stored_predictions(name):
    for run in runs.find(ROOT / "results" / name):
        again = metrics.summary(
            run.test["log_probabilities"], run.test["labels"], run.info["temperature"]
        )
        assert {key: pytest.approx(run.info[key], rel=1e-9) for key in again} == again
        right = {kind: run.test[kind].sum() for kind in runs.CORRUPTIONS} | {
            "clean": run.correct.sum(),
            "images": 10_000,
        }
        assert run.info["robustness"] == right


def test_all_committed_runs_can_be_compared():
    table = analysis.accuracies(runs.find(ROOT / "results"))
    assert table["seeds"].sum() == len([*(ROOT / "results").rglob("run.json")])
    assert set(table.query("tier == '' and train_images == 5000")["precision"]) == {"fp32", "bf16"}


@pytest.fixture(scope="module")
def full():
    return runs.find(ROOT / "results" / "full")


@pytest.fixture(scope="module")
def accuracy(full):
    return (
        analysis.accuracies(analysis.unchanged(full))
        .set_index(["dataset", "recipe", "network"])
        .sort_index()
    )


def share(run, kind):
    """Of the images corrupted in that way, the percentage that is right."""
    return 100 * run.info["robustness"][kind] / run.info["robustness"]["images"]


def of(full, dataset):
    return [run for run in full if run.info["dataset"] == dataset]


def test_what_is_said_of_improved_against_original_on_all_images(full):
    rows = analysis.primary(of(full, "cifar10")).to_dict("records")
    verdicts = {
        row["network"]: analysis.verdict(row["low"], row["high"], row["p_holm"]) for row in rows
    }
    assert verdicts == {
        "googlenet_improved": "better",
        "resnet18_improved": ALIKE,
        "vgg16_improved": ALIKE,
    }
    assert [row["seeds"] for row in rows] == [1, 3, 3]
    by_name = {row["network"]: row for row in rows}
    first, second = (by_name[name] for name in ("googlenet_improved", "resnet18_improved"))
    assert first["better"] == second["better"] == 1
    points = [
        f"by {100 * row['value']:.2f} points ({100 * row['low']:.2f} to {100 * row['high']:.2f})"
        for row in (first, second)
    ]
    assert f"is better than the original on CIFAR-10: {points[0]} over three seeds" in TEXT
    assert f"is ahead, too, {points[1]}; but" in TEXT
    assert f"falls short (p = {second['p_holm']:.3f})" in TEXT
    rows = analysis.primary(of(full, "mnist")).to_dict("records")
    assert [analysis.verdict(row["low"], row["high"], row["p_holm"]) for row in rows] == [ALIKE] * 3


def test_what_is_said_of_the_seed_that_is_tested(full):
    """Of the families with three seeds, p of another seed, adjusted with the tests of seed 0 of the
    others.
    """
    tested = [run for run in full if run.recipe == "tuned"]
    several = ("googlenet", "googlenet_improved", "resnet18", "resnet18_improved")
    found = {}
    for seed in (1, 2):
        one = [
            run
            for run in of(tested, "cifar10")
            if run.info["seed"] == (seed if run.label in several else 0)
        ]
        rows = analysis.primary(one + of(tested, "mnist")).set_index(["dataset", "network"])[
            "p_holm"
        ]
        found[seed] = [rows[COPY, name] for name in ("googlenet_improved", "resnet18_improved")]
    assert max(found[1]) < 0.05 < min(found[2])
    said = "tests of the other four, p: GoogLeNet {:.3f}, ResNet18 {:.3f}), with that of seed 2 neither ({:.3f} and {:.2f})"
    assert said.format(*found[1], *found[2]) in TEXT


def test_what_is_said_of_architecture_against_recipe_on_all_images(full, accuracy):
    assert (
        accuracy.loc[(COPY, "tuned", "vgg16"), "accuracy"]
        - accuracy.loc[(COPY, "plain", "vgg16"), "accuracy"]
        > 0.07
    )
    assert all(
        accuracy.loc[(dataset, "plain", "vgg16_improved"), "stuck"] for dataset in (COPY, "MNIST")
    )
    assert set(accuracy["seeds"]) == {1, 3}
    crossed = analysis.two_by_two(of(full, "cifar10")).query("not stuck")
    effects = crossed.set_index(["network", "effect"])["value"].unstack()
    assert set(effects.index) == {"googlenet_improved", "resnet18_improved"}
    assert (effects["recipe"] > 3 * effects["architecture"].abs()).all()
    ends = 100 * crossed.set_index(["network", "effect"])[["value", "low", "high"]]
    said = {pair: "{:.2f} ({:.2f} to {:.2f})".format(*row) for pair, row in ends.iterrows()}
    first, second = (
        [said[name, effect] for effect in ("recipe", "architecture")]
        for name in ("resnet18_improved", "googlenet_improved")
    )
    assert (
        f"gives ResNet18 {first[0].replace(' (', ' points (')}, where the architecture gives {first[1]}, with three seeds"
        in TEXT
    )
    assert f"GoogLeNet {second[0]} and {second[1]}, with one" in TEXT
    for seed in range(3):
        one = [run for run in of(full, "cifar10") if run.info["seed"] == seed]
        effects = (
            analysis.two_by_two(one)
            .set_index(["network", "effect"])["value"]
            .unstack()
            .loc["resnet18_improved"]
        )
        assert effects["recipe"] > 3 * abs(effects["architecture"])


def test_what_the_notebooks_sum_up(full, accuracy):
    colour = of(full, "cifar10")
    crossed = 100 * analysis.two_by_two(colour).set_index(["network", "effect"])["value"]
    worth = {name: crossed[f"{name}_improved"] for name in ("resnet18", "googlenet")}
    primary = analysis.primary(full).set_index(["dataset", "network"])
    gain = {
        name: primary.loc[COPY, f"{name}_improved"] for name in ("resnet18", "googlenet", "vgg16")
    }
    changed = (
        100
        * analysis.changes(colour).set_index(["network", "effect"])["value"]["resnet18_improved"]
    )
    page = notes("comparison")
    both = "{:.2f} points against {:.2f} for ResNet18, {:.2f} against {:.2f} for GoogLeNet"
    said = [worth[name][effect] for name in worth for effect in ("recipe", "architecture")]
    assert both.format(*said) in page
    assert (
        "{:.2f} points to ResNet18 where the architecture gives {:.2f}, and {:.2f} to GoogLeNet where it gives {:.2f}".format(
            *said
        )
        in page
    )
    square = 100 * accuracy.loc[COPY]["accuracy"].unstack("network")
    climbs = [
        square.loc[["tuned", "plain"], name].round(2).to_list()
        for name in ("resnet18", "resnet18_improved")
    ]
    climbs = ["{:.2f} - {:.2f} = {:.2f}".format(*ends, ends[0] - ends[1]) for ends in climbs]
    mean, apart = worth["resnet18"][["recipe", "interaction"]]
    said = "recipe gives ResNet18 {} points and its improved form {}: the recipe's effect is their mean ({:.2f} before rounding)"
    assert (
        f"{said.format(*climbs, mean)}, and the *interaction* their difference, {apart:.2f}."
        in page
    )
    assert (
        page.count(f"GoogLeNet's on CIFAR-10, by {100 * gain['googlenet']['value']:.2f} points")
        == 2
    )
    assert primary["p_holm"].lt(0.05).sum() == 1
    assert f"ahead by {100 * gain['resnet18']['value']:.2f} there" in page
    assert f"($p = {gain['resnet18']['p_holm']:.3f}$)" in page
    single = "the falling rate costs the improved ResNet18 {:.2f} points, augmentation {:.2f} and weight decay {:.2f}"
    assert (
        single.format(*(changed[name] for name in ("falling rate", "augmentation", "weight decay")))
        in page
    )
    recipe = 100 * (
        accuracy["accuracy"].xs("tuned", level="recipe")
        - accuracy["accuracy"].xs("plain", level="recipe")
    )
    recipe = recipe.drop(index="vgg16_improved", level="network")
    ends = [part.agg(["min", "max"]) for part in (recipe[COPY], recipe["MNIST"])]
    assert (
        "from the recipe: {:.0f} to {:.0f} points on CIFAR-10, and {:.1f} to {:.1f} on MNIST".format(
            *ends[0], *ends[1]
        )
        in page
    )
    tuned = accuracy.loc[COPY, "tuned"].sort_values("accuracy")
    assert tuned.index[0] == "alexnet"
    assert tuned["accuracy"].iloc[-1] - tuned["accuracy"].iloc[1] < 0.026
    assert round(100 * (tuned["accuracy"].iloc[-1] - tuned["accuracy"].iloc[0])) == 8
    digits = accuracy.loc["MNIST", "tuned", :]["accuracy"]
    assert round(100 * (digits.max() - digits.min()), 2) <= 0.25
    assert 14.5 < tuned["macs"].max() / tuned["macs"].min() < 15.5
    assert tuned["core_seconds"].count() == 4
    assert 1.45 < tuned["core_seconds"].max() / tuned["core_seconds"].min() < 1.55
    others = tuned.drop("alexnet")["macs"]
    assert 10.5 < others.max() / others.min() < 11.5
    assert 480 < tuned["parameters"].max() / tuned["parameters"].min() < 520
    assert tuned["macs"].idxmin() == tuned["accuracy"].idxmin() == "alexnet"
    kept = accuracy["test_ece_calibrated"] / accuracy["test_ece"]
    assert kept.loc[COPY, "plain"].drop("vgg16_improved").max() < 0.25
    few = ["resnet20", "vgg16_improved"]
    assert kept.loc[COPY, "tuned"].drop(few).min() > 0.5 > kept.loc[COPY, "tuned"][few].max()
    assert 9 < tuned.loc["vgg16", "macs"] / tuned.loc["resnet18", "macs"] < 9.5
    assert tuned.loc["resnet18", "accuracy"] - tuned.loc["resnet20", "accuracy"] < 0.02
    assert tuned.loc["resnet20", "macs"] > tuned.loc["resnet18", "macs"]
    assert (
        len(analysis.pairwise([run for run in analysis.unchanged(full) if run.info["seed"] == 0]))
        == 144
    )
    page = notes("resnet")
    assert (
        f"the recipe is worth {worth['resnet18']['recipe']:.2f} points to ResNet18 and the improved"
        in page
    )
    assert f"architecture {worth['resnet18']['architecture']:.2f}, over both" in page
    assert (
        "ahead by {:.2f} points, in all nine pairs of trainings".format(
            100 * gain["resnet18"]["value"]
        )
        in page
    )
    said = "the falling rate is worth {:.2f} points, augmentation {:.2f}, weight decay {:.2f}, label smoothing {:.2f}"
    effects = ("falling rate", "augmentation", "weight decay", "label smoothing")
    assert said.format(*(changed[name] for name in effects)) in page
    page = notes("googlenet")
    points = [100 * gain["googlenet"][end] for end in ("value", "low", "high")]
    assert (
        "it gives {:.2f} points on all of CIFAR-10 ({:.2f} to {:.2f}, three seeds each)".format(
            *points
        )
        in page
    )
    recipe_and_stem = [worth["googlenet"][effect] for effect in ("recipe", "architecture")]
    assert (
        "is worth {:.2f} points on CIFAR-10, over both forms and with one seed, where the stem is worth {:.2f}".format(
            *recipe_and_stem
        )
        in page
    )
    page = notes("vgg")
    mnist = primary.loc["MNIST", "vgg16_improved"]["value"]
    assert (
        f"(+{100 * gain['vgg16']['value']:.2f} points on CIFAR-10, +{100 * mnist:.2f} on MNIST, one training each)"
        in page
    )
    assert f"the recipe is worth {recipe[COPY, 'vgg16']:.1f} points to the original" in page
    best = Run.load(ROOT / "results" / "control" / "cifar10" / "vgg16_improved" / "best" / "seed0")
    assert f"{100 * best.accuracy:.2f} %, the highest figure here" in page
    copies = [
        run
        for run in [*runs.find(ROOT / "results" / "control"), *full]
        if run.info["dataset"] == "cifar10"
    ]
    assert best.accuracy == max(run.accuracy for run in copies)
    said = f"{recipe[COPY, 'alexnet']:.1f} points to it on all of CIFAR-10 and {recipe['MNIST', 'alexnet']:.2f} on MNIST"
    assert said in notes("alexnet")


def test_what_is_said_of_mistakes_and_confidence(full):
    """Which pair of classes each network confuses most under `tuned`, and on which side of 1 the
    temperatures are.
    """
    for run in analysis.unchanged(full):
        recipe, colour = run.recipe, run.info["dataset"] == "cifar10"
        if run.label != "vgg16_improved" or recipe == "tuned":
            assert (run.info["temperature"] < 1) == (recipe == "tuned")
        if recipe == "tuned":
            counts = metrics.confusion(run.test["labels"], run.test["predicted"], 10)
            np.fill_diagonal(counts, 0)
            worst = [
                tuple(run.info["classes"][k] for k in divmod(place, 10))
                for place in np.argsort(counts.ravel())[::-1]
            ]
            if colour:
                assert set(worst[:2]) == {("cat", "dog"), ("dog", "cat")}
            else:
                assert counts[5, 3] == counts.max() or counts[9, 4] == counts.max()
    said = (
        "Trained on all of CIFAR-10 under `tuned`, the two commonest mistakes of every network are a dog taken for a cat and "
        "a cat for a dog; on MNIST the commonest is a 5 taken for a 3 or a 9 for a 4."
    )
    assert all(said in notes(name) for name in ("alexnet", "vgg", "resnet", "googlenet"))


def test_what_is_said_of_jpeg(full):
    """Four trainings made on the original images and on the copy."""
    control = runs.find(ROOT / "results" / "control")

    def training(run):
        return run.label, *(run.info[key] for key in ("recipe", "input_size", "epochs"))

    copies = [run for run in of(full, "cifar10") + of(control, "cifar10") if run.info["seed"] == 0]
    original = [run for run in control if run.info["dataset_title"] == "CIFAR-10"]
    pairs = [(run, copy) for run in original for copy in copies if training(run) == training(copy)]
    assert len(pairs) == len(original) == 4
    gain = sorted(100 * (run.accuracy - copy.accuracy) for run, copy in pairs)
    noise, blur, contrast = (
        sorted(share(run, kind) - share(copy, kind) for run, copy in pairs)
        for kind in runs.CORRUPTIONS
    )
    page = notes("comparison")
    assert f"The original images give more: {gain[0]:.1f} to {gain[3]:.1f} points" in page
    worse = f"{-noise[3]:.0f} to {-noise[0]:.0f} points worse"
    assert f"the networks that saw them are {worse} under noise" in page
    assert worse in notes("resnet")
    assert f"{worse} under noise" in TEXT
    short = [
        runs.find(ROOT / "results" / "compression" / dataset)
        for dataset in ("folder-CIFAR-10", "cifar10")
    ]
    apart = [share(run, "noise") - share(copy, "noise") for run, copy in zip(*short, strict=True)]
    assert f"{-max(apart):.0f} to {-min(apart):.0f} points with each of three seeds" in TEXT
    assert f"{-blur[2]:.0f} to {-blur[0]:.0f} points worse, and ResNet18 is not" in page
    assert blur[3] > 0
    assert f"all are ahead by {contrast[0]:.0f} to {contrast[3]:.0f}" in page


def test_what_is_said_of_the_recipes():
    recipe, page = recipes.RECIPES["tuned"], notes("alexnet")
    assert (recipes.RECIPES["plain"].momentum, recipe.schedule) == (0.9, "steps")
    classes = 10
    for said in (
        f"| weight decay {recipe.weight_decay} |",
        f"over the first {100 * recipe.warmup:.0f} %",
        f"a gradient longer than {recipe.clip:.0f} ",
        f"| label smoothing {recipe.label_smoothing} | asks for {100 - 100 * recipe.label_smoothing * (1 - 1 / classes):.0f} % "
        f"on the true class and {100 * recipe.label_smoothing / classes:.0f} % on each other",
    ):
        assert said in page


def test_what_is_said_of_shortcuts():
    found = runs.find(ROOT / "results" / "degradation")
    ends = {}
    for run in found:
        ends.setdefault((run.info["model"], "shortcuts" not in run.info["options"]), []).append(
            run.history["train_loss"].iloc[-1]
        )
    assert {len(values) for values in ends.values()} == {3}
    deep, shallow = ends["resnet56", False], ends["resnet20", False]
    good = ends["resnet20", True] + ends["resnet56", True]
    page = notes("resnet")
    said = f"ends at {min(deep):.2f} to {max(deep):.2f}, with 20 layers at {max(shallow):.2f}"
    assert (
        f"{said}, and with shortcuts at {min(good):.2f} to {max(good):.2f} for either depth" in page
    )
    assert max(shallow) - min(shallow) < 0.005
    right = sorted(100 * run.accuracy for run in found)
    assert (
        f"has {right[0]:.0f} to {right[2]:.0f} % of the test images right, the others {right[3]:.0f} to {right[-1]:.0f}"
        in page
    )
    assert {run.label for run in found if 100 * run.accuracy <= right[2]} == {
        "resnet56-shortcuts=False"
    }
    assert f"between {shallow[0]:.2f} for 20 layers and {deep[0]:.2f} for 56" in page


def test_what_is_said_of_single_changes_on_all_images(full, accuracy):
    found = of(full, "cifar10")
    changes = analysis.changes(found).query("network == 'resnet18_improved'").set_index("effect")
    worth = 100 * changes[["value", "low", "high"]]
    falling, augmented, decay, smoothing = (
        "{:.2f} ({:.2f} to {:.2f})".format(*worth.loc[name])
        for name in ("falling rate", "augmentation", "weight decay", "label smoothing")
    )
    falling = falling.replace(" (", " points (")
    said = f"the falling rate costs the improved ResNet18 {falling}, augmentation {augmented}, weight decay {decay} and"
    assert f"{said} label smoothing {smoothing}: one training each" in TEXT
    assert changes["told"].to_dict() == {
        "augmentation": True, "falling rate": True, "weight decay": True, "label smoothing": False,
        "3x3 stem": True, "dropout": False, "batch norm in the stem": False,
    }  # fmt: skip
    stem, dropout = (
        "{:.2f} ({:.2f} to {:.2f})".format(*worth.loc[name]) for name in ("3x3 stem", "dropout")
    )
    assert (
        f"Left out alone it costs the improved ResNet18 {stem.replace(' (', ' points (')}, one training each"
        in TEXT
    )
    assert f"dropout {dropout} cannot be told from nothing" in TEXT
    norm = "{:.2f} ({:.2f} to {:.2f})".format(*worth.loc["batch norm in the stem"])
    assert f"batch norm between the stem's convolutions, {norm}" in TEXT
    ahead = 100 * analysis.primary(found).set_index("network")["value"]["resnet18_improved"]
    assert worth.loc["3x3 stem", "low"] < ahead < worth.loc["3x3 stem", "value"]
    page = notes("resnet")
    assert (
        "its own changes the stem is worth {:.2f} points and dropout {:.2f}, and batch norm within the stem {:.2f}.".format(
            *worth.loc[["3x3 stem", "dropout", "batch norm in the stem"], "value"]
        )
        in page
    )
    tuned, plain = (
        accuracy.loc[(COPY, recipe, "resnet18_improved"), "points"] for recipe in ("tuned", "plain")
    )
    assert f"lie {100 * (max(tuned) - min(tuned)):.2f} points apart" in TEXT
    assert f"more than the {100 * (tuned[0] - plain[0]):.2f} points of the whole recipe" in TEXT
    largest = worth.loc[["falling rate", "augmentation"], "value"]
    assert largest.sum() > 100 * (tuned[0] - plain[0])
    form = (
        100
        * analysis.two_by_two(found).set_index(["network", "effect"])["value"][
            "resnet18_improved", "architecture"
        ]
    )
    assert largest.min() > 3 * form


def test_what_is_said_of_label_smoothing_and_confidence():
    folder = ROOT / "results" / "full" / "cifar10" / "resnet18_improved"
    kept, undone = (
        Run.load(folder / name / "seed0").info for name in ("tuned", "tuned-label_smoothing=0.0")
    )
    assert kept["temperature"] < 1 < undone["temperature"]
    assert "with it the network is not sure enough, without it too sure" in TEXT
    ends = "the temperature fitted to its confidence is {:.2f}, without it {:.2f}"
    assert ends.format(kept["temperature"], undone["temperature"]) in TEXT
    left = f"error that is left then is {kept['test_ece_calibrated']:.3f} and {undone['test_ece_calibrated']:.3f}"
    assert left in TEXT
    assert (
        f"the same training without label smoothing is too sure (temperature {undone['temperature']:.2f})"
        in notes("comparison")
    )


def test_what_is_said_of_corrupted_images(accuracy):
    colour = accuracy.loc[COPY, "tuned"]
    assert colour.loc["vgg16_improved", "noise"] < colour.loc["vgg16", "noise"] - 0.04
    digits, without = accuracy.loc["MNIST", "tuned"], ["alexnet", "vgg11", "vgg16"]
    lost = digits["clean"] - digits["contrast"]
    assert lost[without].max() < 0.005 < 0.05 <= lost.drop(index=without).min()
    assert digits.loc[["resnet20", "resnet18_improved", "vgg16_improved"], "contrast"].max() < 0.14
    lower = []
    for improved in ("googlenet_improved", "resnet18_improved"):
        original = analysis.ORIGINALS[improved]
        for recipe in ("plain", "tuned"):
            colour = accuracy.loc[COPY, recipe]
            lower += [
                100 * (colour.loc[original, kind] - colour.loc[improved, kind])
                for kind in ("noise", "blur")
            ]
            assert colour.loc[improved, "contrast"] > colour.loc[original, "contrast"]
    assert f"are {min(lower):.1f} to {max(lower):.1f} points lower than" in TEXT
    small, large = (
        [
            share(Run.load(ROOT / "results/full/cifar10" / name / "tuned/seed0"), kind)
            for kind in ("noise", "blur")
        ]
        for name in ("resnet18_improved", "resnet18_improved-stem=7x7")
    )
    said = "{:.1f} % of 1,000 blurred images are right and {:.1f} % of noisy ones, without it {:.1f} and {:.1f} %"
    assert said.format(*small[::-1], *large[::-1]) in TEXT
    said = "has {:.1f} % of the noisy images right and {:.1f} % of the blurred ones, as much as the original"
    assert said.format(*large) in TEXT
    assert "with its own it has {:.1f} and {:.1f} %".format(*small) in TEXT
    said = "7x7 it has {:.1f} and {:.1f} % right under noise and blur, with its own {:.1f} and {:.1f} %"
    assert said.format(*large, *small) in notes("comparison")
    original = 100 * accuracy.loc[(COPY, "tuned", "resnet18"), ["noise", "blur"]]
    assert all(large > original - 1)


def test_what_is_said_of_the_confidence_of_vgg16_improved():
    colour, digits = (
        Run.load(ROOT / "results" / "full" / dataset / "vgg16_improved" / "tuned" / "seed0")
        for dataset in ("cifar10", "mnist")
    )
    assert (
        "confidence is {:.0f} % where {:.0f} % of its answers are right".format(
            *sure_and_right(colour)
        )
        in TEXT
    )
    assert (
        "({:.0f} % where {:.1f} % are right), and more so from epoch to epoch".format(
            *sure_and_right(digits)
        )
        in TEXT
    )
    assert digits.history["val_loss"].iloc[:7].is_monotonic_increasing
    for path in (
        ("control", "cifar10", "vgg16_improved", "best"),
        ("small", "mnist", "vgg16_improved", "tuned"),
    ):
        confidence, accuracy = sure_and_right(Run.load(ROOT.joinpath("results", *path, "seed0")))
        assert accuracy - confidence < 9, "what label smoothing asks for"
    found = {run.label: run for run in runs.find(ROOT / "results" / "confidence")}
    (he, right), (field, _) = (
        sure_and_right(found[name]) for name in ("vgg16_improved", "vgg16_improved-init=field")
    )
    said = "has a mean confidence of {:.0f} % where {:.0f} % of its answers are right, and with VGG16's initialisation {:.0f} %"
    assert said.format(he, right, field) in TEXT
    assert 91 - field < (91 - he) / 2


def sure_and_right(run: Run) -> tuple[float, float]:
    """Mean confidence and accuracy in percent."""
    return 100 * run.test["probabilities"].max(1).mean(), 100 * run.accuracy


def test_what_is_said_of_single_changes():
    found = [
        run for run in runs.find(ROOT / "results" / "small") if run.info["dataset"] == "cifar10"
    ]
    worth = analysis.changes(found).query("seeds > 1").set_index(["network", "effect"])
    by_seed = [
        analysis.changes([run for run in found if run.info["seed"] == seed]) for seed in range(3)
    ]
    by_seed = [table.set_index(["network", "effect"]).loc[worth.index] for table in by_seed]
    assert set(worth["seeds"]) == {3}
    assert {analysis.ORIGINALS.get(name, name) for name, _ in worth.index} == {
        "resnet18",
        "googlenet",
    }
    counts = len(worth), by_seed[0]["told"].sum(), worth["told"].sum()
    said = "By the rule, {1} of {0} single changes to ResNet18 and GoogLeNet make a difference if one seed is trained, and {2} if"
    assert f"{said.format(*counts)} three are;" in TEXT
    shown, nearest = (
        ("googlenet_improved", "batch norm in the stem"),
        ("resnet18_improved", "3x3 stem"),
    )
    assert [*worth.index[worth["told"]]] == [shown]
    points = "{:+.2f} points ({:+.2f} to {:+.2f})"
    said = [
        points.format(*(100 * worth.loc[change, ["value", "low", "high"]]))
        for change in (shown, nearest)
    ]
    assert f"can be told from no change: {said[0]}." in TEXT
    assert worth["value"].abs().idxmin() == nearest
    again = {(run.label, run.info["seed"]): run for run in runs.find(ROOT / "results" / "again")}
    held, moved = [], []
    for run in found:
        other = again.get((run.label, run.info["seed"])) if run.recipe == "tuned" else None
        moved += [100 * abs(other.accuracy - run.accuracy)] if other else []
        held.append(Run(other.path, other.info | {"tier": "small"}) if other else run)
    assert len(moved) == 6
    assert (
        f"(of ResNet18, its improved form and the improved GoogLeNet) end up to {max(moved):.1f} points from where they were"
        in TEXT
    )
    assert (
        f"by {min(moved):.1f} to {max(moved):.1f} points either way"
        in (ROOT / "studies" / "LOG.md").read_text()
    )
    table = analysis.changes(held).query("seeds > 1").set_index(["network", "effect"])
    other = ("resnet18", "He's initialisation")
    stem = ("googlenet_improved", "3x3 stem")  # its original was not trained again
    assert [*table.index[table["told"]]] == [stem, other]
    rows = [table.loc[change, ["value", "low", "high"]] * 100 for change in (shown, other, nearest)]
    assert "told no more ({:+.2f} points, {:+.2f} to {:+.2f}), and".format(*rows[0]) in TEXT
    assert (
        "He's initialisation of ResNet18 is ({:+.2f} points, {:+.2f} to {:+.2f};".format(*rows[1])
        in TEXT
    )
    assert (
        "the improved ResNet18: {}, or {:+.2f} ({:+.2f} to {:+.2f}) against".format(
            said[1], *rows[2]
        )
        in TEXT
    )


def test_what_is_said_of_short_training_on_mnist():
    rows = (
        analysis.primary(runs.find(ROOT / "results" / "small"))
        .query("dataset == 'MNIST'")
        .set_index("network")
    )
    verdicts = {
        name: analysis.verdict(row["low"], row["high"], row["p_holm"])
        for name, row in rows.iterrows()
    }
    assert verdicts == {
        "vgg16_improved": "better",
        "resnet18_improved": ALIKE,
        "googlenet_improved": ALIKE,
    }
    assert (
        f"counts as better, by {100 * rows.loc['vgg16_improved', 'value']:.1f} points, with one seed"
        in TEXT
    )


def test_what_is_said_of_vgg16s_changes():
    found = [
        run for run in runs.find(ROOT / "results" / "small") if run.info["dataset"] == "cifar10"
    ]
    worth = 100 * analysis.changes(found).set_index(["network", "effect"])["value"]
    effects = ("batch norm", "He's initialisation")
    gains, costs = (
        [worth["vgg16", effect] for effect in effects],
        [-worth["vgg16_improved", effect] for effect in effects],
    )
    own = [100 * run.accuracy for run in found if run.path.parts[-3:-1] == ("vgg16", "tuned")]
    assert gains[0] > max(own) - min(own) > gains[1]
    assert (
        "gave the original {:.1f} points, more than its seeds differ by, and He's initialisation {:.1f}, which is not more; "
        "both cost the improved form points ({:.1f} and {:.1f})"
    ).format(*gains, *costs) in TEXT
    cells = {(run.label, run.recipe): 100 * run.accuracy for run in found}
    bare, clipped, warmed = (
        cells["vgg16_improved", name] for name in ("plain", "plain-clip=5.0", "plain-warmup=0.05")
    )
    field = cells["vgg16_improved-init=field", "plain"]
    assert f"takes it from {bare:.1f} to {clipped:.1f} %" in TEXT
    said = f"bound on the gradient ({clipped:.1f} %) or with the original's initialisation ({field:.1f} %)"
    assert f"{said}, and not with a warm-up ({warmed:.1f} %)" in TEXT
    seeds = {
        run.info["seed"]: 100 * run.accuracy
        for run in found
        if run.path.parts[-3:-1] == ("vgg16_improved", "tuned")
    }
    assert (
        "the poorest of three ({:.1f}, {:.1f} and {:.1f} %)".format(
            *(seeds[seed] for seed in range(3))
        )
        in TEXT
    )
    assert seeds[0] == min(seeds.values())
    assert worth.abs().idxmax() == ("vgg16_improved", effects[1])
    assert costs[1] > 4 * (max(seeds.values()) - seeds[0])


def test_what_is_said_beside_the_figures_at_64_pixels(accuracy):
    table = accuracy.reset_index()
    distances = {}
    for _, row in table.iterrows():
        others = report.REPORTED[row["dataset"].split(" (")[0], 64].get(row["network"])
        if others:
            distances[row["dataset"], row["network"], row["recipe"]] = 100 * row[
                "accuracy"
            ] - float(others)
    assert min(gap for (_, _, recipe), gap in distances.items() if recipe == "tuned") > -0.001
    digits = table[(table["dataset"] == "MNIST") & (table["recipe"] == "tuned")].set_index(
        "network"
    )
    others = {
        name: float(share) / 100
        for name, share in report.REPORTED["MNIST", 64].items()
        if name in digits.index
    }
    assert {name for name, share in others.items() if digits.loc[name, "low"] < share} == {
        "googlenet", "googlenet_improved", "resnet18_improved", "vgg16_improved",
    }  # fmt: skip
    bare = {key[1]: gap for key, gap in distances.items() if key[0] == COPY and key[2] == "plain"}
    assert round(bare.pop("resnet18")) == 9
    assert round(bare.pop("vgg16")) == 3
    assert bare.pop("vgg16_improved") < -60
    assert bare.keys() == {"resnet18_improved", "googlenet", "googlenet_improved"}
    assert (round(max(bare.values())), round(min(bare.values()))) == (-4, -6)
    assert (
        max(abs(distances["MNIST", network, "plain"]) for network in ("resnet18", "vgg16")) < 0.15
    )
    for network in ("resnet18_improved", "googlenet"):
        assert distances["MNIST", network, "plain"] == pytest.approx(-0.5, abs=0.1)
    assert -1.5 < distances["MNIST", "googlenet_improved", "plain"] < -1
    run = Run.load(ROOT / "results" / "full" / "mnist" / "googlenet_improved" / "plain" / "seed0")
    before, end = run.history["val_accuracy"].iloc[-2:]
    assert before - end == pytest.approx(0.005, abs=0.001)


def test_what_the_benchmarks_say_is_what_was_measured():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    pair = (runs.find(ROOT / "results" / "precision" / name) for name in ("fp32", "bf16"))
    assert precision_sentence(*pair) in text.replace("\n", " ")
    without = json.loads((ROOT / "benchmarks" / "cpu-without-bf16.json").read_text())
    assert report.bench_table(without) in text
    here = json.loads((ROOT / "benchmarks" / "cpu.json").read_text())["networks"]
    ratios = [[row["ratio"] for row in here], [row["same_precision"]["ratio"] for row in here]]
    ratios.append([row["ratio"] for row in without["networks"]])
    as_written, in_bf16, in_fp32 = (f"{min(found):.1f} to {max(found):.1f}" for found in ratios)
    assert f"| Intel Xeon with AMX | bf16 | fp32, as it is mostly written | {as_written} |" in TEXT
    assert f"| the same | bf16 | bf16, too | {in_bf16} |" in TEXT
    assert f"| AMD EPYC without bf16 | fp32 | fp32 | {in_fp32} |" in TEXT
    epyc = json.loads((ROOT / "benchmarks" / "cpu-epyc.json").read_text())["networks"]
    ratios += [[row["ratio"] for row in epyc], [row["same_precision"]["ratio"] for row in epyc]]
    ends = [f"{min(found):.1f} to {max(found):.1f}" for found in ratios[3:]]
    said = "| AMD EPYC with AVX512-BF16 | bf16 | fp32 | {} | | the same | bf16 | bf16, too | {} |"
    assert said.format(*ends) in TEXT
    everywhere = [ratio for found in ratios for ratio in found]
    assert (
        f"{min(everywhere):.1f} to {max(everywhere):.1f} times the usual training loop, [measured](#speed)"
        in TEXT
    )


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "results").rglob("run.json")),
    ids=lambda p: str(p.parent.relative_to(ROOT)),
)
def test_committed_predictions_give_the_committed_figures(path):
    run = Run.load(path.parent)
    assert run.correct.sum() == run.info["test_correct"]
    assert len(run.correct) == run.info["test_total"]
    assert len(run.history) == run.info["epochs"]
    if "init" not in run.info["options"]:  # which only the earlier study's networks had
        shape = len(run.info["classes"]), run.info["in_channels"]
        assert run.info["parameters"] == models.count_parameters(
            models.blueprint(run.info["model"], *shape, **run.info["options"])
        )


def test_what_is_said_of_compression():
    found = runs.find(ROOT / "results" / "compression")
    titles = ("CIFAR-10", COPY)
    original, copy = (
        [run for run in found if run.info["dataset_title"] == title] for title in titles
    )
    row = analysis.paired(original, copy)
    assert len(row["pairs"]) == 3
    assert all((a.test["labels"] == b.test["labels"]).all() for a, b in row["pairs"]), (
        "the same images in the same order"
    )
    said = (
        "over 3 seeds the mean accuracy is {first:.1f} % on the original images and {second:.1f} % on the copy: {value:+.2f} "
        "points, 95 % interval {low:+.2f} to {high:+.2f} (over other seeds and test images)"
    ).format(**in_points(row))
    assert said in TEXT


@pytest.fixture(scope="module")
def first(full):
    """Trainings on all images with seed 0."""
    return [run for run in full + runs.find(ROOT / "results" / "control") if run.info["seed"] == 0]


def test_what_is_said_of_the_cost_of_jpeg(first):
    same = ("model", "recipe", "input_size")
    originals, copies = (
        [run for run in first if run.info["dataset_title"] == title] for title in ("CIFAR-10", COPY)
    )
    cost = [
        100 * (run.accuracy - copy.accuracy)
        for run in originals
        for copy in copies
        if all(run.info[name] == copy.info[name] for name in same)
    ]
    assert len(cost) == 4
    assert (
        f"costs {min(cost):.1f} to {max(cost):.1f} points in four long trainings made on both"
        in TEXT
    )


def test_what_is_said_of_the_original_images(first, accuracy):
    percent = {
        (run.info["dataset_title"], run.info["model"], run.recipe): 100 * run.accuracy
        for run in first
    }
    both = [
        [percent[title, name, "tuned"] for title in ("CIFAR-10", COPY)]
        for name in ("resnet18", "resnet20")
    ]
    said = "On the original images ResNet18 reaches {:.1f} % under `tuned` (with the same seed on the copy {:.1f} %)".format(
        *both[0]
    )
    said += ", and ResNet20 in thirty epochs {:.1f} % (on the copy {:.1f} %)".format(*both[1])
    assert said in TEXT
    names = ("vgg16_improved", "resnet18_improved", "googlenet_improved")
    best = [percent[COPY, name, "best"] for name in names]
    tuned = [100 * accuracy.loc[(COPY, "tuned", name), "accuracy"] for name in names]
    said = "improved VGG16 reaches {:.1f} % on the copy, ResNet18 {:.1f} % and GoogLeNet {:.1f} %: ".format(
        *best
    )
    gains = "{:.1f}, {:.1f} and {:.1f} points more than under `tuned`".format(
        *(a - b for a, b in zip(best, tuned, strict=True))
    )
    assert said + gains in TEXT
    lossless = percent["CIFAR-10", "resnet18_improved", "best"]
    assert f"on the original images the same training of ResNet18 reaches {lossless:.1f} %" in TEXT
    assert lossless > best[1] + 2
    best = [percent["MNIST", name, "best"] for name in names[1:]]
    tuned = [percent["MNIST", name, "tuned"] for name in names[1:]]
    assert min(best) >= 99.7
    said = "give the improved ResNet18 {:.2f} % and GoogLeNet {:.2f} %, where ten of `tuned` give {:.2f} and {:.2f} %".format(
        *best, *tuned
    )
    assert said in TEXT
    control = {run.info["dataset_title"]: run for run in first if run.info["epochs"] > 100}
    shares = [100 * control[title].accuracy for title in ("CIFAR-10", COPY)]
    assert "reaches {:.1f} % on the original images (on the copy {:.1f} %)".format(*shares) in TEXT
    assert shares[0] >= 91.25 > shares[1] + 4
    assert f"reaches {shares[0]:.1f} %, where they report 91.25 %" in TEXT
    assert f"on the copy that training reaches {shares[1]:.1f} %" in TEXT
    for run in control.values():
        dropped = run.history[run.history["learning_rate"] < 0.05]
        assert run.history["train_accuracy"].iloc[-1] > 0.99
        assert dropped["val_accuracy"].max() - dropped["val_accuracy"].iloc[0] < 0.01
        assert run.history["val_loss"].iloc[-1] > 1.2 * dropped["val_loss"].min()


def in_points(row: dict[str, Any]) -> dict[str, float]:
    """What `analysis.paired` says, in points of accuracy."""
    return {name: 100 * value for name, value in row.items() if name != "pairs"}


def precision_sentence(fp32: list[Run], bf16: list[Run]) -> str:
    """How the accuracies of the same jobs trained in `fp32` and in `bf16` differ, seed by seed."""
    row = analysis.paired(fp32, bf16)
    return f"Over {len(row['pairs'])} seeds the mean accuracy is " + (
        "{first:.2f} % in fp32 and {second:.2f} % in bf16: {value:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f} "
        "(over other seeds and test images; pairs of a seed differ by up to {apart:.2f})."
    ).format(**in_points(row))
