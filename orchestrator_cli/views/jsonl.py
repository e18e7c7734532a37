"""A run for programs: every event as a line of JSON, or the whole run as one JSON object."""

import json
from collections.abc import Iterable
from typing import Any, TextIO

from orchestrator_cli import events
from orchestrator_cli.errors import OrchError
from orchestrator_cli.events import SCHEMA, Event, FileChange
from orchestrator_cli.plan import State
from orchestrator_cli.state import RunState
from orchestrator_cli.views.streams import write

# JSON may hold these raw, but many readers split lines at them.
_LINE_BREAKS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}


class JsonLines:
    """The view that writes `event.json_line()` and flushes, until the reader has left."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._read = True

    def __call__(self, event: Event, state: RunState) -> None:  # noqa: ARG002
        if self._read:
            self._read = write_line(self._stream, event.json_line())

    def close(self) -> None:
        """The stream belongs to the caller and stays open."""


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
    """The envelope, of JSON values. `error` is what ended the run, or kept it from starting.

    Keys: `schema`, `run` (null before one started), `outcome` (`completed`, `failed`,
    `interrupted`, `paused`, `cancelled`), `answer`, `exit_code`, `plan` (the last version, or
    null), `states` (per subtask), `approvals` (questions without an answer), `revisions`,
    `tools` (built in this run), `files` (net changes by path), `usage`, `seconds`, `error` (null,
    or `message` and `remedy`).
    """
    end = state.finished
    return {
        "schema": SCHEMA,
        "run": state.run or None,
        "outcome": end.outcome if end else ("interrupted" if _interrupted(error) else "failed"),
        "answer": end.answer if end else "",
        "exit_code": error.exit_code if error else end.exit_code if end else 1,
        "plan": state.plan.model_dump(mode="json") if state.has_plan else None,
        "states": states_of(state),
        "approvals": [asked.model_dump(mode="json", exclude={"kind"}) for asked in state.unanswered],
        "revisions": [
            {
                "version": version.plan.version,
                "reason": version.reason,
                "cause": version.cause,
                "patch": version.patch.model_dump(mode="json"),
            }
            for version in state.versions
            if version.patch
        ],
        "tools": [
            {"tool": built.tool, "version": built.version, "sha256": built.sha256} for built in state.built
        ],
        "files": [change.model_dump(mode="json") for change in state.changes.values()],
        "usage": state.usage.model_dump(mode="json"),
        "seconds": end.seconds if end else None,
        "error": _error(error, end),
    }


def states_of(run: RunState) -> dict[str, State]:
    """The state of every subtask of the newest plan, by its id."""
    return {s.id: run.state_of(s.id) for s in run.plan.subtasks} if run.has_plan else {}


def envelope_line(result: dict[str, Any]) -> str:
    """The object on one line."""
    return json.dumps(result, ensure_ascii=False)


def changes_line(run: str, changes: Iterable[FileChange]) -> str:
    """The changes of a run or of its undo as one line of JSON: `schema`, `run`, `files`."""
    files = [change.model_dump(mode="json") for change in changes]
    return envelope_line({"schema": SCHEMA, "run": run, "files": files})


def write_line(stream: TextIO, line: str) -> bool:
    """Write a line of JSON in the encoding of the stream. Returns False if the reader has left."""
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower()
    if not encoding.startswith("utf"):
        line = json.dumps(json.loads(line))
    return write(stream, line.translate(_LINE_BREAKS) + "\n")


def _interrupted(error: OrchError | None) -> bool:
    return error is not None and error.exit_code == 130


def _error(error: OrchError | None, end: events.RunFinished | None) -> dict[str, str] | None:
    if error is not None:
        return {"message": error.message, "remedy": error.remedy}
    if end is None:
        return {"message": "The run has not ended.", "remedy": ""}
    message, _, remedy = (end.error or "").partition("\n")
    return {"message": message, "remedy": remedy} if message else None
