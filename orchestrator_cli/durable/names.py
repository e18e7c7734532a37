"""ASCII identifiers for the names that others chose, each with a way back. Pure.

A name may have dots, spaces or letters of any script. Its identifier depends on the names beside it and not
on their order, so that a plan of yesterday means the same today. Every name gets one: if others
have the same letters, a part of its hash is at the end.
"""

import hashlib
import keyword
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

MOST_CHARS = 64
"""No provider takes longer names of functions."""
WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def identifiers(
    names: Iterable[str],
    *,
    prefix: str = "",
    word: str = "name",
    most: int = MOST_CHARS,
    as_is: re.Pattern[str] = WORD,
    lower: bool = False,
    taken: Callable[[str], bool] | None = None,
) -> dict[str, str]:
    """An identifier for each name, and none twice.

    Args:
        prefix: what each begins with.
        word: replaces a name without Latin letters and digits.
        most: the most characters of an identifier.
        as_is: what an identifier looks like that stays as it is.
        lower: whether others are written with small letters.
        taken: whether an identifier means something else.
    """
    own = sorted(set(names))

    def plain_of(name: str) -> str:
        whole = prefix + name
        if not (_has_letters(name) and as_is.fullmatch(whole)):
            made = re.sub(r"\W+", "_", _letters(name)).strip("_") or word
            made = made.lower() if lower else made
            whole = prefix + made if prefix or made[0].isalpha() else f"{word}_{made}"
        return f"{whole}_" if keyword.iskeyword(whole) else whole

    def hashed(made: str, text: str, digits: int) -> str:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
        return f"{made[: most - len(digest) - 1]}_{digest}"

    plain = {name: plain_of(name) for name in own}
    shared = {made for made, count in Counter(plain.values()).items() if count > 1}

    def is_free(name: str, made: str) -> bool:
        is_clear = made not in shared or made == prefix + name
        return is_clear and len(made) <= most and not (taken is not None and taken(made))

    found: dict[str, str] = {}
    for digits in (6, 12, 18, 24):
        # In the last round, no name can have been chosen for the hash of another.
        salt = "\0".join(own) if digits == 24 else ""
        found = {
            name: made if is_free(name, made) and _has_letters(name) else hashed(made, salt + name, digits)
            for name, made in plain.items()
        }
        if len(set(found.values())) == len(found):
            break
    return found


def _letters(name: str) -> str:
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()


def _has_letters(name: str) -> bool:
    return re.search(r"[A-Za-z0-9]", _letters(name)) is not None
