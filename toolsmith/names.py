"""Names of tools: what a plan calls a tool, and the identifier it gets. Pure.

A plan may write `Count-Words`, `count words` or `countWords`; all are the tool `count_words`. Two names
that mean the same have the same `folded` form, in which case and separators are gone."""

import builtins
import keyword
import re
import unicodedata
from itertools import islice

from toolsmith.likeness import is_small

_MAX_CHARS = 60
_RESERVED = {"final_answer", "tool"} | set(dir(builtins))


def identifier(name: str) -> str:
    """The identifier for a tool that a plan calls `name`; empty when there is no Latin letter or digit."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plain)
    words = re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")[:_MAX_CHARS].rstrip("_")
    return f"tool_{words}"[:_MAX_CHARS].rstrip("_") if words and name_fault(words) else words


def short_name(purpose: str) -> str:
    """An identifier of the first telling words of a purpose; empty where there are none."""
    words = (word for word in re.findall(r"[^\W_]+", purpose) if not is_small(word))
    return identifier(" ".join(islice(words, 4)))


def folded(name: str) -> str:
    """The form in which two names of the same tool are equal."""
    return identifier(name).replace("_", "")


def name_fault(name: str) -> str | None:
    """Why a name cannot be a tool's; None when it can."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or len(name) > _MAX_CHARS:
        return (
            f"must be a Python identifier of lower-case letters, digits and _, at most {_MAX_CHARS} of them"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in _RESERVED:
        return f"'{name}' is a word of Python or of the agent; choose another"
    return None
