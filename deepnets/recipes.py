"""How a network is trained: every number that training uses, under a name."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from .errors import UserError

CHOICES = {
    "schedule": ("constant", "steps", "cosine"),
    "augment": ("none", "shift", "standard", "published"),
}


@dataclass(frozen=True)
class Recipe:
    """A way to train: SGD with momentum, and what goes with it. Shares are of the training."""

    name: str  # one of `RECIPES`, followed by the fields that were changed
    learning_rate: float = 0.1  # the highest
    epochs: int = 30  # passes over the training images; the schedule stretches to them
    batch_size: int = 128  # images a step, at most
    momentum: float = 0.9
    nesterov: bool = False  # look ahead (Sutskever et al. 2013)
    weight_decay: float = 0.0  # of the weights of convolutions and linear layers
    decay_all: bool = False  # of biases and norms, too
    label_smoothing: float = 0.0  # share of the target for all classes (Szegedy et al. 2016, 7)
    schedule: str = "constant"  # or `cosine` to zero, or `steps`: a tenth from each milestone on
    milestones: tuple[float, ...] = (0.5, 0.75)  # of `steps`, as shares
    warmup: float = 0.0  # share in which the rate grows from zero (Goyal et al. 2017, 2.2)
    clip: float = 0.0  # largest norm of the gradient, 0 for none (Pascanu et al. 2013, alg. 1)
    augment: str = "none"  # `standard`, `published` (`Facts`), or `shift`: no mirror images
    cutout: float = 0.0  # side of the square as a share, 0 for none (DeVries and Taylor 2017)
    average: float = 0.0  # decay of averaged weights, 0 for none (Polyak and Juditsky 1992)
    flip_test: bool = False  # average the logits of a test image and its mirror image

    def rate(self, progress: float) -> float:
        """Returns the learning rate when a share `progress` (0 to 1) of all steps is done."""
        if progress < self.warmup:
            return self.learning_rate * progress / self.warmup
        if self.schedule == "steps":
            passed = sum(progress >= milestone for milestone in self.milestones)
            return self.learning_rate * 0.1**passed
        if self.schedule == "cosine":
            along = (progress - self.warmup) / (1 - self.warmup)
            return self.learning_rate * (1 + math.cos(math.pi * along)) / 2
        return self.learning_rate


# studies/README.md says why these are as they are; results/README.md what each reaches.
# VANILLA trains the originals of the published comparison (Skoularikis 2021), ALTERED the improved.
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
# He et al. 2016, section 4.2: the control, with their ResNet20
CLASSIC = Recipe("classic", epochs=24, weight_decay=1e-4, schedule="steps", augment="standard")
# Ours, to compare the nine networks
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
# Ours, for the highest accuracy
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
RECIPES = {recipe.name: recipe for recipe in (VANILLA, ALTERED, CLASSIC, TUNED, BEST)}

VGGS = ("vgg11", "vgg13", "vgg16", "vgg16_improved", "vgg19")
# The rates that suit the networks: those of studies/rates.toml were chosen on validation images
# (studies/LOG.md has the accuracies). A network that is not here has its recipe's.
RATES = {
    "alexnet": 0.03,
    "alexnet_2012": 0.01,
    **dict.fromkeys(VGGS, 0.03),
    "resnet18": 0.3,
    "resnet20": 0.3,
    "googlenet": 0.007,
    "googlenet_2014": 0.01,
    "googlenet_improved": 0.02,
}
ONE_RATE = (VANILLA.name, ALTERED.name)  # for all networks, as published

FIELDS: dict[str, type] = {
    field.name: type(field.default) for field in fields(Recipe) if field.name != "name"
}
LIMITS = {
    "learning_rate": (0.0, 1e6),
    "epochs": (1, 10_000),
    # The batches of an epoch differ by one image, and batch norm needs two
    "batch_size": (3, 65_536),
    "momentum": (0.0, 0.9999),
    "weight_decay": (0.0, 1.0),
    "label_smoothing": (0.0, 0.99),
    "warmup": (0.0, 0.99),
    "clip": (0.0, 1e6),
    "cutout": (0.0, 1.0),
    "average": (0.0, 0.99999),
}


def get(
    name: str, network: str, variant: dict[str, Any] | None = None, /, **overrides: Any
) -> Recipe:
    """Returns the recipe called `name`, with the rate that suits a network, and fields changed.

    Those of the `variant` join its name, the `overrides` do not.

    Raises:
        UserError: no such recipe or field, or a value that makes no sense.
    """
    variant = variant or {}
    if name not in RECIPES:
        raise UserError(f"no recipe is called {name!r}; choose from {', '.join(RECIPES)}")
    values: dict[str, Any] = {}
    if name not in ONE_RATE and network in RATES:
        values["learning_rate"] = RATES[network]
    if name == ALTERED.name and network in VGGS:
        values["weight_decay"] = 0.0  # as published
    values |= {key: _checked(key, value) for key, value in (overrides | variant).items()}
    full_name = labelled(name, {key: values[key] for key in variant})
    recipe = replace(RECIPES[name], name=full_name, **values)
    if recipe.nesterov and not recipe.momentum:
        raise UserError("recipe field nesterov = True: needs a momentum above 0")
    return recipe


def restored(values: Any) -> Recipe:
    """Returns the recipe whose name and fields were stored as JSON.

    Raises UserError if this is no recipe, or a value makes no sense in its field.
    """
    if not isinstance(values, dict) or not isinstance(values.get("name"), str):
        raise UserError("recipe: it has no name")
    known = {key: _checked(key, value) for key, value in values.items() if key in FIELDS}
    return Recipe(values["name"], **known)


def labelled(name: str, changes: dict[str, Any]) -> str:
    """Returns a name with its changes: `resnet18-stem=3x3`, `tuned-augment=none`."""

    def spelled(value: Any) -> str:
        return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)

    return "-".join([name, *(f"{key}={spelled(changes[key])}" for key in sorted(changes))])


def _checked(key: str, value: Any) -> Any:
    """Returns a value, of a study file say, in the type of a recipe's field.

    Raises UserError if there is no such field, or the value makes no sense in it.
    """
    if key not in FIELDS:
        raise UserError(f"a recipe has no field {key!r}; it has {', '.join(FIELDS)}")
    kind, what = FIELDS[key], f"recipe field {key} = {value!r}"
    if kind is tuple:
        numbers = isinstance(value, list) and all(type(item) in (int, float) for item in value)
        if not numbers or value != sorted(value) or not all(0 <= item <= 1 for item in value):
            raise UserError(f"{what}: must be rising numbers from 0 to 1")
        return tuple(map(float, value))
    if type(value) is not kind and (type(value), kind) != (int, float):
        raise UserError(f"{what}: must be of type {kind.__name__}")
    if key in CHOICES and value not in CHOICES[key]:
        raise UserError(f"{what}: choose from {', '.join(CHOICES[key])}")
    if key in LIMITS:
        low, high = LIMITS[key]
        if not low <= value <= high:
            raise UserError(f"{what}: must be from {low} to {high}")
    return kind(value)
