"""A digit cut from a photograph of it: dark on paper or light on a board, in uneven light, beside
dust, lines and edges.

What counts as ink is darker (or lighter) than what is around it, not than a level: the background
of each pixel is what remains when all that is narrower than a stroke may be is filled in, which
follows a shadow and its edge.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

MOST = 400  # pixels of the longer side that are looked at
SMALL = 32  # pixels of the longer side of an image of a data set, which is no photograph
STROKE = 0.3  # of the longer side: what is wider is no stroke
UNEVEN = 6  # levels that most of an even border is within
INSET = 3  # pixels of the edge of a sheet
FAINT = 16  # levels of contrast that ink has at least
TILTS = np.linspace(-0.06, 0.06, 25)  # of printed lines, as rise over run


@dataclass(frozen=True)
class Digit:
    """A digit found in a picture.

    Attributes:
        ink: (H, W), 0 to 1, cut out without a margin.
        dark: whether it is dark on light.
        share: of the picture that is ink.
        box: rows and columns that were cut out.
        at_edge: whether it reaches the picture's edge.
        along: whether it runs along an edge, as what the paper lies on does.
        sheet: whether it has the form of a sheet of paper: a rectangle, with little cut out.
        more: whether there is more on the picture that might be a part of it.
        outline: how sharp its blurred parts are beside its sharp ones; ink is alike all round.
        even: whether the background has one level.
    """

    ink: np.ndarray
    dark: bool
    share: float
    box: tuple[slice, slice]
    at_edge: bool
    along: bool
    sheet: bool
    more: bool
    outline: float
    even: bool

    def doubts(self) -> list[str]:
        """Why this may be something else than the digit, or not all of it."""
        said = {
            "there is more on the picture that might belong to it": self.more,
            "it reaches the picture's edge": self.at_edge and not self.even,
            "its outline is blurred in places": self.outline < 0.4 and not self.even,
        }
        return [text for text, holds in said.items() if holds]


def find(values: np.ndarray) -> Digit | None:
    """The digit in a picture (H, W), 0 to 255, or None if none stands out.

    On an even background (a scan, a drawing, an image of the data set) ink is what differs from
    that; in a photograph what differs from its surroundings. What is a sheet of paper rather than a
    stroke is looked at by itself.
    """
    found = even = _on_even(values)
    if max(values.shape) <= SMALL:
        return even
    if not even or even.share > 0.65 or even.more or even.along or even.outline < 0.25:
        both = [_in_photograph(values if dark else 255 - values, dark) for dark in (True, False)]
        digits = [
            digit
            for digit in both
            if digit and not digit.along and (digit.outline > 0.4 or not digit.at_edge)
        ]
        found = max(
            digits,
            key=lambda digit: (not digit.at_edge, digit.outline > 0.25, digit.ink.size),
            default=even,
        )
    if found and found.sheet:
        rows, columns = (slice(s.start + INSET, s.stop - INSET) for s in found.box)
        inner = find(values[rows, columns]) if min(found.ink.shape) > 10 * INSET else None
        if inner and not inner.at_edge and inner.outline > 0.25:
            return inner
    return found


def _on_even(values: np.ndarray) -> Digit | None:
    """What differs from the picture's edge, if most of that has one level."""
    edge = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    paper = float(np.median(edge))
    if max(values.shape) > SMALL and np.mean(np.abs(edge - paper) <= UNEVEN) < 0.5:
        return None
    dark = paper > 127
    ink = np.clip(paper - values if dark else values - paper, 0, None)
    found = _cut(
        ink, max(ink.max() / 4, FAINT), dark, ndimage.gaussian_gradient_magnitude(ink, 1), even=True
    )
    across = found and found.at_edge and found.ink.shape[1] == values.shape[1]
    # on ruled paper it holds together with a line
    return None if across and (_without_lines(ink) < ink).any() else found


def _in_photograph(values: np.ndarray, dark: bool) -> Digit | None:
    """What is darker than its surroundings; `dark` is only passed on."""
    longer = max(values.shape)
    smooth = ndimage.gaussian_filter(values, longer / 400)
    window = round(STROKE * longer)
    light = ndimage.grey_closing(smooth, (window, window))
    # as a share: in the shadow ink is darker by less
    ink = 255 * (light - smooth) / (light + FAINT)
    for axis in (0, 1):
        ink = _without_lines(ink.T if axis else ink)
        ink = ink.T if axis else ink
    noise = np.median(ink)
    ink = np.clip(ink - 2 * noise, 0, None)
    return (
        _cut(ink, max(_otsu(ink), FAINT), dark, ndimage.gaussian_gradient_magnitude(smooth, 1))
        if ink.max() > FAINT
        else None
    )


