"""Finds what is relevant to a question: messages of conversations and chunks of documents.

    hits = retrieve(memory, "When did Ada move?", kinds=TURN, scope=scope)
    passages = pack(memory, hits, scope=scope, budget=2000)

BM25 scores each record by itself. But an answer rarely repeats the words of its question, and a story unfolds
over several messages. So `retrieve` combines:

    own        BM25, plus a share for words that are adjacent both in the question and in the record
    spread     part of a message's own score goes to the two after it and the one before it
    session    how well the whole conversation or document, judged by its hits, matches the question
    near       where the record's vector is between the farthest and the nearest that were found, if there
               are vectors; part of it goes to the message before, which the vector is also made from
    speaker    a little for messages of a speaker whom the question names
    statement  a little for long messages, and less for those that ask: an answer is rarely a question

How much each counts depends on the kind of the record (`RANKINGS`): a piece of a document is about what it
says itself, and is not ranked as a message is.

Of records with the same words only the best is returned. A vector search always finds something, even if no
word is shared. `pack` puts the best hits and their neighbours into a budget of tokens, in their original
order, so that a model reads passages rather than scraps.

The weights of messages were chosen on conversations of LoCoMo, those of pieces on made questions about three
kinds of documents and on docstrings; see docs/benchmarks.md, and docs/experiments.md for what did not help.

Every record says whether it is trusted. An untrusted one (a file, a tool, the web) is data and grants
nothing; the caller must mark it as such in prompts.

What is not covered: what the records mean together; contradictions, except that what no longer holds is
left out.
"""

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import TypeVar
from uuid import UUID

from memory.embedder import DenseVector, sequence, similarity, terms
from memory.records import CHUNK, RUN, TOOL, TURN, At, Hit, Position, Record, Scope
from memory.store import Memory, Query, as_kinds
from memory.visibility import search_visible


@dataclass(frozen=True)
class Ranking:
    """How much counts for a record of one kind, besides its own score, which is at most 1."""

    session: float = 0.0
    """For the best session."""
    near: float = 0.0
    """For the nearest vector."""
    nearest: int = 200
    """How many vectors count; the last of them counts nothing."""
    spread: Mapping[int, float] = field(default_factory=dict)
    """The share of a record's own score that a neighbour gets, by its distance."""
    near_spread: Mapping[int, float] = field(default_factory=dict)
    """The same of its nearness."""
    speaker: float = 0.0
    asks: float = 0.0
    length: float = 0.0
    """For a text of `_LONG` characters; half as much again at most."""


RANKINGS: Mapping[str, Ranking] = {
    TURN: Ranking(
        session=0.6,
        near=0.7,
        spread={1: 0.4, 2: 0.3, -1: 0.4},
        near_spread={-1: 0.5},
        speaker=0.1,
        asks=-0.15,
        length=0.1,
    ),
    CHUNK: Ranking(session=0.5, near=0.8, nearest=50),
    TOOL: Ranking(near=2.0, nearest=64),
    RUN: Ranking(near=0.7, nearest=64),
}
_OTHERS = Ranking(near=0.7)

_PAIRS = 0.3
_SATURATION = 1.2
_LONG = 300
_KEPT_TEXTS = 4_096
"""Texts whose words are kept in the process, so that they are not split again for each question."""
_CANDIDATES = 200
_NEIGHBOURS_PER_HIT = 3
_TELLING_WORDS = 4
_WORD = re.compile(r"\w+")

_Key = TypeVar("_Key")

ScoreKey = tuple[str, Position] | UUID
"""What a score belongs to: a kind and position, with or without a record, or a record without a position."""


@dataclass(frozen=True)
class Passage:
    """Consecutive records in their order, or a single record without a position."""

    records: tuple[Record, ...]
    score: float
    """The score of the best record."""

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
    """The records most relevant to the question, best first. Raises what the store raises.

    `near` is the question as a dense vector (see `dense`).
    """
    most = max(_CANDIDATES, limit)
    query = Query(question, kinds=kinds, scope=scope, limit=most, at=at, session=session)
    with memory.opened() as turn:
        hits, near_hits = search_both(turn, query, near)
        score = scores(question, hits, near_hits)
        known = {score_key(hit.record): hit.record for hit in (*near_hits, *hits)}
        # The positions with a high score whose records were not found.
        best = sorted(score, key=lambda key: score[key], reverse=True)
        best = best[: _NEIGHBOURS_PER_HIT * limit + len(known)]
        positions = [key[1] for key in best if isinstance(key, tuple) and key not in known]
        neighbours = turn.at_positions(
            positions[: _NEIGHBOURS_PER_HIT * limit], kinds=kinds, scope=scope, at=at
        )
    ranked = rank(question, [*known.values(), *neighbours], score)
    return list(itertools.islice(_distinct(ranked), limit))


