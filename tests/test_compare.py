"""The tables made from runs, against figures put into the runs and against an oracle."""

import math
from dataclasses import replace
from itertools import count, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from deepnets import data, metrics, recipes, runs
from deepnets.compare import effects, report, statistics, text
from deepnets.errors import UserError
from deepnets.info import CORRUPTIONS
from deepnets.runs import Run
from results import make

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
DEMO = Run.load(RESULTS / "demo/digits/resnet20/tuned/seed0")
IMAGES = 2000
NETWORKS = ("resnet18", "resnet18_improved", "googlenet", "googlenet_improved")


@pytest.fixture
def train(tmp_path):
    """Writes a run that got exactly that share of its test images right, and returns it."""
    numbers = count(1)

    def write(model, share, recipe="tuned", seed=0, changes=None, **fields):
        how = recipes.get(recipe, model, changes, epochs=fields.get("epochs", 24))
        dataset, robustness = fields.get("dataset", "cifar10"), {"images": 100, "clean": 90}
        settings = {
            "model": model, "options": {}, "recipe": how, "seed": seed, "epochs": how.epochs,
            "dataset": dataset, "dataset_title": data.facts(dataset).title, "limit": None,
            "data_sha256": f"of {dataset}", "input_size": 64, "train_images": 45_000,
            "device": "EPYC", "threads": 2, "precision": "bf16", "train_seconds": 10.0,
            "robustness": robustness | dict.fromkeys(CORRUPTIONS, 50 + seed), "test_nll": 0.5 + seed,
            "test_correct": round(share * IMAGES), "test_total": IMAGES, "warnings": [],
        }  # fmt: skip
        info = replace(DEMO.info, **settings | fields)
        random = np.random.default_rng([*f"{model} {how.name} {info.options}".encode(), seed])
        labels = np.arange(IMAGES) % 10
        right = random.permutation(IMAGES) < info.test_correct
        levels = np.full((IMAGES, 10), 150, np.uint8)
        levels[np.arange(IMAGES), np.where(right, labels, (labels + 1) % 10)] = 0
        arrays = dict.fromkeys(CORRUPTIONS, np.packbits(right))
        arrays |= {"labels": labels.astype(np.uint8), "levels": levels}
        folder = tmp_path / "main" / f"run{next(numbers)}"
        folder.mkdir(parents=True)
        history = [(i, 1, 0.5, 1, i / 100, 0.1, 5) for i in range(how.epochs)]
        runs.write(folder, info, history, arrays, {})
        return Run.load(folder)

    return write


@pytest.fixture
def study(train):
    """The runs of the primary comparisons: ResNet18+ better, GoogLeNet+ not."""
    shares = dict(zip(NETWORKS, (0.80, 0.84, 0.82, 0.821), strict=True))
    wobble = (0.004, -0.004, 0.002, -0.002)
    return [
        train(name, share + wobble[seed], seed=seed)
        for name, share in shares.items()
        for seed in range(4)
    ]


def right(run):
    """Whether each test image is right, read past the library."""
    stored = np.load(run.path / "test.npz")
    return (stored["levels"].argmin(1) == stored["labels"]).astype(float)


def check(row, cells, weights, v=0.0, df=math.inf, names=("effect", "low", "high")):
    """Effect, ends of its interval and p, under their names, are by the formula of the protocol.

    Without a variance v between seeds, for new test images alone.
    """
    squared = np.square(weights)
    trainings = np.array([len(found) for found in cells])
    p = np.array([np.mean([right(run) for run in found], axis=0) for found in cells])
    d = weights @ p
    s2 = v * (squared / trainings).sum()
    by_chance = (squared / (trainings - 1) @ (p * (1 - p)).mean(1)) if v else 0
    b2 = max(0, d.var(ddof=1) - by_chance) / len(d)
    nu = (s2 + b2) ** 2 / (s2**2 / df) if v else math.inf
    error = math.sqrt(s2 + b2)
    half, p = stats.t.ppf(0.975, nu) * error, 2 * stats.t.sf(abs(d.mean()) / error, nu)
    wanted = d.mean(), d.mean() - half, d.mean() + half, p
    assert row[[*names]].to_list() == pytest.approx(wanted[: len(names)])


