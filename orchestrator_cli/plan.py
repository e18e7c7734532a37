"""The task graph of a run and its rules: frozen values and pure functions.

A `Plan` is never edited: `patching.apply` makes the next version from a `Patch`. `validation.faults` lists
everything that is wrong with a plan.

A subtask with `for_each` is one node of the plan. It runs as one instance per item of the list, named
`ID[0]`, `ID[1]`, …, and has one result: the list of their values, in order.
"""

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from graphlib import TopologicalSorter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from orchestrator_cli.values import Usage

Kind = Literal["answer", "tool", "agent", "process", "human"]
State = Literal["pending", "waiting", "running", "done", "failed", "skipped"]
"""`waiting` is for a person."""

ID = re.compile(r"[a-z][a-z0-9_-]{0,39}\Z")
REFERENCE = re.compile(r"\$([a-z][a-z0-9_-]{0,39})\.(value|summary|files)((?:\.[A-Za-z0-9_-]+)*)\Z")
ITEM = re.compile(r"\$(?:item((?:\.[A-Za-z0-9_-]+)*)|index)\Z")
"""References of a `for_each` instance to its own item and its index, from 0."""
READ_IMAGE = "read_image"
"""A tool that agents are given whose model sees; no plan has to name it."""
RESERVED = frozenset({"item", "index"})
"""Ids that no subtask may have, because `$item` and `$index` mean something else."""


class FrozenModel(BaseModel):
    """A frozen value. Unknown fields are errors, because dropping one silently would lose a wish."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NewTool(FrozenModel):
    """A tool that does not exist and must be built before its subtask starts."""

    name: str
    purpose: str
    """What it does, takes and returns."""


class Subtask(FrozenModel):
    """One node of the plan; prompts/subtask_fields.yml explains each field."""

    id: str
    title: str
    kind: Kind
    instruction: str = ""
    depends_on: tuple[str, ...] = ()
    inputs: dict[str, JsonValue] = Field(default_factory=dict)
    when: str | None = None
    for_each: str | None = None
    role: str | None = None
    tools: tuple[str, ...] = ()
    process: str | None = None
    attachments: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    result: dict[str, JsonValue] | None = None
    check: str | None = None
    judge: str | None = None
    approve: bool = False
    on_failure: Literal["revise", "skip", "abort"] = "revise"
    retries: int = Field(default=0, ge=0, le=5)
    timeout_s: float = Field(default=300.0, gt=0, le=86_400)
    why: str = ""


class Route(FrozenModel):
    """Which role and model do an agent subtask, and why; see `routing`."""

    subtask: str
    role: str
    model: str | None = None
    """The model of its agent."""
    reason: str
    planned: bool = True
    """Whether it is as the planner or the reviser proposed."""
    instead_of: str | None = None
    """The role that was proposed, if another does the work."""
    model_instead_of: str | None = None
    """The model its agents would otherwise use, if another was chosen."""


class Plan(FrozenModel):
    goal: str
    subtasks: tuple[Subtask, ...]
    new_tools: tuple[NewTool, ...] = ()
    routes: tuple[Route, ...] = ()
    """Which role does which subtask and why; written by routing, and not shown to models."""
    check: str | None = None
    """An expression over the subtasks' results that is true if the goal is met."""
    why: str = ""
    version: int = 1

    def __getitem__(self, subtask: str) -> Subtask:
        return self.index.by_id[subtask]

    @property
    def ids(self) -> frozenset[str]:
        return self.index.ids

    def route_of(self, subtask: Subtask) -> Route | None:
        """Why a subtask has its role; None if its role was changed since."""
        found = (r for r in self.routes if r.subtask == subtask.id and r.role == subtask.role)
        return next(found, None)

    @property
    def index(self) -> "Index":
        """Built once, because large plans are queried often; a copy with other subtasks builds its own."""
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


class Patch(FrozenModel):
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


class Result(FrozenModel):
    """The result of one attempt; its plan version and attempt number identify a late one."""

    subtask: str
    attempt: int
    plan_version: int
    value: JsonValue = None
    summary: str = ""
    files: tuple[str, ...] = ()
    surprise: str | None = None
    usage: Usage = Usage()


class PlanFault(FrozenModel):
    """One thing wrong with a plan: the subtask (or `plan`), the field, and the remedy."""

    subtask: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.subtask}.{self.field}: {self.message}"


