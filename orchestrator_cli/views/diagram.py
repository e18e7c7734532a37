"""The task graph for programs that draw: Mermaid and DOT, with states and what changed between versions.

Pure functions. Ids and titles are the words of a model. They are only ever inside of a quoted label, in which
every sign that either language could take for its own is written as a number or escaped; nodes have names of
ours. So no title can be a directive, a link, a click or HTML.

Not covered: what a program that draws makes of the text once it is a label.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from orchestrator_cli.plan import Plan, State, Subtask
from orchestrator_cli.views.graph import SIGNS
from orchestrator_cli.views.text import label

Change = Literal["", "new", "changed", "removed"]

COLOURS: dict[str, tuple[str, str]] = {
    "pending": ("#f2f4f7", "#98a2b3"),
    "waiting": ("#fef3c7", "#d97706"),
    "running": ("#dbeafe", "#2563eb"),
    "done": ("#dcfce7", "#16a34a"),
    "failed": ("#fee2e2", "#dc2626"),
    "skipped": ("#f2f4f7", "#98a2b3"),
    "removed": ("#ffffff", "#98a2b3"),
}
"""The fill and the border of a node, by its state."""
DASHED = ("skipped", "removed")
TITLE_CHARS = 80
_PLAIN_SIGNS = frozenset(" _.,:()-")


class GraphNode(NamedTuple):
    """A subtask of the newest plan, or one that a revision removed before it started."""

    id: str
    title: str
    who: str
    """Its role, or its kind if it has none."""
    state: State
    depends_on: tuple[str, ...]
    change: Change = ""
    """What the last revision that touched it did."""
    version: int = 1
    """The version of the plan that this revision made."""

    @property
    def look(self) -> str:
        """Its state, or `removed`."""
        return "removed" if self.change == "removed" else self.state

    @property
    def remark(self) -> str:
        """`new in version 2`, or empty."""
        return f"{self.change} in version {self.version}" if self.change else ""


def nodes_of(versions: Sequence[Plan], states: Mapping[str, State]) -> tuple[GraphNode, ...]:
    """The subtasks of the newest plan in its order, then those that revisions removed, oldest first."""
    if not versions:
        return ()
    changes: dict[str, tuple[Change, int]] = {}
    removed: dict[str, Subtask] = {}
    for before, after in pairwise(versions):
        old, new = before.index.by_id, after.index.by_id
        for subtask in after.subtasks:
            if subtask.id not in old:
                changes[subtask.id] = ("new", after.version)
                removed.pop(subtask.id, None)
            elif subtask != old[subtask.id]:
                changes[subtask.id] = ("changed", after.version)
        for gone in before.subtasks:
            if gone.id not in new:
                changes[gone.id] = ("removed", after.version)
                removed[gone.id] = gone
    return tuple(
        GraphNode(
            s.id, s.title, s.role or s.kind, states.get(s.id, "pending"), s.depends_on,
            *changes.get(s.id, ("", 1)),
        )
        for s in (*versions[-1].subtasks, *removed.values())
    )  # fmt: skip


# --- Mermaid


def mermaid(nodes: Sequence[GraphNode]) -> str:
    """The graph as a Mermaid flowchart, with a line feed at its end."""
    names = _names(nodes)
    lines = ["flowchart TD"]
    lines += [f'  {names[n.id]}["{_in_mermaid(n)}"]:::{n.look}' for n in nodes]
    lines += [f"  {names[d]} --> {names[n.id]}" for n in nodes for d in n.depends_on if d in names]
    for look in sorted({n.look for n in nodes}):
        fill, border = COLOURS[look]
        dashed = ",stroke-dasharray:4" if look in DASHED else ""
        lines.append(f"  classDef {look} fill:{fill},stroke:{border},color:#101828{dashed}")
    return "\n".join(lines) + "\n"


def _in_mermaid(node: GraphNode) -> str:
    """Mermaid writes `#35;` for `#`. Its directives, its markup and its HTML all need another such sign."""
    text = "".join(
        sign if sign.isalnum() or sign in _PLAIN_SIGNS else f"#{ord(sign)};" for sign in _words(node)
    )
    return f"{SIGNS[node.state]} {text}"


# --- DOT


def dot(nodes: Sequence[GraphNode]) -> str:
    """The graph in the DOT language of Graphviz, with a line feed at its end."""
    names = _names(nodes)
    lines = [
        "digraph run {",
        "  rankdir=TB;",
        '  node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=11];',
    ]
    for node in nodes:
        fill, border = COLOURS[node.look]
        dashed = ',dashed"' if node.look in DASHED else '"'
        style = f'style="rounded,filled{dashed}, fillcolor="{fill}", color="{border}"'
        lines.append(f'  {names[node.id]} [label="{_in_dot(node)}", {style}];')
    lines += [f"  {names[d]} -> {names[n.id]};" for n in nodes for d in n.depends_on if d in names]
    return "\n".join([*lines, "}"]) + "\n"


def _in_dot(node: GraphNode) -> str:
    """Graphviz reads escapes such as `\\N`, and entities of HTML, within a quoted label."""
    text = _words(node).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
    return f"{SIGNS[node.state]} {text}"


def _names(nodes: Sequence[GraphNode]) -> dict[str, str]:
    """Names of ours, since `end`, `graph` and the like mean something."""
    return {node.id: f"s{number}" for number, node in enumerate(nodes, 1)}


def _words(node: GraphNode) -> str:
    remark = f" ({node.remark})" if node.remark else ""
    return f"{label(node.id, 40)}: {label(node.title, TITLE_CHARS)}{remark}"
