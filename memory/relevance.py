"""How alike two texts are, as a number from 0 to 1 that means the same for every query. Pure.

BM25 scores rank the hits of one query but do not say whether the best of them is any good: they grow with
the query's length and with the corpus. Here the question is put differently: of what the two texts say,
weighed by how telling each word is, how much do they share? A word is telling when few of the candidates
have it and when it is not one of the words most requests are made of ("make", "list", "file", ...).

What is not covered: synonyms. "Car" and "automobile" share nothing here; dense vectors would tell.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache

from memory.embedder import terms

Weight = Callable[[int], float]

# Rarity is judged as if the candidates came out of this many records: a few true records say little about
# how rare a word is, and for a great many the difference no longer matters.
_RECORDS = 1000
_COMMON_WEIGHT = 0.25
# What requests of any subject are made of, and the small words of languages that the embedder, whose stop
# words are English, lets through.
_COMMON = """
    make create write build generate produce give show tell find get list use do please help want need would
    like explain describe me my your new all every each some any one two three also then when how what which
    file text data result report name print save output input step example using simple short good best
    ich du er sie es wir ihr der die das den dem des ein eine einen einem einer eines und oder aber nicht mit
    von zu zum zur im in am an auf für über aus bei nach vor wie was wer wo ist sind war hat haben kann bitte
    mir mich mein meine als auch dass
    le la les un une des du de et ou mais pas avec pour sur dans par est sont que qui quoi comment ce cette
    mon ma mes au aux s'il vous plaît
    el los las una unos unas y o pero no con para por sobre en es son que quien como mi mis del al
    il lo gli i uno e ma non per su di da che chi come mio mia
"""


def weights(candidates: Iterable[frozenset[int]]) -> Weight:
    """How telling each term is, judged by the texts (as term sets) that a search brought out.

    Texts that say the same count once: a request made every day does not become less telling.
    """
    frequency = Counter(term for candidate in set(candidates) for term in candidate)
    common = _common_terms()

    def weight(term: int) -> float:
        seen = frequency[term]
        rarity = math.log(1 + max(_RECORDS - seen, 0.5) / (seen + 0.5))
        return rarity * (_COMMON_WEIGHT if term in common else 1.0)

    return weight


def likeness(one: frozenset[int], other: frozenset[int], weight: Weight) -> float:
    """The cosine of the two texts: 1 when they have the same words, 0 when they share none."""
    if one == other:
        return 1.0 if one else 0.0
    both = math.sqrt(_mass(one, weight) * _mass(other, weight))
    return _mass(one & other, weight) / both if both else 0.0


def containment(one: frozenset[int], other: frozenset[int], weight: Weight) -> float:
    """How much of what the terser text says is said by the other too; 0 when only common words are shared."""
    shared = one & other
    if shared <= _common_terms():
        return 0.0
    return _mass(shared, weight) / min(_mass(one, weight), _mass(other, weight))


def _mass(found: frozenset[int], weight: Weight) -> float:
    return math.fsum(weight(term) for term in found)


@lru_cache(maxsize=1)
def _common_terms() -> frozenset[int]:
    return terms(_COMMON)
