"""How a network is trained: every number that training uses, under a name."""

import math
from dataclasses import dataclass, replace
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from .errors import UserError

# Numbers with their limits
Size = Annotated[float, 0.0, 1e6]
Share = Annotated[float, 0.0, 0.99]  # of the training, unless another whole is named
Decay = Annotated[float, 0.0, 0.99999]


@dataclass(frozen=True)
class Recipe:
    """A way to train: SGD with momentum, and what goes with it.

    Raises UserError if a value is not of its field's type, or makes no sense beside another.
    """

    name: str  # one of `RECIPES`, followed by the fields that were changed
    learning_rate: Size = 0.1  # the highest
    epochs: Annotated[int, 1, 10_000] = 30  # over the images; the schedule stretches to them
    # Images a step, at most: the batches of an epoch differ by one, and batch norm needs two
    batch_size: Annotated[int, 3, 65_536] = 128
    momentum: Decay = 0.9
    nesterov: bool = False  # look ahead (Sutskever et al. 2013)
    weight_decay: Annotated[float, 0.0, 1.0] = 0.0  # of convolutions' and linear layers' weights
    decay_all: bool = False  # of biases and norms, too
    label_smoothing: Share = 0.0  # of the target for all classes (Szegedy et al. 2016, 7)
    # `cosine` goes to zero, `steps` to a tenth from each milestone on
    schedule: Literal["constant", "steps", "cosine"] = "constant"
    milestones: tuple[Share, ...] = (0.5, 0.75)  # of `steps`
    warmup: Share = 0.0  # in which the rate grows from zero (Goyal et al. 2017, 2.2)
    clip: Size = 0.0  # largest norm of the gradient, 0 for none (Pascanu et al. 2013, alg. 1)
    # `shift` has no mirror images; for the others see `data.Facts`
    augment: Literal["none", "shift", "standard", "published"] = "none"
    cutout: Share = 0.0  # side of the square in the image's, 0 for none (DeVries and Taylor 2017)
    average: Decay = 0.0  # of averaged weights, 0 for none (Polyak and Juditsky 1992)
    flip_test: bool = False  # average the logits of a test image and its mirror image

    def __post_init__(self) -> None:
        for name, hint in TYPES.items():
            value = getattr(self, name)
            if why := misfit(value, hint):
                raise UserError(f"recipe field {name} = {value!r}: {why}")
            if name in FIELDS:  # a list of TOML or JSON becomes a tuple, 1 becomes 1.0
                object.__setattr__(self, name, type(getattr(Recipe, name))(value))
        object.__setattr__(self, "milestones", tuple(map(float, self.milestones)))
        if list(self.milestones) != sorted(self.milestones):
            raise UserError(f"recipe field milestones = {self.milestones}: must rise")
        if self.nesterov and not self.momentum:
            raise UserError("recipe field nesterov = True: needs a momentum above 0")

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


def misfit(value: Any, hint: Any) -> str:
    """Returns why a value of JSON or TOML is not of a type, or an empty text if it is.

    Numbers are from 0 to 10^15, or between the limits that the type is annotated with.
    """
    outer, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return ""
    if outer is Literal:
        return "" if value in inner else f"choose from {', '.join(inner)}"
    if outer is UnionType:  # with None
        return "" if value is None else misfit(value, inner[0])
    if outer is dict:
        if not isinstance(value, dict):
            return "must be a table"
        return next(filter(None, (misfit(item, inner[1]) for item in value.values())), "")
    if outer in (list, tuple):
        if not isinstance(value, list | tuple):
            return "must be a list"
        return next(filter(None, (misfit(item, inner[0]) for item in value)), "")
    kind, low, high = inner if outer is Annotated else (hint, 0, 1e15)
    if type(value) is not kind and (type(value), kind) != (int, float):
        return f"must be of type {kind.__name__}"
    if kind in (int, float) and not low <= value <= high:
        return f"must be from {low} to {high}"
    return ""


TYPES = get_type_hints(Recipe, include_extras=True)
FIELDS = [name for name in TYPES if name != "name"]

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


def get(
    name: str, network: str, variant: dict[str, Any] | None = None, /, **overrides: Any
) -> Recipe:
    """Returns the recipe called `name`, with the rate that suits a network, and fields changed.

    Those of the `variant` join its name, the `overrides` do not.

    Raises:
        UserError: no such recipe or field, or a value that makes no sense.
    """
    variant = variant or {}
    changes = overrides | variant
    if name not in RECIPES:
        raise UserError(f"no recipe is called {name!r}; choose from {', '.join(RECIPES)}")
    values: dict[str, Any] = {}
    if name not in ONE_RATE and network in RATES:
        values["learning_rate"] = RATES[network]
    if name == ALTERED.name and network in VGGS:
        values["weight_decay"] = 0.0  # as published
    for key in changes:
        if key not in FIELDS:
            raise UserError(f"a recipe has no field {key!r}; it has {', '.join(FIELDS)}")
    recipe = replace(RECIPES[name], **values | changes)
    return replace(recipe, name=labelled(name, {key: getattr(recipe, key) for key in variant}))


def labelled(name: str, changes: dict[str, Any]) -> str:
    """Returns a name with its changes: `resnet18-stem=3x3`, `tuned-augment=none`."""

    def spelled(value: Any) -> str:
        return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)

    return "-".join([name, *(f"{key}={spelled(changes[key])}" for key in sorted(changes))])
