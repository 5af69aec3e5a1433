"""The pictures of `assets/`: the images, the networks, and what the committed runs look like. The
READMEs show some.
"""

import re
from itertools import count
from pathlib import Path

from . import figures
from .runs import Run


def of_runs(runs: list[Run], out: Path) -> dict[Path, bytes]:
    """Learning curves and confusion matrices of runs, a picture of each for every dataset, as PNG,
    by their paths in `out`.
    """
    drawn: dict[Path, bytes] = {}
    stems: set[str] = set()
    for tier, title in sorted({(run.info["tier"], run.info["dataset_title"]) for run in runs}):
        group = [
            run for run in runs if (run.info["tier"], run.info["dataset_title"]) == (tier, title)
        ]
        stem = _stem(f"{tier} {title}")
        # "my photos", "my-photos"
        stem = next(s for n in count(1) if (s := f"{stem}-{n}" if n > 1 else stem) not in stems)
        stems.add(stem)
        for name, draw in (("curves", figures.curves), ("confusion", figures.confusions)):
            drawn[out / f"{stem}-{name}.png"] = figures.encoded(draw(group))
    return drawn


def _stem(text: str) -> str:
    """A text as a part of a file's name."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")
