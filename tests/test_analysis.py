"""Effects are found where they were put, their intervals cover, and sentences follow the
intervals.
"""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from deepnets import analysis, metrics, report
from deepnets.errors import UserError
from deepnets.runs import Run

IMAGES = 4000


def made(
    model, recipe, accuracy, seed=0, options=None, tier="small", dataset="CIFAR-10", images=IMAGES
):
    """A run that is right on exactly that share of its test images, chosen by its seed and
    settings.
    """
    info = {
        "tier": tier, "model": model, "options": options or {}, "dataset_title": dataset, "data_sha256": dataset, "seed": seed,
        "recipe": {"name": recipe, "batch_size": 32},
        "test_correct": round(accuracy * images), "test_total": images, "test_nll": 0.5,
        "test_brier": 0.1, "test_ece": 0.05, "test_ece_calibrated": 0.01, "train_seconds": 10.0, "images_per_second": 5.0,
        "parameters": 100, "macs": 1000, "train_images": 50, "epochs": 2, "input_size": 64, "device": "any", "warnings": [],
        "temperature": 1.0,
        "limit": 50, "threads": 2, "precision": "fp32", "classes": list("0123456789"),
        "robustness": {"images": 100, "clean": 90, "noise": 50, "blur": 70, "contrast": 60},
    }  # fmt: skip
    key = [*f"{model} {recipe} {options}".encode(), seed]
    wrong = np.random.default_rng(key).permutation(images)[: images - info["test_correct"]]
    labels = np.arange(images) % 10
    predicted = labels.copy()
    predicted[wrong] = (labels[wrong] + 1) % 10
    run = Run(Path(f"{model}-{recipe}-{seed}"), info)
    run.__dict__["test"] = {"labels": labels, "predicted": predicted}
    return run


@pytest.fixture
def square():
    """Architecture gives 4 points, the recipe 10, and 2 more to the improved network; three
    seeds.
    """
    shares = {
        ("resnet18", "plain"): 0.60,
        ("resnet18", "tuned"): 0.69,
        ("resnet18_improved", "plain"): 0.63,
        ("resnet18_improved", "tuned"): 0.74,
    }
    return [
        made(*cell, share + 0.001 * seed, seed)
        for cell, share in shares.items()
        for seed in (0, 1, 2)
    ]


def test_the_two_by_two_separates_architecture_from_recipe(square):
    table = analysis.two_by_two(square).set_index("effect")
    assert table.loc["architecture", "value"] == pytest.approx(0.04)
    assert table.loc["recipe", "value"] == pytest.approx(0.10)
    assert table.loc["interaction", "value"] == pytest.approx(0.02)
    assert set(table["seeds"]) == {3}
    assert not table["stuck"].any()
    failed = [run for run in square if (run.info["model"], run.recipe) != ("resnet18", "plain")]
    assert analysis.two_by_two([*failed, made("resnet18", "plain", 0.15)])["stuck"].all()
    assert all(table["low"] <= table["value"])
    assert all(table["value"] <= table["high"])


def test_the_interval_of_one_seed_is_scipys():
    values = (np.random.default_rng(0).random((1, 500)) < 0.8).astype(float)
    mean, low, high = analysis.interval(values)
    reference = stats.ttest_1samp(values[0], 0).confidence_interval(0.95)
    assert mean == values.mean()
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=1e-3)


def test_the_interval_of_many_images_is_students_over_seeds():
    shares = np.array([0.60, 0.64, 0.71])
    values = (np.arange(10**6) < shares[:, None] * 10**6).astype(float)
    _, low, high = analysis.interval(values)
    reference = stats.ttest_1samp(shares, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=1e-3)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_the_interval_covers_what_it_should(seeds):
    """95 % of intervals hold the true share of other seeds and images; with 400 trials 92 to 99
    %.
    """
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        # images differ, and so do trainings if there are several
        hard = generator.normal(0, 0.5, 400)
        skill = generator.normal(0, 0.3 if seeds > 1 else 0, (seeds, 1))
        values = (generator.normal(size=(seeds, 400)) + hard + skill > 0).astype(float)
        _, low, high = analysis.interval(values)
        held += low <= 0.5 <= high
    assert 0.92 <= held / 400 <= 0.99


