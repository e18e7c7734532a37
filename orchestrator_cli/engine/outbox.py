"""What Prefect's server is sent of a run: beside the work, which never waits for it.

A `PrefectOutbox` is filled while a run works, and a thread sends what is in it. If the server is slow,
restarts or is gone, messages wait and are sent again later; all of them can be repeated without harm. At the
end of the run the outbox has a bounded time. What is left then is kept in a file, and sent when the next run,
or `orch ui`, reaches the server.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from orchestrator_cli.cancellation import run_beside
from orchestrator_cli.durable.foreign import visible
from orchestrator_cli.durable.locks import LockUnsupported, try_lock
from orchestrator_cli.durable.text import truncate
from orchestrator_cli.engine.artifacts import MANY, together
from orchestrator_cli.environment import is_deployed_run

EVENTS, LOGS, ARTIFACTS, STATE = "/events", "/logs/", "/artifacts/", "/flow_runs/{id}/set_state"
INPUT = "/flow_runs/{id}/input"
CAPACITY = 20_000
"""How many messages wait at most; what comes then is dropped, except states of the flow run."""
AT_ONCE = 200
"""How many events, or lines of a log, are sent in one request."""
REQUEST_S = 10.0
SAID_CHARS = 300
"""Of what the server says of a fault."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.1, 5.0
"""Between attempts to reach the server; each pause is twice the one before."""
LOOK_S = 1.0
"""How often `attend`ed to."""
CLOSING_S, STALLED_S = 3.0, 1.0
"""How long the end of a run waits for the last messages at most, and without progress."""
GONE = "The process that ran it has ended; orch continued the run in another one."

Connect = Callable[[], AbstractContextManager[Any]]
"""Returns a client of Prefect for a server that answers, as a context. Raises why there is none."""


@dataclass(frozen=True)
class Message:
    """A POST request: a path of Prefect's API, and a body, which is JSON."""

    path: str
    body: Any


@dataclass(frozen=True)
class Kept:
    """A file with messages, which no other process sends until it is released."""

    path: Path
    file: int

    def release(self, *, sent: bool) -> None:
        """Let others send it, unless that was done."""
        if sent:
            with suppress(OSError):
                self.path.unlink()
        os.close(self.file)


