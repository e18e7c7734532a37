"""The task graph of a run, and the rules it obeys: frozen values and pure functions.

A `Plan` is never edited: `patching.apply` makes the next version from a `Patch`, and
`validation.faults` names everything that is wrong with one at once.

A subtask with `for_each` is one node of the plan. It becomes one instance for each item of the
list, named `ID[0]`, `ID[1]`, …, and has one result: the list of their values, in order.
"""

import ast
import re
from collections.abc import Container, Iterable, Mapping
from graphlib import TopologicalSorter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from orchestrator_cli.usage import Usage

Kind = Literal["answer", "tool", "agent", "process", "human"]
State = Literal["pending", "waiting", "running", "done", "failed", "skipped"]
"""`waiting`: for a person."""

ID = re.compile(r"[a-z][a-z0-9_-]{0,39}\Z")
REFERENCE = re.compile(r"\$([a-z][a-z0-9_-]{0,39})\.(value|summary|files)((?:\.[A-Za-z0-9_-]+)*)\Z")
ITEM = re.compile(r"\$(?:item((?:\.[A-Za-z0-9_-]+)*)|index)\Z")
"""What an instance of `for_each` reads of its own item, and its place, counted from 0."""
RESERVED = frozenset({"item", "index"})
"""What no subtask may be called, because references to it would mean something else."""


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
    """Unique in the plan: lower-case letters, digits, `-` and `_`, beginning with a letter."""
    title: str
    """A few words for a person who watches."""
    kind: Kind
    """How it is done, see above."""
    instruction: str = ""
    """For an agent, what to do; for `answer`, the answer itself; for `human`, the question."""
    depends_on: tuple[str, ...] = ()
    """The ids of what has to be done before it starts."""
    inputs: dict[str, JsonValue] = Field(default_factory=dict)
    """Values, or references to the result of a dependency: `"$id.value.key"`."""
    when: str | None = None
    """A condition over the results of dependencies; the subtask is skipped where it is false."""
    for_each: str | None = None
    """A reference to a list; the subtask is done once for each of its items."""
    role: str | None = None
    """Of kind `agent`: who does it."""
    tools: tuple[str, ...] = ()
    """Of kind `agent` the tools it may call; of kind `tool` exactly one."""
    process: str | None = None
    """Of kind `process`: the name under which the user registered it."""
    network: tuple[str, ...] = ()
    """Domains that its code and `fetch_url` may reach; a person approves them."""
    result: dict[str, JsonValue] | None = None
    """JSON Schema of the value."""
    check: str | None = None
    """An expression over `value`, `summary` and `files` that is true of a good result."""
    judge: str | None = None
    """What makes the result good, in words: judged by a model, where no expression can."""
    approve: bool = False
    """Whether a person is asked before it starts."""
    on_failure: Literal["revise", "skip", "abort"] = "revise"
    """What a failure leads to: the plan is looked at again, goes on without it, or the run ends."""
    retries: int = Field(default=0, ge=0, le=5)
    """Further attempts before it counts as failed, each after a longer wait."""
    timeout_s: float = Field(default=300.0, gt=0, le=86_400)
    """Seconds that one attempt may take."""
    why: str = ""
    """Why it is there and of this kind; it changes nothing."""


class Route(Value):
    """Who does the work of an agent subtask, and why; see `routing`."""

    subtask: str
    role: str
    model: str | None = None
    """The model that its agent asks."""
    reason: str
    planned: bool = True
    """Whether it is as the planner or the reviser wanted it."""
    instead_of: str | None = None
    """The role that was proposed, where another was taken."""
    model_instead_of: str | None = None
    """The model that its agents ask otherwise, where another was taken."""


class Plan(Value):
    goal: str
    subtasks: tuple[Subtask, ...]
    new_tools: tuple[NewTool, ...] = ()
    routes: tuple[Route, ...] = ()
    """Who does which subtask and why; written by routing, and shown to no model."""
    check: str | None = None
    """An expression over the results of the subtasks that is true when the goal is met."""
    why: str = ""
    version: int = 1

    def __getitem__(self, subtask: str) -> Subtask:
        return self.index.by_id[subtask]

    @property
    def ids(self) -> frozenset[str]:
        return self.index.ids

    def route_of(self, subtask: Subtask) -> Route | None:
        """Why a subtask is done by its role; None where somebody gave it to another since."""
        found = (r for r in self.routes if r.subtask == subtask.id and r.role == subtask.role)
        return next(found, None)

    @property
    def index(self) -> "Index":
        """Made once, because a large plan is asked often; a copy with other subtasks makes its own."""
        found: Index | None = self.__dict__.get("_index")
        if found is None or found.of is not self.subtasks:
            found = Index(self.subtasks)
            self.__dict__["_index"] = found
        return found


