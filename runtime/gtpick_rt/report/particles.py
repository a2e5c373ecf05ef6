"""Particles by score, as the report shows them."""

from base64 import b64encode
from collections.abc import Sequence

from markupsafe import Markup

from gtpick_rt.following.particles import CELL_PX, COLUMNS, ROWS, SIDE, Group
from gtpick_rt.records import counted
from gtpick_rt.report.drawing import Frame, chart, element, line


def picture(group: Group) -> Markup:
    """The mean and the particles of a group."""
    data = f"data:image/jpeg;base64,{b64encode(group.sheet).decode()}"
    size = {"width": CELL_PX * (COLUMNS + ROWS), "height": CELL_PX * ROWS}
    label = f"{group.title}: the mean of {counted(group.count, 'particle')}, and some of them"
    image = element("image", href=data, **size)
    return element("svg", image, viewBox="0 0 {width} {height}".format(**size), role="img", aria_label=label)


def profile(group: Group, beside: Sequence[Group]) -> Markup:
    """The radial profile of its mean, on the scale of all groups."""
    values = [value for each in beside for value in each.profile] + [0.0]
    frame = Frame(0, SIDE / 2, min(values), max(values), height_px=110, scale_px=18)
    steps = len(group.profile) - 1
    points = [(n * SIDE / 2 / steps, value) for n, value in enumerate(group.profile)]
    across = [(share * SIDE / 2, f"{share * SIDE / 2:.1f}") for share in (0, 0.5, 1)]
    label = f"{group.title}: radial profile of the mean, by distance in particle diameters"
    return chart(frame, label, [line(frame, points)], [(0.0, "0")], across)
