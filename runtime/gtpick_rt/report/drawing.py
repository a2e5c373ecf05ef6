"""SVG that keeps its letters readable at any width: across places are shares of the width,
downwards they are pixels.

Colours are those of the classes in report.css, so that they follow the page's own.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

TOP_PX, FOOT_PX = 16, 20
"""Room above for a note, below for the numbers."""
_MOST_TICKS = 5

Point = tuple[float, float | None]
Tick = tuple[float, str]


def element(name: str, *children: object, **attributes: object) -> Markup:
    """Write an element.

    `class_` stands for class, and `_` within a name for `-`. Texts are escaped.
    """
    written = (Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    return Markup("<{0}{1}>{2}</{0}>").format(name, Markup("").join(written), Markup("").join(map(_escaped, children)))


def _escaped(child: object) -> Markup:
    return child if isinstance(child, Markup) else Markup("{}").format(child)


@dataclass(frozen=True)
class Frame:
    """The field of a chart: what its borders stand for."""

    left: float
    right: float
    bottom: float
    top: float
    height_px: int = 130
    scale_px: int = 50
    """Room for the numbers on the left."""

    def x(self, value: float) -> float:
        """Share of the width, in percent."""
        return round(100 * (value - self.left) / ((self.right - self.left) or 1), 3)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        share = (value - self.bottom) / ((self.top - self.bottom) or 1)
        return round(self.height_px - FOOT_PX - share * (self.height_px - FOOT_PX - TOP_PX), 1)


def ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """At most six round numbers between two; only whole ones where halves mean nothing."""
    if not high > low:
        return [low]
    decade = 10.0 ** math.floor(math.log10(high - low))
    step = next(decade * each for each in (0.1, 0.2, 0.5, 1, 2, 5) if (high - low) / (decade * each) <= _MOST_TICKS)
    step = max(step, 1.0) if whole else step
    return [round(n * step, 10) for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def numbered(values: Iterable[float]) -> list[Tick]:
    """Ticks with their numbers beside them."""
    return [(value, f"{value:,.10g}") for value in values]


def chart(frame: Frame, label: str, marks: Iterable[Markup], down: Sequence[Tick], across: Sequence[Tick]) -> Markup:
    """Draw `marks` in a frame with its scales; `label` says in words what is seen."""
    height = frame.height_px
    numbers = (element("text", text, x=frame.scale_px, y=frame.y(value) + 4, text_anchor="end") for value, text in down)
    lines = (element("line", x1=0, x2="100%", y1=frame.y(value), y2=frame.y(value)) for value, _ in down)
    foot = (_foot(frame.x(value), text, height - 4) for value, text in across)
    field = element(
        "svg", element("g", *lines, class_="grid"), *marks, element("g", *foot), width="100%", height=height
    )
    scale = element("svg", *numbers, width=frame.scale_px, height=height)
    return element("div", scale, field, class_="chart", role="img", aria_label=label)


def _foot(x: float, text: str, y_px: float) -> Markup:
    anchor = "start" if x < 3 else "end" if x > 97 else "middle"
    return element("text", text, x=f"{x}%", y=y_px, text_anchor=anchor)


def columns(frame: Frame, edges: Sequence[float], heights: Sequence[float], faint_below: float = -math.inf) -> Markup:
    """Draw the columns of a histogram; those that lie below `faint_below` are faint."""
    bars = []
    for left, right, value in zip(edges, edges[1:], heights, strict=False):
        if value:
            x, y = frame.x(left), frame.y(value)
            size = {"width": f"{max(frame.x(right) - x - 0.15, 0.1):.3f}%", "height": round(frame.y(0) - y, 1)}
            faint = "column faint" if (left + right) / 2 < faint_below else "column"
            bars.append(element("rect", class_=faint, x=f"{x}%", y=y, **size))
    return element("g", *bars)


def line(frame: Frame, points: Iterable[Point], class_: str = "series") -> Markup:
    """Draw a curve with gaps where the value is None."""
    steps, pen = [], "M"
    for x, y in points:
        if y is None:
            pen = "M"
            continue
        steps.append(f"{pen}{frame.x(x)} {frame.y(y)}")
        pen = "L"
    return _stretched(frame, element("path", class_=class_, d="".join(steps)))


def band(frame: Frame, x: Sequence[float], low: Sequence[float], high: Sequence[float]) -> Markup:
    """Fill what lies between two curves."""
    there = [f"{frame.x(at)} {frame.y(value)}" for at, value in zip(x, high, strict=True)]
    back = [f"{frame.x(at)} {frame.y(value)}" for at, value in zip(x, low, strict=True)]
    return _stretched(frame, element("path", class_="band", d=f"M{'L'.join([*there, *reversed(back)])}Z"))


def _stretched(frame: Frame, path: Markup) -> Markup:
    """A drawing that spans the width, whatever that is: a path cannot be given in percent."""
    size = {"width": "100%", "height": frame.height_px, "viewBox": f"0 0 100 {frame.height_px}"}
    return element("svg", path, preserveAspectRatio="none", **size)


def mark(frame: Frame, value: float, text: str) -> Markup:
    """Draw an upright line at a value, with a note on the side where there is room."""
    x = frame.x(value)
    before = x > 55
    upright = element("line", class_="mark-line", x1=f"{x}%", x2=f"{x}%", y1=4, y2=frame.y(frame.bottom))
    anchor = {"text_anchor": "end" if before else "start", "dx": -5 if before else 5}
    return element("g", upright, element("text", text, class_="mark-text", x=f"{x}%", y=12, **anchor))
