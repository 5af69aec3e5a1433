"""The tables made from runs, against figures put into the runs and against an oracle."""

import csv
import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from deepnets import recipes, runs
from deepnets.compare import effects, groups, report, text
from deepnets.errors import UserError
from deepnets.info import CORRUPTIONS
from deepnets.runs import Run
from results import make

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
DEMO = RESULTS / "demo/digits/resnet20/tuned/seed0"
IMAGES = 2000
NETWORKS = ("resnet18", "resnet18_improved", "googlenet", "googlenet_improved")
TITLES = {"cifar10": "CIFAR-10", "mnist": "MNIST"}


@pytest.fixture
def train(tmp_path):
    """Writes a run that got exactly that share of its test images right, and returns it."""

    def write(model, share, recipe="tuned", seed=0, changes=(), study="main", **fields):
        how = recipes.get(recipe, model, **{"epochs": fields.get("epochs", 24)} | dict(changes))
        name = runs.labelled(recipe, dict(changes))
        info = json.loads((DEMO / "run.json").read_text()) | {
            "model": model, "dataset": "cifar10", "options": {}, "seed": seed, "limit": None,
            "input_size": 64, "train_images": 45_000, "epochs": how.epochs, "data_sha256": f"of {fields.get('dataset')}",
            "recipe": json.loads(json.dumps(asdict(how) | {"name": name})), "device": "EPYC",
            "device_type": "cpu", "threads": 2, "precision": "bf16", "train_seconds": 10.0,
            "test_nll": 0.5 + seed, "robustness": {"images": 100, "clean": 90} | dict.fromkeys(
                CORRUPTIONS, 50 + seed), "test_correct": round(share * IMAGES),
            "test_total": IMAGES, "warnings": [],
        } | fields  # fmt: skip
        info["dataset_title"] = fields.get("dataset_title") or TITLES[info["dataset"]]
        key = [*f"{model} {name} {info['options']} {info['dataset']}".encode(), seed]
        random = np.random.default_rng(key)
        labels = np.arange(IMAGES) % 10
        predicted = labels.copy()
        wrong = random.permutation(IMAGES)[: IMAGES - info["test_correct"]]
        predicted[wrong] = (labels[wrong] + 1) % 10
        levels = random.integers(100, 255, (IMAGES, 10))
        levels[np.arange(IMAGES), predicted] = random.integers(0, 60, IMAGES)
        right = {kind: np.packbits(predicted == labels) for kind in CORRUPTIONS}
        network = runs.labelled(model, info["options"])
        folder = tmp_path / study / info["dataset"] / network / name / f"seed{seed}"
        folder.mkdir(parents=True)
        arrays = {"labels": labels, "levels": levels} | right
        np.savez(folder / "test.npz", **{k: v.astype(np.uint8) for k, v in arrays.items()})
        rows = [",".join(runs.HISTORY), *(f"{i},1,0.5,1,0.{i},0.1,5" for i in range(how.epochs))]
        (folder / "history.csv").write_text("\n".join(rows))
        (folder / "run.json").write_text(json.dumps(info))
        return Run.load(folder)

    return write


@pytest.fixture
def study(train, tmp_path, monkeypatch):
    """The runs of the primary comparisons, committed: ResNet18+ better, GoogLeNet+ not."""
    monkeypatch.setattr(groups, "RESULTS", tmp_path)
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


