"""The task graph of a run, and the rules it obeys: frozen values and pure functions.

A `Plan` is never edited: `patching.apply` makes the next version from a `Patch`, and
`validation.faults` names everything that is wrong with one at once.

Not covered yet: `for_each`, `approve`, and the kinds `process` and `human`. A plan that uses
them is refused with that reason rather than run without them.
"""

import ast
import re
from collections.abc import Container, Iterable, Mapping
from graphlib import TopologicalSorter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from orchestrator_cli.usage import Usage

Kind = Literal["answer", "tool", "agent"]
State = Literal["pending", "running", "done", "failed", "skipped"]

ID = re.compile(r"[a-z][a-z0-9_-]{0,39}\Z")
REFERENCE = re.compile(r"\$([a-z][a-z0-9_-]{0,39})\.(value|summary|files)((?:\.[A-Za-z0-9_-]+)*)\Z")


class Value(BaseModel):
    """A frozen value; unknown fields are faults, because a silently dropped one is a lost wish."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NewTool(Value):
    """A tool that nobody has yet and that the plan wants built before its subtask starts."""

    name: str
    purpose: str
    """What it does, what it takes and what it gives back."""


class Subtask(Value):
    id: str
    title: str
    kind: Kind
    instruction: str = ""
    """For an agent, what to do; for `answer`, the answer itself."""
    depends_on: tuple[str, ...] = ()
    inputs: dict[str, JsonValue] = Field(default_factory=dict)
    """Values, or references to the result of a dependency: `"$id.value.key"`."""
    when: str | None = None
    """A condition over the results of dependencies; the subtask is skipped where it is false."""
    role: str | None = None
    tools: tuple[str, ...] = ()
    result: dict[str, JsonValue] | None = None
    """JSON Schema of the value."""
    check: str | None = None
    """An expression over `value`, `summary` and `files` that is true of a good result."""
    on_failure: Literal["revise", "skip", "abort"] = "revise"
    retries: int = Field(default=0, ge=0, le=5)
    timeout_s: float = Field(default=300.0, gt=0, le=86_400)
    why: str = ""


class Plan(Value):
    goal: str
    subtasks: tuple[Subtask, ...]
    new_tools: tuple[NewTool, ...] = ()
    why: str = ""
    version: int = 1

    def __getitem__(self, subtask: str) -> Subtask:
        return next(s for s in self.subtasks if s.id == subtask)

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(s.id for s in self.subtasks)


class Patch(Value):
    """A change to the pending part of a plan."""

    base_version: int
    reason: str
    add: tuple[Subtask, ...] = ()
    replace: tuple[Subtask, ...] = ()
    remove: tuple[str, ...] = ()
    new_tools: tuple[NewTool, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.add or self.replace or self.remove)


class Result(Value):
    """What one attempt brought; bound to its plan version and attempt so that a late one is known as late."""

    subtask: str
    attempt: int
    plan_version: int
    value: JsonValue = None
    summary: str = ""
    files: tuple[str, ...] = ()
    surprise: str | None = None
    usage: Usage = Usage()


class Fault(Value):
    """One thing wrong with a plan: the subtask (or `plan`), the field, and what to do about it."""

    subtask: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.subtask}.{self.field}: {self.message}"


class Catalogue(Value):
    """What a plan may count on: the roles and tools there are, and how large it may be."""

    roles: frozenset[str]
    tools: frozenset[str]
    max_subtasks: int = 20


# --- references and expressions


def references(value: JsonValue) -> Iterable[str]:
    """Every reference inside a JSON value, in order. A string that merely contains `$` is not one."""
    if isinstance(value, str):
        if REFERENCE.match(value):
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def resolve(value: JsonValue, results: Mapping[str, Result]) -> JsonValue:
    """Replace each reference by what it points to; a skipped dependency gives null.

    Raises `KeyError` with the whole reference where the result has no such part.
    """
    if isinstance(value, str):
        match = REFERENCE.match(value)
        return _look_up(value, match, results) if match else value
    if isinstance(value, Mapping):
        return {key: resolve(item, results) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, results) for item in value]
    return value


def _look_up(reference: str, match: re.Match[str], results: Mapping[str, Result]) -> JsonValue:
    subtask, part, path = match.groups()
    if subtask not in results:
        return None
    found: Any = results[subtask].model_dump(mode="json")[part]
    for key in path.split(".")[1:]:
        try:
            found = found[int(key)] if isinstance(found, list) else found[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise KeyError(reference) from None
    return found  # type: ignore[no-any-return]


def names_in(expression: str) -> frozenset[str]:
    """The names an expression reads from outside. Raises `SyntaxError` where it is no expression."""
    tree = ast.parse(expression.strip(), mode="eval")
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return frozenset(node.id for node in names) - own


# --- what may happen next


def order(plan: Plan) -> list[str]:
    """The ids, dependencies first. Raises `graphlib.CycleError`."""
    graph = {s.id: [d for d in s.depends_on if d in plan.ids and d != s.id] for s in plan.subtasks}
    return list(TopologicalSorter(graph).static_order())


def ready(plan: Plan, states: Mapping[str, State], held: frozenset[str] = frozenset()) -> list[Subtask]:
    """The pending subtasks whose dependencies are all done or skipped, in plan order.

    `held` are ids that wait for a revision.
    """
    over = {"done", "skipped"}
    return [
        s
        for s in plan.subtasks
        if states.get(s.id, "pending") == "pending"
        and s.id not in held
        and all(states.get(d, "pending") in over for d in s.depends_on)
    ]


def descendants(plan: Plan, roots: Iterable[str]) -> frozenset[str]:
    """Everything that depends, directly or not, on one of `roots`; the roots themselves are not in it."""
    found: set[str] = set()
    frontier = set(roots)
    while frontier:
        frontier = {s.id for s in plan.subtasks if frontier & set(s.depends_on)} - found
        found |= frontier
    return frozenset(found)


def ancestors(plan: Plan, subtask: str) -> frozenset[str]:
    """Everything that is done before a subtask starts: what it depends on, and what that depends on."""
    above = {s.id: set(s.depends_on) for s in plan.subtasks}
    found: set[str] = set()
    frontier = above.get(subtask, set())
    while frontier:
        found |= frontier
        frontier = set().union(*(above.get(name, set()) for name in frontier)) - found
    return frozenset(found - {subtask})


def needs(plan: Plan, known: Container[str] = ()) -> list[NewTool]:
    """The tools that a plan names beyond `known` ones, each with the purpose the plan gives it."""
    announced = {tool.name: tool for tool in plan.new_tools}
    wanted: dict[str, NewTool] = {}
    for subtask in plan.subtasks:
        for name in subtask.tools:
            if name not in known and name not in wanted:
                purpose = f"{subtask.title}. {subtask.instruction}".strip()
                wanted[name] = announced.get(name) or NewTool(name=name, purpose=purpose)
    return list(wanted.values())


def match_aliases(plan: Plan, catalogue: Catalogue) -> Plan:
    """The plan with tool names that differ from a known tool's only in case, `-` and `_` spelled so."""
    known = {_normal(name): name for name in catalogue.tools}
    subtasks = tuple(
        s.model_copy(update={"tools": tuple(known.get(_normal(name), name) for name in s.tools)})
        for s in plan.subtasks
    )
    return plan.model_copy(update={"subtasks": subtasks})


def _normal(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()
