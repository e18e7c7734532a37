"""The texts that leave the sandbox: what was printed, and how failures are told.

They are read by a model and recorded, so they hold no path of the host, no terminal control and nothing
that changes from one machine to the next.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

_CONTROL_STRING = r"\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # titles, clipboard, device control: to their end
_CONTROL_SEQUENCE = r"\x1b\[[0-?]*[ -/]*[@-~]"
_OTHER = r"\x1b[ -/]*[0-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
_TERMINAL = re.compile(f"{_CONTROL_STRING}|{_CONTROL_SEQUENCE}|{_OTHER}", re.MULTILINE)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,16}(?=>)")

MAX_ERROR_CHARS = 8_000


class Aliases:
    """Replaces real paths by the names they have on every system, after what `mask` replaces."""

    def __init__(self, aliases: Mapping[str, str], mask: Callable[[str], str] = str) -> None:
        self._mask = mask
        self._aliases = {path: name for path, name in aliases.items() if path != name and path.count("/") > 1}
        longest_first = sorted(self._aliases, key=len, reverse=True)
        paths = "|".join(map(re.escape, longest_first))
        self._pattern = re.compile(rf"(?:{paths})(?![\w.-]*\w)") if paths else None

    def hide(self, text: str) -> str:
        """`text` masked, with the other names, and without what cannot be written as UTF-8."""
        text = self._mask(text)
        if not text.isascii():
            text = text.encode(errors="replace").decode()
        if self._pattern is None or "/" not in text:
            return text
        return self._pattern.sub(lambda match: self._aliases[match[0]], text)


def printed(data: bytes, cut: bool, limit: int, aliases: Aliases) -> str:
    """What a step printed, as text of at most `limit` characters and a mark where it was cut."""
    text = without_terminal_control(data.decode(errors="replace"))
    text = _ADDRESS.sub("", aliases.hide(text))
    if cut or len(text) > limit:
        return f"{text[:limit]}\n[output cut after {limit} characters]"
    return text


def without_terminal_control(text: str) -> str:
    return _TERMINAL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def told(error: Any, aliases: Aliases, *, message_first: bool = False) -> str:
    """The failure of code as the agent reads it; `error` comes from the worker and is not trusted.

    Frames first, one per line as `  line N, in f: source`, and the line `Type: message` last, or first.
    """
    if not isinstance(error, dict):
        return "the step failed"
    kind, message = str(error.get("type")), str(error.get("message"))
    last = f"{kind}: {message}" if message else kind
    frames = error.get("frames")
    lines = [_frame(frame) for frame in frames] if isinstance(frames, list) else []
    parts = [last, *lines] if message_first else [*lines, last]
    text = without_terminal_control("\n".join(parts))
    text = _ADDRESS.sub("", aliases.hide(text))
    return text[:MAX_ERROR_CHARS] if message_first else text[-MAX_ERROR_CHARS:]


def _frame(frame: Any) -> str:
    if not isinstance(frame, list) or len(frame) != 3:
        return "  ..."
    line, function, source = frame
    place = f"line {line}" if function == "<module>" else f"line {line}, in {function}"
    return f"  {place}: {source}" if source else f"  {place}"