class Index:
    """The subtasks of a plan by their ids; of two that share one, the first."""

    def __init__(self, subtasks: tuple[Subtask, ...]) -> None:
        self.of = subtasks
        self.by_id = {s.id: s for s in reversed(subtasks)}
        self.ids = frozenset(self.by_id)


class Patch(Value):
    """A change to the pending part of a plan."""

    base_version: int
    reason: str
    add: tuple[Subtask, ...] = ()
    replace: tuple[Subtask, ...] = ()
    remove: tuple[str, ...] = ()
    new_tools: tuple[NewTool, ...] = ()
    routes: tuple[Route, ...] = ()
    """Who does what it adds or gives to another role, and why."""

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
    processes: frozenset[str] = frozenset()
    max_subtasks: int = 20


def tool_plan(tool: NewTool) -> Plan:
    """The plan that has one tool built, says so, and stops where it cannot be had."""
    only = Subtask(
        id="build",
        title=f"Build {tool.name}",
        kind="answer",
        instruction=f"The library has `{tool.name}`.",
        tools=(tool.name,),
        on_failure="abort",
    )
    return Plan(goal=f"There is a tool for this: {tool.purpose}", subtasks=(only,), new_tools=(tool,))


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


class Instance(Value):
    """One item of a `for_each` list, and its place, counted from 0."""

    item: JsonValue
    index: int


def resolve(value: JsonValue, results: Mapping[str, Result], instance: Instance | None = None) -> JsonValue:
    """Replace each reference by what it points to; a skipped dependency gives null.

    What a reference gave is not looked at again: data holds no references. Raises `KeyError`
    with the whole reference where the result, or the item, has no such part.
    """
    if isinstance(value, str):
        return _look_up(value, results, instance)
    if isinstance(value, Mapping):
        return {key: resolve(item, results, instance) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, results, instance) for item in value]
    return value


def _look_up(text: str, results: Mapping[str, Result], instance: Instance | None) -> JsonValue:
    if instance is not None and (own := ITEM.match(text)):
        return instance.index if text == "$index" else _part(text, instance.item, own[1])
    match = REFERENCE.match(text)
    if not match:
        return text
    subtask, part, path = match.groups()
    if subtask not in results:
        return None
    return _part(text, results[subtask].model_dump(mode="json")[part], path)


def _part(reference: str, found: Any, path: str) -> JsonValue:
    for key in path.split(".")[1:]:
        try:
            found = found[int(key)] if isinstance(found, list) else found[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise KeyError(reference) from None
    return found  # type: ignore[no-any-return]


def names_in(expression: str) -> frozenset[str]:
    """The names an expression reads from outside. Raises `SyntaxError` or `ValueError` where it is none."""
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (RecursionError, MemoryError) as exc:
        raise ValueError("it goes too deep") from exc
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return frozenset(node.id for node in names) - own


def instance_name(subtask: str, index: int) -> str:
    """What the instance of a `for_each` subtask is called in events, results and Prefect."""
    return f"{subtask}[{index}]"


def whole_name(name: str) -> str:
    """The subtask that an instance belongs to; of any other name itself."""
    return name.partition("[")[0]


def as_name(subtask: str) -> str:
    """A subtask's id as expressions read it."""
    return subtask.replace("-", "_")


# --- what may happen next


def order(plan: Plan) -> list[str]:
    """The ids, dependencies first. Raises `graphlib.CycleError`."""
    graph = {s.id: [d for d in s.depends_on if d in plan.ids and d != s.id] for s in plan.subtasks}
    return list(TopologicalSorter(graph).static_order())


NOT_STARTED: frozenset[State] = frozenset({"pending", "waiting"})


def unstarted(plan: Plan, states: Mapping[str, State]) -> list[Subtask]:
    """What can still change: the subtasks that have not started, in plan order."""
    return [s for s in plan.subtasks if states.get(s.id, "pending") in NOT_STARTED]


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
    by_id = plan.index.by_id
    found: set[str] = set()
    frontier = [subtask]
    while frontier:
        new = [d for name in frontier if name in by_id for d in by_id[name].depends_on if d not in found]
        found.update(new)
        frontier = new
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
