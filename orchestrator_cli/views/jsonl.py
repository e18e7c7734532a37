"""A run for programs: every event as a line of JSON, or the whole run as one JSON object."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from orchestrator_cli import events
from orchestrator_cli.errors import OrchError
from orchestrator_cli.events import SCHEMA, Event, FileChange
from orchestrator_cli.views.board import Board, after
from orchestrator_cli.views.streams import write

# JSON may hold these raw, but many readers split lines at them.
_LINE_BREAKS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}


class JsonLines:
    """The view that writes `event.json_line()` and flushes, until nobody reads any more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._read = True

    def __call__(self, event: Event) -> None:
        if self._read:
            self._read = write_line(self._stream, event.json_line())

    def close(self) -> None:
        """The stream stays open: it is the caller's."""


class Envelope:
    """The view that keeps what a run came to, for `result()` to give as one object."""

    def __init__(self) -> None:
        self._board = Board()
        self._end: events.RunFinished | None = None
        self._revisions: list[dict[str, Any]] = []
        self._changes: dict[str, FileChange] = {}
        self._tools: list[dict[str, Any]] = []
        self._asked: dict[str, events.ApprovalAsked] = {}

    def __call__(self, event: Event) -> None:
        self._board = after(self._board, event)
        match event.data:
            case events.PlanRevised(plan=plan, patch=patch, cause=cause):
                revision = {"version": plan.version, "reason": patch.reason, "cause": cause}
                self._revisions.append(revision | {"patch": patch.model_dump(mode="json")})
            case events.FilesChanged(changes=changes):
                for change in changes:
                    self._keep(change)
            case events.ToolBuilt(tool=tool, version=version, sha256=sha256):
                self._tools.append({"tool": tool, "version": version, "sha256": sha256})
            case events.ApprovalAsked(id=name):
                self._asked[name] = event.data
            case events.ApprovalGiven(id=name):
                self._asked.pop(name, None)
            case events.RunFinished():
                self._end = event.data
            case events.RunResumed():
                self._end = None

    def catch_up(self, found: Sequence[Event]) -> None:
        """Be told what a run had come to that goes on in another process."""
        for event in found:
            self(event)

    def close(self) -> None:
        """Nothing is held open."""

    def result(self, error: OrchError | None = None) -> dict[str, Any]:
        """The envelope, of JSON values. `error` is what ended the run, or kept it from starting.

        Keys: `schema`, `run` (null before one started), `outcome` (`completed`, `failed`,
        `interrupted`, `paused`, `cancelled`), `answer`, `exit_code`, `plan` (the last version, or
        null), `states` (per subtask), `approvals` (questions without an answer), `revisions`,
        `tools` (built in this run), `files` (net changes by path), `usage`, `seconds`, `error` (null,
        or `message` and `remedy`).
        """
        end, plan = self._end, self._board.plan
        return {
            "schema": SCHEMA,
            "run": self._board.run or None,
            "outcome": end.outcome if end else ("interrupted" if _interrupted(error) else "failed"),
            "answer": end.answer if end else "",
            "exit_code": error.exit_code if error else end.exit_code if end else 1,
            "plan": plan.model_dump(mode="json") if plan else None,
            "states": self._board.states,
            "approvals": [asked.model_dump(mode="json", exclude={"kind"}) for asked in self._asked.values()],
            "revisions": self._revisions,
            "tools": self._tools,
            "files": [change.model_dump(mode="json") for change in self._changes.values()],
            "usage": self._board.usage.model_dump(mode="json"),
            "seconds": end.seconds if end else None,
            "error": _error(error, end),
        }

    def _keep(self, change: FileChange) -> None:
        """One change per path, from before the run to after it; a file made and deleted again is none."""
        first = self._changes.pop(change.path, change)
        if first.before_sha256 is None and first.change == "created":
            if change.change != "deleted":
                self._changes[change.path] = change.model_copy(update={"change": "created", **_before(first)})
            return
        kind = "modified" if change.change == "created" else change.change
        self._changes[change.path] = change.model_copy(update={"change": kind, **_before(first)})


def envelope_line(result: dict[str, Any]) -> str:
    """The object on one line."""
    return json.dumps(result, ensure_ascii=False)


def changes_line(run: str, changes: Iterable[FileChange]) -> str:
    """What a run, or its undo, changed: `schema`, `run`, `files`."""
    files = [change.model_dump(mode="json") for change in changes]
    return envelope_line({"schema": SCHEMA, "run": run, "files": files})


def write_line(stream: TextIO, line: str) -> bool:
    """Write a line of JSON whole and in an encoding that the stream has; False where nobody reads."""
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower()
    if not encoding.startswith("utf"):
        line = json.dumps(json.loads(line))
    return write(stream, line.translate(_LINE_BREAKS) + "\n")


def _before(change: FileChange) -> dict[str, Any]:
    return {"before_size": change.before_size, "before_sha256": change.before_sha256}


def _interrupted(error: OrchError | None) -> bool:
    return error is not None and error.exit_code == 130


def _error(error: OrchError | None, end: events.RunFinished | None) -> dict[str, str] | None:
    if error is not None:
        return {"message": error.message, "remedy": error.remedy}
    if end is None:
        return {"message": "The run has not ended.", "remedy": ""}
    message, _, remedy = (end.error or "").partition("\n")
    return {"message": message, "remedy": remedy} if message else None
