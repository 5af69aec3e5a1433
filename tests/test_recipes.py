"""Recipes hold every number of a training, and schedules stretch to any number of epochs."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from deepnets import models, recipes
from deepnets.errors import UserError
from deepnets.training.loop import _optimizer

ROOT = Path(__file__).parent.parent


def test_vanilla_changes_nothing_on_the_way():
    vanilla = recipes.get("vanilla", "resnet18")
    assert (vanilla.augment, vanilla.weight_decay, vanilla.label_smoothing, vanilla.schedule) == (
        "none",
        0.0,
        0.0,
        "constant",
    )
    assert {vanilla.rate(p / 10) for p in range(11)} == {0.001}


def test_steps_are_the_same_shares_of_any_training():
    tuned = recipes.get("tuned", "resnet18", warmup=0.0, learning_rate=0.1, milestones=[0.5, 0.75])
    for epochs in (8, 40, 200):
        rates = [round(tuned.rate((epoch + 0.5) / epochs), 6) for epoch in range(epochs)]
        assert rates == sorted(rates, reverse=True)
        assert (rates.count(0.1), rates.count(0.001)) == (epochs // 2, epochs // 4)


def test_cosine_agrees_with_pytorchs():
    recipe = recipes.get("best", "resnet18", warmup=0.0, learning_rate=0.1)
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    for step in range(50):
        assert recipe.rate(step / 50) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()


def test_warmup_grows_from_nothing_to_the_rate_without_a_jump():
    recipe = recipes.get("best", "resnet18", warmup=0.1)
    assert recipe.rate(0) == 0
    assert recipe.rate(0.05) == pytest.approx(recipe.learning_rate / 2)
    assert recipe.rate(0.0999) == pytest.approx(recipe.rate(0.1), rel=0.01)
    assert recipe.rate(0.55) == pytest.approx(recipe.learning_rate / 2), (
        "half of the way behind the warm-up"
    )
    assert recipe.rate(1) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("recipe", recipes.RECIPES)
@pytest.mark.parametrize("name", models.names())
def test_networks_without_batch_norm_get_a_low_rate(recipe, name):
    network = models.blueprint(name)
    normalised = any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    assert normalised or recipes.get(recipe, name).learning_rate <= 0.03


@pytest.mark.parametrize("recipe", ["vanilla", "altered", "classic", "tuned", "best"])
@pytest.mark.parametrize(("improved", "original"), models.ORIGINALS.items())
def test_both_forms_of_a_family_are_trained_alike_but_for_the_rate(recipe, improved, original):
    ours, theirs = recipes.get(recipe, improved), recipes.get(recipe, original)
    assert replace(ours, learning_rate=theirs.learning_rate) == theirs


def test_the_rates_are_those_that_validation_images_chose():
    """Of each network and rate the validation accuracy after the last epoch of
    studies/rates.toml.
    """
    table = pd.read_csv(ROOT / "results" / "choices.csv").query("study == 'rates'")
    last = table[table["epoch"] == table.groupby(["network", "recipe"])["epoch"].transform("max")]
    chosen = last.loc[last.groupby("network")["val_accuracy"].idxmax()].set_index("network")[
        "recipe"
    ]
    assert len(chosen) == 7
    for network, recipe in chosen.items():
        assert recipe == f"tuned-learning_rate={recipes.get('tuned', network).learning_rate}"


def test_tuned_is_the_cheapest_candidate_that_got_far_enough():
    table = (
        pd.read_csv(ROOT / "results" / "choices.csv")
        .query("study == 'pilot'")
        .groupby("recipe")["val_accuracy"]
        .last()
    )
    assert list(table.index[table >= 0.895]) == [
        "tuned-epochs=24-milestones=0.625+0.92-schedule=steps"
    ]
    tuned = recipes.TUNED
    assert (tuned.epochs, tuned.milestones, tuned.schedule) == (24, (0.625, 0.92), "steps")


def test_weight_decay_spares_biases_and_norms():
    network = models.create("resnet8")
    optimizer = _optimizer(network, recipes.get("tuned", "resnet8"))
    decayed = {
        id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]
    }
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_weight = isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and name == "weight"
            assert (id(parameter) in decayed) == is_weight


def test_altered_decays_everything():
    groups = _optimizer(models.create("resnet8"), recipes.get("altered", "resnet8")).param_groups
    assert [group["weight_decay"] for group in groups] == [4e-5, 4e-5]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", -0.1), ("learning_rate", float("nan")), ("epochs", 0), ("epochs", 10**9), ("epochs", 1.5),
        ("batch_size", 2), ("momentum", 1.0), ("label_smoothing", 1.0), ("schedule", "random"),
        ("augment", True), ("augment", "wild"),
        ("milestones", [0.9, 0.1]), ("milestones", ["half"]), ("milestones", 0.5),
        ("name", "mine"), ("optimiser", "adam"), ("weight_decay", "much"),
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused(field, value):
    with pytest.raises(UserError, match=field):
        recipes.get("tuned", "resnet18", **{field: value})


def test_nesterov_without_momentum_is_refused():
    assert recipes.get("plain", "resnet18", momentum=0.0).momentum == 0
    with pytest.raises(UserError, match="nesterov = True: needs a momentum"):
        recipes.get("tuned", "resnet18", momentum=0.0)


def test_an_unknown_recipe_is_refused():
    with pytest.raises(UserError, match="choose from vanilla, altered, classic, tuned, best"):
        recipes.get("secret", "resnet18")
