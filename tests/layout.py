"""Whether the letters of a picture can be read."""

from itertools import combinations

from matplotlib.text import Text
from matplotlib.transforms import Bbox


def check(figure, least=8.0):
    """Fails where letters are under `least` points, cover each other or leave the picture."""
    figure.draw_without_rendering()
    hidden = set()
    for ax in figure.axes:
        for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            ticks = axis.get_major_ticks() + axis.get_minor_ticks()
            outside = [t for t in ticks if not min(low, high) <= t.get_loc() <= max(low, high)]
            hidden |= {label for tick in outside for label in (tick.label1, tick.label2)}
            hidden |= set() if ax.axison else {t.label1 for t in ticks} | {axis.label}
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text not in hidden]
    found = [(text, Text.get_window_extent(text)) for text in texts if text.get_text().strip()]
    assert found
    page = Bbox(figure.bbox.padded(1).get_points())
    for text, box in found:
        assert text.get_fontsize() >= least, text.get_text()
        assert page.contains(*box.p0), text.get_text()
        assert page.contains(*box.p1), text.get_text()
    for (first, one), (second, other) in combinations(found, 2):
        apart = not one.padded(-1).overlaps(other.padded(-1))
        assert apart, f"{first.get_text()!r} covers {second.get_text()!r}"