class PrefectOutbox:
    """The messages of one flow run, which exists on the server once there is something to send to."""

    def __init__(
        self,
        name: str,
        local_id: str,
        *,
        resumed: bool,
        messages: Iterable[Message] = (),
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            name: of the flow run.
            local_id: its id in this process, in messages; the server chooses another.
            resumed: whether the server may have a flow run of this name, which then continues.
            messages: what an earlier process could not send.
            on_progress: is called after each request that the server has answered.
        """
        self.name = name
        self.local_id = local_id
        self.flow_run = ""
        """The server's id of the flow run, as soon as there is one."""
        self.lost = 0
        """How many messages were dropped, because the server refused them or too many waited."""
        self.fault = ""
        """Why the server could not be reached, or refused a message."""
        self._resumed = resumed
        self._waiting: dict[int, Message] = dict(enumerate(messages))
        self._next = len(self._waiting)
        self._changed = threading.Condition()
        self._closing = self._abandoned = self._is_unreachable = False
        self._is_empty = threading.Event()
        self._on_progress = on_progress
        self._advance()
        self._on_open: Callable[[str], None] | None = None
        self._look: Callable[[Any], None] | None = None
        self._details: Callable[[], dict[str, Any]] = dict
        self._sets_states = not is_deployed_run(name)
        """Whether the states of the flow run are those of this run."""
        self._is_running = False
        """Whether the last state that the engine gave the flow run is that."""

    def attend(self, look: Callable[[Any], None], details: Callable[[], dict[str, Any]]) -> None:
        """Have `look` called with the client every `LOOK_S` seconds until `close`, while the server answers.

        `details`: what a state has besides in which the flow run ends paused.
        """
        with self._changed:
            self._look, self._details = look, details
            self._changed.notify()

    def put_input(self, key: str, content: Any) -> None:
        """Add something that the server keeps for the flow run; `content` is JSON."""
        self.put(INPUT, {"key": key, "value": json.dumps(content), "sender": "orch"})

    def put_between(self, state: dict[str, Any]) -> None:
        """Add a state that the server shows while the flow run runs; after that it does nothing."""
        with self._changed:
            if self._is_running:
                self._append(Message(STATE, {"state": state, "force": True}))

    def put(self, path: str, body: Any) -> None:
        """Add a message. Returns at once; after `close` it does nothing."""
        message = self._with_details(Message(path, body))
        with self._changed:
            if path == STATE:
                self._is_running = body["state"]["type"] == "RUNNING"
            if path != STATE or self._sets_states:
                self._append(message)

    def _append(self, message: Message) -> None:
        if self._abandoned:
            return
        if len(self._waiting) >= CAPACITY and message.path != STATE:
            self.lost += 1
            return
        self._waiting[self._next] = message
        self._next += 1
        self._changed.notify()

    def _with_details(self, message: Message) -> Message:
        if message.path != STATE or message.body["state"]["type"] != "PAUSED":
            return message
        state = message.body["state"]
        details = {**(state.get("state_details") or {}), **self._details()}
        return Message(STATE, message.body | {"state": state | {"state_details": details}})

    def when_open(self, call: Callable[[str], None]) -> None:
        """Have `call` called with the server's id of the flow run, now or as soon as there is one."""
        with self._changed:
            self._on_open = call
            if self.flow_run:
                call(self.flow_run)

    def let_go_of_run(self) -> None:
        """Call nothing of the run any more: what it would write to is about to be closed."""
        with self._changed:
            self._on_open = self._look = None

    def start(self, connect: Connect, unsent: Path) -> None:
        """Send in a thread until `close`. `unsent`: a folder with what earlier runs could not send."""
        run_beside(self._send_until_closed, connect, unsent)

    def close(self, seconds: float) -> int:
        """Wait for the last messages, as long as there is progress; how many are left."""
        end = time.monotonic() + seconds
        with self._changed:
            self._closing = True
            self._changed.notify()
        while (now := time.monotonic()) < end and now < self._progress + STALLED_S:
            if self._is_empty.wait(0.02) or self._is_unreachable:
                break
        with self._changed:
            self._abandoned = True
            return len(self._waiting)

    def keep(self, folder: Path, *more: Message) -> "Kept":
        """Write what is left, and `more`, into a folder. Raises `OSError`.

        Other processes send it as soon as it is released, or this process has died.
        """
        folder.mkdir(mode=0o700, exist_ok=True, parents=True)
        last = [self._with_details(message) for message in more if self._sets_states]
        with self._changed:
            messages = [*self._waiting.values(), *last]
        left = [[message.path, message.body] for message in messages]
        kept = {"name": self.name, "local_id": self.local_id, "resumed": self._resumed, "messages": left}
        path = folder / f"{self.local_id}.json"
        unlocked = path.with_suffix(".tmp")
        file = os.open(unlocked, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with suppress(LockUnsupported):
                try_lock(file)
            with os.fdopen(os.dup(file), "w", encoding="utf-8") as opened:
                opened.write(json.dumps(kept))
            unlocked.rename(path)
        except BaseException:
            os.close(file)
            unlocked.unlink(missing_ok=True)
            raise
        return Kept(path, file)

    # --- the thread

    def _send_until_closed(self, connect: Connect, unsent: Path) -> None:
        pause = FIRST_PAUSE_S
        while not self._is_over():
            try:
                with connect() as client:
                    self._is_unreachable = False
                    send_unsent(unsent, client, self._advance)
                    self._open(client)
                    pause = FIRST_PAUSE_S
                    self._send(client)
            except Exception as exc:
                self.fault, self._is_unreachable = fault_of(exc), True
                with self._changed:
                    self._changed.wait_for(self._is_over, pause)
                pause = min(2 * pause, LAST_PAUSE_S)

    def _is_over(self) -> bool:
        return self._abandoned or self._is_empty.is_set()

    def send_rest(self, client: Any) -> None:
        """Send what an earlier process could not, and nothing else. Raises why it is not possible."""
        self._closing = True
        self._open(client)
        self._send(client)

    def _send(self, client: Any) -> None:
        """Send what waits and what comes, until the outbox is closed."""
        looked = time.monotonic()
        while (batch := self._batch()) is not None:
            look = self._look
            if look is not None and not self._closing and time.monotonic() - looked >= LOOK_S:
                looked = time.monotonic()
                try:
                    look(client)
                except Exception:
                    if self._look is not None:  # otherwise the run has ended meanwhile
                        raise
            for path, body in requests(list(batch.values())) if batch else ():
                self._post(client, path, body)
                self._advance()
            with self._changed:
                for number in batch:
                    del self._waiting[number]
        self._is_empty.set()

    def _batch(self) -> dict[int, Message] | None:
        """Messages to the path that is first in line, or none after a while; None at the end."""
        with self._changed:
            if not self._waiting and not self._closing:
                self._changed.wait(LOOK_S if self._look is not None else None)
            if self._abandoned or (self._closing and not self._waiting):
                return None
            if not self._waiting:
                return {}
            path = next(iter(self._waiting.values())).path
            alike = (item for item in self._waiting.items() if item[1].path == path)
            return dict(islice(alike, 1 if path == STATE else AT_ONCE))

    def _post(self, client: Any, path: str, body: Any) -> None:
        text = json.dumps(body).replace(self.local_id, self.flow_run)
        head = {"content-type": "application/json"}
        try:
            client.request("POST", path.format(id=self.flow_run), content=text, headers=head)
        except Exception as exc:
            if not is_refused(exc):
                raise
            if path == INPUT:
                return  # it was sent before, and the reply was lost
            self.lost += 1
            self.fault = fault_of(exc)

    def _open(self, client: Any) -> None:
        """Find or create the flow run on the server."""
        if not self.flow_run:
            flow_run = (self._found(client) if self._resumed else "") or self._created(client)
            with self._changed:
                self.flow_run = flow_run
                if self._on_open and not self._abandoned:
                    self._on_open(flow_run)
        self._advance()

    def _advance(self) -> None:
        self._progress = time.monotonic()
        self._on_progress()

    def _created(self, client: Any) -> str:
        flow = client.request("POST", "/flows/", json={"name": "orch"}).json()["id"]
        state = {"type": "PENDING", "name": "Pending"}
        row = {"flow_id": flow, "name": self.name, "idempotency_key": self.name, "state": state}
        return str(client.request("POST", "/flow_runs/", json=row).json()["id"])

    def _found(self, client: Any) -> str:
        """The flow run of this name, for a run that another process began; empty if there is none."""
        by_name = {"flow_runs": {"name": {"any_": [self.name]}}, "limit": 1}
        found = client.request("POST", "/flow_runs/filter", json=by_name).json()
        if not found:
            return ""
        flow_run = str(found[0]["id"])
        # What the process that died had under way is still running, as far as the server knows.
        under_way = {"type": {"any_": ["RUNNING", "PENDING", "SCHEDULED"]}}
        within = {"flow_runs": {"id": {"any_": [flow_run]}}, "task_runs": {"state": under_way}}
        crashed = {"state": {"type": "CRASHED", "name": "Crashed", "message": GONE}, "force": True}
        for task_run in client.request("POST", "/task_runs/filter", json=within).json():
            client.request("POST", f"/task_runs/{task_run['id']}/set_state", json=crashed)
        return flow_run


def requests(messages: list[Message]) -> list[tuple[str, Any]]:
    """The requests for messages to one path: of each its path and its body."""
    path, bodies = messages[0].path, [message.body for message in messages]
    if path in (EVENTS, LOGS):
        return [(path, bodies)]
    if path == ARTIFACTS and len(bodies) > MANY:
        bodies = together(bodies)
    return [(path, body) for body in bodies]


def is_refused(exc: Exception) -> bool:
    """Whether the server did not accept a message and would not accept it later."""
    # Prefect's client has a response; urllib has the code.
    status = getattr(getattr(exc, "response", None), "status_code", 0) or getattr(exc, "code", 0)
    return 400 <= status < 500 and status not in (401, 403, 408, 425, 429)


def fault_of(exc: BaseException) -> str:
    """Why a request to Prefect's server failed, as the end of a sentence; what it says is shortened."""
    import httpx

    if isinstance(exc, httpx.HTTPStatusError):
        status = exc.response.status_code
        if status in (429, 503):  # also if its database is locked by another request of its own
            return f"it is busy ({status})"
        if status >= 500:
            return f"it has a fault of its own ({status})"
        if status < 400:
            return f"it redirects to another address ({status}), which is not followed"
        return f"{status}, {short_line(exc.response.text)}"
    if isinstance(exc, httpx.TimeoutException | TimeoutError):
        return f"it has not replied within {REQUEST_S:g} s"
    return short_line(str(exc)) or type(exc).__name__


def short_line(text: str) -> str:
    """What a server says, on one line, with hidden signs written out."""
    return truncate(visible(" ".join(text.split())), SAID_CHARS)


def send_unsent(folder: Path, client: Any, on_progress: Callable[[], None] = lambda: None) -> None:
    """Send what earlier runs left in a folder. Raises why it is not possible.

    `on_progress` is called after each request that the server has answered.
    """
    for path in sorted(folder.glob("*.json")):
        with suppress(FileNotFoundError), path.open("rb") as file:
            if _is_free(file.fileno()):
                _send_kept(file.read(), client, on_progress)
                path.unlink()


def _is_free(file: int) -> bool:
    """Whether no process that is alive sends the messages of a file, or has just sent them."""
    with suppress(LockUnsupported):
        if not try_lock(file):
            return False
    return os.fstat(file).st_nlink > 0


def _send_kept(content: bytes, client: Any, on_progress: Callable[[], None]) -> None:
    try:
        kept = json.loads(content)
        left = [Message(str(where), body) for where, body in kept.pop("messages")]
        outbox = PrefectOutbox(**kept, messages=left, on_progress=on_progress)
    except (ValueError, TypeError, LookupError, AttributeError):
        return  # it is damaged
    outbox.send_rest(client)
