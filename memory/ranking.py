"""How much each of the records that a search brought out, and their neighbours, have to do with the question.

BM25 judges each turn of a conversation, or each piece of a document, by itself. But an answer rarely repeats
the words of its question, and a story is told over several turns. So the scores are put together:

    own        BM25, and a share for words that stand next to each other in the question and in the record
    spread     of a turn, a part of that for the two after it and the one before it in the same session
    session    how much of the question the session says, judged by those of its records that were found
    speaker    a little for what was said by somebody whom the question names
    dense      where there are such vectors: how near they are

The weights were chosen on three of five conversations of LoCoMo and looked at on the other two; see
docs/benchmarks.md, and docs/experiments.md for what brought nothing. Pure: no store, no clock.
"""

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TypeVar
from uuid import UUID

from memory.embedder import sequence, similarity
from memory.records import CHUNK, Hit, Place, Record

SPREAD = {1: 0.5, 2: 0.3, -1: 0.3}
"""The share of a turn's own score that its neighbours get, by how far behind it they stand."""

_PAIRS = 0.3
_SESSION = 0.5
_SPEAKER = 0.1
DENSE = 0.3
"""What the nearest vector of all adds."""
_SATURATION = 1.2
_WORD = re.compile(r"\w+")

_Key = TypeVar("_Key")

Spot = tuple[str, Place] | UUID
"""Where a score belongs: a kind's place, which may have a record or not, or a record that has no place."""


def spot_of(record: Record) -> Spot:
    return record.id if record.place is None else (record.kind, record.place)


def scores(question: str, hits: Sequence[Hit], near: Sequence[Hit] = ()) -> dict[Spot, float]:
    """The score of each hit and of each place beside one; those of one call can be compared.

    What lies `near` only adds: to the scores of words, which are the same without it, or by itself.
    """
    asked = sequence(question)
    said = [sequence(hit.record.text) for hit in hits]
    weight = cache(similarity(map(frozenset, said)).weight)
    own = _own(asked, hits, said, weight)
    result = scaled(_spread(own))
    sessions = scaled(_sessions(asked, hits, said, weight))
    close = scaled({spot_of(hit.record): max(hit.score, 0.0) for hit in near})
    for spot in dict.fromkeys([*result, *close]):
        result.setdefault(spot, 0.0)
        if isinstance(spot, tuple):
            result[spot] += _SESSION * sessions.get(spot[1].session, 0.0)
        result[spot] += DENSE * close.get(spot, 0.0)
    return result


def joined(hits: Sequence[Hit], near: Sequence[Hit]) -> list[Hit]:
    """What shares words, and then what only lies near, whose score by words is 0."""
    known = {hit.record.id for hit in hits}
    return [*hits, *(Hit(record=hit.record, score=0.0) for hit in near if hit.record.id not in known)]


def nearness(near: Iterable[Hit]) -> dict[UUID, float]:
    """How near each is, from 0 to 1; what points away is not near at all."""
    return {hit.record.id: max(hit.score, 0.0) for hit in near}


def with_speakers(question: str, records: Iterable[Record], found: Mapping[Spot, float]) -> list[Hit]:
    """The records with their scores, best first; of equals the newer first."""
    named = frozenset(_WORD.findall(question.casefold()))
    hits = [
        Hit(record=record, score=found.get(spot_of(record), 0.0) + _SPEAKER * _is_named(record, named))
        for record in records
    ]
    return sorted(hits, key=lambda hit: (hit.score, hit.record.created, hit.record.key), reverse=True)


def _own(
    asked: Sequence[int], hits: Sequence[Hit], said: Sequence[Sequence[int]], weight: Callable[[int], float]
) -> dict[Spot, float]:
    pairs = frozenset(itertools.pairwise(asked))
    own: dict[Spot, float] = {}
    for hit, words in zip(hits, said, strict=True):
        # One word may stand between them.
        near = {*itertools.pairwise(words), *zip(words, words[2:], strict=False)}
        together = math.fsum(min(weight(one), weight(other)) for one, other in pairs & near)
        spot = spot_of(hit.record)
        own[spot] = max(own.get(spot, 0.0), hit.score + _PAIRS * together)
    return own


def _spread(own: Mapping[Spot, float]) -> dict[Spot, float]:
    result = dict(own)
    for spot, score in own.items():
        # A piece of a document says by itself what it is about.
        if not isinstance(spot, tuple) or spot[0] == CHUNK:
            continue
        kind, place = spot
        for distance, share in SPREAD.items():
            beside = (kind, Place(place.session, place.seq + distance))
            if place.seq + distance >= 0:
                result[beside] = result.get(beside, 0.0) + share * score
    return result


def _sessions(
    asked: Sequence[int], hits: Sequence[Hit], said: Sequence[Sequence[int]], weight: Callable[[int], float]
) -> dict[str, float]:
    wanted = frozenset(asked)
    counted: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for hit, words in zip(hits, said, strict=True):
        if hit.record.session is not None:
            counted[hit.record.session].update(wanted.intersection(words))
    return {
        session: math.fsum(weight(word) * times / (times + _SATURATION) for word, times in words.items())
        for session, words in counted.items()
    }


def _is_named(record: Record, words: frozenset[str]) -> bool:
    speaker = record.data.get("speaker")
    return isinstance(speaker, str) and not words.isdisjoint(_WORD.findall(speaker.casefold()))


def scaled(found: Mapping[_Key, float]) -> dict[_Key, float]:
    most = max(found.values(), default=0.0)
    return {key: value / most if most > 0 else 0.0 for key, value in found.items()}
