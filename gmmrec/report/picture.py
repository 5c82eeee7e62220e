"""Picture of an explanation: weights on the item's picture and as bars."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gmmrec.errors import UsageError
from gmmrec.explain.attention import USER, Explanation, Part
from gmmrec.report.overlay import COLOURS, SHADE, lay, scale
from gmmrec.safety.names import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

WIDTH = 12.0
"""Width of the figure in inches, at 100 dots per inch."""
LEFT = 4.6
"""Width of the column of pictures in inches."""
BAR = 0.27
"""Height of a bar, and of a line of words, in inches."""
MOST = 12
"""Maximum number of bars per panel; the strongest are shown."""
COLUMNS = 76
"""Characters per line of words."""
INK = "#30507a"


def draw(explanation: Explanation, path: str | Path, picture: "Image | None" = None) -> Path:
    """Draw an explanation to a file (``.png``, ``.pdf``, ``.svg``).

    Weights of regions and crops are colours on the picture, on a scale centred at the uniform weight, so that uniform attention
    looks uniform; attributes with known regions are heat maps and boxes. All other weights, and those of attributes too, are bars,
    with the uniform weight as a line.

    Args:
        explanation: Weights to draw.
        path: Path of the file.
        picture: Picture of the item; without one, grids, crops and maps are drawn on a blank square.

    Raises:
        UsageError: matplotlib is not installed, or cannot write this file type.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("drawing needs matplotlib, which is not installed; run: pip install 'gmmrec[pictures]'") from None
    path = Path(path)
    shown = [replace(part, name=_plain(part.name), labels=[_plain(label) for label in part.labels]) for part in explanation.parts]
    parts = [part for part in shown if part.kind == "whole" or part.total > 0]  # zeros are not drawn
    on_picture = [part for part in parts if part.kind in ("grid", "crops") or part.maps is not None]
    with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False, "font.size": 10}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # titles in scripts that the font lacks
        panels = _panels(explanation, parts)
        pictures: list[Part | None] = [*on_picture] or ([None] if picture is not None else [])
        width, height = (1, 1) if picture is None else picture.size
        tall = min(LEFT * 0.8 * height / width, 6.0) + 0.75
        left, right = len(pictures) * tall, sum(_height(panel) for panel in panels)
        figure = Figure(figsize=(WIDTH, max(left, right, 1.2) + 0.9), dpi=100)
        top = figure.get_figheight() - 0.75
        figure.text(0.25 / WIDTH, 1 - 0.3 / figure.get_figheight(), _heading(explanation), fontsize=13, va="center", weight="bold")
        for position, part in enumerate(pictures):
            _picture(figure, part, picture, top - position * tall, tall)
        start = LEFT + 0.2 if pictures else 0.2
        for panel in panels:
            _panel(figure, panel, start, top)
            top -= _height(panel)
        try:
            figure.savefig(path)
        except ValueError as error:
            raise UsageError(f"{path} cannot be drawn ({error}); give a name that ends in .png, .pdf or .svg") from None
    return path


def _heading(explanation: Explanation) -> str:
    title = "" if explanation.title == str(explanation.item) else f" ({_short(_plain(explanation.title), 60)})"
    user, item = (_short(_plain(str(raw)), 40) for raw in (explanation.user, explanation.item))
    return f"user {user}   item {item}{title}   score {explanation.score:.4g}"


@dataclass(frozen=True)
class _Panel:
    """Bars, or the words of a text."""

    title: str
    labels: list[str]
    weights: list[float]
    even: float | None = None
    words: Part | None = None


def _panels(explanation: Explanation, parts: list[Part]) -> list[_Panel]:
    """Return the panels next to the picture, from top to bottom."""
    panels = []
    for side, heading in (("", "item"), (USER, "user")):
        of_side = [part for part in parts if part.name.startswith(USER) == bool(side)]
        if len(of_side) > 1 or any(part.kind == "whole" for part in of_side):
            names = [part.name[len(side) :] for part in of_side]
            totals = [part.total for part in of_side]
            title = (
                f"modalities of the {heading}" if explanation.meaning == "weight" else "contribution of each modality to the score"
            )
            panels.append(_Panel(title, names, totals))
        for part in of_side:
            if part.kind == "pieces":
                panels.append(_Panel(f"{part.name}: red above the uniform weight, blue below", [], [], part.even, part))
            if part.kind in ("names", "items", "numbered", "pieces"):
                panels.append(_strongest(part))
    return panels


def _strongest(part: Part) -> _Panel:
    """Return the bars of one part: all in their order if they fit, else the strongest."""
    order = list(range(len(part.weights)))
    title = {"items": "items of the history"}.get(part.kind, part.name)
    if part.kind in ("items", "pieces") or len(order) > MOST:
        order = sorted(order, key=lambda position: -part.weights[position])[:MOST]
        title += f", the strongest {len(order)} of {len(part.weights)}"
    return _Panel(title, [part.labels[position] for position in order], [part.weights[position] for position in order], part.even)