def variance(found):
    """Of accuracy between seeds."""
    return np.var([run.accuracy for run in found], ddof=1)


def named(table, **where):
    """The one row of a table that has these values."""
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_several_seeds_have_an_interval_for_new_trainings_too(train):
    found = [train("vgg11", 0.88 + 0.004 * seed, seed=seed) for seed in range(3)]
    row = named(effects.accuracies(found))
    check(row, [found], [1], variance(found), 2, ("accuracy", "low", "high"))
    assert row["interval"] == "new trainings and test images"
    assert row[["deviation", "nll", "blur"]].to_list() == pytest.approx([0.004, 1.5, 0.51])
    assert (row["seconds"], row["devices"], row["precision"]) == (10, "EPYC, 2 threads", "bf16")
    wide = [train("alexnet", share, seed=seed) for seed, share in enumerate((0.9, 1.0))]
    assert named(effects.accuracies(wide))["high"] == 1, "no interval leaves 0 to 1"


def test_each_figure_stands_under_its_name_in_the_table_and_on_the_page(train):
    right = {"images": 100, "clean": 75, "noise": 51, "blur": 42, "contrast": 33}
    figures = {"test_brier": 0.3, "test_ece": 0.04, "test_ece_calibrated": 0.02, "temperature": 1.5}
    table = effects.accuracies([train("alexnet", 0.75, robustness=right, **figures)])
    names = [*CORRUPTIONS, "brier", "ece", "calibrated_ece", "temperature"]
    row = named(table)
    assert row[names].to_list() == [0.51, 0.42, 0.33, 0.3, 0.04, 0.02, 1.5]
    assert row[["dataset", "seeds", "interval"]].to_list() == ["CIFAR-10", 1, "new test images"]
    assert math.isnan(row["deviation"])
    ends = " to ".join(f"{100 * end:.2f}" for end in metrics.accuracy_interval(1500, IMAGES))
    assert named(make.measured(table, "CIFAR-10")).to_dict() == {
        "network": "AlexNet", "recipe": "tuned", "epochs": "24", "seeds": "1", "accuracy": "75.00",
        "95 % interval": ends, "noise": "51.0", "blur": "42.0", "contrast": "33.0", "ece": "4.0",
        "temperature": "1.50", "seconds": "10", "trained on": "EPYC, 2 threads",
    }  # fmt: skip


def test_seeds_of_several_devices_are_one_row_without_seconds(train):
    found = [train("vgg11", 0.8), train("vgg11", 0.7, seed=1, device="H100", device_type="cuda")]
    table = effects.accuracies(found)
    assert (named(table)["seeds"], named(table)["devices"]) == (2, "EPYC, 2 threads; H100")
    assert make.measured(table, "CIFAR-10")["seconds"].to_list() == ["differs"]
    row = named(effects.seeds(found), seed=1)
    assert (row["devices"], row["accuracy"], row["validation_accuracy"]) == ("H100", 0.7, 0.23)
    assert row["torch"][0].isdigit()
    assert len(row["commit"]) == 40


def test_what_was_trained_otherwise_is_another_row(train):
    found = [train("resnet20", 0.8), train("resnet20", 0.7, input_size=32)]
    found += [train("resnet20", 0.6, epochs=3)]
    found += [train("resnet20", 0.5, data_sha256="of other images")]
    table = effects.accuracies(found)
    assert sorted(table["accuracy"]) == [0.5, 0.6, 0.7, 0.8]
    [(_, shown, _)] = text.sections([*found[:2], train("vgg11", 0.6)])
    assert shown["recipe"].to_list() == [
        "tuned, 24 epochs, 64 pixels, bf16", "tuned, 24 epochs, 32 pixels, bf16", "tuned"
    ]  # fmt: skip


def test_the_same_training_twice_is_refused_unless_the_precision_differs(train):
    found = [train("resnet20", 0.8), train("resnet20", 0.8)]
    with pytest.raises(UserError, match=r"run1 and .*run2 are the same training"):
        effects.accuracies(found)
    table = effects.accuracies([found[0], train("resnet20", 0.79, precision="fp32")])
    assert table["precision"].to_list() == ["bf16", "fp32"]
    mixed = [found[0], train("resnet20", 0.79, seed=1, precision="fp32")]
    assert named(effects.accuracies(mixed))["precision"] == "bf16; fp32"


