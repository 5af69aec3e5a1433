"""Finds a digit in a photograph: dark on paper or light on a board, beside other things.

Ink is what is darker (or lighter) than its surroundings, not than one level. The background of a
pixel is what remains when all that is narrower than the widest stroke is filled in; so it follows
shadows and their edges.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

MOST = 400  # pixels of the longer side that a photograph is scaled down to
SMALL = 32  # pixels of the longer side up to which a picture is a dataset's, not a photograph
STROKE = 0.3  # of the longer side; wider than any stroke of a digit
UNEVEN = 6  # levels that the border of an even background may differ by
FAINT = 16  # levels of contrast that all ink has
TILTS = np.linspace(-0.06, 0.06, 25)  # of printed lines, as rise over run

# What tells a digit from other things; tests/test_digit.py measures how well
SOLID = 0.7  # of its box: a sheet of paper, or the background
SHARP, BLURRED = 0.4, 0.25  # outlines: of most digits, and of none
NEAR, BESIDE, PART = 0.15, 0.05, 0.3  # gap by size, and ink by the largest part's: see `_cut`


@dataclass(frozen=True)
class Digit:
    """A digit found in a picture."""

    ink: np.ndarray
    """(H, W), 0 to 1, cut out without a margin."""
    dark: bool
    """Dark on light, not light on dark."""
    solid: bool
    """Fills its box, as a sheet of paper does."""
    at_edge: bool
    """Reaches the picture's edge."""
    more: bool
    """There is more on the picture that might be a part of it."""
    outline: float
    """Steepness of its most blurred outline by that of its sharpest; ink is alike all round."""
    even: bool
    """The background has one level."""

    def doubts(self) -> list[str]:
        """Returns why this may be something else than the digit, or not all of it."""
        said = {
            "there is more on the picture that might belong to it": self.more,
            "it reaches the picture's edge": self.at_edge and not self.even,
            "its outline is blurred in places": self.outline < SHARP and not self.even,
        }
        return [text for text, holds in said.items() if holds]


def find(values: np.ndarray) -> Digit | None:
    """Finds the digit in a picture (H, W), 0 to 255; None if nothing stands out.

    On an even background (a scan, a drawing, an image of the dataset) ink is what differs from it,
    in a photograph, or where that looks like no digit, what differs from its surroundings.
    """
    found = _on_even(values)
    if max(values.shape) <= SMALL:
        return found
    if found:
        wide = found.ink.shape[1] == values.shape[1]  # connected to a printed line, or the table
        if not (found.solid or found.more or wide or found.outline < BLURRED):
            return found
    candidates = _in_photograph(values)
    likely = [(not d.solid, not d.at_edge, d.outline > BLURRED, d.ink.size) for d in candidates]
    return candidates[likely.index(max(likely))] if likely else found


def _on_even(values: np.ndarray) -> Digit | None:
    """Finds what differs from the picture's border, if most of that has one level."""
    border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    paper = float(np.median(border))
    if max(values.shape) > SMALL and np.mean(np.abs(border - paper) <= UNEVEN) < 0.5:
        return None
    dark = paper > 127
    ink = np.clip(paper - values if dark else values - paper, 0, None)
    slope = ndimage.gaussian_gradient_magnitude(ink, 1)
    return _cut(ink, max(ink.max() / 4, FAINT), dark, slope, even=True)


def _in_photograph(values: np.ndarray) -> list[Digit]:
    """Finds what is darker, and what is lighter, than its surroundings, if it may be a digit."""
    found = []
    for dark in (True, False):
        longer = max(values.shape)
        smooth = ndimage.gaussian_filter(values if dark else 255 - values, longer / 400)
        window = round(STROKE * longer)
        light = ndimage.grey_closing(smooth, (window, window))
        ink = 255 * (light - smooth) / (light + FAINT)  # a share: shadows make all differences less
        ink = _without_lines(_without_lines(ink).T).T
        ink = np.clip(ink - 2 * np.median(ink), 0, None)  # the median is noise
        if ink.max() > FAINT:
            slope = ndimage.gaussian_gradient_magnitude(smooth, 1)
            digit = _cut(ink, max(np.percentile(ink, 99.5) / 2.5, FAINT), dark, slope)
            if digit and (digit.outline > SHARP or not digit.at_edge):
                found.append(digit)
    return found


def _without_lines(ink: np.ndarray) -> np.ndarray:
    """Removes what runs from the left of the picture to the right, straight and nearly level."""
    height, width = ink.shape

    def rows(tilt: float, columns: np.ndarray) -> np.ndarray:
        """Returns the rows (H, N), at some columns (N,), of the lines through each row."""
        rise = np.round(tilt * (columns - width / 2)).astype(int)
        return (np.arange(height)[:, None] + rise).clip(0, height - 1)

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
    # Close the gap that a line leaves in a stroke across it
    ends = np.flatnonzero(np.diff(np.r_[0, profile > 0, 0]))
    thick = 1 + int(np.diff(ends)[::2].max(initial=1))
    return np.where(lines > 0, ndimage.grey_closing(rest, (thick, 1)), rest)


def _cut(
    ink: np.ndarray, threshold: float, dark: bool, slope: np.ndarray, even: bool = False
) -> Digit | None:
    """Cuts out the largest connected part of the ink, with what is near to it and not much smaller.

    Args:
        ink: (H, W), levels of contrast.
        threshold: what is above is ink.
        dark: as in `Digit`.
        slope: steepness of the picture (H, W).
        even: as in `Digit`.
    """
    longer = max(ink.shape)
    mask = ink > threshold
    if longer <= SMALL:  # all ink of a dataset's image is the digit
        numbered, count = mask.astype(int), int(mask.any())
    else:
        numbered, count = ndimage.label(mask, np.ones((3, 3)))
    if not count:
        return None
    boxes = ndimage.find_objects(numbered)
    sums = ndimage.sum_labels(ink, numbered, range(1, count + 1))
    first, last = np.array([[(s.start, s.stop) for s in box] for box in boxes]).transpose(2, 0, 1)
    at_edge = ((first == 0) | (last == ink.shape)).any(1)
    weights = sums * np.where(at_edge, 0.2, 1)
    main = int(weights.argmax())
    gaps = np.maximum(first - last[main], first[main] - last).max(1)
    near = gaps < NEAR * (last[main] - first[main]).max()
    chosen = near & (sums > BESIDE * sums[main]) & (at_edge <= at_edge[main])
    mine = np.r_[False, chosen][numbered]
    rows, columns = np.nonzero(mine)
    box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    if even:  # the blurred rim is ink, too
        kept, peak = ~ndimage.binary_dilation(mask & ~mine), ink[mine].max()
    else:
        kept = ndimage.binary_dilation(mine, iterations=max(1, longer // 150))
        peak = np.percentile(ink[mine], 90)
    weak, strong = np.percentile(slope[mine & ~ndimage.binary_erosion(mine)], (20, 80))
    others = sums[~chosen & ~at_edge].sum()
    return Digit(
        ink=np.where(kept | mine, np.clip(ink / peak, 0, 1), 0)[box],
        dark=dark,
        solid=bool(mine[box].mean() > SOLID),
        at_edge=bool(at_edge[main]),
        more=bool(others > PART * sums[chosen].sum()),
        outline=weak / max(peak / 12 if even else strong, 1e-9),
        even=even,
    )
