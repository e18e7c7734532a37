"""Where the boxes of a graph are, and how its arrows go: a grid of rows, from the top down.

Pure functions. A layer has its subtasks side by side; one that is wider than the page goes on in the next
row. An arrow to the next row is a curve between the rows. One to a later row goes down between two columns,
so that no arrow passes behind a box.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from orchestrator_cli.views.diagram import GraphNode
from orchestrator_cli.views.graph import layers

LANES = 5
"""Arrows between two columns that stay distinct."""


@dataclass(frozen=True)
class Grid:
    """Sizes in pixels."""

    columns: int
    width: int = 184
    height: int = 76
    gap_x: int = 32
    gap_y: int = 40
    margin: int = 18

    def x(self, column: int) -> float:
        """The left side of a column."""
        return self.margin + column * (self.width + self.gap_x)

    def y(self, row: int) -> float:
        """The top of a row."""
        return 2 + row * (self.height + self.gap_y)


class Box(NamedTuple):
    node: GraphNode
    x: float
    y: float


class Arrow(NamedTuple):
    path: str
    """The `d` of an SVG path."""
    look: str
    """Of the node that it comes from."""


class Drawing(NamedTuple):
    width: float
    height: float
    grid: Grid
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


Cell = tuple[int, int]
"""Row and column."""


def drawing_of(nodes: Sequence[GraphNode], grid: Grid) -> Drawing:
    """The graph in as many columns as it needs, at most those of the grid."""
    cells = _cells(nodes, grid.columns)
    rows = 1 + max((row for row, _ in cells.values()), default=-1)
    columns = 1 + max((column for _, column in cells.values()), default=-1)
    boxes = tuple(Box(n, grid.x(cells[n.id][1]), grid.y(cells[n.id][0])) for n in nodes)
    arrows = tuple(
        Arrow(_path(grid, cells[before], cells[node.id], place), node.look)
        for place, node in enumerate(nodes)
        for before in node.depends_on
        if before in cells and cells[before][0] < cells[node.id][0]
    )
    width = grid.x(columns) - grid.gap_x + grid.margin
    return Drawing(width, max(0.0, grid.y(rows) - grid.gap_y + 4), grid, boxes, arrows)


def _cells(nodes: Sequence[GraphNode], columns: int) -> dict[str, Cell]:
    """Each subtask close to below what it depends on, in layers of at most so many columns."""
    found = layers(nodes)
    used = min(columns, max((len(layer) for _, layer in found), default=0))
    cells: dict[str, Cell] = {}
    row = 0
    for _, layer in found:
        placed = sorted(layer, key=lambda node: _wish(node, cells, used))
        for start in range(0, len(placed), used):
            part = placed[start : start + used]
            # The last row of a layer may have room: then its middle is the middle of the graph.
            left = (used - len(part)) // 2
            cells.update({node.id: (row, left + n) for n, node in enumerate(part)})
            row += 1
    return cells


def _wish(node: GraphNode, cells: Mapping[str, Cell], used: int) -> float:
    above = [cells[name][1] for name in node.depends_on if name in cells]
    return fmean(above) if above else used / 2


def _path(grid: Grid, source: Cell, target: Cell, place: int) -> str:
    """From the bottom of one box to the top of another."""
    (row, column), (last, at) = source, target
    x, y = grid.x(column) + grid.width / 2, grid.y(row) + grid.height
    end_x, end_y = grid.x(at) + grid.width / 2, grid.y(last) - 2
    if last == row + 1:
        return f"M{x:g} {y:g}{_curve(x, y, end_x, end_y)}"
    gap = at + 1 if column > at else at  # the gap between two columns on the side that it comes from
    lane = (place % LANES - LANES // 2) * 4
    down = max(4.0, grid.x(gap) - grid.gap_x / 2 + lane)
    turn, back = grid.y(row + 1) - 4, grid.y(last - 1) + grid.height + 4
    return f"M{x:g} {y:g}{_curve(x, y, down, turn)}V{back:g}{_curve(down, back, end_x, end_y)}"


def _curve(x: float, y: float, end_x: float, end_y: float) -> str:
    middle = (y + end_y) / 2
    return f"C{x:g} {middle:g} {end_x:g} {middle:g} {end_x:g} {end_y:g}"
