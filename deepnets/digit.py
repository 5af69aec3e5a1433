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
SOLID = 0.7  # share of its box that a sheet of paper fills, or the background, but no digit
SHARP = 0.4  # least steepness of a digit's outline, which is alike all round; a shadow's is not
NEAR = 0.15  # gap, as a share of the largest part's size, within which a part belongs to it
BESIDE = 0.05  # least ink of such a part, as a share of the largest one's
REST = 0.3  # ink that is left out, as a share of the digit's, above which it is doubtful


@dataclass(frozen=True)
class Digit:
    """What may be a digit in a picture."""

    ink: np.ndarray  # (H, W), 0 to 1, cut out without a margin
    dark: bool  # on light, not light on dark
    doubts: tuple[str, ...] = ()  # why this may be something else, or not all of the digit
    likely: tuple[bool | int, ...] = ()  # of two, the one where this is larger is taken


def find(values: np.ndarray) -> Digit | None:
    """Finds the digit in a picture (H, W), 0 to 255; None if nothing stands out.

    In a dataset's image it is what differs from the border. In a photograph that counts, too, if
    most of the border has one level; the likeliest digit is taken.
    """
    border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    paper = np.median(border)
    dark = bool(paper > 127)
    ink = np.clip(paper - values if dark else values - paper, 0, None)
    mask = ink > max(ink.max() / 4, FAINT)
    if max(values.shape) <= SMALL:
        boxes = ndimage.find_objects(mask.astype(int))
        return Digit(ink[boxes[0]] / ink.max(), dark) if boxes else None
    found = [_in_photograph(values, dark) for dark in (True, False)]
    if np.mean(np.abs(border - paper) <= UNEVEN) >= 0.5:
        found.append(_cut(ink, mask, values, dark, even=True))
    return max(filter(None, found), key=lambda digit: digit.likely, default=None)


def _in_photograph(values: np.ndarray, dark: bool) -> Digit | None:
    """Finds what is darker than its surroundings, or what is lighter."""
    longer = max(values.shape)
    smooth = ndimage.gaussian_filter(values if dark else 255 - values, longer / 400)
    window = round(STROKE * longer)
    light = ndimage.grey_closing(smooth, (window, window))
    ink = 255 * (light - smooth) / (light + FAINT)  # a share: shadows make all differences less
    ink = _without_lines(_without_lines(ink).T).T
    ink = np.clip(ink - 2 * np.median(ink), 0, None)  # the median is noise
    mask = ink > max(np.percentile(ink, 99.5) / 2.5, FAINT)
    return _cut(ink, mask, smooth, dark, even=False)


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
    profile = ndimage.maximum_filter1d(profile, 3)
    lines = np.zeros_like(ink)
    lines[rows(TILTS[best], every), every] = profile[:, None]
    rest = np.clip(ink - lines, 0, None)
    # Close the gap that a line leaves in a stroke across it
    ends = np.flatnonzero(np.diff(np.r_[0, profile > 0, 0]))
    thick = 1 + int(np.diff(ends)[::2].max(initial=1))
    return np.where(lines > 0, ndimage.grey_closing(rest, (thick, 1)), rest)


def _cut(
    ink: np.ndarray, mask: np.ndarray, picture: np.ndarray, dark: bool, even: bool
) -> Digit | None:
    """Cuts out the largest connected part of the ink, with what is near to it and not much smaller.

    Args:
        ink: (H, W), levels of contrast.
        mask: where it counts (H, W), bool.
        picture: (H, W), in which outlines are steep.
        dark: as in `Digit`.
        even: the background has one level.
    """
    numbered, count = ndimage.label(mask, np.ones((3, 3)))
    if not count:
        return None
    sums = ndimage.sum_labels(ink, numbered, range(1, count + 1))
    ends = [[(side.start, side.stop) for side in box] for box in ndimage.find_objects(numbered)]
    first, last = np.array(ends).transpose(2, 0, 1)
    at_edge = ((first == 0) | (last == ink.shape)).any(1)
    main = int((sums * np.where(at_edge, 0.2, 1)).argmax())
    gaps = np.maximum(first - last[main], first[main] - last).max(1)
    near = gaps < NEAR * (last[main] - first[main]).max()
    chosen = near & (sums > BESIDE * sums[main]) & (at_edge <= at_edge[main])
    mine = np.r_[False, chosen][numbered]
    [box] = ndimage.find_objects(mine.astype(int))
    kept = ndimage.binary_dilation(mine, iterations=max(1, max(ink.shape) // 60))[box]
    cut = np.where(kept, np.clip(ink[box] / np.percentile(ink[mine], 90), 0, 1), 0)

    slope = ndimage.gaussian_gradient_magnitude(picture, 1)
    weak, strong = np.percentile(slope[mine & ~ndimage.binary_erosion(mine)], (20, 80))
    blurred, cut_off = bool(weak < SHARP * strong), bool(at_edge[main] and not even)
    if blurred and cut_off:  # as shadows and tables are
        return None
    more = bool(sums[~chosen & ~at_edge].sum() > REST * sums[chosen].sum())
    solid = bool(mine[box].mean() > SOLID)
    # Alone on even paper, and not connected to a printed line or to the table
    alone = even and not more and cut.shape[1] < ink.shape[1]
    doubts = {
        "there is more on the picture that might belong to it": more,
        "it reaches the picture's edge": cut_off,
        "its outline is blurred in places": blurred,
    }
    said = tuple(text for text, holds in doubts.items() if holds)
    return Digit(cut, dark, said, (not solid, not cut_off, not blurred, alone, not even, cut.size))
