"""Foreign text made harmless, and figures in words: pure functions that all views share.

Foreign text is what a model, a program, a server or a file wrote. `clean` removes what a terminal or an
editor would obey rather than show: escape sequences, control characters, the invisible marks that reorder or
hide text, blanks that look like nothing, and signs that terminals draw with different widths. What is left
takes no more columns than it is counted for, so a line ends where it seems to. All text that leaves the
program passes through it; JSON passes through `escaped` of `durable.foreign` instead, which loses nothing.
Pages and drawings pass through `shown` and `label`, which write out what `clean` removes.

Not covered: letters of one script that look like those of another, stacks of combining marks, terminals that
draw letters of Greek or Russian two columns wide, and in the live view those that give vowel signs of Indic
scripts a column of their own.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import JsonValue

from orchestrator_cli.durable.foreign import HIDDEN, UNSEEN, visible, written_out
from orchestrator_cli.durable.text import truncate

if TYPE_CHECKING:
    from orchestrator_cli.values import Usage

NO_SANDBOX = "NO SANDBOX"
"""The start of `RunStarted.sandbox` if the user has allowed a run without one."""

_COLOUR = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]")
_BREAK = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_NEEDED = "(?<=[\u0600-\u1fff])\u200c(?=[\u0600-\u1fff])"
"""In Persian and Indic words. What draws a sign as an emoji is none: it widens the sign on some terminals."""
_HIDDEN = re.compile(f"(?!{_NEEDED})[{HIDDEN}{UNSEEN}\U0001d159\U0001f3fb-\U0001f3ff]")
"""With the colours of skin, which some terminals draw beside the emoji before them."""
_ASCII = str.maketrans(
    {"·": "-", "—": "-", "–": "-", "…": "...", "←": "<-", "→": "->", "’": "'"}
    | {"○": "o", "●": "*", "✓": "v", "✗": "x", "┬": "-", "├": "|", "└": "`", "─": "-", "│": "|"}
)


def clean(text: str) -> str:
    """The text with line feeds and tabs as its only control characters."""
    text = _HIDDEN.sub("", _BREAK.sub("\n", _COLOUR.sub("", text)))
    return text if text.isascii() else text.translate({ord(sign): _plain(sign) for sign in set(text)})


def _plain(sign: str) -> str:
    """A sign, or what is shown instead of one that terminals draw with different widths, or as a blank."""
    if "\U0001f1e6" <= sign <= "\U0001f1ff":
        return chr(ord(sign) - 0x1F1E6 + ord("A"))  # half a flag
    match unicodedata.category(sign):
        case "Zs":
            return " "
        case "Cn" | "Cs":
            return "\ufffd"
    return sign


def one_line(text: str, limit: int | None = None) -> str:
    """The text on one line, at most `limit` characters long."""
    line = " ".join(clean(text).split())
    return line if limit is None else truncate(line, limit, rstrip=True)


def shown(text: str) -> str:
    """The text with its line feeds and tabs, and every other control or hidden sign written out."""
    return "\n".join(map(visible, text.replace("\r\n", "\n").split("\n")))


def label(text: str, limit: int | None = None) -> str:
    """The text on one line, with hidden signs written out, at most `limit` characters long."""
    line = visible(" ".join(text.split()))
    return line if limit is None else truncate(line, limit, rstrip=True)


def file_name(path: str) -> str:
    """The name of a file on one line, with its hidden signs written out: two names never look the same."""
    signs = (sign if clean(sign) == sign else written_out(sign) for sign in visible(path))
    return one_line("".join(signs))


def cut(text: str, limit: int, remark: str = "") -> str:
    """A text longer than `limit` without its middle, with a note of how much is missing and a remark.

    Three quarters of what is kept come from the beginning, which says what the text is; the end says how it
    came out.
    """
    if len(text) <= limit:
        return text
    head, tail = text[: limit * 3 // 4], text[len(text) - limit // 4 :]
    missing = text[len(head) : len(text) - len(tail)]
    lines = missing.count("\n")
    return f"{head}\n[… {len(missing):,} characters, {counted(lines, 'line')}, left out{remark} …]\n{tail}"


def ascii_only(text: str) -> str:
    """The text in ASCII: our signs replaced, foreign letters as `?`."""
    return text.translate(_ASCII).encode("ascii", "replace").decode()


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def size(count: int) -> str:
    """A number of bytes, in units of 1,024."""
    if count < 1024:
        return f"{count} B"
    power = min((count.bit_length() - 1) // 10, 4)
    return f"{count / 1024**power:.1f} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"


def spent(usage: "Usage") -> str:
    """Calls, tokens and money. Calls without a known price are named and never counted as free."""
    if not usage.tries:
        return "no model calls"
    if not (usage.calls or usage.stopped):
        return calls(usage)
    tokens = counted(usage.prompt_tokens + usage.completion_tokens, "token")
    if usage.cached_tokens:
        tokens += f" ({usage.cached_tokens:,} from the provider's cache)"
    price = money(usage)
    if usage.unsure_cost:
        price += f" + at most ${usage.unsure_cost:.4f} for late or cut replies"
    return f"{calls(usage)} · {tokens} · {price}"


def calls(usage: "Usage") -> str:
    """Every call that was made: `3 calls + 1 failed + 1 stopped`, or `1 stopped call`."""
    parts = [counted(usage.calls, "call")] if usage.calls or not usage.tries else []
    for count, how in ((usage.failed, "failed"), (usage.stopped, "stopped")):
        if count:
            parts.append(f"{count:,} {how}" if parts else counted(count, f"{how} call"))
    return " + ".join(parts)


def money(usage: "Usage") -> str:
    """`$0.0123`, `unpriced` or both. Calls without a known price are never counted as free, and those that
    were stopped may cost something."""
    if usage.stopped and not (usage.calls or usage.unsure_cost):
        return "cost unknown"
    if usage.unpriced and usage.unpriced == usage.calls:
        return "unpriced"
    return f"${usage.cost:.4f}" + (f" + {usage.unpriced} unpriced" if usage.unpriced else "")


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, with its cells below those of the others."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return ["  ".join(cells).rstrip() for cells in padded]


def short_run(run: str) -> str:
    """Enough of a run's id to recognise it: what follows the date, or the end."""
    last = run.rsplit("-", 1)[-1]
    return last if 4 <= len(last) <= 12 else run[-8:]


def call_form(name: str, signature: str) -> str:
    """The signature with the function's name, which some signatures already contain."""
    return signature if name in signature else name + signature


def value_text(value: object) -> str:
    """A value as text: a text unchanged, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def choices(schema: Mapping[str, JsonValue] | None) -> list[JsonValue]:
    """The values that a JSON Schema allows, if it lists them; else none."""
    found = (schema or {}).get("enum")
    if isinstance(found, list):
        return found
    return [True, False] if (schema or {}).get("type") == "boolean" else []


def numbered(values: Iterable[JsonValue]) -> list[str]:
    """A line for each value, with its number from 1."""
    return [f"{number}  {one_line(value_text(value), 200)}" for number, value in enumerate(values, 1)]
