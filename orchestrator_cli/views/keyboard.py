"""Keys from a terminal on which something else draws at the same time.

While it is open the terminal gives every key at once and shows none of them; whoever reads
shows them. Ctrl-C and Ctrl-Z stay with the system, so a run ends and stops as ever. What the
terminal was like before is restored at the end, and by `restore` where there is no end.

A process that was stopped and goes on takes the terminal anew; in the background it reads
nothing. What is not covered: moving within the line, and systems without termios.
"""

import atexit
import codecs
import contextlib
import os
import select
import termios
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, TextIO

from orchestrator_cli.views.streams import write

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyPress

PASTE_ON, PASTE_OFF = "\x1b[?2004h", "\x1b[?2004l"
_LOCAL = 3
"""Where the local modes stand in what termios gives."""
_open: "list[Keyboard]" = []


class Key(NamedTuple):
    name: Literal["text", "enter", "back", "word", "line", "end"]
    """Something to add, or what a person does to the line: `end` is Ctrl-D, or the terminal went away."""
    text: str = ""


class Keyboard:
    """A context manager; `read` gives what was typed."""

    def __init__(self, source: TextIO, sink: TextIO, *, forget: bool) -> None:
        """`forget`: what was typed before is dropped, because it was not meant for what is asked now."""
        from prompt_toolkit.input.vt100_parser import Vt100Parser

        self._fd = source.fileno()
        self._sink = sink
        self._forget = forget
        self._keys: list[KeyPress] = []
        self._parser = Vt100Parser(self._keys.append)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._fd)
        _open.append(self)
        if self._forget:
            termios.tcflush(self._fd, termios.TCIFLUSH)
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Give the terminal back as it was. May be called again."""
        if self not in _open:
            return
        _open.remove(self)
        with contextlib.suppress(OSError, ValueError, termios.error):
            write(self._sink, PASTE_OFF)
            if self._in_front():
                termios.tcsetattr(self._fd, termios.TCSANOW, self._before)

    def read(self, seconds: float) -> list[Key]:
        """What was typed, waited for at most so long."""
        if not self._in_front():
            select.select([], [], [], seconds)
            return []
        self._take()
        if not select.select([self._fd], [], [], seconds)[0]:
            self._parser.flush()  # an Escape that nothing follows
        else:
            try:
                found = os.read(self._fd, 4096)
            except OSError:
                found = b""
            if not found:
                return [Key("end")]
            self._parser.feed(self._decoder.decode(found))
        keys, self._keys[:] = list(self._keys), []
        return [key for press in keys if (key := _meaning(press)) is not None]

    def _take(self) -> None:
        """Have every key at once, where the shell has not left it so."""
        modes = termios.tcgetattr(self._fd)
        line_modes = termios.ICANON | termios.ECHO | termios.IEXTEN
        if modes[_LOCAL] & line_modes:
            modes[_LOCAL] &= ~line_modes
            termios.tcsetattr(self._fd, termios.TCSANOW, modes)
            write(self._sink, PASTE_ON)

    def _in_front(self) -> bool:
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:
            return True  # the terminal is gone, which reading will tell


@atexit.register
def restore() -> None:
    """Give every terminal back that is still held."""
    for keyboard in tuple(_open):
        keyboard.restore()


def _meaning(press: "KeyPress") -> Key | None:
    from prompt_toolkit.keys import Keys

    if press.key is Keys.BracketedPaste:
        # Several lines that were pasted are one answer.
        return Key("text", " ".join(press.data.split()))
    names: dict[Keys | str, Key] = {
        Keys.ControlM: Key("enter"),
        Keys.ControlJ: Key("enter"),
        Keys.ControlH: Key("back"),
        Keys.ControlW: Key("word"),
        Keys.ControlU: Key("line"),
        Keys.ControlD: Key("end"),
    }
    if press.key in names:
        return names[press.key]
    is_text = not isinstance(press.key, Keys) and press.key.isprintable()
    return Key("text", press.key) if is_text else None


def edited(line: str, key: Key) -> str:
    """The line after a key."""
    match key.name:
        case "text":
            return line + key.text
        case "back":
            return line[:-1]
        case "word":
            head = line.rstrip()
            return head[: head.rfind(" ") + 1]
        case "line":
            return ""
    return line
