"""What many runs add up to: by week, by model and by tool.

Pure functions from frozen rows to lines and JSON.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from orchestrator_cli.events import SCHEMA
from orchestrator_cli.values import Usage
from orchestrator_cli.views.text import columns, counted, duration, money, one_line, spent

WIDE = 100
T = TypeVar("T")


class ModelFigures(NamedTuple):
    """What was spent on a model. `seconds`: how long its calls took."""

    usage: Usage = Usage()
    seconds: float = 0.0
    runs: int = 0

    def plus(self, other: "ModelFigures") -> "ModelFigures":
        return ModelFigures(self.usage + other.usage, self.seconds + other.seconds, self.runs + other.runs)


class ToolFigures(NamedTuple):
    """How often a tool was built, taken from the library, refused, called, and failed at a call."""

    built: int = 0
    reused: int = 0
    refused: int = 0
    calls: int = 0
    failed: int = 0

    def plus(self, other: "ToolFigures") -> "ToolFigures":
        return ToolFigures(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True)
class RunFigures:
    """What one run adds."""

    run: str
    began: datetime
    state: str
    """As in `orch runs`."""
    seconds: float
    """How long processes worked on it."""
    usage: Usage
    prompt: str = ""
    models: dict[str, ModelFigures] = field(default_factory=dict)
    tools: dict[str, ToolFigures] = field(default_factory=dict)


class PathStep(NamedTuple):
    """A part of a critical path. `kind`: `subtask`, `tool` or `role`."""

    kind: str
    name: str
    seconds: float


class SlowestRun(NamedTuple):
    figures: RunFigures
    path: tuple[PathStep, ...]
    """Its critical path, first to last."""


@dataclass(frozen=True)
class WeekFigures:
    """The runs of the week that begins on this Monday."""

    monday: date
    runs: int = 0
    completed: int = 0
    planned: int = 0
    """Those that were only planned, and so could not be completed."""
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0


@dataclass(frozen=True)
class RunStats:
    """The sums. `since` is a Monday."""

    since: date
    runs: int
    states: dict[str, int]
    usage: Usage
    seconds: float
    weeks: tuple[WeekFigures, ...]
    """Oldest first, those without a run included."""
    models: dict[str, ModelFigures]
    """The dearest first."""
    tools: dict[str, ToolFigures]
    """The most called first."""
    slowest: SlowestRun | None = None
    unread: int = 0
    """Journals that could not be read, and are not in the sums."""


def monday_of(day: date) -> date:
    return day - timedelta(days=day.weekday())


def first_monday(today: date, weeks: int) -> date:
    """The first day of the last `weeks` weeks, of which this is the last."""
    return monday_of(today) - timedelta(weeks=weeks - 1)


def stats_of(
    rows: Sequence[RunFigures], since: date, weeks: int, slowest: SlowestRun | None = None, unread: int = 0
) -> RunStats:
    """The sums of runs that began in the `weeks` weeks from the Monday `since`, in local time."""
    mondays = [since + timedelta(weeks=n) for n in range(weeks)]
    in_week: dict[date, list[RunFigures]] = {monday: [] for monday in mondays}
    for row in rows:
        in_week[monday_of(row.began.astimezone().date())].append(row)
    models: dict[str, ModelFigures] = {}
    tools: dict[str, ToolFigures] = {}
    for row in rows:
        for name, model in row.models.items():
            models[name] = models.get(name, ModelFigures()).plus(model)
        for name, tool in row.tools.items():
            tools[name] = tools.get(name, ToolFigures()).plus(tool)
    return RunStats(
        since=since,
        runs=len(rows),
        states=_counts(row.state for row in rows),
        usage=_sum(rows),
        seconds=sum(row.seconds for row in rows),
        weeks=tuple(_week(monday, found) for monday, found in in_week.items()),
        models=_ordered(models, lambda one: (-one.usage.cost, -_tokens(one.usage))),
        tools=_ordered(tools, lambda one: (-one.calls, -one.built)),
        slowest=slowest,
        unread=unread,
    )


def _week(monday: date, rows: Sequence[RunFigures]) -> WeekFigures:
    completed = sum(row.state == "completed" for row in rows)
    planned = sum(row.state == "planned" for row in rows)
    return WeekFigures(monday, len(rows), completed, planned, _sum(rows), sum(row.seconds for row in rows))


def _sum(rows: Iterable[RunFigures]) -> Usage:
    return sum((row.usage for row in rows), start=Usage())


def _counts(states: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for state in states:
        found[state] = found.get(state, 0) + 1
    return _ordered(found, lambda count: (-count,))


def _ordered(rows: dict[str, T], key: Callable[[T], tuple[float, ...]]) -> dict[str, T]:
    return dict(sorted(rows.items(), key=lambda row: (*key(row[1]), row[0])))


def _tokens(usage: Usage) -> int:
    return usage.prompt_tokens + usage.completion_tokens


# --- lines

MOST_TOOLS = 20
WEEK_HEAD = ("week of", "runs", "completed", "cost", "tokens", "time")
MODEL_HEAD = ("model", "runs", "calls", "failed", "stopped", "cost", "tokens", "time of calls")
TOOL_HEAD = ("tool", "calls", "failed", "built", "from the library", "not built")


def stats_lines(stats: RunStats, where: str) -> list[str]:
    """The sums for people. `where` says whose runs they are, such as `of /work`."""
    if not stats.runs:
        hint = "--weeks goes back further; --all takes every workspace."
        return [f"No run {where} began since {stats.since}. {hint}"]
    states = ", ".join(f"{count} {state}" for state, count in stats.states.items())
    lines = [
        f"{counted(stats.runs, 'run')} {where} since {stats.since}: {states}",
        f"{spent(stats.usage)} · {duration(stats.seconds)} of work",
        "",
        *columns(
            [("week of", "runs", "completed", "cost", "tokens", "time"), *map(_week_cells, stats.weeks)]
        ),
    ]
    if stats.models:
        lines += ["", *columns([MODEL_HEAD, *(_model_cells(*row) for row in stats.models.items())])]
    if stats.tools:
        shown = list(stats.tools.items())[:MOST_TOOLS]
        lines += ["", *columns([TOOL_HEAD, *(_tool_cells(*row) for row in shown)])]
        if left := len(stats.tools) - len(shown):
            lines.append(f"… and {counted(left, 'tool')} more; --json lists all")
    return lines + _slowest_lines(stats.slowest)


def _slowest_lines(slowest: SlowestRun | None) -> list[str]:
    if slowest is None:
        return []
    one = slowest.figures
    lines = ["", f"slowest: run {one.run}, {duration(one.seconds)}: {one_line(one.prompt, WIDE)}"]
    steps = (f"{one_line(step.name, 40)} {duration(step.seconds)}" for step in slowest.path)
    return lines + ([f"  critical path: {' → '.join(steps)}"] if slowest.path else [])


def _week_cells(week: WeekFigures) -> tuple[str, ...]:
    if not week.runs:
        return (str(week.monday), "0", "", "", "", "")
    share = str(week.completed)
    if ran := week.runs - week.planned:
        share += f" ({100 * week.completed / ran:.0f} %)"
    tokens = f"{_tokens(week.usage):,}"
    return (str(week.monday), str(week.runs), share, money(week.usage), tokens, duration(week.seconds))


def _model_cells(name: str, one: ModelFigures) -> tuple[str, ...]:
    usage = one.usage
    tokens, took = f"{_tokens(usage):,}", duration(one.seconds)
    return (
        one_line(name, 50),
        str(one.runs),
        str(usage.calls),
        str(usage.failed),
        str(usage.stopped),
        money(usage),
        tokens,
        took,
    )


def _tool_cells(name: str, one: ToolFigures) -> tuple[str, ...]:
    return (one_line(name, 40), *map(str, (one.calls, one.failed, one.built, one.reused, one.refused)))


# --- JSON


def stats_json(stats: RunStats) -> dict[str, Any]:
    """Keys: `schema`, `since`, `runs`, `states`, `usage`, `seconds`, `weeks` (`week`, `runs`, `completed`,
    `planned`, `usage`, `seconds`), `models` (`model`, `runs`, `usage`, `seconds`), `tools` (`tool`, `calls`,
    `failed`, `built`, `reused`, `refused`), `slowest` (null, or `run`, `prompt`, `seconds`, `path`) and
    `unread`.
    """
    slowest = stats.slowest
    return {
        "schema": SCHEMA,
        "since": stats.since.isoformat(),
        "runs": stats.runs,
        "states": stats.states,
        "usage": stats.usage.model_dump(mode="json"),
        "seconds": stats.seconds,
        "weeks": [
            {
                "week": week.monday.isoformat(),
                "runs": week.runs,
                "completed": week.completed,
                "planned": week.planned,
                "usage": week.usage.model_dump(mode="json"),
                "seconds": week.seconds,
            }
            for week in stats.weeks
        ],
        "models": [
            {
                "model": name,
                "runs": one.runs,
                "usage": one.usage.model_dump(mode="json"),
                "seconds": one.seconds,
            }
            for name, one in stats.models.items()
        ],
        "tools": [{"tool": name, **one._asdict()} for name, one in stats.tools.items()],
        "slowest": slowest
        and {
            "run": slowest.figures.run,
            "prompt": slowest.figures.prompt,
            "seconds": slowest.figures.seconds,
            "path": [step._asdict() for step in slowest.path],
        },
        "unread": stats.unread,
    }