def search_both(memory: Memory, query: Query, near: DenseVector | None) -> tuple[list[Hit], list[Hit]]:
    """The hits by words, and those by the vector `near` if there is one."""
    hits = search_visible(memory, query)
    if near is None:
        return hits, []
    kinds = as_kinds(query.kinds) or list(RANKINGS)
    nearest = max(RANKINGS.get(kind, _OTHERS).nearest for kind in kinds)
    return hits, search_visible(memory, replace(query, what=near, limit=nearest))


def pack(
    memory: Memory,
    hits: Sequence[Hit],
    *,
    scope: Scope,
    budget: int,
    at: At = "now",
    tokens: Callable[[str], int] = lambda text: len(text) // 4 + 1,
) -> list[Passage]:
    """The hits and their neighbours within `budget` tokens, best passage first.

    Hits take precedence over neighbours; a record that is too long for the rest of the budget is skipped.
    `tokens` counts the tokens of a text; by default four characters count as one.
    """
    chosen: dict[ScoreKey, Record] = {}
    left = budget
    kinds = {hit.record.kind for hit in hits}
    around = [
        Position(position.session, position.seq + step)
        for position in (hit.record.position for hit in hits)
        for step in (-1, 1)
        if position is not None and position.seq + step >= 0
    ]
    neighbours = memory.at_positions(around, kinds=kinds, scope=scope, at=at) if kinds else []
    nearest: dict[Position | None, int] = {at: rank for rank, at in reversed([*enumerate(around)])}
    neighbours = sorted(neighbours, key=lambda record: nearest.get(record.position, len(around)))
    for record in (*(hit.record for hit in hits), *neighbours):
        cost = tokens(record.text)
        if cost <= left and score_key(record) not in chosen:
            chosen[score_key(record)] = record
            left -= cost
    return _passages(chosen.values(), {score_key(hit.record): hit.score for hit in hits})


def _distinct(ranked: Iterable[Hit]) -> Iterator[Hit]:
    """The hits without repetitions by the same speaker in the same words; very short ones may repeat."""
    seen: set[tuple[object, ...]] = set()
    for hit in ranked:
        words = terms(str(hit.record.data.get("text", hit.record.text)))
        same = (hit.record.data.get("speaker"), words)
        if len(words) < _TELLING_WORDS or same not in seen:
            yield hit
        seen.add(same)


def _passages(records: Iterable[Record], score: Mapping[ScoreKey, float]) -> list[Passage]:
    runs: list[list[Record]] = []
    for record in sorted(records, key=lambda one: (one.kind, one.position or Position("", 0), one.created)):
        if runs and _follows(runs[-1][-1], record):
            runs[-1].append(record)
        else:
            runs.append([record])
    passages = [Passage(tuple(run), max(score.get(score_key(r), 0.0) for r in run)) for run in runs]
    return sorted(passages, key=lambda passage: -passage.score)


def _follows(one: Record, other: Record) -> bool:
    if one.position is None or other.position is None or (one.scope, one.kind) != (other.scope, other.kind):
        return False
    return other.position == Position(one.position.session, one.position.seq + 1)


# --- scores


def score_key(record: Record) -> ScoreKey:
    return record.id if record.position is None else (record.kind, record.position)


def scores(question: str, hits: Sequence[Hit], near_hits: Sequence[Hit] = ()) -> dict[ScoreKey, float]:
    """The scores of the hits and of the positions beside them, comparable within one call.

    `near_hits`, found by vector, only add to the scores; those by words are the same with and without them.
    """
    asked = sequence(question)
    words = [_words(hit.record.text) for hit in hits]
    weight = cache(similarity(map(frozenset, words)).weight)
    kinds = {score_key(hit.record): hit.record.kind for hit in (*hits, *near_hits)}
    own: dict[ScoreKey, float] = {}
    for hit, score in zip(hits, _own_scores(asked, hits, words, weight), strict=True):
        key = score_key(hit.record)
        own[key] = max(own.get(key, 0.0), score)
    result = scaled(_spread(own, lambda ranking: ranking.spread))
    sessions = scaled(_session_scores(asked, hits, words, weight))
    near = scaled(_spread(nearness(near_hits), lambda ranking: ranking.near_spread))
    for key in dict.fromkeys([*result, *near]):
        result.setdefault(key, 0.0)
        ranking = RANKINGS.get(key[0] if isinstance(key, tuple) else kinds[key], _OTHERS)
        if isinstance(key, tuple):
            result[key] += ranking.session * sessions.get(key[1].session, 0.0)
        result[key] += ranking.near * near.get(key, 0.0)
    return result


