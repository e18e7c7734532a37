"""Keys from a terminal on which something else draws at the same time.

While a `Keyboard` is open, the terminal delivers every key at once and shows none of them; the reader shows
them. Ctrl-C and Ctrl-Z still belong to the system. The terminal's modes are restored at the end, or by
`restore` if the process ends in another way.

A process that continues after Ctrl-Z sets the terminal again; in the background it reads nothing. Not
covered: moving within the line, and systems without termios.
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
"""The index of the local modes in the list that termios returns."""
_open: "list[Keyboard]" = []


class Key(NamedTuple):
    name: Literal["text", "enter", "back", "word", "line", "end"]
    """A text to add, or an edit of the line. `end` is Ctrl-D, or the end of the terminal."""
    text: str = ""


class Keyboard:
    """A context manager; `read` returns what was typed."""

    def __init__(self, source: TextIO, sink: TextIO, *, forget: bool) -> None:
        """`forget`: drop what was typed before, because it was not meant for the present question."""
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
        """Restore the terminal. May be called again."""
        if self not in _open:
            return
        _open.remove(self)
        with contextlib.suppress(OSError, ValueError, termios.error):
            write(self._sink, PASTE_OFF)
            if self._in_front():
                termios.tcsetattr(self._fd, termios.TCSANOW, self._before)

    def read(self, seconds: float) -> list[Key]:
        """What was typed, after a wait of at most `seconds`."""
        if not self._in_front():
            select.select([], [], [], seconds)
            return []
        self._take()
        if not select.select([self._fd], [], [], seconds)[0]:
            self._parser.flush()  # an Escape that is not the start of a sequence
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
        """Make the terminal deliver every key at once, if the shell has changed that."""
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
            return True  # the terminal is gone; reading will report that


@atexit.register
def restore() -> None:
    """Restore every terminal that is still open."""
    for keyboard in tuple(_open):
        keyboard.restore()


def _meaning(press: "KeyPress") -> Key | None:
    from prompt_toolkit.keys import Keys

    if press.key is Keys.BracketedPaste:
        # Several pasted lines are one answer.
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
