"""The figures of past runs, read from their journals.

Of each journal only the lines about its beginning and end, model calls and tools are parsed; journals of runs
that began too early are not opened. The slowest run alone is read whole, for its critical path.

Not covered: what a run of an older version did not write; and of a run without an end, the time after its
last model call or tool.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from orchestrator_cli.durable.files import read_records
from orchestrator_cli.errors import RunFailed
from orchestrator_cli.events import SCHEMA
from orchestrator_cli.journal.journal import lock_owner, read_journal
from orchestrator_cli.runs.beginnings import began
from orchestrator_cli.runs.find import check_names_itself, journals_of
from orchestrator_cli.settings import Settings
from orchestrator_cli.state import fold
from orchestrator_cli.values import Usage, seconds_between
from orchestrator_cli.views.stats import (
    ModelFigures,
    PathStep,
    RunFigures,
    RunStats,
    SlowestRun,
    ToolFigures,
    first_monday,
    stats_of,
)
from orchestrator_cli.views.timeline import path_steps, timeline_of

WANTED = frozenset(
    b"RunStarted RunResumed RunPaused RunFinished Spent ToolCalled ToolBuilt ToolReused ToolRefused".split()
)
ONE_MORE = {
    "ToolBuilt": ToolFigures(built=1),
    "ToolReused": ToolFigures(reused=1),
    "ToolRefused": ToolFigures(refused=1),
}
_KIND = re.compile(rb'"data": ?\{"kind": ?"(\w+)"')
HEAD = 300
"""The bytes of a line in which its kind is found."""


def read_stats(
    settings: Settings,
    *,
    everywhere: bool,
    weeks: int,
    today: date,
    on_unread: Callable[[str], None] = lambda _: None,
) -> RunStats:
    """The figures of the last weeks of the workspace, or of all workspaces.

    Journals that cannot be read are passed to `on_unread`, each as a line for people.
    """
    since = first_monday(today, weeks)
    root = None if everywhere else settings.workspace.resolve()
    rows: dict[Path, RunFigures] = {}
    unread = 0
    first = datetime.combine(since, time.min).astimezone()
    for journal in takewhile(lambda path: began(path) >= first, journals_of(settings)):
        try:
            check_names_itself(journal)
            row = figures_of(journal, root)
        except (RunFailed, OSError) as exc:
            unread += 1
            on_unread(f"Run {journal.parent.name} cannot be read: {exc}")
            continue
        if row is not None and since <= row.began.astimezone().date() < since + timedelta(weeks=weeks):
            rows[journal] = row
    return stats_of(list(rows.values()), since, weeks, _slowest(rows), unread)


def figures_of(journal: Path, root: Path | None = None) -> RunFigures | None:
    """The figures of a run; None if it did not begin, or works on another folder than `root`.

    Raises `OSError`, and `RunFailed` if a later version wrote the journal.
    """
    notes = _FigureNotes()
    for schema in read_records(journal, partial(_read_line, notes)):
        if schema > SCHEMA:
            raise RunFailed(f"{journal} has schema {schema}; this version reads schema {SCHEMA}.")
    if notes.began is None or (root is not None and notes.workspace != str(root)):
        return None
    state = notes.state
    if not state:
        running = lock_owner(journal.parent) is not None
        state = "running" if running else "paused" if notes.paused else "died"
    return RunFigures(
        run=journal.parent.name,
        began=notes.began,
        state=state,
        seconds=notes.seconds,
        usage=notes.usage,
        prompt=notes.prompt,
        models={name: one._replace(runs=1) for name, one in notes.models.items()},
        tools=notes.tools,
    )


def _read_line(notes: "_FigureNotes", line: bytes) -> int:
    """Note what a line says, unless it is of a kind without figures. Returns its schema."""
    kind = _KIND.search(line[:HEAD])
    if kind is not None and kind[1] not in WANTED:
        return SCHEMA
    row = json.loads(line)
    if row["schema"] <= SCHEMA:
        notes.add(datetime.fromisoformat(row["time"]), row["data"])
    return int(row["schema"])


@dataclass
class _FigureNotes:
    """What the lines up to now say."""

    began: datetime | None = None
    workspace: str = ""
    prompt: str = ""
    state: str = ""
    """How the run ended; empty while it has not."""
    paused: bool = False
    seconds: float = 0.0
    usage: Usage = field(default_factory=Usage)
    models: dict[str, ModelFigures] = field(default_factory=dict)
    tools: dict[str, ToolFigures] = field(default_factory=dict)
    _before: datetime | None = None

    def add(self, at: datetime, data: dict[str, Any]) -> None:
        """One fact, as JSON. Raises `LookupError` and `ValueError` for one that lacks something."""
        if self._before is not None and data["kind"] != "RunResumed":
            self.seconds += seconds_between(self._before, at)
        self._before = at
        match data:
            case {"kind": "RunStarted"}:
                self.began, self.workspace, self.prompt = at, data["workspace"], data["prompt"]
            case {"kind": "RunResumed"}:
                self.state, self.paused = "", False
                self.workspace = data.get("workspace") or self.workspace
            case {"kind": "RunPaused"}:
                self.paused = True
            case {"kind": "RunFinished"}:
                self.state, self.seconds = data["outcome"], float(data["seconds"])
                self.usage = Usage(**data["usage"])
            case {"kind": "Spent"}:
                self._spent(data)
            case {"kind": "ToolCalled", "tool": tool, "ok": ok}:
                self._tool(tool, ToolFigures(calls=1, failed=int(not ok)))
            case {"kind": kind, "tool": tool} if kind in ONE_MORE:
                self._tool(tool, ONE_MORE[kind])

    def _spent(self, data: dict[str, Any]) -> None:
        tokens = (data["prompt_tokens"], data["completion_tokens"], data.get("cached_tokens", 0))
        ended = {"failed": bool(data.get("fault")), "stopped": bool(data.get("stopped"))}
        one = Usage.of_try(*tokens, data["cost"], **ended)
        self.usage = Usage(**data["total"])
        known = self.models.get(data["model"], ModelFigures())
        self.models[data["model"]] = known.plus(ModelFigures(one, float(data["seconds"])))

    def _tool(self, name: str, one: ToolFigures) -> None:
        self.tools[name] = self.tools.get(name, ToolFigures()).plus(one)


def _slowest(rows: Mapping[Path, RunFigures]) -> SlowestRun | None:
    """The run that took longest, and its critical path, which is empty if its journal is damaged."""
    if not rows:
        return None
    journal, figures = max(rows.items(), key=lambda row: row[1].seconds)
    try:
        found = list(read_journal(journal))
    except (RunFailed, OSError):
        return SlowestRun(figures, ())
    steps = path_steps(timeline_of(fold(found), found))
    return SlowestRun(figures, tuple(PathStep(*key, seconds) for key, seconds, _ in steps))
