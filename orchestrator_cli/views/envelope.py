"""A run as one JSON object, which `--json` prints, and the JSON Schemas of what programs are given."""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from orchestrator_cli import events
from orchestrator_cli.errors import OrchError
from orchestrator_cli.events import Event, FileChange
from orchestrator_cli.plan import Patch, Plan, State
from orchestrator_cli.state import RunState
from orchestrator_cli.values import OpenApproval, Outcome, Usage

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RevisionShape(_Shape):
    """A change of the plan by the reviser."""

    version: int
    reason: str
    cause: str
    patch: Patch


class ToolShape(_Shape):
    """A tool that the run built."""

    tool: str
    version: int
    sha256: str


class ErrorShape(_Shape):
    """What ended the run, or kept it from starting."""

    message: str
    remedy: str


class RunEnvelope(_Shape):
    """The outcome of a run, as `orch ask --json` prints it on one line."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    run: str | None
    """Null before one started."""
    outcome: Outcome
    answer: str
    value: JsonValue
    """The answer as data if a schema was given; else the value of the only subtask, or null."""
    exit_code: int
    plan: Plan | None
    """The last version."""
    states: dict[str, State]
    """By subtask."""
    approvals: tuple[OpenApproval, ...]
    revisions: tuple[RevisionShape, ...]
    tools: tuple[ToolShape, ...]
    files: tuple[FileChange, ...]
    """Net changes, by path."""
    usage: Usage
    seconds: float | None
    error: ErrorShape | None


def schema_of_envelope() -> dict[str, Any]:
    """The JSON Schema of what `--json` prints."""
    return {"$schema": DIALECT, **RunEnvelope.model_json_schema(by_alias=True, mode="serialization")}


def schema_of_events() -> dict[str, Any]:
    """The JSON Schema of each line that `--stream-json` prints."""
    return {"$schema": DIALECT, **Event.model_json_schema(by_alias=True, mode="serialization")}


class Envelope:
    """The view that collects the outcome of a run, which `result()` returns as one object."""

    def __init__(self) -> None:
        self._state = RunState()

    def __call__(self, event: Event, state: RunState) -> None:  # noqa: ARG002
        self._state = state

    def close(self) -> None:
        """Nothing is held open."""

    def result(self, error: OrchError | None = None) -> dict[str, Any]:
        """As `envelope_of`."""
        return envelope_of(self._state, error)


def envelope_of(state: RunState, error: OrchError | None = None) -> dict[str, Any]:
    """The `RunEnvelope` as JSON values. `error` is what ended the run, or kept it from starting."""
    end = state.finished
    unended: Outcome = "interrupted" if error is not None and error.exit_code == 130 else "failed"
    made = RunEnvelope(
        run=state.run or None,
        outcome=end.outcome if end else unended,
        answer=end.answer if end else "",
        value=sole_value(state) if state.answer_schema is None else data_answer(state),
        exit_code=error.exit_code if error else end.exit_code if end else 1,
        plan=state.plan if state.has_plan else None,
        states=states_of(state),
        approvals=tuple(OpenApproval(**asked.model_dump(exclude={"kind"})) for asked in state.unanswered),
        revisions=tuple(
            RevisionShape(
                version=version.plan.version, reason=version.reason, cause=version.cause, patch=version.patch
            )
            for version in state.versions
            if version.patch
        ),
        tools=tuple(
            ToolShape(tool=built.tool, version=built.version, sha256=built.sha256) for built in state.built
        ),
        files=tuple(state.changes.values()),
        usage=state.usage,
        seconds=end.seconds if end else None,
        error=_error(error, end),
    )
    return made.model_dump(mode="json", by_alias=True)


def sole_value(state: RunState) -> JsonValue:
    """The value of a plan's only subtask, as it is before it is worded; None if there are more or none."""
    only = state.plan.subtasks if state.has_plan else ()
    return state.results[only[0].id].value if len(only) == 1 and only[0].id in state.results else None


def data_answer(state: RunState) -> JsonValue:
    """The answer that satisfies the schema of the prompt; None if there is none."""
    end = state.finished
    found: JsonValue = json.loads(end.answer) if end is not None and end.answer else None
    return found


def states_of(run: RunState) -> dict[str, State]:
    """The state of every subtask of the newest plan, by its id."""
    return {s.id: run.state_of(s.id) for s in run.plan.subtasks} if run.has_plan else {}


def _error(error: OrchError | None, end: events.RunFinished | None) -> ErrorShape | None:
    if error is not None:
        return ErrorShape(message=error.message, remedy=error.remedy)
    if end is None:
        return ErrorShape(message="The run has not ended.", remedy="")
    message, _, remedy = (end.error or "").partition("\n")
    return ErrorShape(message=message, remedy=remedy) if message else None
