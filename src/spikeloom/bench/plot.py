"""The plot of growth: time per step against T and B, on logarithmic axes, as SVG."""

import math
from collections.abc import Sequence
from html import escape
from itertools import groupby

from spikeloom.bench.growth import Curve
from spikeloom.records import units

WIDTH, HEIGHT = 400, 280
"""Of one panel."""

LEFT, RIGHT, TOP, BOTTOM = 56, 70, 40, 44
COLOURS = ("#1f6fb4", "#d1611c", "#6b7280", "#2f8f4e", "#8b5cb5", "#b3123f")
INK, PALE, FAINT = "#1f2937", "#8a929d", "#e2e5ea"


def draw_growth(curves: Sequence[Curve]) -> str:
    """Return an SVG with one panel per workload and axis; straight lines at 45 degrees are linear.

    Args:
        curves: those of one panel stand side by side.
    """
    panels = [list(group) for _, group in groupby(curves, key=lambda one: (one.workload, one.axis))]
    names = list(dict.fromkeys(one.contender for one in curves))
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    across = min(2, len(panels))
    down = math.ceil(len(panels) / across)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across * WIDTH} {down * HEIGHT}" '
        f'width="{across * WIDTH}" height="{down * HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for place, panel in enumerate(panels):
        x, y = place % across * WIDTH, place // across * HEIGHT
        parts.append(f'<g transform="translate({x} {y})">{_panel(panel, colours)}</g>')
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Scale:
    """A logarithmic axis."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low, self.high = math.log2(min(values)), math.log2(max(values))
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        width = (self.high - self.low) or 1.0
        return self.start + (math.log2(value) - self.low) / width * (self.end - self.start)


def _panel(curves: Sequence[Curve], colours: dict[str, str]) -> str:
    first = curves[0]
    values = [units.milliseconds(value) for one in curves for value in one.seconds]
    decades = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    ticks = [10.0**power for power in decades]
    across = _Scale(first.sizes, LEFT, WIDTH - RIGHT)
    up = _Scale(ticks if len(ticks) > 1 else [*ticks, 10 * ticks[0]], HEIGHT - BOTTOM, TOP)
    other = "B" if first.axis == "T" else "T"
    title = f"{first.workload}, {other} = {first.fixed}"
    parts = [_text(LEFT, 22, title, weight="600")]
    for tick in ticks:
        height = up(tick)
        parts.append(_line(LEFT, height, WIDTH - RIGHT, height, FAINT))
        parts.append(_text(LEFT - 6, height + 4, f"{tick:g}", anchor="end"))
    below = HEIGHT - BOTTOM + 16
    parts += [_text(across(size), below, str(size), anchor="middle") for size in first.sizes]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, first.axis, anchor="middle"))
    parts.append(_text(8, 22, "ms"))
    parts.append(_reference(first.sizes, across, up, ticks))
    words = "dotted: linear"
    parts.append(_text(WIDTH - RIGHT, HEIGHT - BOTTOM - 6, words, anchor="end", fill=PALE))
    ends: list[float] = []
    for one in sorted(curves, key=lambda one: one.seconds[-1]):
        points = [
            (across(size), up(units.milliseconds(value)))
            for size, value in zip(one.sizes, one.seconds, strict=True)
        ]
        colour = colours[one.contender]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points]
        height = min([points[-1][1] + 4, *(end - 14 for end in ends)])  # labels do not overlap
        ends.append(height)
        parts.append(_text(WIDTH - RIGHT + 8, height, one.contender, fill=colour))
    return "".join(parts)


def _reference(sizes: Sequence[int], across: _Scale, up: _Scale, ticks: Sequence[float]) -> str:
    """Return a dotted line of linear growth through the lower left corner, cut at the top."""
    low, high = ticks[0], max(ticks[-1], 10 * ticks[0])
    end = min(sizes[-1], sizes[0] * high / low)
    return _line(
        across(sizes[0]), up(low), across(end), up(low * end / sizes[0]), PALE, dashed=True
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="2 4"' if dashed else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dash}/>'
    )


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", fill: str = INK, weight: str = "400"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )
