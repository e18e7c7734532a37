"""An embedding model for tests: words of one group mean the same, and each group is a direction.

So "automobile" is near "car" though they share no word, which BM25 cannot see. Words of no group turn a
text a little, each to a place of its own, as they would in a model.

What is not covered: grammar; two words that fall into one place by chance.
"""

import hashlib
import math
import re
from collections.abc import Sequence

GROUPS = (
    {"car", "automobile", "vehicle", "cars", "automobiles"},
    {"doctor", "physician", "medic"},
    {"cheap", "inexpensive", "affordable"},
    {"boat", "ship", "vessel"},
    {"movie", "film", "cinema"},
    {"holiday", "vacation", "leave"},
)
SIZE = len(GROUPS) + 16


def meaning(text: str, size: int = SIZE) -> list[float]:
    """The vector of a text: of length 1, or all zeros where it has no words."""
    vector = [0.0] * size
    for word in re.findall(r"\w+", text.casefold()):
        known = [number for number, group in enumerate(GROUPS) if word in group]
        if known:
            vector[known[0]] += 1.0
        else:
            mark = hashlib.sha256(word.encode()).digest()[0]
            vector[len(GROUPS) + mark % (size - len(GROUPS))] += 0.1
    length = math.hypot(*vector)
    return [value / length for value in vector] if length else vector


def meanings(texts: Sequence[str]) -> list[list[float]]:
    return [meaning(text) for text in texts]
