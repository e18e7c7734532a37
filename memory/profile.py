"""Facts about the user in memory: learned, ended by contradictions, and recalled for a request.

    changes = learn(memory, facts, scope=scope, now=now)
    recalled = recall_facts(memory, prompt, scope=scope, now=now)

Of two facts with the same subject and attribute the later one holds: the earlier one is kept, with the time
until which it held. Two facts that say the same are one fact.

Only facts that hold now are recalled, and only those that the user said, or imported as their own. Pinned
ones come first, then those that share words with the prompt or are near it (see `dense`), then those used or
said most recently, as far as the budget goes. Facts that share words with the prompt count as used, so they
live longer. A profile fact never fades. A passing fact loses half of its weight in a month, more slowly the
more often it was used, and is no longer recalled once little is left; it is not deleted, and counts again if
it is repeated. A fact informs a model; it grants nothing.

What is not covered: facts whose words came from a file or the web, which are never recalled.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

from memory.embedder import DenseVector, terms
from memory.ends import end_said
from memory.facts import UserFact, folded
from memory.findings import line_cost
from memory.records import FACT, Hit, Record, Scope, Source
from memory.retrieval import merge_hits, score_key, scores, search_both
from memory.sessions import day_of
from memory.store import Memory, Query

HALF_LIFE = timedelta(days=30)
FADED = 0.1
BUDGET = 300
"""Tokens of a request that facts may take."""

_SAME = 0.9
_RELATED = 8
_NEW_USE = timedelta(minutes=10)
_OPPOSING = re.compile(r"(?i)\b(not|never|no|don't|doesn't|won't|isn't|dislikes?|over|to|than)\b")


@dataclass(frozen=True)
class FactChanges:
    """What changed in memory."""

    new: tuple[Record, ...] = ()
    again: tuple[Record, ...] = ()
    """Facts that were already known."""
    ended: tuple[Record, ...] = ()
    """Facts that stopped holding."""

    def __bool__(self) -> bool:
        return bool(self.new or self.again or self.ended)


@dataclass(frozen=True)
class RecalledFact:
    id: UUID
    text: str
    since: datetime
    known: datetime
    """When it was learned."""
    quote: str = ""
    """The user's own words."""
    until: datetime | None = None
    """When it stops holding, if that is known."""
    source: str = ""
    """Where it was said."""
    why: str = ""
    """Why it is recalled."""
    score: float = 0.0
    """How near it is to the request, 1 for the nearest; 0 if it is not."""

    @property
    def origin(self) -> str:
        """Its days and its source."""
        # It ends at midnight, where the user is.
        last = (self.until - timedelta(seconds=1)).astimezone() if self.until else None
        until = f", until {day_of(last)}" if last else ""
        source = f", {self.source}" if self.source else ""
        return f"since {day_of(self.since)}{until}{source}"

    @property
    def line(self) -> str:
        """The text with its origin, for a prompt."""
        return f"{self.text} ({self.origin})"


def fact_record(
    fact: UserFact, *, scope: Scope, now: datetime, ref: str = "", pinned: bool = False
) -> Record:
    """The fact as a record; a fact about the user belongs to no project, whatever the scope."""
    digest = sha256(folded(fact.text).casefold().encode()).hexdigest()[:16]
    return Record(
        kind=FACT,
        key=f"{fact.subject}/{fact.attribute}/{digest}",
        text=fact.text,
        data={"subject": fact.subject, "attribute": fact.attribute, "nature": fact.nature},
        scope=scope if fact.subject == "project" else scope.user_wide,
        created=now,
        valid_from=now,
        # A day ends where the user is.
        valid_to=end_said(f"{fact.quote} {fact.text}", now.astimezone()),
        source=Source(type="user", ref=ref, quote=fact.quote),
        pinned=pinned,
    )


def learn(
    memory: Memory,
    facts: Iterable[UserFact],
    *,
    scope: Scope,
    now: datetime,
    ref: str = "",
    pinned: bool = False,
) -> FactChanges:
    """Store the facts. Known ones count one more use; those that are contradicted end now."""
    new: dict[UUID, Record] = {}
    again: dict[UUID, Record] = {}
    ended: dict[UUID, Record] = {}
    with memory.opened() as turn:
        held = {record.id: record for record in turn.all(FACT, scope, at=now) if record.trusted}
        for fact in facts:
            record = fact_record(fact, scope=scope, now=now, ref=ref, pinned=pinned)
            same = [r for r in held.values() if r.scope == record.scope and _says_same(r, record)]
            if same:
                # It may be said in other words; the original words stay.
                used = same[0].used(now)
                again[used.id] = used.model_copy(
                    update={
                        "pinned": used.pinned or pinned,
                        "valid_to": _later(same[0].valid_to, record.valid_to),
                    }
                )
                continue
            for old in [r for r in held.values() if _contradicts(record, r)]:
                ended[old.id] = old.ended(now, record.id)
                del held[old.id]
            new[record.id] = held[record.id] = record
        turn.add([*ended.values(), *again.values(), *new.values()])
    return FactChanges(tuple(new.values()), tuple(again.values()), tuple(ended.values()))


