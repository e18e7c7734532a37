"""The task graph as text, and the difference of two versions.

Pure functions. Lines are plain text without colours. What a model wrote in a plan is cleaned and kept to
one line. The order is that of the plan, so equal plans give equal lines.
"""

from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import Protocol, TypeVar

from orchestrator_cli.plan import Patch, Plan, State, Subtask
from orchestrator_cli.views import text
from orchestrator_cli.views.text import one_line

SIGNS: dict[State, str] = {
    "pending": "○",
    "waiting": "?",
    "running": "●",
    "done": "✓",
    "failed": "✗",
    "skipped": "–",
}


def plan_lines(
    plan: Plan, states: Mapping[str, State] | None = None, *, ascii_only: bool = False
) -> list[str]:
    """The graph in layers: subtasks of one layer can run at once, and each line names what it waits for.

    Subtasks in a cycle, which no valid plan has, are in a last layer marked `?`.
    """
    lines = []
    for number, layer in layers(plan.subtasks):
        for position, subtask in enumerate(layer):
            margin = number if position == 0 else ""
            last = position == len(layer) - 1
            branch = "─" if len(layer) == 1 else "┬" if position == 0 else "└" if last else "├"
            sign = SIGNS[(states or {}).get(subtask.id, "pending")]
            lines.append(f"{margin:>2} {branch} {sign} {subtask_line(subtask)}")
            if details := _details(plan, subtask):
                bar = " " if last else "│"
                lines.append(f"   {bar}     {details}")
    return [text.ascii_only(line) for line in lines] if ascii_only else lines


def subtask_line(subtask: Subtask) -> str:
    """`id · kind role · title`"""
    kind = f"{subtask.kind} {one_line(subtask.role, 24)}" if subtask.role else subtask.kind
    return f"{one_line(subtask.id, 40)} · {kind} · {one_line(subtask.title, 80)}"


def _details(plan: Plan, subtask: Subtask) -> str:
    new = {tool.name for tool in plan.new_tools}
    tools = [f"{one_line(name, 40)} (new)" if name in new else one_line(name, 40) for name in subtask.tools]
    parts = []
    if subtask.depends_on:
        parts.append("← " + ", ".join(one_line(name, 40) for name in subtask.depends_on))
    if tools:
        parts.append("tools " + ", ".join(tools))
    if subtask.when:
        parts.append("when " + one_line(subtask.when, 60))
    if subtask.for_each:
        parts.append("for each of " + one_line(subtask.for_each, 60))
    if subtask.approve:
        parts.append("asks first")
    if (route := plan.route_of(subtask)) is not None and not route.planned:
        parts.append(one_line(route.reason, 200))
    return " · ".join(parts)


class Dependent(Protocol):
    """A node of a graph."""

    @property
    def id(self) -> str: ...
    @property
    def depends_on(self) -> tuple[str, ...]: ...


D = TypeVar("D", bound=Dependent)


def layers(subtasks: Iterable[D]) -> list[tuple[str, list[D]]]:
    """The subtasks by the length of their longest path from one without dependencies, each layer with its
    number from 1. Those in a cycle come last, as layer `?`.
    """
    found: list[tuple[str, list[D]]] = []
    waiting = list(subtasks)
    while waiting:
        ids = {s.id for s in waiting}
        layer = [s for s in waiting if ids.isdisjoint(s.depends_on)]
        found.append((str(len(found) + 1) if layer else "?", layer or waiting))
        placed = {s.id for s in layer or waiting}
        waiting = [s for s in waiting if s.id not in placed]
    return found


# --- how a plan changed


def plan_diff(before: Plan, after: Plan, limit: int = 120) -> list[str]:
    """A line for each change: `+` added, `!` replaced (with every changed field), `-` removed.

    Markdown's `diff` blocks colour these signs. Of a value longer than `limit` characters, only the part that
    differs is shown, at most `limit` characters of it.
    """
    old, new = {s.id: s for s in before.subtasks}, {s.id: s for s in after.subtasks}
    lines = [_added(s) for s in after.subtasks if s.id not in old]
    lines += [
        f"! {one_line(s.id, 40)}: {'; '.join(_changes(old[s.id], s, limit))}"
        for s in after.subtasks
        if s.id in old and s != old[s.id]
    ]
    lines += [f"- {subtask_line(s)}" for s in before.subtasks if s.id not in new]
    announced = {tool.name for tool in before.new_tools}
    lines += [
        f"+ tool {one_line(tool.name, 40)}: {one_line(tool.purpose, 100)}"
        for tool in after.new_tools
        if tool.name not in announced
    ]
    return lines


def patch_lines(patch: Patch) -> list[str]:
    """The changes of a patch if the plan before it is not known. They cannot name the replaced fields."""
    lines = [_added(s) for s in patch.add]
    lines += [f"! {subtask_line(s)}" for s in patch.replace]
    return lines + [f"- {one_line(name, 40)}" for name in patch.remove]


def _added(subtask: Subtask) -> str:
    after = f" ← {', '.join(one_line(d, 40) for d in subtask.depends_on)}" if subtask.depends_on else ""
    return f"+ {subtask_line(subtask)}{after}"


def _changes(before: Subtask, after: Subtask, limit: int) -> Iterable[str]:
    old, new = before.model_dump(), after.model_dump()
    for field in type(after).model_fields:
        if old[field] != new[field]:
            was, now = _differing(_shown(old[field]), _shown(new[field]), limit)
            yield f"{field} {was} → {now}"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        value = ", ".join(map(str, value))
    return "none" if value in (None, "") or value == {} else one_line(str(value))


def _differing(old: str, new: str, limit: int) -> tuple[str, str]:
    """Two texts; if they are long, without the words that both start and end with."""
    if max(len(old), len(new)) <= limit:
        return old, new
    was, now = old.split(" "), new.split(" ")
    head = _shared(was, now)
    tail = _shared(was[head:][::-1], now[head:][::-1])
    return tuple(  # type: ignore[return-value]
        one_line(
            ("… " if head else "") + " ".join(words[head : len(words) - tail]) + (" …" if tail else ""), limit
        )
        for words in (was, now)
    )


def _shared(a: list[str], b: list[str]) -> int:
    """The number of words that both lists start with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
