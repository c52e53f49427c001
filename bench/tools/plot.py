"""Plots as SVG text: lines over numbers of flows, and bars by group. No library; what is drawn can be read and tested."""

import math
from xml.sax.saxutils import escape, quoteattr

WIDTH, HEIGHT_LEAST = 860, 480
LEGEND_ROW = 22
LEFT, RIGHT, TOP, BOTTOM = 80, 230, 50, 70
# Colours that also people tell apart who see fewer (Okabe and Ito), and shapes for print.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ("", "7 3", "2 3", "9 3 2 3")


def round_up(value):
    """The next of 1, 2, 2.5, 5, 10 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))


def scale(most):
    """Ticks from 0 to at least `most`, five or six of them."""
    step = round_up(most / 5)
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)] if most > 0 else [0, 1]


def number(value):
    """Short text: 1000 as 1k, 1048576 as 1.05M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


class Picture:
    """Shapes with the y axis upwards from the lower edge of the plot, which is `most` high."""

    def __init__(self, title, x_name, y_name, most, rows):
        # As high as the legend's rows need.
        self.height = max(HEIGHT_LEAST, TOP + LEGEND_ROW * rows + 20)
        self.ticks = scale(most)
        self.shapes = []
        self.legend_rows = 0
        self.text(WIDTH / 2 - RIGHT / 2 + LEFT / 2, 26, title, anchor="middle", weight="bold")
        self.text((LEFT + WIDTH - RIGHT) / 2, self.height - 18, x_name, anchor="middle")
        middle = (TOP + self.height - BOTTOM) / 2
        self.text(20, middle, y_name, anchor="middle", turn=f"rotate(-90 20 {middle:.1f})")
        for tick in self.ticks:
            y = self.y(tick)
            self.line(LEFT, y, WIDTH - RIGHT, y, "#dddddd")
            self.text(LEFT - 8, y + 4, f"{tick:g}", anchor="end", kind="y-tick")
        self.line(LEFT, self.y(0), WIDTH - RIGHT, self.y(0), "#000000")
        self.line(LEFT, TOP, LEFT, self.y(0), "#000000")

    def y(self, value):
        """Where a value stands."""
        return self.height - BOTTOM - (self.height - BOTTOM - TOP) * value / self.ticks[-1]

    def text(self, x, y, words, anchor="start", weight="normal", turn=None, kind=None, size=13):
        """One line of text."""
        more = (f" transform='{turn}'" if turn else "") + (f" class='{kind}'" if kind else "")
        self.shapes.append(
            f"<text x='{x:.1f}' y='{y:.1f}' font-family='sans-serif' font-size='{size}' text-anchor='{anchor}' font-weight='{weight}'{more}>{escape(words)}</text>"
        )

    def line(self, x1, y1, x2, y2, colour, dash="", width=1):
        """A straight line."""
        more = f" stroke-dasharray='{dash}'" if dash else ""
        self.shapes.append(
            f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}' stroke-width='{width}'{more}/>"
        )

    def legend(self, words, colour, dash="", is_bar=False):
        """One more row at the right."""
        x, y = WIDTH - RIGHT + 20, TOP + 8 + LEGEND_ROW * self.legend_rows
        self.legend_rows += 1
        if is_bar:
            self.shapes.append(f"<rect x='{x}' y='{y - 6}' width='26' height='12' fill='{colour}'/>")
        else:
            self.line(x, y, x + 26, y, colour, dash, 2)
        self.text(x + 32, y + 4, words, kind="legend")

    def finish(self):
        """The file's text."""
        head = (
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{self.height}' "
            f"viewBox='0 0 {WIDTH} {self.height}'>"
        )
        return "\n".join([head, "<rect width='100%' height='100%' fill='white'/>", *self.shapes, "</svg>", ""])


def lines(title, y_name, series, goals=()):
    """Lines over numbers of flows, which stand on a logarithmic axis.

    `series` maps a name to pairs of (flows, value); `goals` are pairs of (name, value), drawn across.
    """
    flows = sorted({count for points in series.values() for count, _ in points})
    values = [value for points in series.values() for _, value in points] + [value for _, value in goals]
    picture = Picture(title, "flows", y_name, max(values), len(series))
    low, high = math.log(flows[0]), math.log(flows[-1])

    def x(count):
        if high == low:
            return (LEFT + WIDTH - RIGHT) / 2
        return LEFT + 20 + (WIDTH - RIGHT - LEFT - 40) * (math.log(count) - low) / (high - low)

    for count in flows:
        picture.line(x(count), picture.y(0), x(count), picture.y(0) + 6, "#000000")
        picture.text(x(count), picture.y(0) + 22, number(count), anchor="middle", kind="x-tick")
    for position, (name, points) in enumerate(series.items()):
        colour = COLOURS[position % len(COLOURS)]
        dash = DASHES[position // len(COLOURS) % len(DASHES)]
        places = [(x(count), picture.y(value)) for count, value in sorted(points)]
        path = " ".join(f"{at:.1f},{height:.1f}" for at, height in places)
        more = f" stroke-dasharray='{dash}'" if dash else ""
        picture.shapes.append(
            f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'{more}><title>{escape(name)}</title></polyline>"
        )
        picture.shapes += [f"<circle cx='{at:.1f}' cy='{height:.1f}' r='3' fill='{colour}'/>" for at, height in places]
        picture.legend(name, colour, dash)
    for name, value in goals:
        picture.shapes.append(f"<g class='goal' data-name={quoteattr(name)}>")
        picture.line(LEFT, picture.y(value), WIDTH - RIGHT, picture.y(value), "#b00000", "4 4", 1.5)
        picture.text(LEFT + 6, picture.y(value) - 5, f"{name}: {value:g}")
        picture.shapes.append("</g>")
    return picture.finish()


def bars(title, x_name, y_name, groups, goals=()):
    """Bars side by side in groups: `groups` maps a group's name to a map of a bar's name to its value."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    values = [value for group in groups.values() for value in group.values()] + [value for _, value in goals]
    picture = Picture(title, x_name, y_name, max(values), len(names) + len(goals))
    room = (WIDTH - RIGHT - LEFT) / len(groups)
    width = min(60, 0.8 * room / len(names))
    for place, (group, heights) in enumerate(groups.items()):
        middle = LEFT + room * (place + 0.5)
        picture.text(middle, picture.y(0) + 22, group, anchor="middle", kind="x-tick")
        for name, value in heights.items():
            at = middle + (names.index(name) - len(names) / 2) * width
            height = picture.y(0) - picture.y(value)
            picture.shapes.append(
                f"<rect class='bar' x='{at:.1f}' y='{picture.y(value):.1f}' width='{width * 0.9:.1f}' height='{height:.1f}' "
                f"fill='{COLOURS[names.index(name) % len(COLOURS)]}'><title>{escape(name)}: {value:g}</title></rect>"
            )
            picture.text(at + width * 0.45, picture.y(value) - 4, f"{value:.3g}", anchor="middle", size=10)
    for position, name in enumerate(names):
        picture.legend(name, COLOURS[position % len(COLOURS)], is_bar=True)
    for name, value in goals:
        picture.line(LEFT, picture.y(value), WIDTH - RIGHT, picture.y(value), "#b00000", "4 4", 1.5)
        picture.legend(name, "#b00000", "4 4")
    return picture.finish()
