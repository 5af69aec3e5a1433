"""How a network is trained: every number that training uses, under a name."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from .errors import UserError

CHOICES = {
    "schedule": ("constant", "steps", "cosine"),
    "augment": ("none", "standard", "published"),
}


@dataclass(frozen=True)
class Recipe:
    """A way to train: SGD with momentum, and what goes with it.

    Args:
        name: one of `RECIPES`, and behind it the fields that a study's variant changed.
        learning_rate: highest rate.
        epochs: passes over the training images; the schedule stretches to them.
        batch_size: images a step, at most.
        momentum: of SGD.
        nesterov: look ahead (Sutskever et al. 2013).
        weight_decay: on the weights of convolutions and linear layers.
        decay_all: decay biases and norms, too.
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016, section
            7).
        schedule: `constant`; `steps`: a tenth of the rate from each milestone on; `cosine`: to
            zero.
        milestones: of `steps`, as shares of the training.
        warmup: share of the training over which the rate grows from zero (Goyal et al. 2017,
            section 2.2).
        clip: largest norm of the gradient, 0 for none (Pascanu et al. 2013, algorithm 1).
        augment: how to change the training images at random: `none`, `standard` or `published`
            (`transforms.policy`).
        cutout: side of the square cut out of each training image, as a share, 0 for none (DeVries
            and Taylor 2017).
        average: decay of the running average of the weights that is evaluated, 0 for none (Polyak
            and Juditsky 1992).
        flip_test: average the predictions of a test image and its mirror image, where the dataset
            allows it.
    """

    name: str
    learning_rate: float = 0.1
    epochs: int = 30
    batch_size: int = 128
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    decay_all: bool = False
    label_smoothing: float = 0.0
    schedule: str = "constant"
    milestones: tuple[float, ...] = (0.5, 0.75)
    warmup: float = 0.0
    clip: float = 0.0
    augment: str = "none"
    cutout: float = 0.0
    average: float = 0.0
    flip_test: bool = False

    def rate(self, progress: float) -> float:
        """Learning rate when a share `progress` (0 to 1) of all steps is done."""
        if progress < self.warmup:
            return self.learning_rate * progress / self.warmup
        if self.schedule == "steps":
            return self.learning_rate * 0.1 ** sum(
                progress >= milestone for milestone in self.milestones
            )
        if self.schedule == "cosine":
            along = (progress - self.warmup) / (1 - self.warmup)
            return self.learning_rate * (1 + math.cos(math.pi * along)) / 2
        return self.learning_rate


# studies/README.md says why these are as they are; results/README.md what each reaches.
# The two trainings of the published comparison (Skoularikis 2021), of the originals and of the
# improved networks.
VANILLA = Recipe("vanilla", learning_rate=0.001, epochs=50)
ALTERED = Recipe(
    "altered",
    learning_rate=0.01,
    epochs=50,
    weight_decay=4e-5,
    decay_all=True,
    label_smoothing=0.1,
    schedule="steps",
    milestones=(0.1, 0.54, 0.8, 0.94),
    augment="published",
)
# He et al. 2016, section 4.2; with its ResNet20 the control.
CLASSIC = Recipe("classic", epochs=24, weight_decay=1e-4, schedule="steps", augment="standard")
# Ours, the one that the nine networks are compared under.
TUNED = Recipe(
    "tuned",
    epochs=24,
    nesterov=True,
    weight_decay=5e-4,
    label_smoothing=0.1,
    schedule="steps",
    milestones=(0.625, 0.92),
    warmup=0.05,
    clip=5.0,
    augment="standard",
)
# Ours, for the highest accuracy.
BEST = replace(
    TUNED,
    name="best",
    epochs=60,
    schedule="cosine",
    warmup=0.1,
    cutout=0.5,
    average=0.999,
    flip_test=True,
)
# No weight decay, no augmentation, constant rate: of the earlier study alone.
PLAIN = Recipe("plain", epochs=30, batch_size=64)
RECIPES = {recipe.name: recipe for recipe in (VANILLA, ALTERED, CLASSIC, TUNED, BEST, PLAIN)}

# The rate of our own recipes, by the first key that a network's name starts with. Those of
# studies/rates.toml were chosen on validation images (studies/LOG.md has the accuracies).
RATES = {
    "resnet18_improved": 0.1,
    "resnet18": 0.3,
    "resnet20": 0.3,
    "googlenet_2014": 0.01,
    "googlenet_improved": 0.02,
    "googlenet": 0.007,
    "alexnet_2012": 0.01,
    "alexnet": 0.03,
    "vgg": 0.03,
}
OWN_RATE = (VANILLA.name, ALTERED.name)  # these have one rate for all networks
NOT_DECAYED = {ALTERED.name: "vgg"}  # as published

FIELDS = {field.name: type(field.default) for field in fields(Recipe) if field.name != "name"}
LIMITS = {
    "learning_rate": (0.0, 1e6),
    "epochs": (1, 10_000),
    # batches of an epoch differ by one image, and one alone has no batch statistics
    "batch_size": (3, 65_536),
    "momentum": (0.0, 0.9999),
    "weight_decay": (0.0, 1.0),
    "label_smoothing": (0.0, 0.99),
    "warmup": (0.0, 0.99),
    "clip": (0.0, 1e6),
    "cutout": (0.0, 1.0),
    "average": (0.0, 0.99999),
}


def get(name: str, network: str, /, **overrides: Any) -> Recipe:
    """Return the named recipe with the rate that suits the network.

    Args:
        name: one of `RECIPES`.
        network: its name.
        overrides: fields to change.

    Raises:
        UserError: no such recipe or field, or a value that makes no sense.
    """
    if name not in RECIPES:
        raise UserError(f"no recipe is called {name!r}; choose from {', '.join(RECIPES)}")
    values: dict[str, Any] = {}
    if name not in OWN_RATE:
        values["learning_rate"] = next(
            (RATES[key] for key in RATES if network.startswith(key)), RECIPES[name].learning_rate
        )
    if name in NOT_DECAYED and network.startswith(NOT_DECAYED[name]):
        values["weight_decay"] = 0.0
    values |= overrides
    for key, value in values.items():
        if key not in FIELDS:
            raise UserError(f"a recipe has no field {key!r}; it has {', '.join(FIELDS)}")
        if FIELDS[key] is float and type(value) is int:
            values[key] = value = float(value)
        if FIELDS[key] is tuple and isinstance(value, list):
            values[key] = value = _shares(key, value)
        if type(value) is not FIELDS[key]:
            raise UserError(
                f"recipe field {key} = {value!r}: must be of type {FIELDS[key].__name__}"
            )
    recipe = replace(RECIPES[name], **values)
    for key, (low, high) in LIMITS.items():
        if not low <= getattr(recipe, key) <= high:
            raise UserError(
                f"recipe field {key} = {getattr(recipe, key)}: must be from {low} to {high}"
            )
    for key, choices in CHOICES.items():
        if getattr(recipe, key) not in choices:
            raise UserError(
                f"recipe field {key} = {getattr(recipe, key)!r}: choose from {', '.join(choices)}"
            )
    if recipe.nesterov and not recipe.momentum:
        raise UserError("recipe field nesterov = True: needs a momentum above 0")
    return recipe


def _shares(key: str, values: list[Any]) -> tuple[float, ...]:
    """Return a list of a study file as shares of a training."""
    if not all(
        type(value) in (int, float) and 0 <= value <= 1 for value in values
    ) or values != sorted(values):
        raise UserError(f"recipe field {key} = {values!r}: must be rising numbers from 0 to 1")
    return tuple(map(float, values))
