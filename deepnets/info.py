"""What `run.json` says, and which values can be true."""

import json
import reprlib
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Annotated, Any, get_args, get_type_hints

from .errors import UserError
from .recipes import Recipe, restored

CORRUPTIONS = ("noise", "blur", "contrast")  # of test images, in `robustness`

Rule = Callable[[Any], bool]  # whether a value can be true


def _whole(low: int, high: int) -> Rule:
    return lambda value: type(value) is int and low <= value <= high


def _number(low: float, high: float) -> Rule:
    return lambda value: type(value) in (int, float) and low <= value <= high


def _list(rule: Rule, low: int = 0, high: int = 65_536) -> Rule:
    return lambda value: (
        isinstance(value, list) and low <= len(value) <= high and all(map(rule, value))
    )


def _table(rules: dict[str, Rule], others: Rule = lambda value: True) -> Rule:
    """Requires the keys of `rules`; the values of other keys are as `others` says."""
    return lambda value: (
        isinstance(value, dict)
        and rules.keys() <= value.keys()
        and all(rules.get(key, others)(item) for key, item in value.items())
    )


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _name(value: Any) -> bool:
    return _text(value) and value.isprintable()


def _options(value: Any) -> bool:
    return _table({}, _plain)(value) and value.keys().isdisjoint(RESERVED)


def _plain(value: Any) -> bool:
    return isinstance(value, str | bool) or _number(-1e6, 1e6)(value)


def _or_null(rule: Rule) -> Rule:
    return lambda value: value is None or rule(value)


RESERVED = ("name", "num_classes", "in_channels")  # what no option of a network is called
MANY = 10_000_000  # images
IMAGES = _whole(1, MANY)
SECONDS = _number(0, 1e12)
NATS = _number(0, 1e6)
SHARE = _number(0, 1)
COUNT = _whole(0, 10**15)
ROBUSTNESS = {name: _whole(0, MANY) for name in ("images", "clean", *CORRUPTIONS)}


@dataclass(frozen=True, kw_only=True)
class Info:
    """Holds what `run.json` says: settings, figures, and how they came about.

    A field's annotation has its rule. Those with a default are missing in some runs.
    """

    model: Annotated[str, _name]
    options: Annotated[dict[str, Any], _options]
    """Options of the network."""
    dataset: str
    """Name, as for `data.load`."""
    dataset_title: str
    dataset_folder: str = ""
    """Absolute, of one's own images."""
    data_sha256: str
    split_sha256: str
    classes: Annotated[list[str], _list(_text, 2)]
    recipe: Annotated[Recipe, _table({"name": _text})]
    seed: Annotated[int, _whole(0, 2**32 - 1)]
    epochs: Annotated[int, _whole(1, 1_000_000)]
    train_images: Annotated[int, IMAGES]
    validation_images: Annotated[int, IMAGES]
    limit: Annotated[int | None, _or_null(IMAGES)]
    """Number of training images that was asked for."""
    input_size: Annotated[int, _whole(8, 1024)]
    """Side of the images that the network sees, in pixels."""
    in_channels: Annotated[int, _whole(1, 4)]
    image_side: Annotated[int, _whole(1, 16_384)]
    """Side of the images as stored, in pixels."""
    mean: Annotated[list[float], _list(SHARE, 1, 4)]
    std: Annotated[list[float], _list(_number(1e-9, 1), 1, 4)]
    parameters: Annotated[int, COUNT]
    macs: Annotated[int, COUNT]
    """Multiply-adds of one image."""
    test_correct: Annotated[int, _whole(0, MANY)]
    test_total: Annotated[int, IMAGES]
    test_nll: Annotated[float, NATS]
    test_brier: Annotated[float, _number(0, 2)]
    test_ece: Annotated[float, SHARE]
    temperature: Annotated[float, _number(0.01, 100)]
    """Of temperature scaling, fitted on validation images."""
    test_nll_calibrated: Annotated[float, NATS]
    test_ece_calibrated: Annotated[float, SHARE]
    robustness: Annotated[dict[str, int], _table(ROBUSTNESS)]
    """Numbers of images that are right, `clean` and under each corruption, of all `images`."""
    train_seconds: Annotated[float, SECONDS]
    images_per_second: Annotated[float, SECONDS]
    device: str
    device_type: str
    """`cpu` or `cuda`."""
    precision: str
    bf16_speedup: Annotated[float | None, _or_null(SECONDS)] = None
    """How much faster than fp32 products the processor's bf16 products were, where it was asked."""
    threads: Annotated[int, _whole(1, 65_536)]
    versions: Annotated[dict[str, str], _table({"torch": _text}, _text)]
    commit: str
    made_by: Annotated[list[dict[str, Any]], _list(_table({}))]
    """Commit and versions of each program that trained a part."""
    weights_sha256: str
    warnings: Annotated[list[str], _list(_text)]

    @classmethod
    def read(cls, values: Any) -> "Info":
        """Returns what the contents of a `run.json` say; what it does not know is left out.

        Raises:
            ValueError: this cannot be what a run says; the text is why.
        """
        if not isinstance(values, dict):
            raise ValueError("it holds no table")
        known = {item.name: item for item in fields(cls)}
        for name, hint in get_type_hints(cls, include_extras=True).items():
            fits = _text if hint is str else get_args(hint)[1]
            if name not in values and known[name].default is MISSING:
                raise ValueError(f"{name!r} is missing")
            if name in values and not fits(values[name]):
                raise ValueError(f"{name} cannot be {reprlib.repr(values[name])}")
        try:
            recipe = restored(values["recipe"])
        except UserError as wrong:
            raise ValueError(str(wrong)) from None
        info = cls(**{name: values[name] for name in known.keys() & values} | {"recipe": recipe})
        counts, total = info.robustness, info.test_total
        right = max(counts[name] for name in ("clean", *CORRUPTIONS))
        if not max(1, right) <= counts["images"] <= total or info.test_correct > total:
            raise ValueError("more images are right than there are")
        if not len(info.mean) == len(info.std) == info.in_channels:
            raise ValueError(f"mean and std are not of {info.in_channels} channels")
        return info

    def values(self) -> dict[str, Any]:
        """Returns it as plain values of JSON."""
        return json.loads(json.dumps(asdict(self)))