def by_hand(cells, weights, v=0.0, df=math.inf):
    """Effect, ends of its interval and p by the formula of studies/README.md.

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
    return d.mean(), d.mean() - half, d.mean() + half, p


def wilson(p, n):
    """Ends of the interval of Wilson 1927 for the share p of n."""
    z = stats.norm.ppf(0.975)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    return middle - half, middle + half


def named(table, **where):
    """The one row of a table that has these values."""
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_one_training_has_wilsons_interval(train):
    row = named(effects.accuracies([train("alexnet", 0.91, options={"dropout": 0.3})]))
    what = row[["dataset", "network", "options", "seeds", "accuracy", "interval"]].to_list()
    assert what == ["CIFAR-10", "alexnet", "dropout=0.3", 1, 0.91, "new test images"]
    assert (row["low"], row["high"]) == pytest.approx(wilson(0.91, IMAGES))
    assert math.isnan(row["deviation"])


def test_several_seeds_have_an_interval_for_new_trainings_too(train):
    found = [train("vgg11", 0.88 + 0.004 * seed, seed=seed) for seed in range(3)]
    row = named(effects.accuracies(found))
    v = np.var([run.accuracy for run in found], ddof=1)
    wanted = by_hand([found], [1], v, 2)[:3]
    assert row[["accuracy", "low", "high"]].to_list() == pytest.approx(wanted)
    assert row["deviation"] == pytest.approx(0.004)
    assert row["interval"] == "new trainings and test images"
    assert row[["nll", "noise", "blur", "contrast"]].to_list() == pytest.approx([1.5, *[0.51] * 3])
    assert (row["seconds"], row["devices"], row["precision"]) == (10, "EPYC, 2 threads", "bf16")
    wide = [train("alexnet", share, seed=seed) for seed, share in enumerate((0.9, 1.0))]
    assert named(effects.accuracies(wide))["high"] == 1, "no interval leaves 0 to 1"


def test_each_figure_stands_under_its_name_in_the_table_and_on_the_page(train):
    right = {"images": 100, "clean": 75, "noise": 51, "blur": 42, "contrast": 33}
    figures = {"test_ece": 0.04, "test_ece_calibrated": 0.02, "temperature": 1.5}
    table = effects.accuracies([train("alexnet", 0.75, robustness=right, **figures)])
    names = [*CORRUPTIONS, "ece", "calibrated_ece", "temperature"]
    assert named(table)[names].to_list() == [0.51, 0.42, 0.33, 0.04, 0.02, 1.5]
    shown = named(make.measured(table, "CIFAR-10"))
    names = ["network", "accuracy", "95 % interval", *CORRUPTIONS, "ece", "temperature"]
    ends = " to ".join(f"{100 * end:.2f}" for end in wilson(0.75, IMAGES))
    told = ["AlexNet", "75.00", ends, "51.0", "42.0", "33.0", "4.0", "1.50"]
    assert shown[names].to_list() == told


def test_seeds_of_several_devices_are_one_row_without_seconds(train):
    found = [train("vgg11", 0.8), train("vgg11", 0.81, seed=1, device="H100", device_type="cuda")]
    row = named(effects.accuracies(found))
    assert (row["seeds"], row["devices"]) == (2, "EPYC, 2 threads; H100")
    assert math.isnan(row["seconds"])
    assert effects.seeds(found)["devices"].to_list() == ["EPYC, 2 threads", "H100"]


def test_what_was_trained_otherwise_is_another_row(train):
    found = [train("resnet20", 0.8), train("resnet20", 0.7, study="b", input_size=32)]
    found += [train("resnet20", 0.6, study="c", epochs=3)]
    found += [train("resnet20", 0.5, study="d", data_sha256="of other images")]
    table = effects.accuracies(found)
    assert sorted(table["accuracy"]) == [0.5, 0.6, 0.7, 0.8]
    assert set(table["epochs"]) == {24, 3}


def test_the_same_training_twice_is_refused_unless_the_precision_differs(train):
    found = [train("resnet20", 0.8), train("resnet20", 0.8, study="again")]
    with pytest.raises(UserError, match=r"main.*again.* are the same training"):
        effects.accuracies(found)
    table = effects.accuracies([found[0], train("resnet20", 0.79, study="c", precision="fp32")])
    assert table["precision"].to_list() == ["bf16", "fp32"]
    mixed = [found[0], train("resnet20", 0.79, seed=1, precision="fp32")]
    assert named(effects.accuracies(mixed))["precision"] == "bf16; fp32"


def test_a_run_is_a_row_of_seeds(train):
    table = effects.seeds([train("resnet20", 0.8, seed=2), train("vgg11", 0.7)])
    row = named(table, network="vgg11")
    assert (row["seed"], row["accuracy"], row["validation_accuracy"]) == (0, 0.7, 0.23)
    assert row["torch"][0].isdigit()
    assert len(row["commit"]) == 40


def test_an_improved_network_is_compared_to_its_original_trained_alike(train):
    found = [train("vgg16", 0.70), train("vgg16_improved", 0.73), train("alexnet", 0.9)]
    found += [train("vgg16_improved", 0.5, options={"dropout": 0.0})]
    found += [train("vgg16_improved", 0.6, study="short", epochs=3)]
    row = named(effects.effects(found))
    assert (row["network"], row["original"], row["recipe"]) == ("vgg16_improved", "vgg16", "tuned")
    wanted = by_hand([found[1:2], found[:1]], [1, -1])[:3]
    assert row[["effect", "low", "high"]].to_list() == pytest.approx(wanted)
    assert row["effect"] == pytest.approx(0.03)
    assert (row["primary"], row["verdict"]) == (False, "one training")
    assert row["same_machine"]
    assert row[["p", "p_holm", "p_equal"]].isna().all()
    assert effects.effects(found[1:]).empty


def test_trainings_of_one_seed_on_two_machines_are_marked(train):
    found = [train("vgg16", 0.70), train("vgg16_improved", 0.73, device="Xeon")]
    assert not named(effects.effects(found))["same_machine"]
    other_seeds = [train("googlenet", 0.7), train("googlenet_improved", 0.7, seed=1, device="Xeon")]
    assert named(effects.effects(other_seeds))["same_machine"]


def test_on_mnist_equality_is_tested(train):
    found = []
    for seed, wobble in enumerate((0.0005, -0.0005, 0)):
        found += [train("vgg16", 0.996 + wobble, seed=seed, dataset="mnist")]
        found += [train("vgg16_improved", 0.996 + wobble, seed=seed, dataset="mnist")]
    row = named(effects.effects(found))
    v = np.var([run.accuracy for run in found[::2]], ddof=1)
    wanted = by_hand([found[1::2], found[::2]], [1, -1], v, 4)[:3]
    assert row[["effect", "low", "high"]].to_list() == pytest.approx(wanted)
    assert row["verdict"] == ("equal within 0.2 points" if row["p_equal"] < 0.05 else "exploratory")
    cells = [np.array([right(run) for run in part]) for part in (found[1::2], found[::2])]
    equal = effects.statistics.difference(*cells).equivalence(0.002)
    assert row["p_equal"] == pytest.approx(equal)
    assert effects.effects(found[:4])["p_equal"].isna().all(), "two trainings are too few"
    colour = [train(n, 0.9, seed=s) for n in ("vgg16", "vgg16_improved") for s in range(3)]
    assert effects.effects(colour)["p_equal"].isna().all(), "of MNIST alone"
    apart = [train("googlenet", 0.99 + 0.0005 * s, seed=s, dataset="mnist") for s in range(3)]
    apart += [train("googlenet_improved", 0.995, seed=s, dataset="mnist") for s in range(3)]
    row = named(effects.effects(apart))
    assert row["p_equal"] > 0.9
    assert row["verdict"] == "exploratory"
    [single] = effects.effects([found[0], found[1]])["verdict"]
    assert single == "one training"


def test_the_primary_comparisons_follow_the_protocol(study):
    table = effects.effects(study)
    assert table["primary"].all()
    v = np.mean([np.var([r.accuracy for r in study[i : i + 4]], ddof=1) for i in (0, 4, 8, 12)])
    resnet = by_hand([study[4:8], study[:4]], [1, -1], v, 12)
    googlenet = by_hand([study[12:], study[8:12]], [1, -1], v, 12)
    for network, wanted in (("resnet18_improved", resnet), ("googlenet_improved", googlenet)):
        row = named(table, network=network)
        assert row[["effect", "low", "high", "p"]].to_list() == pytest.approx(wanted)
    p = min(resnet[3], googlenet[3]), max(resnet[3], googlenet[3])
    assert sorted(table["p_holm"]) == pytest.approx([2 * p[0], max(2 * p[0], p[1])])
    assert named(table, network="resnet18_improved")["verdict"] == "better"
    assert named(table, network="googlenet_improved")["verdict"].startswith("less than ")
    assert not table["welch"].any()


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
def test_nothing_is_opened_before_all_declared_runs_are_there(study, train, missing):
    del study[missing]
    study.append(train("resnet18_improved", 0.7, study="changes", options={"dropout": 0.0}))
    study.append(train("resnet18_improved", 0.7, recipe="vanilla", study="replication"))
    short = train("resnet18", 0.5, epochs=3, study="short")
    assert short in groups.opened([*study, short]), "only the declared trainings are closed"
    table = effects.effects(study)
    assert table["verdict"].to_list() == ["runs are missing"] * 2
    assert table[["effect", "low", "high", "p", "p_holm"]].isna().all(axis=None)
    rows = effects.accuracies(study)
    known = rows["accuracy"].notna()
    assert rows[known][["options", "recipe"]].to_numpy().tolist() == [
        ["dropout=0.0", "tuned"], ["", "vanilla"]]  # fmt: skip
    figures = ["low", "high", "deviation", *effects.QUALITY, *CORRUPTIONS]
    assert rows[~known][figures].isna().all(axis=None)
    assert set(rows[~known]["interval"]) == {"runs are missing"}
    assert effects.seeds(study)["accuracy"].notna().sum() == 2
    assert effects.seeds(study)["validation_accuracy"].notna().all()
    change = named(effects.changes(study))
    assert (change["accuracy"], change["verdict"]) == (0.7, "runs are missing")
    assert math.isnan(change["effect"])
    at_one_rate = train("resnet18", 0.7, changes={"learning_rate": 0.1}, study="rates")
    assert effects.equal_rates([*study, at_one_rate]).empty
    assert "tuned: runs are missing" in text.terminal(study)
    assert [run.info.recipe.name for run in groups.opened(study)] == ["tuned", "vanilla"]


def test_a_persons_own_runs_are_never_closed(study, monkeypatch):
    monkeypatch.setattr(groups, "RESULTS", RESULTS)
    own = [run for run in study if run.info.seed == 0]
    table = effects.effects(own)
    assert table["effect"].notna().all()
    assert set(table["verdict"]) == {"one training"}
    assert not table["primary"].any()
    assert effects.accuracies(own)["accuracy"].notna().all()


def test_beside_the_rule_stands_the_variance_of_the_pair_alone(study):
    table = effects.effects(study)
    for network, place in (("resnet18_improved", 0), ("googlenet_improved", 8)):
        row = named(table, network=network)
        pair = study[place + 4 : place + 8], study[place : place + 4]
        v = np.mean([np.var([run.accuracy for run in runs], ddof=1) for runs in pair])
        wanted = by_hand(pair, [1, -1], v, 6)[1:3]
        assert row[["own_low", "own_high"]].to_list() == pytest.approx(wanted)


def test_at_equal_rates_the_recipe_is_the_same_to_the_last_number(train):
    """ResNet18 has 0.3 under `tuned`, ResNet18+ 0.1."""
    found = [train("resnet18_improved", 0.9), train("resnet18", 0.8)]
    assert effects.equal_rates(found).empty
    found.append(train("resnet18", 0.85, changes={"learning_rate": 0.1}))
    found.append(train("resnet18", 0.7, changes={"learning_rate": 0.2}))
    row = named(effects.equal_rates(found))
    assert (row["original"], row["recipe"], row["learning_rate"]) == ("resnet18", "tuned", 0.1)
    wanted = by_hand([found[:1], found[2:3]], [1, -1])[:3]
    assert row[["effect", "low", "high"]].to_list() == pytest.approx(wanted)
    assert len(effects.effects(found)) == 1


def test_corners_take_the_published_gain_apart(train):
    shares = {("resnet18", "vanilla"): 0.66, ("resnet18", "altered"): 0.78}
    shares |= {("resnet18_improved", "vanilla"): 0.69, ("resnet18_improved", "altered"): 0.83}
    found = [train(name, share, recipe=r) for (name, r), share in shares.items()]
    row = named(effects.corners(found))
    assert (row["network"], row["original"], row["seeds"]) == ("resnet18_improved", "resnet18", 1)
    assert row[["original_vanilla", "original_altered"]].to_list() == [0.66, 0.78]
    assert row[["improved_vanilla", "improved_altered"]].to_list() == [0.69, 0.83]
    assert row["published_gain"] == pytest.approx(0.1634)
    assert row["training_share"] == pytest.approx(0.13 / 0.17)
    assert row["verdict"] == "one training"
    for part, weights in {
        "gain": [-1, 0, 0, 1], "training": [-0.5, 0.5, -0.5, 0.5],
        "architecture": [-0.5, -0.5, 0.5, 0.5], "interaction": [1, -1, -1, 1],
    }.items():  # fmt: skip
        wanted = by_hand([[run] for run in found], weights)[:3]
        assert row[[part, f"{part}_low", f"{part}_high"]].to_list() == pytest.approx(wanted), part
    assert row[["gain", "training"]].to_list() == pytest.approx([0.17, 0.13])


def test_a_missing_corner_leaves_the_others(train):
    found = [train("googlenet", 0.82, recipe="vanilla"), train("googlenet", 0.84, recipe="altered")]
    found += [train("googlenet_improved", 0.85, recipe="altered")]
    found += [train("vgg16", 0.99, recipe="vanilla", dataset="mnist")]
    row = named(effects.corners(found), dataset="CIFAR-10")
    assert row[["original_vanilla", "original_altered", "improved_altered"]].notna().all()
    assert row[["improved_vanilla", "gain", "training", "architecture"]].isna().all()
    assert row["verdict"] == "runs are missing"
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
    wanted = 0.88, *by_hand([found[3:4], whole], [1, -1])[:3]
    assert row[["accuracy", "effect", "low", "high"]].to_list() == pytest.approx(wanted)
    assert row["verdict"] == "one training"
    assert effects.changes(found[3:6]).empty, "the whole network is not there"


def test_control_stands_beside_what_is_reported(train):
    found = [train("resnet20", 0.9, recipe="classic", epochs=182, input_size=32, study="control")]
    found.append(train("resnet20", 0.8, recipe="classic"))
    found.append(train("resnet20", 0.7, recipe="tuned", epochs=182, input_size=32))
    found.append(train("vgg16_improved", 0.94, recipe="best"))
    table = effects.control(found)
    assert table["accuracy"].to_list() == [0.9, 0.94]
    assert table["reported"].to_list() == pytest.approx([0.9125, math.nan], nan_ok=True)


@pytest.mark.parametrize("name", effects.TABLES)
def test_no_table_needs_a_run_or_depends_on_their_order(name, study, train):
    empty = effects.TABLES[name]([])
    study.append(train("resnet20", 0.8, recipe="vanilla"))
    table = effects.TABLES[name](study)
    assert empty.columns.to_list() == table.columns.to_list() == effects.COLUMNS[name].split()
    pd.testing.assert_frame_equal(table, effects.TABLES[name](study[::-1]))


def test_a_terminal_shows_a_short_table_and_a_few_lines(train):
    found = [train("resnet18", 0.8), train("resnet18_improved", 0.85)]
    found += [train("alexnet", 0.7, epochs=7, warnings=["it stopped"])]
    found += [train("resnet20", 0.99, dataset="mnist", study="c")]
    table, lines, *others = text.terminal(found).split("\n\n")
    assert [line.split()[0] for line in table.splitlines()] == [
        "CIFAR-10", "network", "resnet18_improved", "resnet18", "alexnet"]  # fmt: skip
    assert table.splitlines()[2].split()[1:7] == ["tuned", "1", "85.00", "83.37", "to", "86.50"]
    assert "Trained on EPYC, 2 threads in bf16." in lines
    assert "epochs 7 to 24." in lines
    assert "resnet18_improved minus resnet18, tuned: +5.00 points (+2." in lines
    assert lines.endswith(": it stopped")
    assert others[0].startswith("MNIST\n")


def test_rows_of_one_name_say_how_they_differ(train):
    found = [train("resnet20", 0.8), train("resnet20", 0.7, input_size=32, study="b")]
    [(_, table, _)] = text.sections([*found, train("vgg11", 0.6)])
    assert table["recipe"].to_list() == [
        "tuned, 24 epochs, 64 pixels, bf16", "tuned, 24 epochs, 32 pixels, bf16", "tuned"
    ]  # fmt: skip


def test_verdicts_of_the_primary_comparisons_are_told_with_their_p(study):
    shown = text.terminal(study)
    assert "better (p < 0.001 after Holm)" in shown
    assert "points either way (p = 0." in shown


def test_markdown_holds_the_same_cells(train):
    [(_, table, _)] = text.sections([train("resnet18", 0.8)])
    lines = text.markdown(table).splitlines()
    assert lines[0].startswith("| network | recipe | seeds | accuracy % |")
    assert lines[1].count("---:") == len(table.columns) - 1
    assert lines[2].split(" | ")[3] == "80.00"


def test_a_report_has_a_page_and_pictures_of_each_dataset(train, tmp_path):
    found = [train("resnet18", 0.8), train("resnet20", 0.99, dataset_title="my photos")]
    for title in ("my-photos", "My photos 2"):
        found += [train("resnet20", 0.9, dataset_title=title, data_sha256=title, study=title)]
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


def test_a_picture_of_accuracies_shows_each_row_and_its_interval(train):
    table = effects.accuracies([train("alexnet", 0.7), train("vgg11", 0.9), train("vgg16", 0.9)])
    [ax] = report.accuracies(table).axes
    assert [label.get_text().split(",")[0] for label in ax.get_yticklabels()] == [
        "vgg11", "vgg16", "alexnet"]  # fmt: skip
    assert [line.get_xdata().tolist() for line in ax.lines] == [[90], [90], [70]]
    ends = [bar.get_segments()[0][:, 0] / 100 for bar in ax.collections]
    assert ends[2] == pytest.approx(wilson(0.7, IMAGES))


def test_a_report_keeps_closed_what_is_closed(study, train, tmp_path):
    with pytest.raises(UserError, match="primary comparisons"):
        report.files(study[:4], tmp_path)
    files = report.files([*study[:4], train("resnet18", 0.99, dataset="mnist")], tmp_path)
    assert {path.name.partition("-")[0] for path in files} == {"report.md", "mnist"}


def test_a_new_run_changes_the_tables_in_one_place(study, train, tmp_path, capsys):
    pages = tmp_path / "front" / "README.md", tmp_path / "README.md"
    for page, shown in zip(pages, (make.readme, make.page), strict=True):
        names = shown({name: table([]) for name, table in effects.TABLES.items()})
        page.parent.mkdir(exist_ok=True)
        page.write_text("first\n" + "".join(f"<!-- {n} -->\n<!-- /{n} -->\n" for n in names))
    how = tmp_path, pages[0]
    assert make.main([], *how) == 0
    assert make.main(["--check"], *how) == 0
    assert "| AlexNet | 57,044,810 | 94 |  |  |" in pages[0].read_text()
    before = {path.name: path.read_text().splitlines() for path in tmp_path.glob("*.csv")}
    assert set(before) == {f"{name}.csv" for name in effects.TABLES}
    train("alexnet", 0.75, seed=0)
    capsys.readouterr()
    assert make.main(["--check"], *how) == 1
    old = [line for line in capsys.readouterr().out.splitlines() if "is not what" in line]
    assert [line.split()[0] for line in old] == [
        "accuracies.csv", "seeds.csv", "cost.png", "robustness.png", "calibration.png", "README.md",
        "README.md"]  # fmt: skip
    assert make.main([], *how) == 0
    assert "| AlexNet | 57,044,810 | 94 | 75.00 |  |" in pages[0].read_text()
    assert pages[0].read_text().startswith("first")
    for name, lines in before.items():
        after = (tmp_path / name).read_text().splitlines()
        assert not {*lines} - {*after}
        assert len({*after} - {*lines}) == (name in ("accuracies.csv", "seeds.csv")), name


def test_a_wrong_word_and_a_folder_without_runs_are_mistakes_of_one_line(tmp_path, capsys):
    assert make.main(["--chekc"], tmp_path) == 2
    (tmp_path / "main").mkdir()
    assert make.main([], tmp_path) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_what_is_closed_is_not_drawn(study, train):
    """Nor is a chart of some of the networks; the corners say themselves what is missing."""
    corner = train("resnet18", 0.7, "vanilla", epochs=50)
    assert [*make.pictures(make.tables([*study[:-1], corner]))] == ["corners.png"]
    drawn = make.pictures(make.tables([*study, corner]))
    assert [*drawn] == ["corners.png", "cost.png", "robustness.png", "calibration.png"]


def test_the_committed_tables_and_pictures_are_those_of_the_runs():
    assert make.main(["--check"]) == 0


KEY = "dataset", "network", "options", "recipe", "input_size", "seed"


def committed(name):
    with (RESULTS / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def stored():
    """The predictions of the study's runs, by what the tables call `KEY`."""
    found = {}
    for file in [file for study in make.STUDIES for file in RESULTS.glob(f"{study}/**/run.json")]:
        info = json.loads(file.read_text())
        options = "-".join(f"{key}={value}" for key, value in sorted(info["options"].items()))
        name = info["dataset_title"], info["model"], options, info["recipe"]["name"]
        key = *name, str(info["input_size"]), str(info["seed"])
        found[key] = np.load(file.with_name("test.npz"))
    return found