class Catalogue(FrozenModel):
    """What a plan may use, and how large it may be."""

    roles: frozenset[str]
    tools: frozenset[str]
    processes: frozenset[str] = frozenset()
    attachments: frozenset[str] = frozenset()
    """Names of the files that the user attached."""
    tool_inputs: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    """JSON Schemas of the arguments of tools, as far as they are known."""
    process_inputs: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    absent: dict[str, str] = Field(default_factory=dict)
    """Why tools that have an owner are not there; a name that ends in `*` means all that begin so."""
    max_subtasks: int = 20


def absence(name: str, absent: Mapping[str, str]) -> str:
    """Why a tool is not there and is not to be built, as `Catalogue.absent` has it; else empty."""
    begun = (why for other, why in absent.items() if other.endswith("*") and name.startswith(other[:-1]))
    return absent.get(name) or next(begun, "")


def tool_plan(tool: NewTool) -> Plan:
    """The plan that builds one tool, and stops if it cannot be built."""
    only = Subtask(
        id="build",
        title=f"Build {tool.name}",
        kind="answer",
        instruction=f"The library has `{tool.name}`.",
        tools=(tool.name,),
        on_failure="abort",
    )
    return Plan(goal=f"There is a tool for this: {tool.purpose}", subtasks=(only,), new_tools=(tool,))


# --- references


def texts(value: JsonValue) -> Iterator[str]:
    """Every text in a JSON value, in order, without the keys of objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def references(value: JsonValue) -> Iterable[str]:
    """Every reference inside a JSON value, in order. A string that merely contains `$` is not one."""
    return filter(REFERENCE.match, texts(value))


class Instance(FrozenModel):
    """One item of a `for_each` list and its index, from 0."""

    item: JsonValue
    index: int


def resolve(value: JsonValue, results: Mapping[str, Result], instance: Instance | None = None) -> JsonValue:
    """Replace each reference by the value it points to; a skipped dependency gives null.

    Values are not resolved again, so data cannot hold references. They are those of the result itself, not
    copies: the inputs of a thousand instances may hold the same list. Raises `KeyError` with the whole
    reference if the result, or the item, has no such part.
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
    result = results[subtask]
    return _part(text, list(result.files) if part == "files" else getattr(result, part), path)


def _part(reference: str, found: Any, path: str) -> JsonValue:
    for key in path.split(".")[1:]:
        try:
            found = found[int(key)] if isinstance(found, list) else found[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise KeyError(reference) from None
    return found  # type: ignore[no-any-return]


def instance_name(subtask: str, index: int) -> str:
    """The name of a `for_each` instance in events, results and Prefect."""
    return f"{subtask}[{index}]"


def whole_name(name: str) -> str:
    """The subtask of an instance; any other name unchanged."""
    return name.partition("[")[0]


def place_of(instance: str) -> int:
    """Which item an instance does, from 0."""
    return int(instance.partition("[")[2].rstrip("]"))


def as_name(subtask: str) -> str:
    """A subtask's id as a name in expressions."""
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


def role_has_room(subtask: Subtask, running: Mapping[str | None, int], limits: Mapping[str, int]) -> bool:
    """Whether the limit of its role lets a ready subtask start; if not, others need not wait for it.

    Args:
        running: subtasks under way per role.
        limits: the most at once per role; other roles are not limited.
    """
    role = subtask.role or ""
    return role not in limits or running.get(role, 0) < limits[role]


def descendants(plan: Plan, roots: Iterable[str]) -> frozenset[str]:
    """Everything that depends, directly or not, on one of `roots`, without the roots."""
    found: set[str] = set()
    frontier = set(roots)
    while frontier:
        frontier = {s.id for s in plan.subtasks if frontier & set(s.depends_on)} - found
        found |= frontier
    return frozenset(found)


def ancestors(plan: Plan, subtask: str) -> frozenset[str]:
    """Everything that a subtask depends on, directly or not."""
    by_id = plan.index.by_id
    found: set[str] = set()
    frontier = [subtask]
    while frontier:
        new = [d for name in frontier if name in by_id for d in by_id[name].depends_on if d not in found]
        found.update(new)
        frontier = new
    return frozenset(found - {subtask})


def needs(plan: Plan, known: Container[str] = ()) -> list[NewTool]:
    """The tools that a plan needs besides `known` ones, each with its purpose in the plan."""
    announced = {tool.name: tool for tool in plan.new_tools}
    wanted: dict[str, NewTool] = {}
    for subtask in plan.subtasks:
        for name in subtask.tools:
            if name not in known and name not in wanted:
                purpose = f"{subtask.title}. {subtask.instruction}".strip()
                wanted[name] = announced.get(name) or NewTool(name=name, purpose=purpose)
    return list(wanted.values())
