"""Texts cut to a length and compared, and how sure a rate of success is. Pure.

Measures are numbers from 0 to 1, which mean the same for every pair of texts. BM25 scores do not: they grow
with the query's length and with the collection, so they rank the hits of one query and do not say whether
the best of them is any good.

Not covered: synonyms. "Car" and "automobile" share nothing here.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

_TEXTS = 1000
"""Rarity is judged as if the collection had this many texts: a few say little about how rare a term is,
and for a great many the difference no longer matters."""
_COMMON_WEIGHT = 0.25
_Z = 1.96
"""Standard deviations of a normal distribution within which 95 % of it is."""


def listed(names: Iterable[str], most: int | None = None) -> str:
    """Names for a sentence, as `a, b and c`; of more than `most`, the rest is counted."""
    found = list(names)
    more = [f"{len(found) - most} more"] if most is not None and len(found) > most else []
    parts = [*found[: most if more else len(found)], *more]
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def truncate(text: str, limit: int, *, rstrip: bool = False) -> str:
    """The text, at most `limit` characters long. If some are left out, it ends in `…`.

    Args:
        rstrip: leave no blanks before the `…`.
    """
    if len(text) <= limit:
        return text
    kept = text[: limit - 1]
    return f"{kept.rstrip() if rstrip else kept}…"


class Similarity(Generic[T]):
    """Compares texts of one collection, each as the set of its terms.

    A term counts the more the fewer texts have it, and little if it is one of the `common` terms, of which
    most texts are made ("make", "list", "file", …). Texts with the same terms count once, however often
    they are repeated.
    """

    def __init__(self, texts: Iterable[frozenset[T]], common: frozenset[T]) -> None:
        self.common = common
        self._frequency = Counter(term for text in set(texts) for term in text)

    def weight(self, term: T) -> float:
        """How telling a term is; more than 0."""
        seen = self._frequency[term]
        rarity = math.log(1 + max(_TEXTS - seen, 0.5) / (seen + 0.5))
        return rarity * (_COMMON_WEIGHT if term in self.common else 1.0)

    def cosine(self, one: frozenset[T], other: frozenset[T]) -> float:
        """1 if the texts have the same terms, 0 if they share none."""
        if one == other:
            return 1.0 if one else 0.0
        both = math.sqrt(self._sum(one) * self._sum(other))
        return self._sum(one & other) / both if both else 0.0

    def containment(self, one: frozenset[T], other: frozenset[T]) -> float:
        """How much of the terser text the other one contains; 0 if they share common terms only."""
        shared = one & other
        if shared <= self.common:
            return 0.0
        return self._sum(shared) / min(self._sum(one), self._sum(other))

    def _sum(self, terms: frozenset[T]) -> float:
        return math.fsum(map(self.weight, terms))


def wilson_interval(good: float, count: float) -> tuple[float, float]:
    """Wilson's interval of a rate of success, 95 %, as its lower and upper bound; counts may be weighted."""
    if count <= 0:
        return 0.0, 1.0
    rate, square = good / count, _Z * _Z / count
    middle = rate + square / 2
    half = _Z * math.sqrt(rate * (1 - rate) / count + square / (4 * count))
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))