def test_committed_figures_are_those_of_the_stored_predictions():
    """Recomputed with NumPy and scikit-learn from test.npz, without the library."""
    from sklearn.metrics import accuracy_score, log_loss

    folders, known = stored(), 0
    rows = committed("seeds")
    assert len(rows) == len(folders), "every run is a row"
    for row in rows:
        if not row["accuracy"]:
            continue
        known += 1
        file = folders[tuple(row[name] for name in KEY)]
        labels, scores = file["labels"].astype(int), np.exp(-25 * (file["levels"] / 255) ** 2)

        def calibration_error(p, labels=labels):
            gaps, bins = (p.argmax(1) == labels) - p.max(1), np.ceil(p.max(1) * 15)
            return sum(abs(gaps[bins == k].sum()) for k in range(16)) / len(labels)

        p = scores / scores.sum(1, keepdims=True)
        q = scores ** (1 / float(row["temperature"]))
        wanted = {
            "accuracy": accuracy_score(labels, p.argmax(1)),
            "nll": log_loss(labels, p, labels=range(10)),
            "brier": ((p - np.eye(10)[labels]) ** 2).sum(1).mean(),
            "ece": calibration_error(p),
            "calibrated_ece": calibration_error(q / q.sum(1, keepdims=True)),
        }
        for kind in ("noise", "blur", "contrast"):
            wanted[kind] = np.unpackbits(file[kind], count=len(labels)).mean()
        found = {name: float(row[name]) for name in wanted}
        assert found == pytest.approx(wanted, abs=2e-6), row
    assert known


def test_committed_means_and_effects_are_those_of_the_stored_predictions():
    folders = stored()

    def mean(row, network, recipe, size="64"):
        key = row["dataset"], network, row.get("options", ""), recipe, row.get("input_size", size)
        found = [run for name, run in folders.items() if name[:5] == key]
        return np.mean([run["levels"].argmin(1) == run["labels"] for run in found])

    wanted, found = [], []
    for row in committed("accuracies"):
        wanted += [mean(row, row["network"], row["recipe"])] if row["accuracy"] else []
        found += [float(row["accuracy"])] if row["accuracy"] else []
    for row in committed("effects"):
        if row["effect"]:
            first, second = (mean(row, row[n], row["recipe"]) for n in ("network", "original"))
            wanted.append(first - second)
            found.append(float(row["effect"]))
    for row in committed("corners"):
        for corner in filter(row.get, effects.CORNERS):
            name, recipe = corner.split("_")
            wanted.append(mean(row, row["original" if name == "original" else "network"], recipe))
            found.append(float(row[corner]))
    assert found == pytest.approx(wanted, abs=1e-6)
