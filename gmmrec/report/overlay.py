"""Overlays on a picture: colours of regions, frames of crops, heat maps of attributes."""

from typing import TYPE_CHECKING

import numpy as np

from gmmrec.data.encode.images import CROP
from gmmrec.explain.attention import Part

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import TwoSlopeNorm

SHADE = 0.5
"""Opacity of the colour over a region."""
COLOURS = "coolwarm"
"""Colour map: blue below the uniform weight, red above it."""
HEAT = "#d0006f"
"""Colour of the heat maps of attributes, rare among garments."""
BOXES = ("#1f5fa8", "#b85c00", "#2a7d2e", "#6b3fa0")
"""Colours of the boxes, by descending weight."""
LINE = 0.22
"""Line height of the labels of boxes in inches."""


def largest(part: Part) -> float:
    """Return the upper end of the scale: twice the uniform weight, or the largest weight."""
    return max(2 * part.even, *part.weights)


def scale(part: Part) -> "TwoSlopeNorm":
    """Return the colour scale of weights from 0 to :func:`largest`, centred at the uniform weight."""
    from matplotlib.colors import TwoSlopeNorm

    return TwoSlopeNorm(vmin=0.0, vcenter=part.even, vmax=largest(part))


def lay(axes: "Axes", part: Part, wide: float, high: float) -> tuple["ScalarMappable", dict[float, str]]:
    """Draw a part over a picture of ``wide`` x ``high`` on the axes; return its colours and the ticks of their scale."""
    if part.maps is not None:
        return _heat(axes, part, wide, high), {share * part.total: f"{share * part.total:.3g}" for share in (0.0, 0.5, 1.0)}
    most = largest(part)
    marks = {0.0: "0", part.even: f"even\n{part.even:.3g}", most: f"{most / part.even:.3g} x\n{most:.3g}"}
    return (_grid if part.kind == "grid" else _crops)(axes, part, wide, high), marks


def _grid(axes: "Axes", part: Part, wide: float, high: float) -> "ScalarMappable":
    grid = np.full(part.size**2, np.nan)
    grid[part.positions] = part.weights
    return axes.imshow(
        grid.reshape(part.size, part.size), extent=(0, wide, high, 0), cmap=COLOURS, norm=scale(part), alpha=SHADE,
        interpolation="nearest",
    )  # fmt: skip


def _crops(axes: "Axes", part: Part, wide: float, high: float) -> "ScalarMappable":
    """Draw the frames of the crops, each with its weight in its corner."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.patches import Rectangle

    norm = scale(part)
    rest = 1 - CROP
    corners = [(0, 0), (rest, 0), (0, rest), (rest, rest), (rest / 2, rest / 2)]
    spots = [(0.03, 0.03), (0.97, 0.03), (0.03, 0.97), (0.97, 0.97), (0.5, 0.5)]
    for position, weight in zip(part.positions, part.weights, strict=True):
        (x, y), (across, down) = corners[position], spots[position]
        inset = 0.006 * (1 + position)  # frames share edges of the picture, so each is drawn slightly inside the last
        colour = colormaps[COLOURS](norm(weight))
        frame = ((x + inset) * wide, (y + inset) * high)
        axes.add_patch(
            Rectangle(frame, (CROP - 2 * inset) * wide, (CROP - 2 * inset) * high, fill=False, edgecolor=colour, linewidth=2.5)
        )
        align = {0.03: ("left", "top"), 0.97: ("right", "bottom"), 0.5: ("center", "center")}
        axes.text(
            across * wide, down * high, f"{weight:.3g}", ha=align[across][0], va=align[down][1], fontsize=9,
            bbox={"facecolor": colour, "edgecolor": "black", "linewidth": 0.6, "boxstyle": "round,pad=0.25"},
        )  # fmt: skip
    return ScalarMappable(norm, COLOURS)


def _heat(axes: "Axes", part: Part, wide: float, high: float) -> "ScalarMappable":
    """Draw the heat map of attributes, scaled by weight, and the boxes of the strongest with at least the uniform weight."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba
    from matplotlib.patches import Rectangle

    assert part.maps is not None
    heat = np.tensordot(np.array(part.weights), part.maps.strength, 1)  # sum_a alpha_a M^a, [H, W]
    colours = LinearSegmentedColormap.from_list("heat", [to_rgba(HEAT, 0.0), to_rgba(HEAT, 0.7)])
    shown = axes.imshow(heat, extent=(0, wide, high, 0), cmap=colours, vmin=0.0, vmax=part.total, interpolation="nearest")
    strongest = sorted(range(len(part.weights)), key=lambda position: -part.weights[position])
    strongest = [position for position in strongest if part.weights[position] > 0.99 * part.even][: len(BOXES)]
    cell = np.array([high, wide, high, wide]) / np.tile(heat.shape, 2)
    boxes = part.maps.boxes[strongest] * cell
    axes.apply_aspect()
    line = LINE * high * axes.figure.dpi / axes.bbox.height
    for number, (position, box, label_top) in enumerate(zip(strongest, boxes, _spread(boxes[:, 0], line, high), strict=True)):
        inset = 0.006 * (1 + number) * min(wide, high)  # of equal boxes, each is drawn slightly inside the last
        top, left, bottom, right = box + inset * np.array([1, 1, -1, -1])
        colour = BOXES[number]
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=2.0))
        is_left = left + right <= wide
        axes.text(
            left if is_left else right, label_top, f"{part.labels[position]}: {part.weights[position]:.3g}", color="white",
            fontsize=9, ha="left" if is_left else "right", va="top", bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip
    return shown


def _spread(tops: "np.ndarray[tuple[int], np.dtype[np.float64]]", line: float, high: float) -> list[float]:
    """Move labels down, and up again from the lower edge, until none overlap."""
    order = np.argsort(tops, kind="stable")
    steps = line * np.arange(len(tops))
    lowest = high - line * len(tops) + steps
    positioned = np.empty(len(tops))
    positioned[order] = np.minimum(np.maximum.accumulate(tops[order] - steps) + steps, lowest)
    return [float(top) for top in positioned]
