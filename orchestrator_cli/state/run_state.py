"""What is known of a run at one moment, as a frozen value.

The scheduler, resume, the views, JSON output, fork and replay all read this value. Only `apply` makes a
new one, from an event; the properties here derive the rest.

Not covered: a question that was withdrawn leaves no event, and counts as open until its subtask starts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from orchestrator_cli import events
from orchestrator_cli.plan import Patch, Plan, Result, State, Subtask, order, ready, unstarted, whole_name
from orchestrator_cli.planning.reviser import Cause, UserRefusal
from orchestrator_cli.values import Attachment, Conversation, ShownMemory, Usage, seconds_between

OVER: frozenset[State] = frozenset({"done", "failed", "skipped"})


@dataclass(frozen=True)
class Accepted:
    """A result whose commit was about to begin."""

    result: Result
    seconds: float
    """How long the attempt had taken."""
    committed: bool = False
    """Whether its changes are in the journal."""


@dataclass(frozen=True)
class Version:
    """A version of the plan, and why it replaced the one before it."""

    plan: Plan
    reason: str = ""
    cause: str = ""
    patch: Patch | None = None
    """The change that made it, if the reviser did."""
    is_wished: bool = False
    """Whether only remarks of the user led to it: they are about this run and teach nothing."""


@dataclass(frozen=True)
class Activity:
    """What a subtask is doing, for views."""

    doing: str = ""
    """Its latest step in a few words, as a model or a tool put them: clean it before it is shown."""
    since: datetime | None = None
    """When it started, while it runs."""
    seconds: float | None = None
    """How long it took, once it has ended."""
    items: int | None = None
    """Of a `for_each` subtask: the length of its list."""
    ended: frozenset[str] = frozenset()
    """Its instances that have ended."""


class PendingCall(NamedTuple):
    """A model call that has not ended."""

    role: str
    subtask: str
    """Empty if it is about the run as a whole."""
    model: str
    since: datetime
    waits_for: str = ""
    """What it waits for before it is made; empty once it is made."""


@dataclass(frozen=True)
class Work:
    """What was spent on a subtask, or on one of the roles that ask a model about the run."""

    attempts: int = 0
    seconds: float | None = None
    """Of the attempt that succeeded."""
    usage: Usage = field(default_factory=Usage)
    models: tuple[str, ...] = ()
    """Models that were asked, in order."""
    answered_by: frozenset[str] = frozenset()
    """Those of them that replied."""


@dataclass(frozen=True)
class RunState:
    """A run up to an event. Mappings are never written to; names are those of subtasks and instances."""

    run: str = ""
    last: int = 0
    """The number of the last event."""
    now: datetime = datetime.min
    """The time of the last event."""
    began: datetime | None = None
    latest: datetime | None = None
    """The time of the last event at which a process had the run."""
    started: events.RunStarted | None = None
    recalled: events.Recalled | None = None
    transcripts: Mapping[str, str] = field(default_factory=dict)
    """What is said in attached recordings, by the names of these."""
    reused: events.PlanReused | None = None
    declined: tuple[events.ReuseDeclined, ...] = ()
    feedback: events.FeedbackGiven | None = None
    remarks: tuple[str, ...] = ()
    """What the user said while it ran; it is part of the request."""
    phase: str = ""
    """What the run as a whole is doing, in a few words."""
    # --- the plan
    versions: tuple[Version, ...] = ()
    """Every version of the plan, oldest first."""
    approved: bool = False
    """Whether the user has allowed the plan to run."""
    causes: tuple[Cause, ...] = ()
    """What the reviser has not settled; `finished` concerns only one that is always asked."""
    answered: frozenset[str] = frozenset()
    """Failed subtasks that the reviser has changed the plan for."""
    goal_told: int = 0
    """The plan version for which the reviser dealt with a missed goal."""
    # --- subtasks
    states: Mapping[str, State] = field(default_factory=dict)
    """A subtask that is not named is pending."""
    results: Mapping[str, Result] = field(default_factory=dict)
    instances: Mapping[str, Result] = field(default_factory=dict)
    """Results of instances of `for_each` subtasks."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why a subtask failed or was skipped."""
    instance_failures: Mapping[str, str] = field(default_factory=dict)
    """Why an instance failed. Another process tries it again."""
    lost: frozenset[str] = frozenset()
    """Subtasks and instances whose last failure was that a model's provider could not be asked."""
    waiting: Mapping[str, str] = field(default_factory=dict)
    """The approval that a subtask or an instance waits for."""
    attempts: Mapping[str, int] = field(default_factory=dict)
    """The highest number of an attempt that began."""
    earlier_attempts: Mapping[str, int] = field(default_factory=dict)
    """The same, when the latest process took the run over."""
    accepted: Mapping[str, Accepted] = field(default_factory=dict)
    """Results that were accepted and not yet said to be finished."""
    activity: Mapping[str, Activity] = field(default_factory=dict)
    asking: tuple[PendingCall, ...] = ()
    """Model calls under way, oldest first; empty in a state that was read from a journal."""
    work: Mapping[str, Work] = field(default_factory=dict)
    """By subtask; model calls for none by their role."""
    starts: Mapping[str, datetime] = field(default_factory=dict)
    changes: Mapping[str, events.FileChange] = field(default_factory=dict)
    """What the run changed in the workspace from its beginning until now, by path."""
    deleted: frozenset[str] = frozenset()
    """Paths whose last change in this run was that they were deleted."""
    # --- tools, people, effects
    building: Mapping[str, str] = field(default_factory=dict)
    """What happens to each tool that is being built."""
    built: tuple[events.ToolBuilt, ...] = ()
    """Tools that the run built, in order."""
    borrowed: tuple[str, ...] = ()
    """Tools that the run took from the library."""
    had: Mapping[str, events.ToolBuilt | events.ToolReused] = field(default_factory=dict)
    """The version of each of them that the run used last."""
    asked: Mapping[str, events.ApprovalAsked] = field(default_factory=dict)
    given: Mapping[str, events.ApprovalGiven] = field(default_factory=dict)
    effects: Mapping[str, events.EffectBegun] = field(default_factory=dict)
    """What began outside the workspace and is not known to have ended, by key."""
    ended: Mapping[str, events.EffectEnded] = field(default_factory=dict)
    # --- the run
    flow_run: str = ""
    url: str = ""
    """Where Prefect shows the flow run."""
    usage: Usage = field(default_factory=Usage)
    finished: events.RunFinished | None = None
    """How the run ended, unless another process took it over since."""
    paused: bool = False
    undone: bool = False
    """Whether some of its changes were taken back."""
    before_s: float = 0.0
    since: datetime | None = None

    @property
    def prompt(self) -> str:
        return self.started.prompt if self.started else ""

    @property
    def said(self) -> str:
        """All that the user asked for: the prompt, and the remarks in paragraphs of their own."""
        return "\n\n".join((self.prompt, *self.remarks))

    @property
    def workspace(self) -> str:
        return self.started.workspace if self.started else ""

    @property
    def mark(self) -> str:
        """Of the workspace."""
        return self.started.mark if self.started else ""

    @property
    def occasion(self) -> str:
        """What set it off, if a schedule did besides its times."""
        return self.started.occasion if self.started else ""

    @property
    def conversation(self) -> Conversation:
        if self.started is None:
            return Conversation()
        begun = self.started
        return Conversation(session=begun.session, earlier=begun.earlier, turns=begun.conversation)

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The files that the user gave the run."""
        return self.started.attachments if self.started else ()

    @property
    def answer_schema(self) -> dict[str, JsonValue] | None:
        """What the answer has to satisfy; None if it is in words."""
        return self.started.answer_schema if self.started else None

    @property
    def speak(self) -> Path | None:
        """The file that gets the answer as sound."""
        return Path(self.started.speak) if self.started and self.started.speak else None

    @property
    def is_more_than_its_prompt(self) -> bool:
        """Whether its plan is about more than the prompt says: files, the form of the answer, an occasion."""
        return bool(self.attachments or self.occasion) or self.answer_schema is not None

    @property
    def has_plan(self) -> bool:
        return bool(self.versions)

    @property
    def plan(self) -> Plan:
        """The newest version. Raises `IndexError` if there is none, see `has_plan`."""
        return self.versions[-1].plan

    @property
    def earlier(self) -> tuple[Plan, ...]:
        """The versions before the newest, oldest first."""
        return tuple(version.plan for version in self.versions[:-1])

    @property
    def lessons(self) -> tuple[str, ...]:
        """The reasons of the patches."""
        return tuple(version.reason for version in self.versions if version.patch)

    @property
    def own_lessons(self) -> tuple[str, ...]:
        """Those of patches that the work itself led to."""
        return tuple(one.reason for one in self.versions if one.patch and not one.is_wished)

    @property
    def is_wished(self) -> bool:
        """Whether the plan has what only remarks of the user asked for, and not the prompt."""
        return any(version.is_wished for version in self.versions)

    @property
    def revisions(self) -> int:
        return len(self.lessons)

    @property
    def made(self) -> tuple[str, ...]:
        """The names of the tools that the run built."""
        return tuple(built.tool for built in self.built)

    @property
    def unread(self) -> tuple[str, ...]:
        """What the user said and no reviser has dealt with."""
        return tuple(cause.text for cause in self.causes if cause.what == "the user said")

    @property
    def refusals(self) -> tuple[UserRefusal, ...]:
        """What the user did not allow and gave a reason for, oldest first."""
        return tuple(
            UserRefusal(subject=_subject(self.asked[given.id]), reason=given.remark)
            for given in self.given.values()
            if given.decision == "no" and given.remark and given.by != "deadline" and given.id in self.asked
        )

    def waits(self, blocked: Mapping[str, str]) -> frozenset[str]:
        """Of names with the approval that each waits for, those without an answer."""
        return frozenset(name for name, approval in blocked.items() if approval not in self.given)

    @property
    def unanswered(self) -> list[events.ApprovalAsked]:
        """Every question without an answer."""
        return [asked for name, asked in self.asked.items() if name not in self.given]

    @property
    def facts(self) -> tuple[str, ...]:
        """What was remembered about the user."""
        return self.recalled.facts if self.recalled else ()

    @property
    def shown(self) -> tuple[ShownMemory, ...]:
        """What of memory the planner was shown: facts, and what was said elsewhere."""
        return self.recalled.shown if self.recalled else ()

    @property
    def files(self) -> tuple[str, ...]:
        """What finished subtasks wrote and none has deleted since."""
        return tuple(sorted({path for r in self.results.values() for path in r.files} - self.deleted))

    @property
    def seconds(self) -> float:
        """How long processes have worked on the run; the time between them does not count."""
        if self.since is None or self.latest is None:
            return self.before_s
        return self.before_s + seconds_between(self.since, self.latest)

    def state_of(self, subtask: str) -> State:
        return self.states.get(subtask, "pending")

    @property
    def pending(self) -> list[Subtask]:
        """What a patch may still change, in plan order."""
        return unstarted(self.plan, self.states)

    def startable(self, held: frozenset[str] = frozenset()) -> list[Subtask]:
        """What may start now, in plan order; `held` waits for a revision."""
        lost = self.stranded
        return [s for s in ready(self.plan, self.states, held) if not lost.intersection(s.depends_on)]

    @property
    def stranded(self) -> frozenset[str]:
        """What was skipped because something that it waits for had failed."""
        if not self.has_plan or "skipped" not in self.states.values():
            return frozenset()
        found: set[str] = set()
        for name in order(self.plan):
            depends_on = self.plan[name].depends_on
            lost = any(self.state_of(d) not in ("done", "skipped") or d in found for d in depends_on)
            if lost and self.state_of(name) == "skipped":
                found.add(name)
        return frozenset(found)

    @property
    def failed(self) -> frozenset[str]:
        """Failures that led to no change of the plan."""
        return frozenset(n for n, state in self.states.items() if state == "failed") - self.answered

    @property
    def open(self) -> tuple[events.ApprovalAsked, ...]:
        """Questions without an answer that something still waits for."""
        if self.finished is not None and self.finished.outcome in ("completed", "cancelled"):
            return ()
        over = {name for name, state in self.states.items() if state in OVER}
        waiting = (self.plan.ids if self.has_plan else frozenset()) - over
        return tuple(
            asked
            for name, asked in self.asked.items()
            if name not in self.given
            and (
                asked.what not in ("subtask", "question")
                or not asked.subject
                or whole_name(asked.subject) in waiting
            )
        )


def _subject(asked: events.ApprovalAsked) -> str:
    """What a question is about, in words that no file and no server can choose."""
    return asked.subject if asked.what in ("plan", "writes", "subtask", "question") else "a permission"
