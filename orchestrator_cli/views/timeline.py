"""Who worked when: a lane for each subtask, tool and role, in seconds of work, and the critical path.

Pure functions. The clock leaves out the time between the processes of a run that was resumed, so that a run
of a minute that went on after a week is a minute long.

The critical path goes back from what ended last, each time to whatever it waited for longest: a
dependency, a tool that was built for it, or the failure that a revision answered by adding it.

Not covered: the instances of a `for_each` subtask, which are within its lane; and what a subtask waited for
besides, such as its turn.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple

from orchestrator_cli import events
from orchestrator_cli.events import Event, Fact
from orchestrator_cli.plan import State, whole_name
from orchestrator_cli.state import RunState
from orchestrator_cli.values import seconds_between

BarKind = Literal["work", "failed", "cut", "person", "turn", "model"]
"""`cut`: its process died; `person` and `turn`: it waited for one; `model`: a model was asked."""
SHORT_S = 0.05
"""A shorter wait is not shown."""

Key = tuple[Literal["subtask", "tool", "role"], str]

PLANNER: Key = ("role", "planner")
ANSWER: Key = ("role", "answer")


class Bar(NamedTuple):
    """From and until are seconds of the run."""

    start: float
    end: float
    kind: BarKind


class Lane(NamedTuple):
    """What one subtask, tool or role did."""

    key: Key
    bars: tuple[Bar, ...]
    state: State | Literal[""] = ""
    """Of a subtask."""

    @property
    def name(self) -> str:
        return self.key[1]

    @property
    def start(self) -> float:
        return min(bar.start for bar in self.bars)

    @property
    def end(self) -> float:
        return max(bar.end for bar in self.bars)

    @property
    def seconds(self) -> float:
        """How long it worked, without waits. Calls of models within that work do not count twice."""
        own = [bar for bar in self.bars if bar.kind in ("work", "failed", "cut")]
        asked = [bar for bar in self.bars if bar.kind == "model"]
        return sum(bar.end - bar.start for bar in own or asked)


class Timeline(NamedTuple):
    lanes: tuple[Lane, ...]
    """By their beginning."""
    seconds: float
    path: tuple[Key, ...]
    """The critical path, first to last."""

    @property
    def path_seconds(self) -> float:
        """How long the lanes of the critical path worked."""
        return sum(lane.seconds for lane in self.lanes if lane.key in self.path)


def timeline_of(state: RunState, found: Sequence[Event]) -> Timeline:
    """The timeline of a run; `found` are all its events, and `state` is what they add up to."""
    notes = _Notes()
    seconds = 0.0
    for at, event in clocked(found):
        if not isinstance(event.data, events.FeedbackGiven | events.RunUndone):
            notes.add(at, event.data)
            seconds = at
    notes.stop(seconds, "work")
    _add_turns(state, notes)
    lanes = [
        Lane(key, tuple(sorted(bars)), state.state_of(key[1]) if key[0] == "subtask" else "")
        for key, bars in notes.bars.items()
        if bars
    ]
    lanes.sort(key=lambda lane: (lane.start, lane.end))
    return Timeline(tuple(lanes), seconds, _critical(state, notes, {lane.key: lane for lane in lanes}))


def clocked(found: Iterable[Event]) -> Iterator[tuple[float, Event]]:
    """Each event with its time in seconds of work since the first; never less than that of the one before."""
    at, before = 0.0, None
    for event in found:
        if before is not None and not isinstance(event.data, events.RunResumed):
            at += seconds_between(before, event.time)
        before = event.time
        yield at, event


@dataclass
class _Notes:
    """What the events up to now say."""

    bars: dict[Key, list[Bar]] = field(default_factory=dict)
    open: dict[Key, tuple[float, BarKind]] = field(default_factory=dict)
    """Bars without an end yet."""
    planned: dict[str, float] = field(default_factory=dict)
    """When a subtask was last planned."""
    cause: dict[str, str] = field(default_factory=dict)
    """The subtask that a revision answered by adding or changing this one."""
    questions: dict[str, Key] = field(default_factory=dict)
    """Who waits for an approval."""
    last: float = 0.0

    def add(self, at: float, fact: Fact) -> None:
        match fact:
            case events.PlanProposed() | events.PlanApproved():
                self.planned.update(dict.fromkeys(fact.plan.ids, at))
            case events.PlanRevised():
                self._revised(at, fact)
            case events.ToolNeeded() | events.ToolBuilt() | events.ToolReused() | events.ToolRefused():
                self._building(at, fact)
            case events.Spent():
                self._asked(at, fact)
            case events.RunResumed():
                self.stop(self.last, "cut")
            case _:
                self._working(at, fact)
        self.last = at

    def begin(self, key: Key, at: float, kind: BarKind) -> None:
        self.end(key, at, None)
        self.open[key] = (at, kind)

    def end(self, key: Key, at: float, kind: BarKind | None) -> None:
        """End what is open. `kind` is how work ended; None if it is what it was begun as."""
        if key in self.open:
            start, begun = self.open.pop(key)
            self.put(key, Bar(start, at, begun if kind is None or begun == "person" else kind))

    def stop(self, at: float, kind: BarKind) -> None:
        for key in list(self.open):
            self.end(key, at, kind)

    def put(self, key: Key, bar: Bar) -> None:
        self.bars.setdefault(key, []).append(bar)

    def _working(self, at: float, fact: Fact) -> None:
        if whole_name(name := getattr(fact, "subtask", "")) != name:
            return  # an instance, within the bar of the whole
        key: Key = ("subtask", name)
        match fact:
            case events.SubtaskStarted():
                self.begin(key, at, "work")
            case events.SubtaskWaiting():
                self.questions[fact.approval] = key
                self.begin(key, at, "person")
            case events.ApprovalGiven() if fact.id in self.questions:
                self.end(self.questions[fact.id], at, "person")
            case events.SubtaskFinished():
                self.end(key, at, "work")
            case events.SubtaskFailed():
                self.end(key, at, "failed")

    def _building(self, at: float, fact: Fact) -> None:
        match fact:
            case events.ToolNeeded():
                self.begin(("tool", fact.tool), at, "work")
            case events.ToolBuilt():
                self.end(("tool", fact.tool), at, "work")
            case events.ToolReused():
                self.end(("tool", fact.instead_of or fact.tool), at, "work")
            case events.ToolRefused():
                self.end(("tool", fact.tool), at, "failed")

    def _revised(self, at: float, fact: events.PlanRevised) -> None:
        touched = [s.id for s in (*fact.patch.add, *fact.patch.replace)]
        self.planned.update(dict.fromkeys(touched, at))
        # A cause begins with the name of its subtask, if it is about one.
        answered = fact.cause.partition(" ")[0]
        if answered in fact.plan.ids:
            self.cause.update(dict.fromkeys(touched, answered))

    def _asked(self, at: float, fact: events.Spent) -> None:
        key: Key = ("role", fact.role)
        if fact.subtask and fact.role == "agent":
            key = ("subtask", whole_name(fact.subtask))
        elif fact.subtask and fact.role == "toolsmith":
            key = ("tool", fact.subtask)
        self.put(key, Bar(max(0.0, at - fact.seconds), at, "model"))


def _add_turns(state: RunState, notes: _Notes) -> None:
    """Where a subtask could have started and did not: others had their turn."""
    for subtask in state.plan.subtasks if state.has_plan else ():
        key: Key = ("subtask", subtask.id)
        own = [bar for bar in notes.bars.get(key, ()) if bar.kind != "model"]
        if not own:
            continue
        began = min(bar.start for bar in own)
        waited: list[Key] = [("subtask", name) for name in subtask.depends_on]
        waited += [("tool", name) for name in subtask.tools]
        ends = [bar.end for one in waited for bar in notes.bars.get(one, ()) if bar.end <= began]
        could = max((notes.planned.get(subtask.id, began), *ends))
        if began - could > SHORT_S:
            notes.put(key, Bar(could, began, "turn"))


def _critical(state: RunState, notes: _Notes, lanes: Mapping[Key, Lane]) -> tuple[Key, ...]:
    """The keys of the lanes that made the run as long as it was."""
    if not state.has_plan:
        return ()
    ran = [lane for lane in lanes.values() if lane.key[0] == "subtask" and lane.name in state.plan.ids]
    path: list[Key] = []
    now: Key | None = max(ran, key=lambda lane: lane.end).key if ran else None
    while now is not None and now not in path:
        path.append(now)
        now = _waited_for(state, notes, lanes, now)
    path.reverse()
    return tuple(key for key in (PLANNER, *path, ANSWER) if key in lanes) if path else ()


def _waited_for(state: RunState, notes: _Notes, lanes: Mapping[Key, Lane], key: Key) -> Key | None:
    kind, name = key
    if kind != "subtask" or name not in state.plan.ids:
        return None
    began = min(bar.start for bar in lanes[key].bars if bar.kind != "turn")
    wanted: list[Key] = [("subtask", one) for one in state.plan[name].depends_on]
    wanted += [("tool", one) for one in state.plan[name].tools]
    if (cause := notes.cause.get(name)) is not None:
        wanted.append(("subtask", cause))
    ended = [lanes[one] for one in wanted if one in lanes and lanes[one].end <= began + SHORT_S]
    return max(ended, key=lambda lane: lane.end).key if ended else None


def path_steps(timeline: Timeline) -> list[tuple[Key, float, float]]:
    """The critical path as `(key, seconds at work, seconds until the next began)`."""
    lanes = {lane.key: lane for lane in timeline.lanes}
    found = [lanes[key] for key in timeline.path]
    gaps = [max(0.0, after.start - before.end) for before, after in pairwise(found)]
    return [(lane.key, lane.seconds, gap) for lane, gap in zip(found, [*gaps, 0.0], strict=False)]