def test_an_improved_network_is_compared_to_its_original_trained_alike(train):
    found = [train("vgg16", 0.70), train("vgg16_improved", 0.73), train("alexnet", 0.9)]
    found += [train("vgg16_improved", 0.5, options={"dropout": 0.0})]
    found += [train("vgg16_improved", 0.6, epochs=3)]
    row = named(effects.effects(found))
    assert (row["network"], row["original"], row["recipe"]) == ("vgg16_improved", "vgg16", "tuned")
    check(row, [found[1:2], found[:1]], [1, -1])
    assert (row["primary"], row["verdict"]) == (False, "one training")
    assert row["same_machine"]
    assert row[["p", "p_holm", "p_equal"]].isna().all()
    assert effects.effects(found[1:]).empty


def test_on_mnist_equality_is_tested_with_three_trainings(train):
    def trained(*shares, seeds=3, dataset="mnist"):
        found = [
            [train(name, share + s / 2000, seed=s, dataset=dataset) for s in range(seeds)]
            for name, share in zip(("vgg16_improved", "vgg16"), shares, strict=True)
        ]
        return named(effects.effects([*found[0], *found[1]])), found

    row, found = trained(0.997, 0.99)
    check(row, found, [1, -1], np.mean([*map(variance, found)]), 4)
    cells = [np.array([right(run) for run in part]) for part in found]
    assert row["p_equal"] == pytest.approx(statistics.difference(*cells).equivalence(0.002))
    assert row["verdict"] == "exploratory"
    row, _ = trained(0.999, 0.999)
    assert row["p_equal"] < 0.05
    assert row["verdict"] == "equal within 0.2 points"
    assert math.isnan(trained(0.999, 0.999, seeds=2)[0]["p_equal"])
    assert math.isnan(trained(0.999, 0.999, dataset="cifar10")[0]["p_equal"])


