"""Small line charts as SVG: one panel for each axis that was varied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 300, 220
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 34, 36
COLOURS = ("#1b6ca8", "#c2571a", "#777777")


@dataclass(frozen=True)
class Panel:
    """Lines over two plain axes that begin at 0, so that a cost in proportion is a straight line.

    A line with fewer values than there are places on `x` ends earlier.
    """

    title: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]


def svg(panels: Sequence[Panel], unit: str) -> str:
    """The panels side by side, all with the first one's legend."""
    width = WIDTH * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" '
        f'viewBox="0 0 {width} {HEIGHT}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',  # readers of documents have dark backgrounds too
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({number * WIDTH} 0)">', *_panel(panel, unit), "</g>"]
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel, unit: str) -> list[str]:
    top = max(max(values) for values in panel.lines.values())

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            round(LEFT + x / panel.x[-1] * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM), 1),
        )

    parts = [f'<text x="{LEFT}" y="14" font-weight="bold">{escape(panel.title)}</text>']
    for share in (0, 0.5, 1):
        x, y = at(0, share * top)
        parts.append(f'<line x1="{x}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 4}" y="{y + 4}" text-anchor="end">{share * top:.3g} {unit}</text>')
    for value in panel.x:
        x, y = at(value, 0)
        parts.append(f'<text x="{x}" y="{y + 15}" text-anchor="middle">{value:g}</text>')
    for number, (name, values) in enumerate(panel.lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = [at(x, y) for x, y in zip(panel.x, values, strict=False)]
        line = " ".join(f"{x},{y}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>' for x, y in points]
        parts.append(f'<text x="{LEFT + 76 * number}" y="28" fill="{colour}">{escape(name)}</text>')
    return parts