def test_only_seeds_that_all_have_are_compared(square):
    some = [run for run in square if run.info["seed"] != 1 or run.recipe == "tuned"]
    assert set(analysis.two_by_two(some)["seeds"]) == {2}
    assert analysis.primary(some)["seeds"].item() == 3
    assert (
        analysis.two_by_two(
            [run for run in square if run.info["seed"] == 0 or run.info["model"] == "resnet18"]
        ).seeds.max()
        == 1
    )


def test_tiers_and_datasets_never_mix(square):
    other = [
        made("resnet18_improved", "tuned", 0.9, tier="full"),
        made("resnet18_improved", "tuned", 0.99, dataset="MNIST"),
    ]
    assert analysis.two_by_two(square + other).equals(analysis.two_by_two(square))
    assert len(analysis.accuracies(square + other)) == 6
    assert not [pair for pair in analysis.pairwise(square + other) if pair["tier"] == "full"]


def test_changes_are_undone_in_the_improved_and_made_in_the_original(square):
    undone = analysis.changes(
        [made(name, "tuned", 0.7) for name in ("googlenet", "googlenet_improved")]
    )
    assert undone["effect"].to_list() == ["3x3 stem"], (
        "GoogLeNet's only change, undone, gives the original"
    )
    single = [
        made("resnet18_improved", "tuned", 0.70, options={"stem": "7x7"}),
        made("resnet18_improved", "tuned", 0.7405, options={"dropout": 0.0}),
        made("resnet18_improved", "tuned-augment=False", 0.72),
        made("resnet18", "tuned", 0.73, options={"stem": "3x3"}),
        made("resnet18_improved", "plain", 0.1, options={"stem": "7x7"}),
    ]
    table = analysis.changes(square + single).set_index(["network", "variant"])
    assert len(table) == 4, "a variant under another recipe is none of tuned"
    assert table.loc[("resnet18_improved", "stem=7x7"), "value"] == pytest.approx(0.04)
    assert table.loc[("resnet18_improved", "augment=False"), "value"] == pytest.approx(0.02)
    assert table.loc[("resnet18", "stem=3x3"), "value"] == pytest.approx(0.04)
    assert (
        table.loc[("resnet18_improved", "dropout=0.0"), "low"]
        < 0
        < table.loc[("resnet18_improved", "dropout=0.0"), "high"]
    )
    assert all(table["p"] <= table["p_holm"])
    assert {variant for (_, variant), told in table["told"].items() if told} == {
        "stem=7x7",
        "stem=3x3",
    }


def test_the_primary_comparisons_of_a_tier_are_one_family(square):
    other = [made("vgg16", "tuned", 0.70), made("vgg16_improved", "tuned", 0.71)]
    alone, both = analysis.primary(square), analysis.primary(square + other)
    resnet = both[both["network"] == "resnet18_improved"]
    assert resnet["p"].item() == alone["p"].item()
    declared = sorted([*both["p"], 1.0, 1.0, 1.0, 1.0])
    assert both["p_holm"].to_list() == pytest.approx(
        [metrics.holm(declared)[declared.index(p)] for p in both["p"]]
    )
    assert alone["p_holm"].item() == pytest.approx(min(1, 6 * alone["p"].item())), (
        "six were declared"
    )
    assert resnet["better"].item() == 1


def test_all_pairs_of_a_tier_are_one_family():
    shares = {"alexnet": 0.70, "vgg11": 0.715, "vgg16": 0.73}
    runs = [
        made(name, "tuned", share, dataset=title)
        for title in ("A", "B")
        for name, share in shares.items()
    ]
    pairs = analysis.pairwise(
        runs + [made(name, "tuned", share, tier="full") for name, share in shares.items()]
    )
    for tier, count in (("small", 6), ("full", 3)):
        family = [pair for pair in pairs if pair["tier"] == tier]
        assert len(family) == count
        assert [pair["p_holm"] for pair in family] == metrics.holm([pair["p"] for pair in family])


def test_probability_of_improvement_counts_pairs():
    assert analysis.probability_of_improvement([2, 3], [1, 2]) == (2 * 2 - 0.5) / 4
    assert analysis.probability_of_improvement([1], [1]) == 0.5


def test_a_cell_has_all_points_calibration_robustness_and_cost(square):
    row = analysis.accuracies(square).iloc[0]
    assert (row["network"], row["recipe"]) == ("resnet18_improved", "tuned")
    assert row["points"] == pytest.approx([0.74, 0.741, 0.742])
    assert row[["clean", "noise", "blur", "contrast", "corrupted"]].to_list() == pytest.approx(
        [0.9, 0.5, 0.7, 0.6, 0.6]
    )
    assert row["low"] < row["accuracy"] < row["high"]
    assert {
        "test_nll",
        "test_brier",
        "test_ece",
        "test_ece_calibrated",
        "parameters",
        "macs",
        "train_seconds",
    } <= set(row.index)


def test_sentences_follow_the_intervals(square):
    equal = [made("vgg16", "tuned", 0.700), made("vgg16_improved", "tuned", 0.719)]
    (row,) = analysis.primary(equal).to_dict("records")
    assert row["p"] < 0.1 < row["p_holm"], "this one is made to fail by its adjusted p"
    worse = [made("googlenet", "tuned", 0.80), made("googlenet_improved", "tuned", 0.70)]
    text = "\n".join(report.findings(square + equal + worse))
    assert "resnet18_improved over resnet18: better, +5.00 points" in text
    assert "vgg16_improved over vgg16: not distinguishable" in text
    assert "googlenet_improved over googlenet: worse, -10.00 points" in text
    assert "recipe +10.00 points" in text
    assert "includes zero" in text
    assert "one seed (the interval is over test images only)" in text
    assert "original, plain 60.10 % -> original, tuned 69.10 % -> improved, tuned 74.10 %" in text
    assert report.findings(equal[:1]) == []


def test_the_single_change_that_matters_most_is_named(square):
    single = [
        made("resnet18_improved", "tuned", 0.60, options={"stem": "7x7"}),
        made("resnet18_improved", "tuned", 0.7405, options={"dropout": 0.0}),
    ]
    text = "\n".join(report.findings(square + single))
    assert "resnet18_improved, 3x3 stem +14.00 points" in text, (
        "what the change gives, and not what its undoing does"
    )
    assert "p < 1e-10." in text, "a p that no float holds is not zero"
    assert (
        "of these 2 changes: the largest effect is that of 3x3 stem; not to be told from no change: dropout; its own trainings"
        in text
    )
    assert "its own trainings under tuned lie up to 0.20 points apart." in text
    same = [
        made("resnet18_improved", "tuned", 0.7401, options={"dropout": value})
        for value in (0.0, 0.1)
    ]
    assert "of these 2 changes: none can be told from no change; its own trainings" in "\n".join(
        report.findings(square + same)
    )


def test_what_runs_cannot_say_follows_their_seeds(square):
    (several,) = report.limits(square)
    assert "50 images and 2 epochs tell nothing of long training" in several
    assert "lie up to 0.20 points apart" in several
    assert "one seed" not in several
    (both,) = report.limits([*square, made("alexnet", "tuned", 0.5)])
    assert "1 of 5 cells have one seed" in both
    stuck, slow = made("alexnet", "tuned", 0.18), made("vgg11", "tuned", 0.20)
    assert (
        "; alexnet under tuned hardly left the accuracy of guessing"
        in report.limits([*square, stuck, slow])[0]
    )
    whole = made("alexnet", "tuned", 0.5)
    whole.info["limit"] = None
    assert "tell nothing" not in report.limits([whole])[0]


def test_the_same_training_twice_is_refused(square):
    with pytest.raises(UserError, match="the same training"):
        analysis.accuracies([*square, square[0]])


@pytest.mark.parametrize("seed", [0, 1])
def test_seeds_of_other_recipes_are_not_averaged(seed):
    other = made("resnet18", "tuned", 0.7, seed=seed)
    other.info["recipe"]["learning_rate"] = 0.5
    with pytest.raises(UserError, match="differ in their recipes"):
        analysis.accuracies([made("resnet18", "tuned", 0.7), other])


def test_pairs_need_a_seed_in_common(square):
    with pytest.raises(UserError, match="no seed in common"):
        analysis.paired([made("resnet18", "tuned", 0.7)], [made("resnet20", "tuned", 0.7, seed=1)])


def test_who_always_gives_the_most_frequent_class_has_learnt_nothing():
    run = made("resnet18", "tuned", 0.9)
    run.test["labels"][:] = np.arange(len(run.test["labels"])) % 10 == 0
    run.test["predicted"][:] = 0
    assert analysis.accuracies([run])["stuck"].item()