def _without_lines(ink: np.ndarray) -> np.ndarray:
    """Ink without what runs through the picture from left to right, straight and nearly level."""
    height, width = ink.shape

    def rows(tilt: float, columns: np.ndarray) -> np.ndarray:
        """The row (H, N) in which the line that begins in each row is at each of `columns` (N,)."""
        return (
            np.arange(height)[:, None] + np.round(tilt * (columns - width / 2)).astype(int)
        ).clip(0, height - 1)

    few, every = np.arange(0, width, 8), np.arange(width)
    medians = [np.median(ink[rows(tilt, few), few], axis=1) for tilt in TILTS]
    best = int(np.argmax([median.std() for median in medians]))
    profile = medians[best] - np.median(medians[best])
    profile[profile < FAINT / 2] = 0
    if not profile.any():
        return ink
    profile = ndimage.maximum_filter1d(profile, 3)
    lines = np.zeros_like(ink)
    lines[rows(TILTS[best], every), every] = profile[:, None]
    rest = np.clip(ink - lines, 0, None)
    thick = 1 + int(np.diff(np.flatnonzero(np.diff(np.r_[0, profile > 0, 0])))[::2].max(initial=1))
    # a stroke across a line stays whole
    return np.where(lines > 0, ndimage.grey_closing(rest, (thick, 1)), rest)


def _otsu(values: np.ndarray) -> float:
    """The level between two kinds of values that lie furthest apart (Otsu 1979)."""
    counts, edges = np.histogram(values, 256)
    middles = (edges[:-1] + edges[1:]) / 2
    below, sums = np.cumsum(counts), np.cumsum(counts * middles)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1 + int(np.nanargmax(between[:-1]))])


def _cut(
    ink: np.ndarray, threshold: float, dark: bool, slope: np.ndarray, even: bool = False
) -> Digit | None:
    """The largest connected part of the ink above the `threshold`, with what is near to it and not
    much smaller.
    """
    longer = max(ink.shape)
    mask = ink > threshold
    small = longer <= SMALL
    numbered, count = (
        (mask.astype(int), int(mask.any())) if small else ndimage.label(mask, np.ones((3, 3)))
    )
    if not count:
        return None
    boxes = ndimage.find_objects(numbered)
    sums = ndimage.sum_labels(ink, numbered, range(1, count + 1))
    at_edge = np.array(
        [
            any(s.start == 0 or s.stop == n for s, n in zip(box, ink.shape, strict=True))
            for box in boxes
        ]
    )
    weights = sums * np.where(at_edge, 0.2, 1)
    main = int(weights.argmax())
    size = max(s.stop - s.start for s in boxes[main])
    chosen = [main]
    for k in np.argsort(-weights):
        gap = max(
            max(a.start - b.stop, b.start - a.stop)
            for a, b in zip(boxes[k], boxes[main], strict=True)
        )
        if (
            k != main
            and sums[k] > 0.05 * sums[main]
            and gap < 0.15 * size
            and at_edge[k] <= at_edge[main]
        ):
            chosen.append(k)
    mine = np.isin(numbered, [k + 1 for k in chosen])
    rows, columns = np.nonzero(mine)
    box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    if even:  # all its grays are ink
        kept, peak = ~ndimage.binary_dilation(mask & ~mine), ink[mine].max()
    else:
        kept, peak = (
            ndimage.binary_dilation(mine, iterations=max(1, longer // 150)),
            np.percentile(ink[mine], 90),
        )
    cut = np.where(kept | mine, np.clip(ink / peak, 0, 1), 0)[box]
    weak, strong = np.percentile(slope[mine & ~ndimage.binary_erosion(mine)], (20, 80))
    others = sums[[k for k in range(count) if k not in chosen and not at_edge[k]]].sum()
    sides = (mine[0].mean(), mine[-1].mean(), mine[:, 0].mean(), mine[:, -1].mean())
    whole = ndimage.binary_fill_holes(mine[box])
    sheet = mine.sum() > 0.7 * whole.sum() > 0.7 * 0.88 * _rectangle(whole)
    return Digit(
        ink=cut, dark=dark, share=mine.mean(), box=box, at_edge=bool(at_edge[main]), along=max(sides) > 0.8, sheet=bool(sheet),
        more=bool(others > 0.3 * sums[chosen].sum()), outline=weak / max(peak / 12 if even else strong, 1e-9), even=even,
    )  # fmt: skip


def _rectangle(mask: np.ndarray) -> float:
    """Area of the smallest rectangle about a mask, turned as fits best."""
    angles = np.deg2rad(np.arange(0, 90, 3))
    points = np.argwhere(mask ^ ndimage.binary_erosion(mask))
    sides = (
        np.ptp(points @ turned, axis=0) + 1
        for turned in (
            np.array([np.cos(angles), np.sin(angles)]),
            np.array([-np.sin(angles), np.cos(angles)]),
        )
    )
    return float(np.multiply(*sides).min())
