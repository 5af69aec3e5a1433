"""What `run.json` says, and which values can be true."""

import json
import reprlib
from dataclasses import MISSING, asdict, dataclass, fields
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from .recipes import Recipe, restored

CORRUPTIONS = ("noise", "blur", "contrast")  # of test images, in `robustness`


def fits(value: Any, kind: Any) -> bool:
    """Returns whether a value of JSON has a type, and all its numbers are from 0 to 10^15."""
    outer, inner = get_origin(kind), get_args(kind)
    if outer is UnionType:
        return any(fits(value, one) for one in inner)
    if outer in (list, dict):
        items = value.values() if isinstance(value, dict) else value
        return isinstance(value, outer) and all(fits(item, inner[-1]) for item in items)
    if kind in (int, float):
        return type(value) in (int, kind) and 0 <= value <= 1e15
    return kind is Any or isinstance(value, kind)


@dataclass(frozen=True, kw_only=True)
class Info:
    """Holds what `run.json` says: settings, figures, and how they came about.

    Fields with a default are missing in some runs.
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
    seed: int
    epochs: int
    train_images: int
    validation_images: int
    limit: int | None  # training images that were asked for
    input_size: int  # side of the images that the network sees, in pixels
    in_channels: int
    image_side: int  # of the images as stored, in pixels
    mean: list[float]
    std: list[float]
    parameters: int
    macs: int  # multiply-adds of one image
    test_correct: int
    test_total: int
    test_nll: float
    test_brier: float
    test_ece: float
    temperature: float  # of temperature scaling, from validation images
    test_nll_calibrated: float
    test_ece_calibrated: float
    robustness: dict[str, int]  # right `clean` and under each corruption, of all `images`
    train_seconds: float
    images_per_second: float
    device: str
    device_type: str  # `cpu` or `cuda`
    precision: str
    threads: int
    versions: dict[str, str]
    commit: str
    made_by: list[dict[str, Any]]  # commit and versions of each program that trained a part
    weights_sha256: str
    warnings: list[str]

    @classmethod
    def read(cls, values: Any) -> "Info":
        """Returns what the contents of a `run.json` say; what it does not know is left out.

        Raises ValueError or UserError if this cannot be what a run says; the text is why.
        """
        if not isinstance(values, dict):
            raise ValueError("it holds no table")
        values = values | {"recipe": restored(values.get("recipe"))}
        known = {item.name: item for item in fields(cls)}
        for name, hint in get_type_hints(cls).items():
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
