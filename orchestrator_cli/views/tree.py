"""A graph as a tree: each subtask is below the one that it waits for longest. Pure functions.

A tree has one place for each subtask, and a graph may have several ways to it. Of what a subtask depends on,
the one at the end of the longest path is above it, and the last of those as long.
"""

from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from orchestrator_cli.plan import Plan, State
from orchestrator_cli.views import text
from orchestrator_cli.views.graph import SIGNS, Dependent, layers, subtask_line

DEEPEST = 8
"""Levels that are indented; what is further down is drawn at the last of them."""

D = TypeVar("D", bound=Dependent)


class Branch(NamedTuple, Generic[D]):
    drawn: str
    """The lines from the nodes above to this one, two columns for each level."""
    node: D
    others: tuple[str, ...]
    """What it depends on besides the node above it."""


def tree_of(nodes: Sequence[D]) -> list[Branch[D]]:
    """The nodes from the top down. Dependencies that are not among them do not count."""
    depth = {node.id: at for at, (_, layer) in enumerate(layers(nodes)) for node in layer}
    below: dict[str, list[D]] = {}
    for node in nodes:
        below.setdefault(_above(node, depth), []).append(node)
    found: list[Branch[D]] = []
    # (node, what is above it, the lines above it, its level, whether it is the last there), the next one last
    left = [(node, "", "", 0, False) for node in reversed(below.get("", []))]
    while left:
        node, above, lines, level, is_last = left.pop()
        own = (lines + ("└ " if is_last else "├ ")) if level else ""
        found.append(Branch(own, node, tuple(name for name in node.depends_on if name != above)))
        children = below.get(node.id, [])
        on = lines if not level or level >= DEEPEST else lines + ("  " if is_last else "│ ")
        deeper = min(level + 1, DEEPEST)
        left += [(child, node.id, on, deeper, child is children[-1]) for child in reversed(children)]
    return found


def _above(node: Dependent, depth: dict[str, int]) -> str:
    """Empty for a root. Nothing in a cycle is below another of it, so that every node has its place."""
    known = [name for name in node.depends_on if depth.get(name, depth[node.id]) < depth[node.id]]
    deepest = max((depth[name] for name in known), default=0)
    return next((name for name in reversed(known) if depth[name] == deepest), "")


def tree_lines(plan: Plan, states: Mapping[str, State]) -> list[str]:
    """A line for each subtask: the tree, its state, and what else it waits for."""
    lines = []
    for drawn, subtask, others in tree_of(plan.subtasks):
        sign = SIGNS[states.get(subtask.id, "pending")]
        also = f" · after {', '.join(text.one_line(name, 40) for name in others)} too" if others else ""
        lines.append(f"{drawn}{sign} {subtask_line(subtask)}{also}")
    return lines
