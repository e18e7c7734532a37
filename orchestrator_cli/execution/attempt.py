"""One attempt at a subtask as a value in and a value out.

An `AttemptSpec` says everything that the attempt is; an `AttemptOutcome` everything that it came to. What it
needs meanwhile goes through `AttemptServices`, whose calls carry values only. So an attempt runs in the
run's own process, or in another one, unchanged.

The run prepares the checkout before, and commits or discards it after: see `subtask`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, JsonValue, PrivateAttr

from orchestrator_cli import errors
from orchestrator_cli.approvals.broker import Question
from orchestrator_cli.approvals.effects import EffectCall, EffectFailed, EffectOutcome, EffectRefused
from orchestrator_cli.approvals.permissions import NotAllowed
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.durable.encodings import not_kept
from orchestrator_cli.durable.expressions import ExpressionFailed, holds
from orchestrator_cli.errors import RecoverableError
from orchestrator_cli.events import ApprovalGiven, Fact, Noticed, ResultJudged
from orchestrator_cli.execution.tool_registry import ToolUnavailable
from orchestrator_cli.json_schema import misfits
from orchestrator_cli.models.model import Completion, ModelRequest, OnDelta
from orchestrator_cli.plan import NewTool, Subtask
from orchestrator_cli.planning.answer import summarise
from orchestrator_cli.planning.checks import judge
from orchestrator_cli.process_settings import Process
from orchestrator_cli.roles import Role
from orchestrator_cli.surroundings import Surroundings
from orchestrator_cli.values import AttachedFile, Guidance, Usage
from toolsmith.built import BuiltTool
from toolsmith.library.status import Judgement
from toolsmith.permissions import Installation, Permissions
from toolsmith.sandbox import Backend
from toolsmith.sandbox.proxy import Dialer
from toolsmith.values import not_json

SHOWN_CHARS = 2_000


class AttemptFailed(RecoverableError):
    """The attempt did not bring what the subtask asks for; the message says why."""


class SubtaskTimedOut(TimeoutError):
    """An attempt took longer than its subtask allows. Prefect shows it as `TimedOut`."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# --- in


class CheckoutRef(_Value):
    """Where a checkout is, on the machine that the attempt runs on."""

    folder: Path
    """What a sandbox is given."""
    root: Path
    """The whole view for the host."""
    workspace: Path | None = None
    """The folder that it is a view of; None if that is `root` itself."""
    entrance: tuple[str, ...] = ()
    """What the command of a sandbox has to begin with; empty if the checkout is a copy."""


GIVEN = ("read_skill",)
"""Tools of the run's process that every agent has, if they are there."""


class HostTool(_Value):
    """A tool that the run's process calls, such as one of an MCP server."""

    name: str
    form: dict[str, Any] = {}
    """Its description, parameters and return type as smolagents has them; for agents only."""


class AttemptSpec(_Value):
    """What an attempt is."""

    run: str
    subtask: Subtask
    attempt: int
    """Counts from 1."""
    plan_version: int
    inputs: dict[str, JsonValue] = {}
    """The subtask's, with all references resolved."""
    failure: str = ""
    """Why the attempt before this one failed; empty for the first."""
    role: Role | None = None
    """Of an agent, with the model that was chosen for it."""
    tools: tuple[BuiltTool, ...] = ()
    """The built tools that the subtask names."""
    host_tools: tuple[HostTool, ...] = ()
    unusable: dict[str, str] = {}
    """Why other tools that it names cannot be used."""
    checkout: CheckoutRef | None = None
    """None for a subtask that works on no files."""
    process: Process | None = None
    max_steps: int
    surroundings: Surroundings = Surroundings()
    """What an agent sees of where it works."""
    guidance: Guidance = Guidance()
    """What the project and the user have written down about how to work; for agents."""
    known: tuple[str, ...] = ()
    """What is remembered that concerns the subtask; for agents."""
    packages: Installation | None = None
    """Packages of the index that code of an agent can import."""
    skills: Path | None = None
    """A folder that code of an agent can read, with the files of skills."""
    context_tokens: int | None = None
    """What the model of an agent takes; None if that is unknown."""
    sees: bool = False
    """Whether the model of an agent takes images."""
    attached: tuple[AttachedFile, ...] = ()
    """The attachments that the subtask names, as the model of its agent is given them."""
    allow_protected: tuple[str, ...] = ()
    """Protected names that file tools may touch."""

    @property
    def writes_code(self) -> bool:
        return self.subtask.kind == "agent" and self.role is not None and self.role.agent == "code"

    @property
    def place(self) -> CheckoutRef:
        """Raises `AttemptFailed` if there is no checkout."""
        if self.checkout is None:
            raise AttemptFailed(f"a subtask of kind {self.subtask.kind} works on no files")
        return self.checkout


