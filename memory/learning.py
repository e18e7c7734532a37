"""Learns from earlier runs: their verdicts, how certain these are, and what each run is useful for. Pure.

A run's verdict is the user's vote, or else what its own checks say: "good" if it was done without a failure
and with at most one revision, "bad" if it failed or was revised again and again, "mixed" in between. A run
that was stopped from outside (a limit, a provider, the user) has no verdict: it is "open". So is one that the
user has undone.

Successes count for all runs with the same prompt pattern and plan signature (see `templates`); failures only
for runs whose plans also have the same fingerprint, because another plan may have failed for its own wording.
The certainty of success is the lower bound of Wilson's interval over these verdicts. A vote counts as `VOTE`
verdicts of checks, and all verdicts lose half of their weight in `HALF_LIFE`.

A plan is reused without asking a planner once that bound reaches `REUSE_FLOOR`: after one good vote, or two
good verdicts of checks; and never while its latest verdict is bad, or it was undone since.

What came from the web decides nothing until the user calls the run good: see `withheld`. A record that
others wrote (`Record.is_own` is false) has no vote, track record, lesson or plan to reuse, whatever it says.

What is not covered: which subtask a vote is about.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from memory.records import Record
from memory.templates import Template, plan_signature, prompt_pattern
from orchestrator_cli.durable.text import wilson_interval

Vote = Literal["good", "bad"]
Verdict = Literal["good", "mixed", "bad", "open"]
Use = Literal["example", "hint", "warning"]

VOTE = 3.0
HALF_LIFE = timedelta(days=180)
REUSE_FLOOR = 0.3
FEW_REVISIONS = 1
MANY_REVISIONS = 3
RECALL_TOKENS = 1_500
"""Tokens of the planner's request that all recalled runs together may take."""
PROMPT_CHARS = 1_000
"""How much of an earlier prompt is shown."""

_CHARS_PER_TOKEN = 4
_DECIDES = ("feedback", "template", "lesson", "reason")
_USES: dict[Verdict, Use] = {"good": "example", "mixed": "hint", "open": "hint", "bad": "warning"}
_WEIGHTS: dict[Verdict, tuple[float, float]] = {
    "good": (1.0, 0.0), "mixed": (0.5, 0.5), "bad": (0.0, 1.0), "open": (0.0, 0.0),
}  # fmt: skip


@dataclass(frozen=True)
class TrackRecord:
    """The results of the runs of one group."""

    success: float = 0.0
    """The lower bound of the rate of success, and of failure below."""
    failure: float = 0.0
    last: Verdict = "open"
    """The latest verdict that is not open, or "open" if that run was undone."""
    runs: int = 0
    """How many runs count for it."""


Group = tuple[str, str, str]
"""Prompt pattern, plan signature and plan fingerprint: what the runs of a group have in common."""


def vote_of(data: Mapping[str, Any]) -> Vote | None:
    """The user's vote on a run."""
    feedback = data.get("feedback")
    vote = feedback.get("vote") if isinstance(feedback, Mapping) else None
    return vote if vote in ("good", "bad") else None


def why_of(data: Mapping[str, Any]) -> str:
    """The user's reason for the vote."""
    feedback = data.get("feedback")
    return str(feedback.get("why") or "") if isinstance(feedback, Mapping) else ""


def verdict_of(data: Mapping[str, Any]) -> Verdict:
    return vote_of(data) or _checked(data)


def _checked(data: Mapping[str, Any]) -> Verdict:
    """The verdict of the run's own checks."""
    revisions = int(data.get("revisions") or 0)
    if data.get("outcome") == "stopped" or data.get("undone"):
        return "open"
    if data.get("outcome") != "completed" or revisions >= MANY_REVISIONS:
        return "bad"
    failed = any(row.get("state") == "failed" for row in rows_of(data))
    return "mixed" if failed or revisions > FEW_REVISIONS else "good"


def teaches_nothing(data: Mapping[str, Any]) -> bool:
    """Whether the plan of a run was only to answer, which shows a planner nothing; unless the user said that
    this was wrong."""
    rows = rows_of(data)
    return bool(rows) and all(row.get("kind") == "answer" for row in rows) and vote_of(data) != "bad"


def use_of(verdict: Verdict) -> Use:
    return _USES[verdict]


def withheld(record: Record) -> bool:
    """Whether a record may repeat what the web said, and the user has not called the run good."""
    if not record.is_own:
        return record.trust == "web"
    return bool(record.data.get("from_web")) and vote_of(record.data) != "good"


def deciding(record: Record) -> Record:
    """The record; without its vote, plan to reuse and lessons, which decide or advise, if it is not own."""
    if record.is_own:
        return record
    data = {name: value for name, value in record.data.items() if name not in _DECIDES}
    return record.model_copy(update={"data": data, "pinned": False, "uses": 0})


