"""Heat maps side by side, for the figures of docs/concepts/fusion.md."""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor


class Panel:
    """One heat map.

    Args:
        title: Title.
        values: Values ``[R, C]``; NaN for empty cells.
        rows: Row names.
        columns: Column names.
        most: Upper end of the colour scale; the largest value by default.
        digits: Decimals in every cell; None to print no values.
        divide: Column to draw a line before.
    """

    def __init__(
        self,
        title: str,
        values: Tensor,
        rows: Sequence[str],
        columns: Sequence[str],
        *,
        most: float | None = None,
        digits: int | None = 2,
        divide: int | None = None,
    ) -> None:
        self.title, self.values, self.rows, self.columns = title, values.detach(), list(rows), list(columns)
        self.most, self.digits, self.divide = most, digits, divide

    @property
    def cell(self) -> tuple[float, float]:
        """Width and height of a cell in inches."""
        return (0.24, 0.24) if self.digits is None else (0.26 + 0.12 * self.digits, 0.32)

    @property
    def names(self) -> float:
        """Width of the row names in inches."""
        return 0.085 * max(map(len, self.rows))

    @property
    def width(self) -> float:
        """Width in inches, row names included."""
        return max(self.cell[0] * self.values.shape[1], 0.072 * max(map(len, self.title.split("\n")))) + self.names + 0.35

    @property
    def height(self) -> float:
        """Height in inches, without the title."""
        return self.cell[1] * self.values.shape[0] + 0.15 + 0.05 * max(map(len, self.columns))

    def draw(self, axes: Axes) -> None:
        """Draw into axes of the size of the cells."""
        most = self.most or float(self.values.nan_to_num().abs().max()) or 1.0
        axes.set_facecolor("#e4e4e4")
        axes.imshow(self.values.numpy(), cmap="Blues", vmin=0.0, vmax=most, aspect="auto", interpolation="nearest")
        axes.set_title(self.title, fontsize=9, loc="left")
        axes.set_xticks(range(len(self.columns)), self.columns, rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
        axes.set_yticks(range(len(self.rows)), self.rows, fontsize=8)
        axes.tick_params(length=0)
        if self.digits is not None:
            for (row, column), value in zip(
                torch.cartesian_prod(*map(torch.arange, self.values.shape)).tolist(), self.values.flatten().tolist(), strict=True
            ):
                dark = value == value and abs(value) > 0.6 * most
                text = "–" if value != value else f"{value:.{self.digits}f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
        if self.divide is not None:
            axes.axvline(self.divide - 0.5, color="black", linewidth=1)


def save(folder: Path, name: str, panels: Sequence[Panel]) -> None:
    """Write one figure: panels side by side, at the size of their cells."""
    width = sum(panel.width for panel in panels) + 0.1
    height = max(panel.height for panel in panels) + 0.25 + 0.17 * max(panel.title.count("\n") + 1 for panel in panels)
    figure = Figure(figsize=(width, height), dpi=100)
    left = 0.1
    for panel in panels:
        wide, high = (size * count for size, count in zip(panel.cell, reversed(panel.values.shape), strict=True))
        top = 0.12 + 0.17 * (panel.title.count("\n") + 1)
        panel.draw(figure.add_axes(((left + panel.names) / width, 1 - (top + high) / height, wide / width, high / height)))
        left += panel.width
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png")