# --- out


class ErrorValue(_Value):
    """An error as a value: what crosses a process instead of an exception."""

    kind: str
    """The class: one of `KINDS`, or empty for any other."""
    message: str
    remedy: str = ""
    approvals: tuple[str, ...] = ()
    _cause: BaseException | None = PrivateAttr(default=None)

    @classmethod
    def of(cls, exc: BaseException) -> "ErrorValue":
        """Of an error that is not known, its type is in the message; one of the storage is `StorageFault`."""
        exc = errors.storage_fault(exc) or exc
        known = next((one for one in type(exc).__mro__ if one.__name__ in KINDS), None)
        text = str(exc).strip() or type(exc).__name__
        made = cls(
            kind=known.__name__ if known else "",
            message=getattr(exc, "message", text) if known else f"{type(exc).__name__}: {text}",
            remedy=getattr(exc, "remedy", ""),
            approvals=getattr(exc, "approvals", ()),
        )
        made._cause = exc  # for a traceback, as long as it stays in this process
        return made

    def error(self) -> Exception:
        """The exception again; one of no known class is `AttemptFailed`."""
        kind = KINDS.get(self.kind, AttemptFailed)
        if issubclass(kind, errors.ApprovalNeeded):
            made: Exception = kind(self.message, self.remedy, self.approvals)
        else:
            made = (
                kind(self.message, self.remedy) if issubclass(kind, errors.OrchError) else kind(self.message)
            )
        made.__cause__ = self._cause
        return made


_ERRORS: tuple[type[Exception], ...] = (
    *(AttemptFailed, SubtaskTimedOut, EffectFailed, EffectRefused, NotAllowed),
    *(
        errors.UsageError,
        errors.ConfigError,
        errors.StorageFault,
        errors.ProviderError,
        errors.RequestRefused,
    ),
    *(errors.ReplyUnusable, errors.RunFailed, errors.NotApproved, errors.LimitReached, errors.ApprovalNeeded),
    *(errors.RunTimedOut, errors.Interrupted, errors.Cancelled, ToolUnavailable),
)
KINDS: Mapping[str, type[Exception]] = {one.__name__: one for one in _ERRORS}


class AttemptOutcome(_Value):
    """What an attempt came to."""

    value: JsonValue = None
    surprise: str | None = None
    usage: Usage = Usage()
    error: ErrorValue | None = None
    """Why it brought no value."""


# --- meanwhile


class EffectGrant(_Value):
    """Whether a call with effects outside the workspace is to be made."""

    key: str = ""
    """The idempotency key to make it with; empty if it was made before."""
    value: JsonValue = None
    """What it came to then."""


