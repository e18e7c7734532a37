"""Foreign text in prompts: what a model, a file, a server or a page said stays data.

In a prompt, foreign text is between the marks `<untrusted source="…">` and `</untrusted>`, which the template
writes. A prompt's environment passes every value through `as_data`, so that none can open or close a mark.
What has to be outside the marks, such as a title or a name, passes through `on_one_line` and cannot look like
a part of the prompt.

Not covered: what a model makes of the data, and marks spelled with letters of other scripts.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

HIDDEN = (
    "\\x00-\\x08\\x0e-\\x1f\\x7f-\\x9f\\u00ad\\u061c\\u180e\\u200b\\u200e\\u200f\\u202a-\\u202e"
    "\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb\\U000e0000-\\U000e0fff"
)
"""Signs that are obeyed or invisible rather than shown, without line ends and tabs: a part of `[…]`."""
UNSEEN = (
    "\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f"
    "\\u2800\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufff8\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a"
    "\\U000e0000-\\U000e0fff"
)
"""What two spellings that look alike may differ in, a part of `[…]`: the signs of Unicode's property
`Default_Ignorable_Code_Point`, and the blank of Braille. Words in many scripts need some of them."""
SURROGATES = "\\ud800-\\udfff"
LINE_ENDS = "\\n\\x0b\\x0c\\r\\x85\\u2028\\u2029"

_NOT_ON_A_LINE = re.compile(f"[\\t{LINE_ENDS}{HIDDEN}{SURROGATES}]")
_UNSEEN = rf"[\s{HIDDEN}{UNSEEN}]*+"
_WORD = _UNSEEN.join("untrusted")
_OPENING = "<\u02c2\u1438\u2039\u2329\u276e\u27e8\u3008\ufe64\uff1c"
_SLASH = "/\u2044\u2215\u29f8\uff0f"
_MARK = re.compile(rf"[{_OPENING}](?={_UNSEEN}(?:[{_SLASH}]{_UNSEEN})?{_WORD})", re.IGNORECASE)
_OBEYED = re.compile(f"[{HIDDEN}]+")
_UNSAFE_IN_JSON = re.compile(f"[{HIDDEN}{SURROGATES}\\x85\\u2028\\u2029]")


def as_data(text: object) -> str:
    """The text, in which nothing opens or closes a mark: the `<` of one becomes `&lt;`.

    Control characters and hidden signs are written out as `visible` does.
    """
    return _OBEYED.sub(lambda match: written_out(match.group()), _MARK.sub("&lt;", str(text)))


def on_one_line(text: object) -> str:
    """The text on one line, with line ends, tabs and hidden signs as `\\n`, `\\t`, `\\u202e` and so on."""
    return _NOT_ON_A_LINE.sub(lambda match: json.dumps(match.group())[1:-1], str(text))


_SQUARE = str.maketrans("[\u2045\u3010\u3014\u301a\ufe47\uff3b", "(" * 7) | str.maketrans(
    "]\u2046\u3011\u3015\u301b\ufe48\uff3d", ")" * 7
)


def in_brackets(*parts: str) -> str:
    """`[one, two]` on one line: no part can end the brackets or begin others, as its own become round."""
    return f"[{on_one_line(', '.join(parts)).translate(_SQUARE)}]"


def foreign_line(text: object, limit: int = 2_000) -> str:
    """The text on one line, with a count instead of what exceeds `limit` characters."""
    return excerpt(on_one_line(text), limit)


def excerpt(text: str, limit: int) -> str:
    """The text, with a count instead of what exceeds `limit` characters."""
    left = len(text) - limit
    return text if left <= 0 else f"{text[:limit]}… ({left:,} characters left out)"


def escaped(text: str) -> str:
    """JSON with `\\u` escapes for hidden signs, and for what some readers take for a line end."""
    return _UNSAFE_IN_JSON.sub(lambda match: json.dumps(match.group())[1:-1], text)


def marked(text: str, source: str) -> str:
    """Foreign text within its marks. `source` says whose words they are."""
    return f'<untrusted source="{source}">{as_data(text)}</untrusted>'


def marked_words(
    description: str, inputs: Mapping[str, Mapping[str, Any]], source: str
) -> tuple[str, dict[str, Any]]:
    """The description of a tool and its inputs, each of which has a `description`, with marks around them."""
    about = {name: {**row, "description": marked(row["description"], source)} for name, row in inputs.items()}
    return marked(description, source), about


def first_line(text: str) -> str:
    """The first line of a text, with the end of its mark if the text began with one."""
    line, _, rest = text.partition("\n")
    return f"{line}</untrusted>" if rest and line.startswith("<untrusted ") else line


def prompt_environment(read: Callable[[str], str]) -> "Environment":
    """Templates in which an undefined name is an error and no value can forge a mark.

    `read` returns the text of a template by its name. The filter `line` is `on_one_line`.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(read),
        undefined=jinja2.StrictUndefined,
        finalize=as_data,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # plain text for a model, not HTML
    )
    environment.filters["line"] = on_one_line
    return environment


MOST_SIGNS = 40
"""Of more hidden signs in a row, the rest is counted."""
_NOT_SHOWN = re.compile(
    # Signs of `UNSEEN` that no script and no emoji needs there: after ASCII, or more than two in a row.
    f"[{LINE_ENDS}{HIDDEN}{SURROGATES}]+|(?<=[ -~])(?![\\ufe0e\\ufe0f]\\u20e3)[{UNSEEN}]+|[{UNSEEN}]{{3,}}"
)


def visible(line: str) -> str:
    """The line with line ends and hidden signs as `\\r`, `\\x1b` or `\\u{e0041}`; tabs stay.

    What can be hidden in signs that words and emoji need is not covered: one of them after each letter.

    A byte that is not UTF-8 (a surrogate of `surrogateescape`) is written as `\\xe9`.
    """
    return _NOT_SHOWN.sub(lambda match: written_out(match.group()), line)


def hidden_count(line: str) -> int:
    """How many signs `visible` writes in another way."""
    return sum(map(len, _NOT_SHOWN.findall(line)))


def written_out(signs: str) -> str:
    """Signs as `\\r`, `\\x1b` or `\\u{e0041}`, with a count of what is more than `MOST_SIGNS`."""
    codes = (ord(sign) - (0xDC00 if "\udc80" <= sign <= "\udcff" else 0) for sign in signs[:MOST_SIGNS])
    names = {0x0A: "\\n", 0x0D: "\\r"}
    shown = (names.get(code) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{{{code:x}}}") for code in codes)
    left = len(signs) - MOST_SIGNS
    return "".join(shown) + (f"[and {left:,} more hidden signs]" if left > 0 else "")
