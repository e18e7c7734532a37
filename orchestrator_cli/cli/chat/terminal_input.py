"""What a person types while a run goes on: answers to its questions, remarks, and edits of its plan.

A thread reads the keys, and the table shows the line so far. The thread passes each line to the broker; no
view does. Enter alone decides nothing, nor does a line that was started before the question appeared.
Ctrl-D leaves the questions for later: the run then pauses when nothing else can be done.

While a `Keyboard` is open, the terminal delivers every key at once and shows none of them; the reader shows
them. Ctrl-C and Ctrl-Z still belong to the system. The terminal modes are restored at the end, or by
`restore` if the process ends in another way. A process that continues after Ctrl-Z sets the terminal again;
in the background it reads nothing.

Not covered: moving within the line, and systems without termios.
"""

import atexit
import codecs
import contextlib
import os
import select
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self, TextIO

from pydantic import JsonValue

from orchestrator_cli.approvals.broker import Question, UserReply
from orchestrator_cli.approvals.deadlines import left_of
from orchestrator_cli.cli.chat.during_run import command_lines
from orchestrator_cli.cli.editor import edit
from orchestrator_cli.errors import OrchError, UsageError
from orchestrator_cli.planning.plan_text import may_be_edited
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.live import TypedLine
from orchestrator_cli.views.streams import write
from orchestrator_cli.views.text import choices, clean, duration, numbered, one_line, value_text

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


POLL_S = 0.1
HINT = "Type a remark to the run, or /help. Ctrl-C ends the run."
HINT_S = 10.0
"""How long it is shown at the start of a run."""


def can_read_terminal(console: Console, source: TextIO | None = None) -> bool:
    """Whether a person can type at a terminal that also shows the table."""
    return console.animated and (source or sys.stdin).isatty()


class Answers(Protocol):
    """The open questions of a run, and the way to answer them: its broker, or one of another process."""

    @property
    def attended(self) -> bool: ...

    @property
    def open(self) -> tuple[Question, ...]: ...

    def reply(self, id_: str, reply: UserReply) -> object:
        """Raises `UsageError` if it does not fit."""

    def remark(self, text: str) -> None: ...

    def detach(self) -> None:
        """Leave the questions for later."""


@contextlib.contextmanager
def terminal_input(broker: Answers, console: Console, *, takes_remarks: bool) -> Iterator[Callable[[], str]]:
    """Read the terminal within the block, if the broker has a person to ask.

    With `takes_remarks`, a line that answers no question is a remark to the run. Otherwise keys are read only
    while a question is open. After the block, what it yields returns the line that was not finished.
    """
    if not broker.attended:
        yield lambda: ""
        return
    reader = _Reader(broker, console, takes_remarks=takes_remarks)
    thread = threading.Thread(target=reader.run, name="orch: terminal", daemon=True)
    thread.start()
    try:
        yield lambda: reader.line
    finally:
        reader.over.set()
        thread.join()