class AttemptServices(Protocol):
    """What an attempt asks of its run. Everything that crosses is a value."""

    def complete(
        self, request: ModelRequest, on_delta: OnDelta | None = None, cancellation: Cancellation | None = None
    ) -> Completion:
        """As `Model.complete`; the last two stay in this process."""

    def ask(self, question: Question) -> ApprovalGiven:
        """The answer of a person. Raises `ApprovalNeeded` if no one is there."""

    def emit(self, fact: Fact) -> None:
        """Say what happened."""

    def changed_files(self) -> list[str]:
        """What was created, written or deleted in the checkout so far."""

    def written_files(self) -> list[str]:
        """Those of the changed files that are still there."""

    def check_room(self) -> None:
        """Raise `StorageFault` if what was written so far does not fit on the disk."""

    def call_tool(self, name: str, arguments: dict[str, JsonValue]) -> JsonValue:
        """Call one of `AttemptSpec.host_tools`. Raises what the tool raises."""

    def request_tool(self, tool: NewTool) -> BuiltTool:
        """A tool that the plan did not foresee. Raises `ToolUnavailable`."""

    def permit_tool(self, tool: BuiltTool) -> Permissions:
        """What a built tool may have. Raises `PermissionRefused` and `ApprovalNeeded`."""

    def stopped_tool(self, name: str, version: int) -> str:
        """Why a tool must not be called any more; empty if it may be."""

    def note_use(self, tool: BuiltTool, judgement: Judgement, seconds: float) -> None:
        """Keep how a built tool did."""

    def begin_effect(self, call: EffectCall) -> EffectGrant:
        """Raises `EffectRefused` and `ApprovalNeeded`."""

    def end_effect(self, key: str, ok: bool, outcome: EffectOutcome | None) -> None:
        """How the call ended; without an outcome it is not known."""


@dataclass(frozen=True)
class Host:
    """Where an attempt runs: what its process has by itself."""

    backend: Backend
    dialer: Dialer
    cancellation: Cancellation
    """Ends the attempt."""


MakeAttempt = Callable[[AttemptSpec, AttemptServices, Host], AttemptOutcome]
"""Makes an attempt in this process, or has another one make it."""


# --- the attempt


@dataclass
class Attempt:
    """An attempt under way. The lists grow while it goes on."""

    spec: AttemptSpec
    services: AttemptServices
    host: Host
    surprises: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)

    @property
    def subtask(self) -> Subtask:
        return self.spec.subtask

    @property
    def cancellation(self) -> Cancellation:
        return self.host.cancellation

    def refusal(self, value: JsonValue) -> str | None:
        """Why a value is not what the subtask asks for, or None; a model is asked last, if at all."""
        reason = (
            _not_finite(value)
            or not_kept(self.services.changed_files())
            or misfit(self.subtask.result, value)
            or self._check(value)
        )
        if reason is not None or self.subtask.judge is None:
            return reason
        self.services.check_room()
        verdict = judge(
            self.subtask,
            value,
            self.services.written_files(),
            model=self.services,
            cancellation=self.cancellation,
            repaired=lambda text: self.services.emit(Noticed(message=f"A verdict was repaired: {text}")),
        )
        self.usage += verdict.usage
        self.services.emit(
            ResultJudged(
                subtask=self.subtask.id, attempt=self.spec.attempt, good=verdict.good, reason=verdict.reason
            )
        )
        return None if verdict.good else f"it was judged not to be good: {verdict.reason}"

    def _check(self, value: JsonValue) -> str | None:
        check = self.subtask.check
        if check is None:
            return None
        files = self.services.written_files()
        try:
            if holds(check, {"value": value, "summary": summarise(value), "files": files}):
                return None
        except ExpressionFailed as exc:
            return f"the check {check!r} cannot be evaluated: {exc}"
        return f"the check {check!r} does not hold (files: {', '.join(files) or 'none'})"


def misfit(schema: dict[str, JsonValue] | None, value: JsonValue) -> str | None:
    """In what a value does not fit a schema, or None."""
    if schema is None:
        return None
    faults = []
    for path, text in misfits(schema, value):
        # jsonschema puts the value first and what is wrong with it last.
        short = text if len(text) <= 240 else f"{text[:100]} … {text[-140:]}"
        faults.append(f"{path or 'the value'}: {short}")
    return f"the value does not fit the schema: {'; '.join(faults[:5])}" if faults else None


def _not_finite(value: JsonValue) -> str | None:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return not_json(value, "the value")
    return None


def as_json(value: Any) -> JsonValue:
    """A value as plain JSON; what has no JSON form becomes its text."""
    plain: JsonValue = json.loads(json.dumps(value, default=_plain))
    return plain


def _plain(value: Any) -> Any:
    return sorted(value, key=str) if isinstance(value, set | frozenset) else str(value)


def pretty(value: Any) -> str:
    """A value as JSON to be read."""
    return json.dumps(as_json(value), ensure_ascii=False, indent=2)