def _height(panel: _Panel) -> float:
    lines = len(_lines(panel.words)) * 1.15 if panel.words else len(panel.labels) + 0.4
    return 0.75 + BAR * lines


def _panel(figure: "Figure", panel: _Panel, start: float, top: float) -> None:
    """Draw one panel with its upper edge ``top`` inches above the lower edge of the figure."""
    height = figure.get_figheight()
    inside = _height(panel) - 0.75
    margin = 0.0 if panel.words else 2.7
    box = ((start + margin) / WIDTH, (top - 0.3 - inside) / height, (WIDTH - start - margin - 0.9) / WIDTH, inside / height)
    axes = figure.add_axes(box)
    figure.text(start / WIDTH, (top - 0.15) / height, panel.title, va="center", weight="bold")
    if panel.words:
        _words(axes, panel.words)
    else:
        _bars(axes, panel)


def _bars(axes: "Axes", panel: _Panel) -> None:
    positions = np.arange(len(panel.labels))
    axes.barh(positions, panel.weights, color=INK, height=0.7)
    axes.set_ylim(len(positions) - 0.3, -0.7)
    axes.set_yticks(positions, [_short(label, 32) for label in panel.labels])
    low, high = min(0.0, *panel.weights), max(0.0, *panel.weights, 2 * (panel.even or 0.0))
    axes.set_xlim(low * 1.25, high * 1.15 or 1.0)
    for position, weight in zip(positions, panel.weights, strict=True):
        axes.annotate(
            f"{weight:.3g}", (weight, position), xytext=(4 if weight >= 0 else -4, 0), textcoords="offset points",
            va="center", ha="left" if weight >= 0 else "right", fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip
    if panel.even:
        axes.axvline(panel.even, color="black", linestyle=":", linewidth=1.2)
        axes.annotate("even", (panel.even, -0.7), xytext=(0, 1), textcoords="offset points", ha="center", va="bottom", fontsize=8)
    if low < 0:
        axes.axvline(0, color="black", linewidth=0.8)
    axes.spines[["top", "right", "bottom", *(["left"] if low < 0 else [])]].set_visible(False)
    axes.tick_params(bottom=False, labelbottom=False, left=False)


def _lines(part: Part) -> list[list[tuple[int, str, float]]]:
    """Return lines of words, each with its column and weight."""
    lines: list[list[tuple[int, str, float]]] = [[]]
    column = 0
    for label, weight in zip(part.labels, part.weights, strict=True):
        continues = label.startswith("##")
        word = _short(label[2:] if continues else label, COLUMNS)
        gap = 0 if continues or not column else 1
        if column + gap + len(word) > COLUMNS:
            lines.append([])
            column = gap = 0
        lines[-1].append((column + gap, word, weight))
        column += gap + len(word)
    return lines


def _words(axes: "Axes", part: Part) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    norm = scale(part)
    lines = _lines(part)
    axes.set_xlim(0, COLUMNS)
    axes.set_ylim(len(lines), 0)
    axes.axis("off")
    for row, line in enumerate(lines):
        for column, word, weight in line:
            shade = colormaps[COLOURS](norm(weight), alpha=SHADE)
            axes.add_patch(Rectangle((column, row + 0.06), len(word), 0.88, facecolor=shade, edgecolor="none"))
            axes.text(column + len(word) / 2, row + 0.52, word, family="monospace", fontsize=9, ha="center", va="center")


def _picture(figure: "Figure", part: Part | None, picture: "Image | None", top: float, tall: float) -> None:
    """Draw the picture with one part on it, at its own aspect ratio."""
    height = figure.get_figheight()
    axes = figure.add_axes((0.25 / WIDTH, (top - tall + 0.35) / height, (LEFT - 1.1) / WIDTH, (tall - 0.7) / height), anchor="NW")
    wide, high = (1, 1) if picture is None else picture.size
    blank = np.full((1, 1, 3), 255, np.uint8)
    axes.imshow(blank if picture is None else np.asarray(picture), extent=(0, wide, high, 0), interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    if part is None:
        return
    figure.text(0.25 / WIDTH, (top - 0.15) / height, part.name, va="center", weight="bold")
    shown, marks = lay(axes, part, wide, high)
    axes.set_xlim(0, wide)
    axes.set_ylim(high, 0)
    axes.apply_aspect()
    box = axes.get_position()
    bar_axes = figure.add_axes((box.x1 + 0.12 / WIDTH, box.y0, 0.14 / WIDTH, box.height))
    bar = figure.colorbar(shown, cax=bar_axes, spacing="proportional")
    bar.set_ticks(list(marks), labels=list(marks.values()))
    bar.ax.tick_params(labelsize=8, length=2)


def _plain(text: str) -> str:
    """Return text on one line, without characters that a picture cannot show or that an SVG file must not hold."""
    return " ".join(visible(text).split()) or " "


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
