"""Digits on paper as a phone sees them: real digits of MNIST, drawn on made-up paper with one kind
of trouble each.
"""

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

SIDE = 360
KINDS = (
    "even", "slope", "shadow", "texture", "specks", "frame", "ruled", "squared", "pencil", "board",
)  # fmt: skip


def photo(digit: np.ndarray, kind: str, random: np.random.Generator) -> np.ndarray:
    """A picture (SIDE, SIDE), uint8, of a `digit` (28, 28), bright on black, on paper with a kind
    of trouble.
    """
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    side = int(SIDE * random.uniform(0.4, 0.75))
    top, left = (int((SIDE - side) * random.uniform(0.2, 0.8)) for _ in range(2))
    ink = np.zeros((SIDE, SIDE))
    enlarged = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    ink[top : top + side, left : left + side] = np.asarray(enlarged) / 255
    paper = np.full((SIDE, SIDE), random.uniform(190, 235))
    level, noise = random.uniform(25, 70), 1.5
    if kind == "slope":
        angle = random.uniform(0, 2 * np.pi)
        along = (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)) / 1.4 + 0.5
        paper = paper - random.uniform(60, 140) * along
    elif kind == "shadow":  # with an edge, as of a hand
        angle, place = random.uniform(0, 2 * np.pi), random.uniform(-0.25, 0.25)
        dark = (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5) > place).astype(float)
        depth = random.uniform(0.25, 0.5)
        paper = paper * (1 - depth * gaussian_filter(dark, random.uniform(1, 12)))
    elif kind == "texture":
        grain = gaussian_filter(random.standard_normal((SIDE, SIDE)), random.uniform(0.5, 3))
        paper, noise = paper + random.uniform(8, 18) * grain / grain.std(), 4
    elif kind == "specks":
        for _ in range(random.integers(3, 25)):
            row, column, radius = *random.uniform(0, 1, 2), random.uniform(0.002, 0.01)
            paper[(y - row) ** 2 + (x - column) ** 2 < radius**2] = random.uniform(30, 120)
    elif kind == "frame":  # what the paper lies on
        for edge in (y, 1 - y, x, 1 - x):
            if random.random() < 0.8:
                paper[edge < random.uniform(0.02, 0.1)] = random.uniform(15, 70)
    elif kind in ("ruled", "squared"):
        step, tilt = SIDE / random.integers(6, 14), random.uniform(-0.03, 0.03)
        grid, width = random.uniform(30, 80), random.uniform(1.2, 3)
        for across, along in ((y, x), (x, -y))[: 1 + (kind == "squared")]:
            paper = paper - grid * ((SIDE * (across + tilt * along)) % step < width)
        paper = gaussian_filter(paper, 0.7)
    elif kind == "pencil":
        level = paper[0, 0] - random.uniform(35, 70)
        # it leaves the paper's grain white
        ink = ink * np.clip(1 + 0.35 * random.standard_normal(ink.shape), 0, 1)
        paper, noise = paper - random.uniform(0, 40) * x, 3
    elif kind == "board":  # chalk, unevenly wiped
        wiped = 15 * gaussian_filter(random.standard_normal((SIDE, SIDE)), 25) * 25
        paper = 55 + wiped + random.uniform(0, 40) * y
        level, noise = random.uniform(170, 240), 3
    values = paper * (1 - ink) + level * ink + noise * random.standard_normal(ink.shape)
    return np.clip(gaussian_filter(values, random.uniform(0.3, 1)), 0, 255).astype(np.uint8)