def nearness(near_hits: Iterable[Hit]) -> dict[ScoreKey, float]:
    """How near each hit is among those of its kind that count: from 0 for the last to 1 for the nearest.

    Models differ in where their cosines begin, so they are no measure by themselves.
    """
    by_kind: defaultdict[str, list[Hit]] = defaultdict(list)
    for hit in sorted(near_hits, key=lambda hit: -hit.score):
        if len(by_kind[hit.record.kind]) < RANKINGS.get(hit.record.kind, _OTHERS).nearest:
            by_kind[hit.record.kind].append(hit)
    result: dict[ScoreKey, float] = {}
    for hits in by_kind.values():
        far, most = hits[-1].score, hits[0].score - hits[-1].score
        result |= {score_key(hit.record): (hit.score - far) / most if most > 0 else 1.0 for hit in hits}
    return result


def merge_hits(hits: Sequence[Hit], near_hits: Sequence[Hit]) -> list[Hit]:
    """Hits by words, followed by those found by vector only, whose score by words is 0."""
    known = {hit.record.id for hit in hits}
    return [*hits, *(Hit(record=hit.record, score=0.0) for hit in near_hits if hit.record.id not in known)]


def scaled(values: Mapping[_Key, float]) -> dict[_Key, float]:
    """The values divided by the largest one; zeros if none is positive."""
    most = max(values.values(), default=0.0)
    return {key: value / most if most > 0 else 0.0 for key, value in values.items()}


def rank(question: str, records: Iterable[Record], score: Mapping[ScoreKey, float]) -> list[Hit]:
    """The records best first, newer first among equals, with what their kind adds for speaker and form."""
    named = frozenset(_WORD.findall(question.casefold()))
    hits = [Hit(record=one, score=score.get(score_key(one), 0.0) + _form(one, named)) for one in records]
    return sorted(hits, key=lambda hit: (hit.score, hit.record.created, hit.record.key), reverse=True)


def _form(record: Record, named: frozenset[str]) -> float:
    ranking = RANKINGS.get(record.kind, _OTHERS)
    speaker, text = record.data.get("speaker"), str(record.data.get("text", record.text))
    is_named = isinstance(speaker, str) and not named.isdisjoint(_WORD.findall(speaker.casefold()))
    return (
        ranking.speaker * is_named
        + ranking.asks * ("?" in text)
        + ranking.length * min(len(text) / _LONG, 1.5)
    )


@lru_cache(maxsize=_KEPT_TEXTS)
def _words(text: str) -> tuple[int, ...]:
    return sequence(text)


def _own_scores(
    asked: Sequence[int], hits: Sequence[Hit], texts: Sequence[Sequence[int]], weight: Callable[[int], float]
) -> Iterator[float]:
    pairs = frozenset(itertools.pairwise(asked))
    for hit, words in zip(hits, texts, strict=True):
        # One word in between is allowed.
        near = {*itertools.pairwise(words), *zip(words, words[2:], strict=False)}
        together = math.fsum(min(weight(one), weight(other)) for one, other in pairs & near)
        yield hit.score + _PAIRS * together


def _spread(
    own: Mapping[ScoreKey, float], shares: Callable[[Ranking], Mapping[int, float]]
) -> dict[ScoreKey, float]:
    result = dict(own)
    for key, score in own.items():
        if not isinstance(key, tuple):
            continue
        kind, position = key
        for distance, share in shares(RANKINGS.get(kind, _OTHERS)).items():
            neighbour = (kind, Position(position.session, position.seq + distance))
            if position.seq + distance >= 0:
                result[neighbour] = result.get(neighbour, 0.0) + share * score
    return result


def _session_scores(
    asked: Sequence[int], hits: Sequence[Hit], texts: Sequence[Sequence[int]], weight: Callable[[int], float]
) -> dict[str, float]:
    wanted = frozenset(asked)
    counted: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for hit, words in zip(hits, texts, strict=True):
        if hit.record.session is not None:
            counted[hit.record.session].update(wanted.intersection(words))
    return {
        session: math.fsum(weight(word) * times / (times + _SATURATION) for word, times in words.items())
        for session, words in counted.items()
    }