def test_the_primary_comparisons_follow_the_protocol(study):
    """Beside the rule stands the interval with the variance of the pair alone."""
    table = effects.effects(study)
    assert table["primary"].all()
    v = [variance(study[place : place + 4]) for place in (0, 4, 8, 12)]
    for network, place in (("resnet18_improved", 0), ("googlenet_improved", 8)):
        row = named(table, network=network)
        pair = study[place + 4 : place + 8], study[place : place + 4]
        check(row, pair, [1, -1], np.mean(v), 12, ("effect", "low", "high", "p"))
        alone = np.mean(v[place // 4 : place // 4 + 2])
        check(row, pair, [1, -1], alone, 6, ("effect", "own_low", "own_high"))
    p = sorted(table["p"])
    assert sorted(table["p_holm"]) == pytest.approx([2 * p[0], max(2 * p[0], p[1])])
    assert named(table, network="resnet18_improved")["verdict"] == "better"
    assert named(table, network="googlenet_improved")["verdict"].startswith("less than ")
    assert not table["welch"].any()
    shown = text.terminal(study)
    assert "better (p < 0.001 after Holm)" in shown
    assert "points either way (p = 0." in shown


def test_a_fifth_training_does_not_count_in_the_primary_comparisons(study, train):
    figures = ["effect", "low", "high", "own_low", "own_high", "p_holm", "verdict"]
    declared = effects.effects(study)[figures]
    more = effects.effects([*study, train("resnet18", 0.5, seed=4)])
    pd.testing.assert_frame_equal(more[figures], declared)


def test_a_verdict_follows_the_adjusted_p(study, monkeypatch):
    monkeypatch.setattr(effects.statistics, "verdict", lambda effect, p: p)
    table = effects.effects(study)
    assert table["verdict"].to_list() == table["p_holm"].to_list() != table["p"].to_list()


@pytest.mark.parametrize("missing", [3, 12, slice(8, 16)])
def test_no_verdict_before_all_declared_runs_are_there(study, missing):
    del study[missing]
    table = effects.effects(study)
    assert set(table["verdict"]) <= {"exploratory", "one training"}
    assert not table["primary"].any()
    assert table[["p", "p_holm"]].isna().all(axis=None)


def test_at_equal_rates_the_recipe_is_the_same_to_the_last_number(train):
    """ResNet18 has 0.3 under `tuned`, ResNet18+ 0.1."""
    found = [train("resnet18_improved", 0.9, device="Xeon"), train("resnet18", 0.8)]
    assert effects.equal_rates(found).empty
    found.append(train("resnet18", 0.85, changes={"learning_rate": 0.1}))
    found.append(train("resnet18", 0.7, changes={"learning_rate": 0.2}))
    row = named(effects.equal_rates(found))
    assert (row["original"], row["recipe"], row["learning_rate"]) == ("resnet18", "tuned", 0.1)
    check(row, [found[:1], found[2:3]], [1, -1])
    assert not row["same_machine"]
    assert len(effects.effects(found)) == 1


def test_corners_take_the_published_gain_apart(train):
    shares = [0.66, 0.78, 0.69, 0.83]
    places = product(("resnet18", "resnet18_improved"), ("vanilla", "altered"))
    cells = [
        [train(net, share - 0.004 + 0.008 * seed, how, seed) for seed in range(2)]
        for (net, how), share in zip(places, shares, strict=True)
    ]
    found = [run for cell in cells for run in cell]
    row = named(effects.corners(found))
    assert (row["network"], row["original"], row["seeds"]) == ("resnet18_improved", "resnet18", 2)
    assert row[[*effects.CORNERS]].to_list() == pytest.approx(shares)
    assert row["published_gain"] == pytest.approx(0.1634)
    assert row[["gain", "training"]].to_list() == pytest.approx([0.17, 0.13])
    assert row["training_share"] == pytest.approx(0.13 / 0.17)
    assert row["verdict"] == "exploratory"
    for part, weights in {
        "gain": [-1, 0, 0, 1], "training": [-0.5, 0.5, -0.5, 0.5],
        "architecture": [-0.5, -0.5, 0.5, 0.5], "interaction": [1, -1, -1, 1],
    }.items():  # fmt: skip
        used = [cell for cell, weight in zip(cells, weights, strict=True) if weight]
        v = np.mean([variance(cell) for cell in used])
        weights = [weight for weight in weights if weight]
        check(row, used, weights, v, len(used), (part, f"{part}_low", f"{part}_high"))
    lacking = named(effects.corners([*found[:4], *found[6:]]))
    assert lacking[["original_vanilla", "original_altered", "improved_altered"]].notna().all()
    assert lacking[["improved_vanilla", "gain", "training", "architecture"]].isna().all()
    assert lacking["verdict"] == "runs are missing"
    found.append(train("vgg16", 0.99, recipe="vanilla", dataset="mnist"))
    assert named(effects.corners(found), dataset="MNIST")["published_original"] == 0.9919


def test_a_single_change_is_compared_to_the_whole_network(train):
    whole = [train("resnet18_improved", 0.9 + 0.001 * seed, seed=seed) for seed in range(3)]
    found = [
        *whole,
        train("resnet18_improved", 0.88, options={"stem": "7x7"}),
        train("resnet18_improved", 0.85, changes={"augment": "none"}),
        train("resnet18_improved", 0.1, changes={"augment": "none", "schedule": "constant"}),
        train("resnet18_improved", 0.2, changes={"clip": 0.0}, options={"stem": "7x7"}),
        train("resnet18", 0.3, options={"stem": "3x3"}),
        train("resnet18_improved", 0.95, recipe="classic"),
    ]
    table = effects.changes(found)
    assert table["change"].to_list() == ["augment=none", "stem=7x7"]
    row = named(table, change="stem=7x7")
    assert (row["recipe"], row["seeds"], row["whole_seeds"]) == ("tuned", 1, 3)
    assert (row["accuracy"], row["verdict"]) == (0.88, "one training")
    check(row, [found[3:4], whole], [1, -1])
    assert effects.changes(found[3:6]).empty, "the whole network is not there"


def test_control_stands_beside_what_is_reported(train):
    found = [train("resnet20", 0.9, recipe="classic", epochs=182, input_size=32)]
    found.append(train("resnet20", 0.8, recipe="classic"))
    found.append(train("resnet20", 0.7, recipe="tuned", epochs=182, input_size=32))
    found.append(train("vgg16_improved", 0.94, recipe="best"))
    table = effects.control(found)
    assert table["accuracy"].to_list() == [0.9, 0.94]
    assert table["reported"].to_list() == pytest.approx([0.9125, math.nan], nan_ok=True)


def test_no_table_needs_a_run_or_depends_on_their_order(study, train):
    study.append(train("resnet20", 0.8, recipe="vanilla"))
    for name, make_table in effects.TABLES.items():
        empty, table = make_table([]), make_table(study)
        assert empty.columns.to_list() == table.columns.to_list() == effects.COLUMNS[name].split()
        pd.testing.assert_frame_equal(table, make_table(study[::-1]))


def test_a_terminal_shows_a_table_and_a_few_lines_of_each_dataset(train):
    found = [train("resnet18", 0.8), train("resnet18_improved", 0.85)]
    found += [train("resnet20", 0.99, dataset="mnist", warnings=["it stopped"])]
    cifar, lines, mnist, others = text.terminal(found).split("\n\n")
    row = ["resnet18_improved", "tuned", "1", "85.00", "83.37", "to", "86.50"]
    assert cifar.splitlines()[2].split()[:7] == row
    assert "resnet18_improved minus resnet18, tuned: +5.00 points (+2." in lines
    assert mnist.startswith("MNIST\n")
    assert others.endswith(": it stopped")


def test_a_report_has_a_page_and_pictures_of_each_dataset(train, tmp_path):
    found = [train("resnet18", 0.8), train("resnet20", 0.99, dataset_title="my photos")]
    for title in ("my-photos", "My photos 2"):
        found += [train("resnet20", 0.9, dataset_title=title, data_sha256=title)]
    files = report.files(found, tmp_path / "out")
    names = {path.name for path in files}
    assert names == {"report.md"} | {
        f"{stem}-{what}.png"
        for stem in ("cifar-10", "my-photos", "my-photos-2", "my-photos-3")
        for what in ("accuracies", "curves", "confusion")
    }
    page = files[tmp_path / "out" / "report.md"].decode()
    assert "## my photos" in page
    assert "| resnet18 | tuned | 1 | 80.00 |" in page
    assert all(f"({name})" in page for name in names - {"report.md"})
    assert all(c.startswith(b"\x89PNG") for path, c in files.items() if path.suffix == ".png")
    assert files == report.files(found, tmp_path / "out"), "the same bytes again"


def test_a_picture_of_accuracies_shows_each_row(train):
    table = effects.accuracies([train("alexnet", 0.7), train("vgg11", 0.9), train("vgg16", 0.9)])
    [ax] = report.accuracies(table).axes
    names = [label.get_text().split(",")[0] for label in ax.get_yticklabels()]
    assert names == ["vgg11", "vgg16", "alexnet"]
    assert [line.get_xdata().tolist() for line in ax.lines] == [[90], [90], [70]]


def test_a_new_run_changes_the_tables_in_one_place(study, train, tmp_path, capsys):
    front, page = tmp_path / "front" / "README.md", tmp_path / "README.md"
    front.parent.mkdir()
    for file, names in ((front, ["networks"]), (page, [*make.DATASETS, *make.READ])):
        file.write_text("first\n" + "".join(f"<!-- {n} -->\n<!-- /{n} -->\n" for n in names))
    how = tmp_path, front
    assert make.main([], *how) == 0
    assert "| AlexNet | 57,044,810 | 94 |  |  |" in front.read_text()
    assert "| ResNet18+ | CIFAR-10 | tuned | 4, 4 | +4.00 (+" in page.read_text()
    train("alexnet", 0.75, seed=0)
    capsys.readouterr()
    assert make.main(["--check"], *how) == 1
    old = [line for line in capsys.readouterr().out.splitlines() if "is not what" in line]
    assert [line.split()[0] for line in old] == [
        "accuracies.csv", "seeds.csv", "cost.png", "robustness.png", "calibration.png", "README.md",
        "README.md"]  # fmt: skip
    assert make.main([], *how) == 0
    assert "| AlexNet | 57,044,810 | 94 | 75.00 |  |" in front.read_text()
    assert front.read_text().startswith("first")


def test_the_committed_tables_and_pictures_are_those_of_the_runs():
    assert make.main(["--check"]) == 0
