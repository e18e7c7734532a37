"""Names of tools, and the terms of texts about tools, for `durable.text`. Pure.

A plan may write `Count-Words`, `count words` or `countWords`; all mean the tool `count_words`. Names that
mean the same have the same `folded` form, without case and separators.

Not covered: stems of languages other than English, and words of languages written without spaces, which match
as whole runs.
"""

import builtins
import keyword
import re
import unicodedata
from collections.abc import Iterable
from itertools import islice

from orchestrator_cli.durable.text import Similarity

_MAX_CHARS = 60
OF_EVERY_AGENT = ("final_answer", "give_up", "report_surprise", "request_tool")
"""The tools that every agent has, whatever its subtask names."""
AGENT_TOOLS = frozenset(
    [
        *OF_EVERY_AGENT,
        "read_output",
        *("list_files", "read_file", "search_files", "write_file", "fetch_url", "search_web"),
        *("read_skill", "search_knowledge", "read_knowledge"),
    ]
)
"""The names of all hand-written tools. No built tool and no tool of an MCP server can have one of them."""
_RESERVED = {"tool"} | AGENT_TOOLS | set(dir(builtins))


def identifier(name: str) -> str:
    """The identifier for a tool that a plan calls `name`; empty when there is no Latin letter or digit."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plain)
    words = re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")[:_MAX_CHARS].rstrip("_")
    return f"tool_{words}"[:_MAX_CHARS].rstrip("_") if words and name_fault(words) else words


def short_name(purpose: str) -> str:
    """An identifier made of the first significant words of a purpose; empty if there are none."""
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


# --- terms


def terms(text: str) -> frozenset[str]:
    """The distinct words of a text as stems, names taken apart and small words left out."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", text)
    plain = "".join(c for c in unicodedata.normalize("NFKD", spaced) if not unicodedata.combining(c))
    found = re.findall(r"[^\W_]+", plain.casefold())
    telling = (word for word in found if not is_small(word) and (len(word) > 1 or word.isdigit()))
    return frozenset(map(_stem, telling))


def is_small(word: str) -> bool:
    """Whether a word says nothing by itself."""
    return word.casefold() in _SMALL


def _stem(word: str) -> str:
    """A word without the commonest endings of English: enough to match, no more."""
    for ending, instead in (pair.split(">") for pair in _ENDINGS.split()):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending) + instead
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] in "bdgmnprt":
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


_ENDINGS = """
    ization>iz isation>iz ising>iz ised>iz ise>iz ations>at ation>at ating>at ated>at ions> ion> ies>y ied>y
    ings> ing> sses>ss ers> ed> er> es> ss>ss us>us s>
"""
"""What each ending is replaced by; the first that fits counts."""
_SMALL_WORDS = """
    a an and any are as at be but by can do does for from given has have how i if in into is it its me my not
    of on one or our out so such than that the their them then there these they this those to up was what when
    where which while who will with within without would you your
"""
_COMMON_WORDS = """
    make create write build work generate produce give show tell find get list use do please help want
    need new all every each some first two compute calculate take convert check tool function call value
    values return result results output input text string number integer array object dictionary key name
    file path data content line lines report print save relative workspace optional default example
    simple format order contains
"""


_SMALL = frozenset(_SMALL_WORDS.split())
_COMMON = terms(_COMMON_WORDS)


def similarity(texts: Iterable[frozenset[str]]) -> Similarity[str]:
    """Compares texts (as term sets) with those of the tools as the collection."""
    return Similarity(texts, _COMMON)
