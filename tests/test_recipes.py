"""Recipes hold every number of a training, and schedules stretch to any number of epochs."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from deepnets import models, recipes
from deepnets.errors import UserError
from deepnets.training.loop import _optimizer

CHOICES = Path(__file__).parent.parent / "results" / "choices.csv"


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
    shares = {0: 0, 0.05: 0.5, 0.0999: 0.999, 0.1: 1, 0.55: 0.5, 1: 0}
    for progress, share in shares.items():
        expected = share * recipe.learning_rate
        assert recipe.rate(progress) == pytest.approx(expected, abs=1e-12), progress


@pytest.mark.parametrize("recipe", recipes.RECIPES)
@pytest.mark.parametrize("name", models.names())
def test_networks_without_batch_norm_get_a_low_rate(recipe, name):
    modules = models.blueprint(name).modules()
    normalised = any(isinstance(module, torch.nn.BatchNorm2d) for module in modules)
    assert normalised or recipes.get(recipe, name).learning_rate <= 0.03


@pytest.mark.parametrize("recipe", recipes.RECIPES)
@pytest.mark.parametrize(("improved", "original"), models.ORIGINALS.items())
def test_both_forms_of_a_family_are_trained_alike_but_for_the_rate(recipe, improved, original):
    ours, theirs = recipes.get(recipe, improved), recipes.get(recipe, original)
    assert replace(ours, learning_rate=theirs.learning_rate) == theirs


def test_the_rates_are_those_that_validation_images_chose():
    """Of each network and rate the validation accuracy after the last epoch of
    studies/rates.toml.
    """
    last = pd.read_csv(CHOICES).query("study == 'rates'").groupby(["network", "recipe"]).last()
    chosen = last["val_accuracy"].groupby("network").idxmax()
    assert len(chosen) == 7
    for network, recipe in chosen:
        assert recipe == f"tuned-learning_rate={recipes.get('tuned', network).learning_rate}"


def test_tuned_is_the_cheapest_candidate_that_got_far_enough():
    pilot = pd.read_csv(CHOICES).query("study == 'pilot'").groupby("recipe").last()
    enough = pilot[pilot["val_accuracy"] >= 0.895]
    assert list(enough.index) == ["tuned-epochs=24-milestones=0.625+0.92-schedule=steps"]
    tuned = recipes.TUNED
    assert (tuned.epochs, tuned.milestones, tuned.schedule) == (24, (0.625, 0.92), "steps")


def test_classic_is_he_et_als():
    """Section 4.2: 64,000 steps, of which the rate falls at 32,000 and 48,000. It may stretch."""
    theirs = recipes.Recipe("classic", learning_rate=0.1, batch_size=128, momentum=0.9)
    theirs = replace(theirs, weight_decay=1e-4, schedule="steps", milestones=(0.5, 0.75))
    assert replace(recipes.CLASSIC, epochs=theirs.epochs) == replace(theirs, augment="standard")


def test_best_is_tuned_and_what_the_studies_say_it_adds():
    """Decided before the first run: studies/README.md."""
    added = {"epochs": 60, "schedule": "cosine", "warmup": 0.1}
    added |= {"cutout": 0.5, "average": 0.999, "flip_test": True}
    assert replace(recipes.TUNED, name="best", **added) == recipes.BEST


@pytest.mark.parametrize(("recipe", "value", "everywhere"), [("tuned", 5e-4, False), ("altered", 4e-5, True)])  # fmt: skip
def test_weight_decay_spares_biases_and_norms_unless_it_is_the_published_one(
    recipe, value, everywhere
):
    network = models.create("resnet8")
    groups = _optimizer(network, recipes.get(recipe, "resnet8")).param_groups
    decay = {p: group["weight_decay"] for group in groups for p in group["params"]}
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_weight = isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and name == "weight"
            assert decay[parameter] == (value if is_weight or everywhere else 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", -0.1), ("learning_rate", float("nan")), ("epochs", 0), ("epochs", 1.5),
        ("batch_size", 2), ("momentum", 1.0), ("schedule", "random"), ("augment", True),
        ("milestones", [0.9, 0.1]), ("milestones", ["half"]), ("milestones", 0.5),
        ("name", "mine"), ("optimiser", "adam"), ("weight_decay", "much"),
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused(field, value):
    with pytest.raises(UserError, match=field):
        recipes.get("tuned", "resnet18", **{field: value})


def test_nesterov_without_momentum_and_an_unknown_recipe_are_refused():
    assert recipes.get("vanilla", "resnet18", momentum=0.0).momentum == 0
    with pytest.raises(UserError, match="nesterov = True: needs a momentum"):
        recipes.get("tuned", "resnet18", momentum=0.0)
    with pytest.raises(UserError, match="choose from vanilla, altered, classic, tuned, best"):
        recipes.get("secret", "resnet18")