def test_two_copies_of_a_dataset_are_not_mixed(square):
    copy = [
        made(name, recipe, 0.4)
        for name in ("resnet18", "resnet18_improved")
        for recipe in ("plain", "tuned")
    ]
    for run in copy:
        run.info["data_sha256"] = "another"
    said = report.findings(square + copy)
    assert len([line for line in said if "the way there" in line]) == 2
    assert (
        "original, plain 60.10 % -> original, tuned 69.10 % -> improved, tuned 74.10 %, 3 seeds."
        in "\n".join(said)
    )
    assert len(analysis.accuracies(square + copy)) == 8


def test_what_is_shown_together_is_of_one_tier_and_setting_a_dataset():
    def cells(tier, *datasets):
        return [made("resnet18", "tuned", 0.8, tier=tier, dataset=name) for name in datasets]

    analysis.one_setting(cells("a", "x", "y"))
    for other in (cells("b", "x"), cells("b", "x", "y")):
        with pytest.raises(UserError, match="the runs on x differ in one of tier"):
            analysis.one_setting(cells("a", "x", "y") + other)


def test_trainings_of_other_lengths_are_not_compared(square):
    longer = made("resnet18_improved", "tuned", 0.9)
    longer.info["epochs"] = 5
    rest = [
        run for run in square if (run.info["model"], run.recipe) != ("resnet18_improved", "tuned")
    ]
    assert analysis.two_by_two([*rest, longer]).empty
    assert analysis.primary([*rest, longer]).empty
    assert not [
        line
        for line in report.findings([made("resnet18", "tuned", 0.7), longer])
        if "the way there" in line
    ]


def test_mistakes_come_with_the_surest_first():
    run = made("resnet18", "tuned", 0.5, images=6)
    run.info["classes"] = ["a", "b", "c"]
    sure = np.array([0.9, 0.5, 0.7, 0.99, 0.8, 0.6])
    labels, predicted = np.array([0, 0, 1, 1, 2, 2]), np.array([1, 0, 2, 0, 2, 1])
    run.__dict__["test"] = {
        "labels": labels,
        "predicted": predicted,
        "probabilities": np.stack([sure, 1 - sure], axis=1),
    }
    assert analysis.mistakes(run).tolist() == [3, 0, 2, 5]
    assert analysis.mistakes(run, [0, 2]).tolist() == [0, 5]
    assert analysis.worst_classes(run, 2) == [1, 0]


def test_a_pair_trained_unequally_long_says_so():
    runs = [made("vgg16", "tuned", 0.5), made("vgg11", "tuned", 0.9)]
    assert [pair["differ"] for pair in analysis.pairwise(runs)] == [""]
    runs[0].info["epochs"], runs[0].info["input_size"] = 7, 32
    [pair] = analysis.pairwise(runs)
    assert (pair["first"], pair["differ"]) == ("vgg11", "epochs 2 and 7, size 64 and 32")


def test_a_gpus_seconds_are_no_core_seconds():
    runs = [made("vgg16", "tuned", 0.5), made("vgg11", "tuned", 0.6), made("alexnet", "tuned", 0.7)]
    runs[0].info["device"], runs[1].info["device_type"] = "NVIDIA H100", "cuda"
    cost = report.readable(analysis.accuracies(runs)).set_index("network")
    assert cost["core-seconds"].to_dict() == {"alexnet": "20", "vgg11": "GPU 10", "vgg16": "GPU 10"}
    assert cost["core-hours"].to_dict() == {
        "alexnet": "0.0",
        "vgg11": "GPU 0.00",
        "vgg16": "GPU 0.00",
    }


def test_a_cell_of_both_kinds_of_device_costs_what_its_trainings_on_a_processor_cost():
    runs = [made("vgg16", "tuned", 0.5, seed) for seed in range(3)]
    runs[1].info.update(device="NVIDIA H100", train_seconds=1.0)
    runs[2].info["train_seconds"] = 20.0
    [row] = analysis.accuracies(runs).to_dict("records")
    assert (row["train_seconds"], row["core_seconds"], row["devices"]) == (
        15.0,
        30.0,
        ["NVIDIA H100", "any"],
    )