class _Reader:
    def __init__(self, broker: Answers, console: Console, *, takes_remarks: bool) -> None:
        self.over = threading.Event()
        self._broker = broker
        self._console = console
        self._takes_remarks = takes_remarks
        self._line = ""
        self._started_for: str | None = None
        """The question that was open when the first key of the line was typed."""
        self._wants_editor: Question | None = None
        self._hint_until = time.monotonic() + HINT_S

    @property
    def line(self) -> str:
        """What was typed and is neither an answer nor sent."""
        return self._line if self._started_for is None else ""

    def run(self) -> None:
        try:
            while not self.over.is_set() and self._broker.attended:
                if self._takes_remarks or self._broker.open:
                    self._read_keys()
                    self._call_editor()
                else:
                    self.over.wait(POLL_S)
        except OrchError:
            pass  # the journal cannot be written: the run ends by itself and reports it
        except OSError as exc:
            self._console.lines([f"The terminal can no longer be read: {exc}"])
        finally:
            self._console.show_typed(None)
            if not self.over.is_set():
                self._broker.detach()  # nothing more will be answered: the run must not wait for it

    def _read_keys(self) -> None:
        with Keyboard(sys.stdin, self._console.stream, forget=not self._takes_remarks) as keyboard:
            shown: Question | None = None
            while not self.over.is_set() and self._broker.attended and self._wants_editor is None:
                question = self._question()
                if question is None and not self._takes_remarks:
                    break
                if question is not None and question != shown:
                    # What has been typed already was not meant for it.
                    early = keyboard.read(0.0)
                    self._take(early if self._takes_remarks else (), None)
                self._show(question)
                shown = question
                self._take(keyboard.read(POLL_S), shown)
        self._console.show_typed(None)

    def _question(self) -> Question | None:
        return next(iter(self._broker.open), None)

    def _show(self, question: Question | None) -> None:
        if question is not None and self._started_for not in (None, question.id):
            self._line, self._started_for = "", None  # it was answered elsewhere
        asked = question is not None and not (self._line and self._started_for is None)
        if asked and question is not None:
            self._console.show_typed(TypedLine(question.question, _form_and_time(question), self._line))
        else:
            hint = (
                TypedLine("", "", HINT)
                if self._takes_remarks and time.monotonic() < self._hint_until
                else None
            )
            self._console.show_typed(TypedLine("you", "", self._line) if self._line else hint)

    def _take(self, keys: Iterable[Key], shown: Question | None) -> None:
        """Act on keys. A line that they begin can answer only the question that was shown before."""
        for key in keys:
            if key.name == "enter":
                line, self._line = self._line.rstrip(), ""
                started_for, self._started_for = self._started_for, None
                question = self._question()
                if line and started_for in (None, question.id if question else None):
                    self._submit(line, question if started_for else None)
                elif line:
                    self._console.lines(["  That was for a question that is not open any more."])
            elif key.name == "end" and not self._line:
                self._broker.detach()
            else:
                if not self._line:
                    self._started_for = shown.id if shown else None
                self._line = edited(self._line, key)

    def _submit(self, line: str, question: Question | None) -> None:
        try:
            lines = command_lines(
                line, self._console.state, asked=question is not None, takes_remarks=self._takes_remarks
            )
            line = line.strip()
            if lines is not None:
                self._console.lines([f"  {text}" for text in lines])
            elif question is not None:
                self._answer(question, line)
            elif self._takes_remarks and (line.lower() in YES_OR_NO or line.isdecimal()):
                self._console.lines(["  There is no open question."])
            elif self._takes_remarks:
                self._broker.remark(line)
        except UsageError as exc:
            self._console.lines([f"  {text}" for text in str(exc).split("\n")])

    def _answer(self, question: Question, line: str) -> None:
        """Raises `UsageError` if the line does not answer it."""
        if line.lower() in ("e", "edit") and may_be_edited(question.details):
            self._wants_editor = question
            return
        self._broker.reply(question.id, reply_of(question, line))

    def _call_editor(self) -> None:
        """Called after the keyboard is closed, because the editor needs the terminal in its normal mode."""
        question, self._wants_editor = self._wants_editor, None
        if question is None:
            return
        try:
            with self._console.held():
                text = edit(question.details)
            if text is None:
                self._console.lines(["  Nothing was changed."])
            else:
                self._broker.reply(question.id, UserReply(decision="yes", text=text or "#"))
        except UsageError as exc:
            self._console.lines([f"  {text}" for text in str(exc).split("\n")])


# --- rules

YES_OR_NO = ("y", "yes", "n", "no", "e", "edit")
"""Lines that can only be meant as the answer to a question, as a number can."""


def answer_form(question: Question) -> str:
    """The form of an answer, as the prompt shows it."""
    if question.what != "question":
        return "[yes/no/edit]" if may_be_edited(question.details) else "[yes/no]"
    choices = choices_of(question)
    if choices:
        return f"[1-{len(choices)}]"
    wanted = question.result or {}
    form = wanted.get("pattern") or wanted.get("type")
    return "" if form in (None, "string") else f"[{one_line(str(form))}]"


def _form_and_time(question: Question) -> str:
    """The form of an answer, and how long the question still waits for it."""
    left = left_of(question.deadline)
    return f"{answer_form(question)} ({duration(left)} left)".strip() if left else answer_form(question)


def choices_of(question: Question) -> list[JsonValue]:
    return choices(question.result) if question.what == "question" else []


def choice_lines(question: Question) -> list[str]:
    return [f"  {line}" for line in numbered(choices_of(question))]


def reply_of(question: Question, line: str) -> UserReply:
    """What a typed line means. Raises `UsageError` if it has to be yes or no and is neither."""
    word, _, rest = line.strip().partition(" ")
    head = word.strip(",.:;!").lower()
    if question.what == "question":
        if head == "/no":
            return UserReply(decision="no", remark=reason_of(rest))
        return UserReply(decision="answered", text=choice_of(question, line.strip()))
    if head in ("n", "no", "/no"):
        return UserReply(decision="no", remark=reason_of(rest))
    if head in ("y", "yes") and not rest:
        return UserReply(decision="yes")
    edit_too = "; or edit, to change the plan first" if may_be_edited(question.details) else ""
    raise UsageError("Nothing was decided.", f"Say yes; or no and the reason: no, because …{edit_too}")


def reason_of(text: str) -> str:
    """The reason without the word “because”."""
    text = text.strip(" ,:;-")
    return text[len("because") :].strip() if text.lower().startswith("because") else text


def choice_of(question: Question, line: str) -> str:
    """The answer that a line means, which may be the number of a choice. Raises `UsageError`."""
    choices = choices_of(question)
    if not choices:
        return line
    if line.isdecimal() and 1 <= int(line) <= len(choices):
        return value_text(choices[int(line) - 1])
    if line in map(value_text, choices):
        return line
    raise UsageError("That is not one of the choices.", "\n".join(choice_lines(question)))


def question_lines(name: str, question: Question) -> list[str]:
    """A question in a list: its id, its text, the form of an answer, the details and the choices."""
    details = [f"    {line}" for line in clean(question.details).split("\n")] if question.details else []
    head = f"{name}  {one_line(question.question)} {_form_and_time(question)}".rstrip()
    return [head, *details, *choice_lines(question)]
