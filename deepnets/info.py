"""What `run.json` says, and which values can be true."""

import json
import reprlib
from dataclasses import MISSING, asdict, dataclass, fields
from types import UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from .errors import UserError
from .recipes import Recipe, restored

CORRUPTIONS = ("noise", "blur", "contrast")  # of test images, in `robustness`
RESERVED = ("name", "num_classes", "in_channels")  # what no option of a network is called

# Numbers with their limits
Images = Annotated[int, 0, 10_000_000]
Count = Annotated[int, 0, 10**15]
Share = Annotated[float, 0, 1]
Seconds = Annotated[float, 0, 1e12]
Nats = Annotated[float, 0, 1e6]
Options = dict[str, str | bool | float]


def fits(value: Any, kind: Any, low: float = -1e6, high: float = 1e6) -> bool:
    """Returns whether a value of JSON has a type, and all its numbers are from `low` to `high`."""
    outer, inner = get_origin(kind), get_args(kind)
    if outer is Annotated:
        return fits(value, *inner)
    if outer is UnionType:
        return any(fits(value, one, low, high) for one in inner)
    if outer in (list, dict):
        items = value.values() if isinstance(value, dict) else value
        return isinstance(value, outer) and all(fits(item, inner[-1], low, high) for item in items)
    if kind in (int, float):
        return type(value) in (int, kind) and low <= value <= high
    return kind is Any or isinstance(value, kind)


@dataclass(frozen=True, kw_only=True)
class Info:
    """Holds what `run.json` says: settings, figures, and how they came about.

    Annotations have the limits of numbers. Fields with a default are missing in some runs.
    """

    model: str
    options: dict[str, Any]  # of the network
    dataset: str  # name, as for `data.load`
    dataset_title: str
    dataset_folder: str = ""  # absolute, of one's own images
    data_sha256: str
    split_sha256: str
    classes: list[str]
    recipe: Recipe
    seed: Annotated[int, 0, 2**32 - 1]
    epochs: Annotated[int, 1, 1_000_000]
    train_images: Images
    validation_images: Images
    limit: Annotated[int | None, 0, 10_000_000]  # training images that were asked for
    input_size: Annotated[int, 8, 1024]  # side of the images that the network sees, in pixels
    in_channels: Annotated[int, 1, 4]
    image_side: Annotated[int, 1, 16_384]  # of the images as stored, in pixels
    mean: Annotated[list[float], 0, 1]
    std: Annotated[list[float], 1e-9, 1]
    parameters: Count
    macs: Count  # multiply-adds of one image
    test_correct: Images
    test_total: Images
    test_nll: Nats
    test_brier: Annotated[float, 0, 2]
    test_ece: Share
    temperature: Annotated[float, 0.01, 100]  # of temperature scaling, from validation images
    test_nll_calibrated: Nats
    test_ece_calibrated: Share
    robustness: dict[str, Images]  # right `clean` and under each corruption, of all `images`
    train_seconds: Seconds
    images_per_second: Seconds
    device: str
    device_type: str  # `cpu` or `cuda`
    precision: str
    # How much faster than fp32 products the processor's bf16 products were, where it was asked
    bf16_speedup: Annotated[float | None, 0, 1e12] = None
    threads: Annotated[int, 1, 65_536]
    versions: dict[str, str]
    commit: str
    made_by: list[dict[str, Any]]  # commit and versions of each program that trained a part
    weights_sha256: str
    warnings: list[str]

    @classmethod
    def read(cls, values: Any) -> "Info":
        """Returns what the contents of a `run.json` say; what it does not know is left out.

        Raises:
            ValueError: this cannot be what a run says; the text is why.
        """
        if not isinstance(values, dict):
            raise ValueError("it holds no table")
        try:
            values = values | {"recipe": restored(values.get("recipe"))}
        except UserError as wrong:
            raise ValueError(str(wrong)) from None
        known = {item.name: item for item in fields(cls)}
        for name, hint in get_type_hints(cls, include_extras=True).items():
            if name not in values and known[name].default is MISSING:
                raise ValueError(f"{name!r} is missing")
            if name in values and not fits(values[name], hint):
                raise ValueError(f"{name} cannot be {reprlib.repr(values[name])}")
        info = cls(**{name: values[name] for name in known.keys() & values})
        counts, total, channels = info.robustness, info.test_total, info.in_channels
        whole = {"images", "clean", *CORRUPTIONS} <= counts.keys()
        right = max(counts[name] for name in ("clean", *CORRUPTIONS)) if whole else 0
        for name, holds in {
            "classes": len(info.classes) > 1,
            "options": fits(info.options, Options) and info.options.keys().isdisjoint(RESERVED),
            "mean": len(info.mean) == channels,
            "std": len(info.std) == channels,
            "versions": "torch" in info.versions,
            "robustness": whole and max(1, right) <= counts["images"] <= total,
            "test_correct": info.test_correct <= total,
        }.items():
            if not holds:
                raise ValueError(f"{name} cannot be {reprlib.repr(values[name])}")
        return info

    def values(self) -> dict[str, Any]:
        """Returns it as plain values of JSON."""
        return json.loads(json.dumps(asdict(self)))