class _Subtask(BaseModel):
    """A subtask of a run, as far as it is read to learn from."""

    id: str
    title: str = ""
    kind: str = ""
    role: str | None = None
    tools: list[str] = []
    depends_on: list[str] = []
    state: str | None = None


class _RunData(BaseModel):
    """The `data` of a run, as far as it is read to learn from."""

    model_config = ConfigDict(strict=True)

    outcome: str
    answer_summary: str
    plan: list[_Subtask]
    revisions: Annotated[int, Field(ge=0)]
    calls: Annotated[int, Field(ge=0)]
    cost: float | None
    seconds: Annotated[float, Field(ge=0)]


def learnable(record: Record) -> Record | None:
    """The record of a run without what it may not decide (see `deciding`); None if its data are not a run's.

    Every run that is recalled was read by this function.
    """
    try:
        _RunData.model_validate(record.data)
    except ValidationError:
        return None
    return deciding(record)


def rows_of(data: Mapping[str, Any]) -> list[dict[str, JsonValue]]:
    """The subtasks of a run."""
    plan = data.get("plan")
    return [row for row in plan if isinstance(row, dict)] if isinstance(plan, list) else []


def group_of(record: Record) -> Group:
    return (
        prompt_pattern(record.text).key,
        plan_signature(rows_of(record.data)),
        str(record.data.get("mark") or ""),
    )


def track_records(records: Iterable[Record], now: datetime) -> dict[Group, TrackRecord]:
    """The track record of each group of runs."""
    groups: dict[Group, list[Record]] = {}
    runs: Counter[tuple[str, str]] = Counter()
    successes: dict[tuple[str, str], float] = {}
    for record in records:
        group = group_of(record)
        groups.setdefault(group, []).append(record)
        runs[group[:2]] += 1
        successes[group[:2]] = successes.get(group[:2], 0.0) + _weights(record, now)[0]
    found = {}
    for group, members in groups.items():
        good, bad = successes[group[:2]], sum(_weights(record, now)[1] for record in members)
        decided = [one for one in members if verdict_of(one.data) != "open" or one.data.get("undone")]
        last = verdict_of(max(decided, key=_verdict_time).data) if decided else "open"
        success, failure = (wilson_interval(rate, good + bad)[0] for rate in (good, bad))
        found[group] = TrackRecord(success, failure, last, runs[group[:2]])
    return found


def _weights(record: Record, now: datetime) -> tuple[float, float]:
    """What a run counts for its plan, and against it."""
    age = max(timedelta(), now - _verdict_time(record))
    weight = float(0.5 ** (age / HALF_LIFE)) * (VOTE if vote_of(record.data) else 1.0)
    good, bad = _WEIGHTS[verdict_of(record.data)]
    return weight * good, weight * bad


def _verdict_time(record: Record) -> datetime:
    """When the verdict was made; a vote can be later than the run."""
    feedback: Any = record.data.get("feedback")
    try:
        return datetime.fromisoformat(feedback["time"]).astimezone(UTC)
    except (TypeError, KeyError, ValueError, OverflowError):
        return record.created


def merit(similarity: float, verdict: Verdict, track_record: TrackRecord) -> float:
    """The value of a remembered run to a planner: its similarity times the certainty of its verdict."""
    certainty = track_record.failure if use_of(verdict) == "warning" else track_record.success
    # Rounded, so that an hour of age makes no difference.
    return round(similarity * certainty, 2)


def reusable(record: Record, track_record: TrackRecord) -> bool:
    """Whether the plan of a run has done well enough to be reused without a planner."""
    data = record.data
    clean = vote_of(data) == "good" or (_checked(data) == "good" and not data.get("revisions"))
    proven = track_record.last == "good" and track_record.success >= REUSE_FLOOR
    return bool(clean and proven and not withheld(record) and template_in(data) is not None)


def template_in(data: Mapping[str, Any]) -> Template | None:
    """The template stored with a run."""
    stored = data.get("template")
    if not isinstance(stored, Mapping) or not isinstance(stored.get("plan"), dict):
        return None
    files = stored.get("files")
    return Template(stored["plan"], tuple(map(str, files)) if isinstance(files, list) else ())


def with_vote(record: Record, vote: Vote, why: str, at: datetime) -> Record:
    """The record of a run with the user's vote, which replaces an earlier one."""
    feedback: dict[str, JsonValue] = {"vote": vote, "why": why, "time": at.astimezone(UTC).isoformat()}
    return record.model_copy(update={"data": record.data | {"feedback": feedback}})


def as_undone(record: Record) -> Record:
    """The record of a run that the user has undone."""
    return record.model_copy(update={"data": record.data | {"undone": True}})


def tokens(text: str) -> int:
    """The approximate number of tokens of a text."""
    return -(-len(text) // _CHARS_PER_TOKEN)
