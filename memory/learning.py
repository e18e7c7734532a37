"""What is to be learned from how earlier runs went: verdicts, how sure they are, and what they are good for.

A run's verdict is the user's vote, or else what its own checks say: done without a failure and with at most
one change of the plan is good, failed or changed again and again is bad, between them is mixed. One that was
stopped from outside (a limit, a provider, the user) says nothing.

Runs of the same form and the same shape of plan (see `templates`) speak for each other, and those whose plans
say the same against each other: another plan may have failed for what it says. How sure their success is, is
the lower bound of Wilson's interval over these verdicts; a vote counts as `VOTE` verdicts of checks, and all
of them lose half of their weight in `HALF_LIFE`.

A plan is used again without a planner once that bound has reached `REUSE_FLOOR`: after one good vote, or when
checks were good twice; and never while the last thing known of it is bad.

What was taken from the web decides nothing until the user has called the run good: see `withheld`.

Pure: no clock, no store. What is not covered: which subtask a vote is about.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import JsonValue

from memory.records import Record
from memory.templates import Template, form, shape
from orchestrator_cli.durable.similarity import wilson_interval

Vote = Literal["good", "bad"]
Verdict = Literal["good", "mixed", "bad", "open"]
Use = Literal["example", "hint", "warning"]

VOTE = 3.0
HALF_LIFE = timedelta(days=180)
REUSE_FLOOR = 0.3
FEW_REVISIONS = 1
MANY_REVISIONS = 3
RECALL_TOKENS = 1_500
"""What all runs together may take in the planner's request."""
PROMPT_CHARS = 1_000
"""How much of an earlier prompt is shown."""

_CHARS_PER_TOKEN = 4
_USES: dict[Verdict, Use] = {"good": "example", "mixed": "hint", "open": "hint", "bad": "warning"}
_WEIGHTS: dict[Verdict, tuple[float, float]] = {
    "good": (1.0, 0.0), "mixed": (0.5, 0.5), "bad": (0.0, 1.0), "open": (0.0, 0.0),
}  # fmt: skip


@dataclass(frozen=True)
class Standing:
    """How the runs of one form and plan went; both are lower bounds."""

    success: float = 0.0
    failure: float = 0.0
    last: Verdict = "open"
    """The newest verdict that says anything."""
    runs: int = 0


Pool = tuple[str, str, str]
"""Form, shape, and mark: what runs that speak against each other have in common."""


def vote_of(data: Mapping[str, Any]) -> Vote | None:
    """What the user said of a run."""
    said = data.get("feedback")
    vote = said.get("vote") if isinstance(said, Mapping) else None
    return vote if vote in ("good", "bad") else None


def why_of(data: Mapping[str, Any]) -> str:
    """What the user gave as the reason of the vote."""
    said = data.get("feedback")
    return str(said.get("why") or "") if isinstance(said, Mapping) else ""


def verdict_of(data: Mapping[str, Any]) -> Verdict:
    return vote_of(data) or _checked(data)


def _checked(data: Mapping[str, Any]) -> Verdict:
    """What the run's own checks say."""
    revisions = int(data.get("revisions") or 0)
    if data.get("outcome") == "stopped":
        return "open"
    if data.get("outcome") != "completed" or revisions >= MANY_REVISIONS:
        return "bad"
    failed = any(row.get("state") == "failed" for row in rows_of(data))
    return "mixed" if failed or revisions > FEW_REVISIONS else "good"


def use_of(verdict: Verdict) -> Use:
    return _USES[verdict]


def withheld(record: Record) -> bool:
    """Whether what a run says may come from the web, and the user has not said that the run was good."""
    outside = record.trust == "web" or bool(record.data.get("from_web"))
    return outside and vote_of(record.data) != "good"


def rows_of(data: Mapping[str, Any]) -> list[dict[str, JsonValue]]:
    found = data.get("plan")
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def pool_of(record: Record) -> Pool:
    return form(record.text).key, shape(rows_of(record.data)), str(record.data.get("mark") or "")


def standings(records: Iterable[Record], now: datetime) -> dict[Pool, Standing]:
    """How each sort of run went."""
    pools: dict[Pool, list[Record]] = {}
    speaking: Counter[tuple[str, str]] = Counter()
    weights: dict[tuple[str, str], float] = {}
    for record in records:
        pool = pool_of(record)
        pools.setdefault(pool, []).append(record)
        speaking[pool[:2]] += 1
        weights[pool[:2]] = weights.get(pool[:2], 0.0) + _weights(record, now)[0]
    return {
        pool: _standing(members, weights[pool[:2]], speaking[pool[:2]], now)
        for pool, members in pools.items()
    }


def _standing(records: Sequence[Record], good: float, runs: int, now: datetime) -> Standing:
    bad = sum(_weights(record, now)[1] for record in records)
    told = [record for record in records if verdict_of(record.data) != "open"]
    last = verdict_of(max(told, key=_said_at).data) if told else "open"
    success, failure = (wilson_interval(rate, good + bad)[0] for rate in (good, bad))
    return Standing(success, failure, last, runs)


def _weights(record: Record, now: datetime) -> tuple[float, float]:
    """What a run says for its plan, and against it."""
    weight = _aged(_said_at(record), now) * (VOTE if vote_of(record.data) else 1.0)
    for_it, against_it = _WEIGHTS[verdict_of(record.data)]
    return weight * for_it, weight * against_it


def _said_at(record: Record) -> datetime:
    """When the verdict came to be: a vote may be of a later day."""
    said = record.data.get("feedback")
    try:
        return datetime.fromisoformat(str(said["time"])).astimezone(UTC)  # type: ignore[index,call-overload]
    except (TypeError, KeyError, ValueError):
        return record.created


def _aged(then: datetime, now: datetime) -> float:
    return float(0.5 ** (max(timedelta(), now - then) / HALF_LIFE))


def merit(likeness: float, verdict: Verdict, standing: Standing) -> float:
    """What a remembered run is worth to a planner: how alike it is, times how sure what it shows is."""
    sure = standing.failure if use_of(verdict) == "warning" else standing.success
    # Rounded, so that an hour's age decides nothing.
    return round(likeness * sure, 2)


def reusable(record: Record, standing: Standing) -> bool:
    """Whether the plan of a run has done well enough to be used again as it is."""
    data = record.data
    clean = vote_of(data) == "good" or (_checked(data) == "good" and not data.get("revisions"))
    surely = standing.last == "good" and standing.success >= REUSE_FLOOR
    return bool(clean and surely and not withheld(record) and template_in(data) is not None)


def template_in(data: Mapping[str, Any]) -> Template | None:
    """The template that was kept with a run."""
    kept = data.get("template")
    if not isinstance(kept, Mapping) or not isinstance(kept.get("plan"), dict):
        return None
    files = kept.get("files")
    return Template(kept["plan"], tuple(map(str, files)) if isinstance(files, list) else ())


def with_vote(record: Record, vote: Vote, why: str, at: datetime) -> Record:
    """The record of a run once the user has said how it was; said again, the last word counts."""
    said: dict[str, JsonValue] = {"vote": vote, "why": why, "time": at.astimezone(UTC).isoformat()}
    return record.model_copy(update={"data": record.data | {"feedback": said}})


def tokens(text: str) -> int:
    """About how many tokens a text has."""
    return -(-len(text) // _CHARS_PER_TOKEN)
