"""A person at the terminal answers the questions of a run, and interjects, while it goes on.

A thread reads the keys and the table shows the line that is typed. What it comes to is given to
the broker from this thread, never from within a view. Nothing is decided by Enter alone, nor by a
line that was begun before the question was there. Ctrl-D leaves the questions for later: the
run then stops when nothing else can be done.
"""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

from pydantic import JsonValue

from orchestrator_cli.approvals.broker import ApprovalBroker, Question, UserReply
from orchestrator_cli.errors import OrchError, UsageError
from orchestrator_cli.planning.plan_text import may_be_edited
from orchestrator_cli.views.console import Console, Typed
from orchestrator_cli.views.keyboard import Key, Keyboard, edited
from orchestrator_cli.views.text import choices, clean, numbered, one_line, value_text

EVERY_S = 0.1

Edit = Callable[[str], str | None]
"""What an editor makes of a text; None where it was left as it is. Raises `UsageError`."""


def can_listen(console: Console, source: TextIO | None = None) -> bool:
    """Whether somebody sits at a terminal on which a line can be shown while the table stands there."""
    return console.animated and (source or sys.stdin).isatty()


@contextlib.contextmanager
def listening(broker: ApprovalBroker, console: Console, *, edit: Edit, interjecting: bool) -> Iterator[None]:
    """Listen within the block, where the broker is attended.

    `interjecting`: a line that answers no question is a remark. Else keys are read only while a
    question is open.
    """
    if not broker.attended:
        yield
        return
    listener = _Listener(broker, console, edit, interjecting=interjecting)
    thread = threading.Thread(target=listener.run, name="orch: terminal", daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.over.set()
        thread.join()


class _Listener:
    def __init__(self, broker: ApprovalBroker, console: Console, edit: Edit, *, interjecting: bool) -> None:
        self.over = threading.Event()
        self._broker = broker
        self._console = console
        self._edit = edit
        self._interjecting = interjecting
        self._line = ""
        self._begun_for: str | None = None
        """The question that was asked when the first key of the line was typed."""
        self._wants_editor: Question | None = None

    def run(self) -> None:
        try:
            while not self.over.is_set() and self._broker.attended:
                if self._interjecting or self._broker.open:
                    self._listen()
                    self._call_editor()
                else:
                    self.over.wait(EVERY_S)
        except OrchError:
            pass  # the record cannot be written: the run ends by itself, and says so
        except OSError as exc:
            self._console.lines([f"The terminal cannot be read any more: {exc}"])
        finally:
            self._console.show_typed(None)
            if not self.over.is_set():
                self._broker.detach()  # nobody would answer any more: the run must not wait for ever

    def _listen(self) -> None:
        with Keyboard(sys.stdin, self._console.stream, forget=not self._interjecting) as keyboard:
            while not self.over.is_set() and self._broker.attended and self._wants_editor is None:
                question = self._question()
                if question is None and not self._interjecting:
                    break
                self._show(question)
                for key in keyboard.read(EVERY_S):
                    self._take(key)
        self._console.show_typed(None)

    def _question(self) -> Question | None:
        return next(iter(self._broker.open), None)

    def _show(self, question: Question | None) -> None:
        if question is not None and self._begun_for not in (None, question.id):
            self._line, self._begun_for = "", None  # it was answered elsewhere
        asked = question is not None and not (self._line and self._begun_for is None)
        if asked and question is not None:
            self._console.show_typed(Typed(question.question, wanted(question), self._line))
        else:
            self._console.show_typed(Typed("you", "", self._line) if self._line else None)

    def _take(self, key: Key) -> None:
        question = self._question()
        if key.name == "enter":
            line, self._line = self._line.strip(), ""
            begun_for, self._begun_for = self._begun_for, None
            if line:
                self._said(line, question if question and question.id == begun_for else None)
        elif key.name == "end" and not self._line:
            self._broker.detach()
        else:
            if not self._line:
                self._begun_for = question.id if question else None
            self._line = edited(self._line, key)

    def _said(self, line: str, question: Question | None) -> None:
        try:
            if question is not None:
                self._answer(question, line)
            elif self._interjecting and _is_answer(line):
                self._console.lines(["  Nothing is asked now."])
            elif self._interjecting:
                self._broker.remark(line)
        except UsageError as exc:
            self._console.lines([f"  {text}" for text in str(exc).split("\n")])

    def _answer(self, question: Question, line: str) -> None:
        """Raises `UsageError` where the line is no answer."""
        if line.lower() in ("e", "edit") and may_be_edited(question.details):
            self._wants_editor = question
            return
        self._broker.reply(question.id, reply_of(question, line))

    def _call_editor(self) -> None:
        """Outside of the keyboard, because the editor wants the terminal as it was."""
        question, self._wants_editor = self._wants_editor, None
        if question is None:
            return
        try:
            with self._console.held():
                text = self._edit(question.details)
            if text is None:
                self._console.lines(["  Nothing was changed."])
            else:
                self._broker.reply(question.id, UserReply(decision="yes", text=text or "#"))
        except UsageError as exc:
            self._console.lines([f"  {text}" for text in str(exc).split("\n")])


# --- rules


def _is_answer(line: str) -> bool:
    """Whether a line can only have been meant as the answer to a question."""
    return line.lower() in ("y", "yes", "n", "no", "e", "edit") or line.isdecimal()


def wanted(question: Question) -> str:
    """What an answer looks like."""
    if question.what != "question":
        return "[yes/no/edit]" if may_be_edited(question.details) else "[yes/no]"
    choices = choices_of(question)
    return f"[1-{len(choices)}]" if choices else ""


def choices_of(question: Question) -> list[JsonValue]:
    return choices(question.result) if question.what == "question" else []


def choice_lines(question: Question) -> list[str]:
    return [f"  {line}" for line in numbered(choices_of(question))]


def reply_of(question: Question, line: str) -> UserReply:
    """What a typed line means. Raises `UsageError` where it is neither yes nor no but has to be."""
    word, _, rest = line.strip().partition(" ")
    head = word.strip(",.:;!").lower()
    if question.what == "question":
        if head == "/no":
            return UserReply(decision="no", remark=reason_of(rest))
        return UserReply(decision="answered", text=chosen(question, line.strip()))
    if head in ("n", "no", "/no"):
        return UserReply(decision="no", remark=reason_of(rest))
    if head in ("y", "yes") and not rest:
        return UserReply(decision="yes")
    raise UsageError("Nothing was decided.", "Say yes; or no, and why: no, because …")


def reason_of(text: str) -> str:
    """The reason without the word that introduces it."""
    text = text.strip(" ,:;-")
    return text[len("because") :].strip() if text.lower().startswith("because") else text


def chosen(question: Question, line: str) -> str:
    """The answer that a line means, which may be the number of a choice. Raises `UsageError`."""
    choices = choices_of(question)
    if not choices:
        return line
    if line.isdecimal() and 1 <= int(line) <= len(choices):
        return value_text(choices[int(line) - 1])
    if line in map(value_text, choices):
        return line
    raise UsageError("That is none of the choices.", "\n".join(choice_lines(question)))


def question_lines(name: str, question: Question) -> list[str]:
    """A question as it is listed, with the id that it was asked under, and what an answer looks like."""
    details = [f"    {line}" for line in clean(question.details).split("\n")] if question.details else []
    head = f"{name}  {one_line(question.question)} {wanted(question)}".rstrip()
    return [head, *details, *choice_lines(question)]
