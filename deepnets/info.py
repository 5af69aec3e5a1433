"""What `run.json` says, and which values can be true."""

import json
import reprlib
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, get_type_hints

from .recipes import Recipe, misfit

CORRUPTIONS = ("noise", "blur", "contrast")  # of test images, in `robustness`


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
        values = _known(cls, values)
        values["recipe"] = Recipe(**_known(Recipe, values["recipe"]))
        for name, hint in get_type_hints(cls).items():
            if name in values and (why := misfit(values[name], hint)):
                raise ValueError(f"{name} = {reprlib.repr(values[name])}: {why}")
        info = cls(**values)
        counts = info.robustness
        for name, holds in {
            "classes": len(info.classes) > 1,
            "mean": len(info.mean) == info.in_channels,
            "std": len(info.std) == info.in_channels,
            "versions": "torch" in info.versions,
            "robustness": counts.keys() >= {"images", "clean", *CORRUPTIONS}
            and 0 < max(counts.values()) == counts["images"] <= info.test_total,
            "test_correct": info.test_correct <= info.test_total,
        }.items():
            if not holds:
                raise ValueError(f"{name} cannot be {reprlib.repr(values[name])}")
        return info

    def values(self) -> dict[str, Any]:
        """Returns it as plain values of JSON."""
        return json.loads(json.dumps(asdict(self)))


def _known(kind: type, values: Any) -> dict[str, Any]:
    """Returns the values of JSON that a dataclass has fields for.

    Raises ValueError if one without a default is missing.
    """
    if not isinstance(values, dict):
        raise ValueError("it holds no table")
    for field in fields(kind):
        if field.name not in values and field.default is MISSING:
            raise ValueError(f"{field.name!r} is missing")
    return {field.name: values[field.name] for field in fields(kind) if field.name in values}
