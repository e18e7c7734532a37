"""From a question to what is worth showing for it: the turns of conversations and the pieces of documents.

    found = retrieve(memory, "When did Ada move?", kinds=TURN, scope=scope)
    shown = pack(memory, found, scope=scope, budget=2000)

`retrieve` takes one turn of the store: candidates by BM25, and by a dense vector of the question where the
caller has one (see `dense`), the records beside them, one ranking (see `ranking`), and of what says the same
only the best. What lies near is brought though it shares no word, so there is always something. `pack` puts
the best with what stands around them into a budget of tokens, in the order in which it was said, so that a
model reads passages and not scraps.

All that is handed out says whether it is trusted. What is not (a file, a tool, the web) is data: it grants
nothing, and whoever puts it into a prompt has to mark it.

What is not covered: what the records mean together; contradictions, apart from what has ceased to hold.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from memory.embedder import DenseVector, terms
from memory.ranking import Spot, scores, spot_of, with_speakers
from memory.records import At, Hit, Place, Record, Scope
from memory.store import Memory, Query

_CANDIDATES = 200
_BESIDE_PER_HIT = 3
_TELLING_WORDS = 4
_AROUND = (-1, 1)


@dataclass(frozen=True)
class Passage:
    """Records that stand next to each other, in their order; one alone where it has no place."""

    records: tuple[Record, ...]
    score: float
    """Of the best of them."""

    @property
    def text(self) -> str:
        return "\n".join(record.text for record in self.records)

    @property
    def trusted(self) -> bool:
        return all(record.trusted for record in self.records)


def retrieve(
    memory: Memory,
    question: str,
    *,
    kinds: str | Collection[str],
    scope: Scope,
    limit: int = 10,
    at: At = "now",
    session: str | None = None,
    near: DenseVector | None = None,
) -> list[Hit]:
    """What has most to do with the question, best first. Raises what the store raises."""
    most = max(_CANDIDATES, limit)
    query = Query(question, kinds=kinds, scope=scope, limit=most, at=at, session=session)
    with memory.opened() as turn:
        hits = turn.search(query)
        close = turn.search(replace(query, what=near)) if near else []
        found = scores(question, hits, close)
        known = {spot_of(hit.record): hit.record for hit in (*close, *hits)}
        beside = _best_places(found, known, _BESIDE_PER_HIT * limit)
        others = turn.placed(beside, kinds=kinds, scope=scope, at=at)
    ranked = with_speakers(question, [*known.values(), *others], found)
    return list(islice(_distinct(ranked), limit))


def pack(
    memory: Memory,
    found: Sequence[Hit],
    *,
    scope: Scope,
    budget: int,
    at: At = "now",
    tokens: Callable[[str], int] = lambda text: len(text) // 4 + 1,
) -> list[Passage]:
    """The best of what was found with its neighbours, as far as the budget goes, best passage first.

    What was found comes before the neighbours of any; what is too long for what is left is passed over.
    `tokens` says how many a text has; without it four characters are taken for one.
    """
    chosen: dict[Spot, Record] = {}
    left = budget
    kinds = {hit.record.kind for hit in found}
    around = memory.placed(_around(found), kinds=kinds, scope=scope, at=at) if kinds else []
    beside = sorted(around, key=lambda record: _nearness(record, found))
    for record in (*(hit.record for hit in found), *beside):
        cost = tokens(record.text)
        if cost <= left and spot_of(record) not in chosen:
            chosen[spot_of(record)] = record
            left -= cost
    return _passages(chosen.values(), {spot_of(hit.record): hit.score for hit in found})


def _best_places(found: Mapping[Spot, float], known: Mapping[Spot, Record], many: int) -> list[Place]:
    """The places of high score of which no record was found."""
    best = sorted(found, key=lambda spot: found[spot], reverse=True)[: many + len(known)]
    return [spot[1] for spot in best if isinstance(spot, tuple) and spot not in known][:many]


def _distinct(ranked: Iterable[Hit]) -> Iterator[Hit]:
    """Of what says the same in the same words only the first; what says next to nothing is let be."""
    seen: set[tuple[object, ...]] = set()
    for hit in ranked:
        said = terms(str(hit.record.data.get("text", hit.record.text)))
        same = (hit.record.data.get("speaker"), said)
        if len(said) < _TELLING_WORDS or same not in seen:
            yield hit
        seen.add(same)


def _around(found: Iterable[Hit]) -> list[Place]:
    places = [hit.record.place for hit in found if hit.record.place is not None]
    return [
        Place(place.session, place.seq + step)
        for place in places
        for step in _AROUND
        if place.seq + step >= 0
    ]


def _nearness(record: Record, found: Sequence[Hit]) -> int:
    """How early among what was found something stands beside which this record does."""
    place = record.place
    for number, hit in enumerate(found):
        other = hit.record.place
        if place and other and place.session == other.session and abs(place.seq - other.seq) <= 1:
            return number
    return len(found)


def _passages(records: Iterable[Record], score: Mapping[Spot, float]) -> list[Passage]:
    runs: list[list[Record]] = []
    for record in sorted(
        records, key=lambda record: (record.kind, record.place or Place("", 0), record.created)
    ):
        if runs and _follows(runs[-1][-1], record):
            runs[-1].append(record)
        else:
            runs.append([record])
    passages = [Passage(tuple(run), max(score.get(spot_of(r), 0.0) for r in run)) for run in runs]
    return sorted(passages, key=lambda passage: -passage.score)


def _follows(one: Record, other: Record) -> bool:
    if one.place is None or other.place is None or one.scope != other.scope or one.kind != other.kind:
        return False
    return one.session == other.session and other.place.seq == one.place.seq + 1
