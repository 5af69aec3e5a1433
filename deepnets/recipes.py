"""How a network is trained: every number that training uses, under a name."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from .errors import UserError

SCHEDULES = ("constant", "steps", "cosine")


@dataclass(frozen=True)
class Recipe:
    """A way to train: SGD with momentum, and what goes with it.

    Args:
        name: `plain`, `tuned` or `best`, and behind it the fields that a study's variant changed.
        learning_rate: highest rate.
        epochs: passes over the training images; the schedule stretches to them.
        batch_size: images a step, at most.
        momentum: of SGD.
        nesterov: look ahead (Sutskever et al. 2013).
        weight_decay: on the weights of convolutions and linear layers, not on biases and norms.
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016, section 7).
        schedule: `constant`; `steps`: a tenth after half of the training, a hundredth after three quarters; `cosine`: to zero.
        warmup: share of the training over which the rate grows from zero (Goyal et al. 2017, section 2.2).
        clip: largest norm of the gradient, 0 for none (Pascanu et al. 2013, algorithm 1).
        augment: change the training images at random (the dataset's policy in `transforms`).
        cutout: side of the square cut out of each training image, as a share, 0 for none (DeVries and Taylor 2017).
        average: decay of the running average of the weights that is evaluated, 0 for none (Polyak and Juditsky 1992).
        flip_test: average the predictions of a test image and its mirror image, where the dataset allows it.
    """

    name: str
    learning_rate: float = 0.1
    epochs: int = 30
    batch_size: int = 64
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.0
    clip: float = 0.0
    augment: bool = False
    cutout: float = 0.0
    average: float = 0.0
    flip_test: bool = False

    def rate(self, progress: float) -> float:
        """Learning rate when a share `progress` (0 to 1) of all steps is done."""
        if progress < self.warmup:
            return self.learning_rate * progress / self.warmup
        if self.schedule == "steps":
            return self.learning_rate * (1 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01)
        if self.schedule == "cosine":
            along = (progress - self.warmup) / (1 - self.warmup)
            return self.learning_rate * (1 + math.cos(math.pi * along)) / 2
        return self.learning_rate


# What each reaches, and in what time: the tables of results/README.md.
# Bare: no weight decay, no augmentation, constant rate. No paper trained so; it is what `tuned` is held against.
PLAIN = Recipe("plain")
# What has become standard since: smoothing, decay, steps, augmentation.
TUNED = Recipe(
    "tuned", nesterov=True, weight_decay=5e-4, label_smoothing=0.1, schedule="steps", warmup=0.05, clip=5.0, augment=True
)
# Meant for the highest accuracy.
BEST = replace(TUNED, name="best", schedule="cosine", warmup=0.1, cutout=0.5, average=0.999, flip_test=True)
RECIPES = {recipe.name: recipe for recipe in (PLAIN, TUNED, BEST)}

# Networks without batch norm do not train at 0.1: their loss stays at the logarithm of the number of classes. GoogLeNet
# starts from small weights, which batch norm turns into large steps. An improved form has its original's rate, so that the two
# differ in architecture alone.
RATES = {"alexnet": 0.01, "vgg": 0.01, "googlenet_2014": 0.01, "googlenet": 0.02}  # the first match

FIELDS = {field.name: type(field.default) for field in fields(Recipe) if field.name != "name"}
LIMITS = {
    "learning_rate": (0.0, 1e6),
    "epochs": (1, 10_000),
    "batch_size": (3, 65_536),  # batches of an epoch differ by one image, and one alone has no batch statistics
    "momentum": (0.0, 0.9999),
    "weight_decay": (0.0, 1.0),
    "label_smoothing": (0.0, 0.99),
    "warmup": (0.0, 0.99),
    "clip": (0.0, 1e6),
    "cutout": (0.0, 1.0),
    "average": (0.0, 0.99999),
}


def get(name: str, network: str, /, **overrides: Any) -> Recipe:
    """The named recipe with the rate that suits the network.

    Args:
        name: `plain`, `tuned` or `best`.
        network: its name; the first key of `RATES` that it starts with decides the rate.
        overrides: fields to change.

    Raises:
        UserError: no such recipe or field, or a value that makes no sense.
    """
    if name not in RECIPES:
        raise UserError(f"no recipe is called {name!r}; choose from {', '.join(RECIPES)}")
    rate = next((rate for key, rate in RATES.items() if network.startswith(key)), RECIPES[name].learning_rate)
    values = {"learning_rate": rate} | overrides
    for key, value in values.items():
        if key not in FIELDS:
            raise UserError(f"a recipe has no field {key!r}; it has {', '.join(FIELDS)}")
        if FIELDS[key] is float and type(value) is int:
            values[key] = value = float(value)
        if type(value) is not FIELDS[key]:
            raise UserError(f"recipe field {key} = {value!r}: must be of type {FIELDS[key].__name__}")
    recipe = replace(RECIPES[name], **values)
    for key, (low, high) in LIMITS.items():
        if not low <= getattr(recipe, key) <= high:
            raise UserError(f"recipe field {key} = {getattr(recipe, key)}: must be from {low} to {high}")
    if recipe.schedule not in SCHEDULES:
        raise UserError(f"recipe field schedule = {recipe.schedule!r}: choose from {', '.join(SCHEDULES)}")
    if recipe.nesterov and not recipe.momentum:
        raise UserError("recipe field nesterov = True: needs a momentum above 0")
    return recipe