def _says_same(one: Record, other: Record) -> bool:
    if one.id == other.id:
        return True
    # With a negation or a comparison, the same words can mean the opposite.
    if _OPPOSING.search(one.text) or _OPPOSING.search(other.text):
        return False
    first, second = terms(one.text), terms(other.text)
    return bool(first and second) and len(first & second) / len(first | second) >= _SAME


def _contradicts(new: Record, old: Record) -> bool:
    # What holds for a while hides what holds for good, and does not end it.
    is_for_a_while = new.valid_to is not None and old.valid_to is None
    return _same_topic(new, old) and not is_for_a_while


def _same_topic(one: Record, other: Record) -> bool:
    same = all(one.data.get(name) == other.data.get(name) for name in ("subject", "attribute"))
    return same and one.scope == other.scope and one.id != other.id


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    """The later end; None, for no end, is the latest."""
    return None if one is None or other is None else max(one, other)


def _visible(held: Sequence[Record]) -> list[Record]:
    """The facts without those that others on the same topic hide for a while."""
    brief = [record for record in held if record.valid_to is not None]
    return [
        one for one in held if one.valid_to is not None or not any(_same_topic(one, other) for other in brief)
    ]


# --- recall


def recall_facts(
    memory: Memory,
    prompt: str,
    *,
    scope: Scope,
    now: datetime,
    budget: int = BUDGET,
    near: DenseVector | None = None,
) -> tuple[RecalledFact, ...]:
    """The facts for a request, most important first; those related to it count one more use."""
    with memory.opened() as turn:
        held = [r for r in turn.all(FACT, scope, at=now) if r.trusted and strength(r, now) >= FADED]
        held = _visible(held)
        if not held:
            return ()
        query = Query(prompt, kinds=FACT, scope=scope, limit=_RELATED, at=now)
        hits, near_hits = search_both(turn, query, near)
        rank = {id_: number for number, id_ in enumerate(_related(prompt, hits, near_hits))}
        recent = sorted(held, key=lambda record: record.last_used or record.created, reverse=True)
        # Pinned facts, then related ones, then the others, each group most recent first.
        in_order = sorted(recent, key=lambda record: (not record.pinned, rank.get(record.id, len(rank))))
        related = {hit.record.id for hit in hits}
        chosen = _within((_recalled(one, rank, related) for one in in_order), budget)
        # Runs within ten minutes count as one use.
        kept = {one.id for one in chosen} & related
        used = [r for r in held if r.id in kept and now - (r.last_used or r.created) > _NEW_USE]
        if used:
            turn.add(record.used(now) for record in used)
    return tuple(chosen)


def _recalled(record: Record, rank: Mapping[UUID, int], related: Collection[UUID]) -> RecalledFact:
    source = record.source or Source(type="user")
    near = "it shares words with the request" if record.id in related else "its meaning is near"
    why = "it is pinned" if record.pinned else near if record.id in rank else "it was said or used recently"
    return RecalledFact(
        id=record.id,
        text=record.text,
        since=record.valid_from or record.created,
        known=record.created,
        quote=source.quote,
        until=record.valid_to,
        # A session's name has no blanks.
        source=f"session {source.ref}" if source.ref and " " not in source.ref else source.ref,
        why=why,
        score=round(1 / (1 + rank[record.id]), 2) if record.id in rank else 0.0,
    )


def strength(record: Record, now: datetime) -> float:
    """From 1, for a new fact, to 0; profile facts and pinned ones stay at 1."""
    if record.pinned or record.data.get("nature") != "passing":
        return 1.0
    idle = max(now - (record.last_used or record.created), timedelta())
    return float(0.5 ** (idle / (HALF_LIFE * (1 + record.uses))))


def _related(prompt: str, hits: Sequence[Hit], near_hits: Sequence[Hit]) -> list[UUID]:
    """The facts related to the prompt, best first; without vectors in the order of the search."""
    if not near_hits:
        return [hit.record.id for hit in hits]
    score = scores(prompt, hits, near_hits)
    merged = sorted(merge_hits(hits, near_hits), key=lambda hit: -score[score_key(hit.record)])
    return [hit.record.id for hit in merged]


def _within(facts: Iterable[RecalledFact], budget: int) -> list[RecalledFact]:
    chosen, left = [], budget
    for fact in facts:
        cost = line_cost(fact.line)
        if cost <= left:
            chosen.append(fact)
            left -= cost
    return chosen
