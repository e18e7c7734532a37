"""The terms of short texts about tools, and how alike those are; see `durable.similarity`. Pure.

Not covered: stems of languages other than English, and words of languages that are written without
spaces, which match as whole runs.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

from orchestrator_cli.durable.similarity import Similarity


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


def similarity(texts: Iterable[frozenset[str]]) -> Similarity[str]:
    """Compares texts (as term sets) with those of the tools as the collection."""
    return Similarity(texts, _common())


@cache
def _small() -> frozenset[str]:
    return frozenset(_SMALL.split())


@cache
def _common() -> frozenset[str]:
    return terms(_COMMON)
