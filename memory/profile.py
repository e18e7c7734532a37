"""Which of the facts about the user go into a request, and what becomes of those that nobody needs.

    facts = recall_facts(memory, prompt, scope=scope, now=now)

What the user said themselves, or what they had kept, and what holds now, in this order: pinned, what shares
words with the prompt or lies near it (see `dense`), what was used or said last; as far as the budget goes.
Facts that share words with the prompt count as used, so they live longer. A profile never fades. What is
passing loses half of its weight in a month, in several months where it was used several times, and is brought
no more once little is left; it is not deleted, and counts again when it is said again.

What is not covered: facts whose words came from a file or the web, which are never brought.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from memory.embedder import DenseVector
from memory.ranking import joined, scores, spot_of
from memory.records import FACT, Hit, Record, Scope
from memory.store import Memory, Query

HALF_LIFE = timedelta(days=30)
FADED = 0.1
BUDGET = 400
"""Tokens of a request that are for facts."""

_RELATED = 8
_NEW_USE = timedelta(minutes=10)


@dataclass(frozen=True)
class RecalledFact:
    id: UUID
    text: str
    since: datetime
    known: datetime
    """When it was learned."""
    quote: str = ""
    """What the user said."""

    @property
    def line(self) -> str:
        """With its day, as a model reads it."""
        return f"{self.text} (since {self.since.day} {self.since:%B %Y})"


def recall_facts(
    memory: Memory,
    prompt: str,
    *,
    scope: Scope,
    now: datetime,
    budget: int = BUDGET,
    near: DenseVector | None = None,
) -> tuple[RecalledFact, ...]:
    """The facts for a request, most telling first; those that are about it are used once more."""
    with memory.opened() as turn:
        held = [r for r in turn.all(FACT, scope, at=now) if r.trusted and strength(r, now) >= FADED]
        if not held:
            return ()
        query = Query(prompt, kinds=FACT, scope=scope, limit=_RELATED, at=now)
        hits = turn.search(query)
        related = [hit.record.id for hit in hits]
        close = turn.search(replace(query, what=near)) if near else []
        chosen = _within(_ranked(held, _together(prompt, hits, close)), budget)
        # The runs of one minute are one use.
        used = [r for r in chosen if r.id in related and now - (r.last_used or r.created) > _NEW_USE]
        if used:
            turn.add(record.used(now) for record in used)
    return tuple(map(_recalled, chosen))


def _recalled(record: Record) -> RecalledFact:
    return RecalledFact(
        id=record.id,
        text=record.text,
        since=record.valid_from or record.created,
        known=record.created,
        quote=record.source.quote if record.source is not None else "",
    )


def strength(record: Record, now: datetime) -> float:
    """From 1, for what was just said, to 0; a profile and what is pinned stay at 1."""
    if record.pinned or record.data.get("nature") != "passing":
        return 1.0
    idle = max(now - (record.last_used or record.created), timedelta())
    return float(0.5 ** (idle / (HALF_LIFE * (1 + record.uses))))


def _ranked(held: Sequence[Record], related: Sequence[UUID]) -> list[Record]:
    place = {id_: number for number, id_ in enumerate(related)}
    recent = sorted(held, key=lambda record: record.last_used or record.created, reverse=True)
    return sorted(recent, key=lambda record: (not record.pinned, place.get(record.id, len(place))))


def _together(prompt: str, hits: Sequence[Hit], close: Sequence[Hit]) -> list[UUID]:
    """What has to do with the prompt, best first; without vectors as the search has ranked it."""
    if not close:
        return [hit.record.id for hit in hits]
    found = scores(prompt, hits, close)
    both = sorted(joined(hits, close), key=lambda hit: -found[spot_of(hit.record)])
    return [hit.record.id for hit in both]


def _within(records: Sequence[Record], budget: int) -> list[Record]:
    chosen, left = [], 4 * budget
    for record in records:
        # The date and the marks around it.
        cost = len(record.text) + 32
        if cost <= left:
            chosen.append(record)
            left -= cost
    return chosen
