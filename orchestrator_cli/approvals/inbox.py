"""Messages from other processes to a run: answers, remarks and a cancel, as files in its folder.

A message is a JSON file in `runs/RUN/inbox/`, written atomically under a name that begins with the time.
The process that holds the run reads them in that order and removes each after use. A resumed run first
reads the messages already there: an answer to a question of the earlier process is kept until the
question is asked again.

A message that does not apply, or comes too late, is reported and removed. Oversized files and those of
other users are not read, nor is a folder that others can write to.

Not covered: other programs of the same user can answer for the user.
"""

import contextlib
import os
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from orchestrator_cli.approvals.broker import ApprovalBroker, UserReply
from orchestrator_cli.approvals.late import too_late
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.durable.files import write_atomic
from orchestrator_cli.errors import Cancelled, OrchError, UsageError
from orchestrator_cli.events import Noticed
from orchestrator_cli.journal.journal import Emit
from orchestrator_cli.state import RunState

FOLDER = "inbox"
MAX_BYTES = 1 << 20
EVERY_S = 0.2


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Answer(_Message):
    kind: Literal["answer"] = "answer"
    id: str = ""
    """The question's id; empty for the only open one."""
    reply: UserReply
    by: Literal["user", "page"] = "user"
    """As in `AnsweredBy`."""


class Remark(_Message):
    kind: Literal["remark"] = "remark"
    text: str


class Cancel(_Message):
    kind: Literal["cancel"] = "cancel"
    reason: str = ""


Message = Annotated[Answer | Remark | Cancel, Field(discriminator="kind")]
_MESSAGE: TypeAdapter[Answer | Remark | Cancel] = TypeAdapter(Message)


def send(folder: Path, message: Answer | Remark | Cancel) -> Path:
    """Leave a message for the run with this folder; the file, which the run removes after use.

    Raises `UsageError` if it is too long.
    """
    content = message.model_dump_json().encode()
    if len(content) > MAX_BYTES:
        raise UsageError(f"What you say is longer than {MAX_BYTES:,} bytes.", "Put it into a file instead.")
    inbox = folder / FOLDER
    inbox.mkdir(mode=0o700, exist_ok=True)
    name = f"{time.time_ns():020}-{uuid.uuid4().hex[:8]}.json"
    write_atomic(inbox / name, content, mode=0o600)
    return inbox / name


def await_use(paths: Sequence[Path], seconds: float = 2.0) -> None:
    """Wait until the run has used these messages, but not for ever."""
    until = time.monotonic() + seconds
    while any(path.exists() for path in paths) and time.monotonic() < until:
        time.sleep(0.02)


def send_cancel(folder: Path, reason: str = "") -> None:
    """Cancel the run with this folder."""
    send(folder, Cancel(reason=reason))


def pending_answers(folder: Path) -> frozenset[str]:
    """The ids of questions whose answers were sent but not read yet."""
    found: set[str] = set()
    for path in (folder / FOLDER).glob("*.json"):
        with contextlib.suppress(OSError, UsageError, ValidationError):
            message = _MESSAGE.validate_json(_content(path))
            if isinstance(message, Answer):
                found.add(message.id)
    return frozenset(found)


class Inbox:
    """The messages to one run, read by the process that holds it."""

    def __init__(
        self,
        folder: Path,
        broker: ApprovalBroker,
        cancellation: Cancellation,
        emit: Emit,
        state: Callable[[], RunState],
    ) -> None:
        """`state`: that of the run."""
        self._inbox = folder / FOLDER
        self._broker = broker
        self._cancellation = cancellation
        self._emit = emit
        self._state = state
        self._asked_before = [asked.id for asked in state().open]
        """Unanswered questions of earlier processes."""
        self._kept: dict[str, str] = {}
        """File names of answers whose question is not asked yet, with the question's id."""
        self._warned = False

    def read(self) -> None:
        """Process the messages that have arrived."""
        for name in self._names():
            try:
                self._use(name, _MESSAGE.validate_json(_content(self._inbox / name)))
            except (OSError, UsageError, ValidationError) as exc:
                self._put_aside(name, exc)

    def pass_deadlines(self) -> None:
        """Answer the questions that waited long enough; an answer that has arrived counts first."""
        self._broker.pass_deadlines()

    def _names(self) -> list[str]:
        try:
            found = self._inbox.stat(follow_symlinks=False)
        except FileNotFoundError:
            return []
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            if not self._warned:
                self._emit(
                    Noticed(message=f"{self._inbox} is not read: others may write there. chmod 700 it.")
                )
            self._warned = True
            return []
        return sorted(path.name for path in self._inbox.glob("*.json"))

    def _use(self, name: str, message: Answer | Remark | Cancel) -> None:
        """Raises `UsageError` if the message does not apply."""
        if isinstance(message, Answer):
            if not self._answered(name, message):
                return
        elif isinstance(message, Remark):
            self._broker.remark(message.text)
        else:
            because = f" ({message.reason})" if message.reason else ""
            self._cancellation.cancel(
                Cancelled(
                    f"Cancelled by orch cancel{because}.",
                    "What was finished is in the workspace; nothing is half-done.",
                )
            )
        self._remove(name)

    def _answered(self, name: str, message: Answer) -> bool:
        """False if the question must be asked again first."""
        asked = message.id or self._only_one()
        if given := self._broker.given(asked):
            self._kept.pop(name, None)
            about = self._state().asked.get(asked)
            late = too_late(given, message.reply, message.by, about.subject if about else "")
            if late is not None:
                self._emit(Noticed(message=late))
            return True
        if any(question.id == asked for question in self._broker.open):
            self._broker.reply(asked, message.reply, message.by)
            return True
        if asked not in self._asked_before:
            raise UsageError(f"There is no open question {asked}.")
        if name not in self._kept:
            if asked not in self._kept.values():  # the first that arrived counts
                self._broker.preload(asked, message.reply, message.by)
            self._kept[name] = asked
        return False

    def _only_one(self) -> str:
        open_ones = [question.id for question in self._broker.open] or list(self._asked_before)
        if len(open_ones) != 1:
            raise UsageError(f"An answer without an id fits none of {len(open_ones)} open questions.")
        return open_ones[0]

    def _put_aside(self, name: str, exc: Exception) -> None:
        if isinstance(exc, FileNotFoundError):
            return
        why = "it is not a message" if isinstance(exc, ValidationError) else str(exc).replace("\n", " ")
        self._emit(Noticed(message=f"A message to the run was not used: {why}"))
        self._remove(name)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            (self._inbox / name).unlink(missing_ok=True)


def _content(path: Path) -> bytes:
    """The bytes of a message. Raises `UsageError` if it is another user's, or too large."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
            raise UsageError(f"{path.name} is not a file of yours.")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UsageError(f"{path.name} is larger than {MAX_BYTES:,} bytes.")
    return content


@contextlib.contextmanager
def inbox_thread(inbox: Inbox) -> Iterator[None]:
    """Read messages in a thread until the end of the block."""
    over = threading.Event()

    def watch() -> None:
        # If the journal cannot be written, the run ends by itself and says so.
        with contextlib.suppress(OrchError):
            while not over.wait(EVERY_S):
                inbox.read()
                inbox.pass_deadlines()

    inbox.read()
    thread = threading.Thread(target=watch, name="orch: inbox", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(OrchError):
            inbox.read()
