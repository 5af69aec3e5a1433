"""Recipes hold every number of a training, and schedules stretch to any number of epochs."""

import pytest
import torch

from deepnets import analysis, models, recipes
from deepnets.errors import UserError
from deepnets.training import _optimizer


def test_plain_is_plain():
    plain = recipes.get("plain", "resnet18")
    assert (plain.augment, plain.weight_decay, plain.label_smoothing, plain.schedule) == (False, 0.0, 0.0, "constant")
    assert {plain.rate(p / 10) for p in range(11)} == {0.1}


def test_steps_are_the_same_shares_of_any_training():
    tuned = recipes.get("tuned", "resnet18", warmup=0.0)
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
    assert recipe.rate(0.55) == pytest.approx(recipe.learning_rate / 2), "half of the way behind the warm-up"
    assert recipe.rate(1) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("recipe", recipes.RECIPES)
@pytest.mark.parametrize("name", models.names())
def test_networks_without_batch_norm_get_a_low_rate(recipe, name):
    network = models.blueprint(name)
    normalised = any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    assert normalised or recipes.get(recipe, name).learning_rate < 0.015


@pytest.mark.parametrize(("improved", "original"), analysis.ORIGINALS.items())
def test_an_improved_network_has_the_rate_of_its_original(improved, original):
    assert recipes.get("tuned", improved) == recipes.get("tuned", original)


def test_weight_decay_spares_biases_and_norms():
    network = models.create("resnet8")
    optimizer = _optimizer(network, recipes.get("tuned", "resnet8"))
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_weight = isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and name == "weight"
            assert (id(parameter) in decayed) == is_weight


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", -0.1), ("learning_rate", float("nan")), ("epochs", 0), ("epochs", 10**9), ("epochs", 1.5),
        ("batch_size", 2), ("momentum", 1.0), ("label_smoothing", 1.0), ("schedule", "random"), ("augment", 1),
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
    with pytest.raises(UserError, match="choose from plain, tuned, best"):
        recipes.get("secret", "resnet18")
