"""How alike two short texts are, as a number from 0 to 1 that means the same for every pair. Pure.

A word counts the more the fewer texts of a collection say it, and little where it is one that most texts of
tools are made of ("file", "list", "return"). Texts that share such words only share nothing.

Not covered: synonyms, stems of languages other than English, and words of languages that are written without
spaces, which match as whole runs.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache

Weight = Callable[[str], float]

_RECORDS = 1000
"""Rarity is judged as if there were so many texts: a few say little about how rare a word is."""
_COMMON_WEIGHT = 0.25


def terms(text: str) -> frozenset[str]:
    """The distinct words of a text as stems, names taken apart and small words left out."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", text)
    plain = "".join(c for c in unicodedata.normalize("NFKD", spaced) if not unicodedata.combining(c))
    found = re.findall(r"[^\W_]+", plain.casefold())
    telling = (word for word in found if not is_small(word) and (len(word) > 1 or word.isdigit()))
    return frozenset(map(_stem, telling))


def is_small(word: str) -> bool:
    """Whether a word says nothing by itself."""
    return word.casefold() in _small()


def _stem(word: str) -> str:
    """A word without the commonest endings of English: enough to match, no more."""
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending) + instead
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] in "bdgmnprt":
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


_ENDINGS = (
    ("ization", "iz"),
    ("isation", "iz"),
    ("ising", "iz"),
    ("ised", "iz"),
    ("ise", "iz"),
    ("ations", "at"),
    ("ation", "at"),
    ("ating", "at"),
    ("ated", "at"),
    ("ions", ""),
    ("ion", ""),
    ("ies", "y"),
    ("ied", "y"),
    ("ings", ""),
    ("ing", ""),
    ("sses", "ss"),
    ("ers", ""),
    ("ed", ""),
    ("er", ""),
    ("es", ""),
    ("ss", "ss"),
    ("us", "us"),
    ("s", ""),
)
_SMALL = """
    a an and any are as at be but by can do does for from given has have how i if in into is it its me my not
    of on one or our out so such than that the their them then there these they this those to up was what when
    where which while who will with within without would you your
"""
_COMMON = """
    make create write build work generate produce give show tell find get list use do please help want
    need new all every each some first two compute calculate take convert check tool function call value
    values return result results output input text string number integer array object dictionary key name
    file path data content line lines report print save relative workspace optional default example
    simple format order contains
"""


def weights(texts: Iterable[frozenset[str]]) -> Weight:
    """How telling each word is: the fewer tools say it the more, and little where most requests have it."""
    frequency = Counter(term for text in set(texts) for term in text)
    common = _common()

    def weight(term: str) -> float:
        seen = frequency[term]
        rarity = math.log(1 + max(_RECORDS - seen, 0.5) / (seen + 0.5))
        return rarity * (_COMMON_WEIGHT if term in common else 1.0)

    return weight


@cache
def _small() -> frozenset[str]:
    return frozenset(_SMALL.split())


@cache
def _common() -> frozenset[str]:
    return terms(_COMMON)


def containment(one: frozenset[str], other: frozenset[str], weight: Weight) -> float:
    """How much of what the terser says the other says too; 0 where they share common words only."""
    shared = one & other
    least = min(_mass(one, weight), _mass(other, weight))
    return _mass(shared, weight) / least if least and shared - _common() else 0.0


def likeness(one: frozenset[str], other: frozenset[str], weight: Weight) -> float:
    """The cosine of the two; 0 where they share common words only."""
    shared = one & other
    both = math.sqrt(_mass(one, weight) * _mass(other, weight))
    return _mass(shared, weight) / both if both and shared - _common() else 0.0


def _mass(terms: frozenset[str], weight: Weight) -> float:
    return math.fsum(map(weight, terms))
