"""Messages on their way: a folder that all processes of a data folder share, and the thread that sends.

A message is a file of `notify/`, so that it outlives its process. Who holds the lock sends everything that is
there as one message, at the earliest `digest_s` after the last one was sent; the others find theirs gone. A
process that ends waits no longer than that and `END_S` allow, and what is left is sent by the next one.

A message is tried at most three times, and is given up after a day. Not covered: a message that arrives twice
because its process was killed in the moment of sending.
"""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator_cli.cancellation import run_beside
from orchestrator_cli.durable.files import read_regular, write_atomic
from orchestrator_cli.durable.locks import LockTimeout, acquire
from orchestrator_cli.notify_settings import NotifyEvent, NotifySettings
from orchestrator_cli.views.notify_channels import send
from orchestrator_cli.views.text import duration, one_line, short_run

END_S = 2.0
"""The most that a process waits at its end."""
GATHER_END_S = 1.0
"""How much of that it waits for messages of others."""
MOST_TRIES = 3
OLD_S = 86_400
MOST_SHOWN = 10
LOOK_S = 0.05
MAX_BYTES = 64 * 1024
WORDS: dict[NotifyEvent, str] = {
    "waiting": "waiting for you",
    "over_budget": "over budget",
    "failed": "failed",
    "done": "done",
}
"""What is said of each event, most urgent first."""


class Notification(BaseModel):
    """One message about a run. Its texts are clean, and on one line each."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    event: NotifyEvent
    run: str
    """Empty if it is about no run, but its schedule."""
    workspace: str
    prompt: str
    """The first line."""
    outcome: str
    """As in the envelope of a run; empty while it goes on."""
    cost: float | None
    """US dollars; None if no price is known."""
    seconds: float
    detail: str = ""
    """The question, or the error."""
    how: tuple[str, ...] = ()
    """What to do next: commands that answer or continue the run."""

    @property
    def title(self) -> str:
        return f"orch: {WORDS[self.event]} · {one_line(self.prompt, 80)}"

    @property
    def text(self) -> str:
        cost = "" if self.cost is None else f" · ${self.cost:.4f}"
        head = f"run {short_run(self.run)} in {self.workspace} · {duration(self.seconds)}{cost}"
        if not self.run:
            head = f"in {self.workspace}"
        return "\n".join(filter(None, (head, self.detail, *self.how)))


def digest(messages: Sequence[Notification]) -> tuple[str, str, dict[str, object]]:
    """Several messages as one: title, text, and a JSON object that begins with the most urgent one."""
    ordered = sorted(messages, key=lambda one: list(WORDS).index(one.event))
    rows = [one.model_dump(mode="json") for one in ordered]
    if len(ordered) == 1:
        title, text = ordered[0].title, ordered[0].text
    else:
        events = [one.event for one in ordered]
        counts = ", ".join(f"{events.count(event)} {WORDS[event]}" for event in WORDS if event in events)
        title = f"orch: {counts}"
        parts = [f"{WORDS[one.event]} · {one.prompt}\n{one.text}" for one in ordered[:MOST_SHOWN]]
        more = len(ordered) - MOST_SHOWN
        text = "\n\n".join([*parts, *([f"… and {more} more"] if more > 0 else [])])
    return title, text, {"title": title, "text": text, **rows[0], "messages": rows}


class Sender:
    """Sends the messages of the spool from a thread beside. Every method may be called from any thread."""

    def __init__(self, home: Path, notify: NotifySettings, say: Callable[[list[str]], None]) -> None:
        """`say` shows lines about what could not be sent."""
        self._folder = home / "notify"
        self._notify = notify
        self._say = say
        self._lock = threading.Lock()
        self._thread_ended: threading.Event | None = None
        self._deadline: float | None = None

    def put(self, message: Notification) -> None:
        """Keep a message and have it sent. What cannot be kept is said."""
        name = f"{time.time_ns():020}-{uuid.uuid4().hex[:8]}.0.json"
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_atomic(self._folder / name, message.model_dump_json(), sync=False, mode=0o600)
        except OSError as exc:
            self._say([f"notify: {self._folder} cannot be written to: {exc.strerror}"])
            return
        self.flush()

    def flush(self) -> None:
        """Have sent what the spool holds, of whichever process."""
        with self._lock:
            if self._thread_ended is None and self._waiting():
                self._thread_ended = threading.Event()
                run_beside(self._work, self._thread_ended)

    def close(self) -> None:
        """Wait for what is being sent, `END_S` at most."""
        with self._lock:
            self._deadline = time.monotonic() + END_S
            ended = self._thread_ended
        if ended is not None:
            ended.wait(END_S)

    def _work(self, ended: threading.Event) -> None:
        try:
            while True:
                self._send_once()
                with self._lock:
                    if not self._waiting() or self._left(END_S) <= 0:
                        self._thread_ended = None
                        return
        except OSError as exc:
            self._say([f"notify: {exc}"])
        finally:
            with self._lock:
                if self._thread_ended is ended:
                    self._thread_ended = None
            ended.set()

    def _send_once(self) -> None:
        """Take the lock, wait for the time of the next message, and send all that is there by then."""
        try:
            lock = acquire(self._folder / "lock", wait_s=min(5.0, self._left(5.0)), poll_s=LOOK_S)
        except LockTimeout:
            return
        with lock:
            while self._too_early() and self._left(END_S) > END_S - GATHER_END_S and self._waiting():
                time.sleep(LOOK_S)
            taken = self._take()
            if not taken:
                return
            failed = send(self._notify, *digest([message for _, message in taken]))
            (self._folder / "sent").touch()
            for path, _ in taken:
                path.unlink(missing_ok=True)
        if failed:
            self._say(failed)

    def _too_early(self) -> bool:
        """Whether the last message was sent less than `digest_s` ago."""
        try:
            ago = time.time() - (self._folder / "sent").stat().st_mtime
        except FileNotFoundError:
            return False
        return 0 <= ago < self._notify.digest_s

    def _left(self, otherwise: float) -> float:
        """The seconds until the process ends; `otherwise` while its end has not come."""
        return otherwise if self._deadline is None else self._deadline - time.monotonic()

    def _waiting(self) -> list[Path]:
        """The files of the messages, oldest first."""
        with contextlib.suppress(OSError):
            return sorted(
                self._folder / entry.name
                for entry in os.scandir(self._folder)
                if entry.name.endswith(".json") and not entry.name.startswith(".")
            )
        return []

    def _take(self) -> list[tuple[Path, Notification]]:
        """The messages with their files, which from now on say that they were tried once more."""
        taken = []
        for path in self._waiting():
            stem, _, tries = path.name.removesuffix(".json").rpartition(".")
            count = int(tries) if tries.isdigit() else MOST_TRIES
            try:
                age = time.time() - path.stat().st_mtime
                message = Notification.model_validate_json(read_regular(path, MAX_BYTES))
            except FileNotFoundError:
                continue
            except (OSError, ValidationError):
                count, age = MOST_TRIES, 0.0
            if count >= MOST_TRIES or age > OLD_S:
                path.unlink(missing_ok=True)
                continue
            taken.append((path.rename(path.with_name(f"{stem}.{count + 1}.json")), message))
        return taken
