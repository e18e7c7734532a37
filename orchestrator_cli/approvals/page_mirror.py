"""The oldest open question of a run as an input form of its flow run on Prefect's page, and the answer there.

While a run waits for a person, its flow run is paused on the server, with the form. An answer goes into the
run's inbox, as one from another terminal does. When the question is answered elsewhere, the form goes; an
answer that was given in it meanwhile is passed on too, so that the run notes that it came too late.

Everything happens in the thread of the outbox, beside the run and when the server answers; what is left at
the end goes with the other messages. A run that has ended waits on: `collect_answers` looks for it.
"""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orchestrator_cli.approvals.broker import ApprovalBroker
from orchestrator_cli.approvals.inbox import Answer, send
from orchestrator_cli.approvals.page_form import (
    answers_of,
    description_of,
    first_usable,
    keyset_of,
    may_be_answered,
    prefix_of,
    schema_of,
    state_details,
)
from orchestrator_cli.durable.foreign import on_one_line
from orchestrator_cli.durable.text import truncate
from orchestrator_cli.engine.outbox import INPUT, PrefectOutbox, is_refused
from orchestrator_cli.events import ApprovalAsked
from orchestrator_cli.state import RunState

OPEN_S = 1.0
"""A question that is answered sooner, such as by the settings, is not shown."""
TAKEN_S = 5.0
"""For the run to take up an answer; otherwise it is asked again."""
MOST = 200
"""Inputs of one question that are read."""

Request = Callable[[str, str, Any], Any]
"""Makes a request of Prefect's API: method, path, JSON; its JSON. Raises what the client raises."""


class QuestionMirror:
    """The open questions of one run on the page of its flow run."""

    def __init__(
        self,
        outbox: PrefectOutbox,
        folder: Path,
        broker: ApprovalBroker,
        state: Callable[[], RunState],
        *,
        is_own: bool,
    ) -> None:
        """
        Args:
            folder: of the run, whose inbox gets the answers.
            broker: knows which questions are open.
            state: that of the run, in which secrets are masked.
            is_own: whether the server is that of the home.
        """
        self._outbox = outbox
        self._folder = folder
        self._broker = broker
        self._state = state
        self._is_own = is_own
        self._lock = threading.Lock()
        self._shown = ""
        """The id of the question that the page shows."""
        self._details: dict[str, Any] = {}
        self._seen: tuple[str, float] = "", 0.0
        """The oldest question, and since when it is that."""
        self._gone: dict[str, ApprovalAsked] = {}
        """Questions that were settled while the page showed them, until their forms were looked at again."""
        self._sent: dict[str, float] = {}
        """When answers were passed on."""
        self._used: set[str] = set()

    def details(self) -> dict[str, Any]:
        """What the state of a flow run that ends paused has besides, with the form on its way."""
        with self._lock:
            asked = self._asked()
            if asked is None:
                return {}
            if self._shown != asked.id:
                self._fill(asked)
            return self._details

    def look(self, client: Any) -> None:
        """Show what is asked now, and take up an answer. Raises what the client raises."""
        with self._lock:
            gone, self._gone = self._gone, {}
            asked = self._update()
        for one in (gone | self._gone).values():
            if may_be_answered(one, is_own=self._is_own):
                take_answer(self._request(client), self._outbox.flow_run, one, self._folder, self._used)
        if asked is not None and may_be_answered(asked, is_own=self._is_own):
            self._take(asked, client)

    def _update(self) -> ApprovalAsked | None:
        """Show what is asked now; the question whose form was there before, if it is still the oldest."""
        asked = self._asked()
        if self._shown and (asked is None or asked.id != self._shown):
            # Looked at now and after the server has the next state, with which it takes no more answers.
            self._gone = {self._shown: self._state().asked[self._shown]}
        if asked is None:
            if self._shown:
                self._shown = ""
                self._outbox.put_between({"type": "RUNNING", "name": "Running"})
            return None
        if self._seen[0] != asked.id:
            self._seen = asked.id, time.monotonic()
        if self._shown == asked.id:
            return asked
        if time.monotonic() - self._seen[1] >= OPEN_S:
            self._show(asked)
        return None

    def _take(self, asked: ApprovalAsked, client: Any) -> None:
        if time.monotonic() - self._sent.get(asked.id, -TAKEN_S) < TAKEN_S:
            return
        fault = take_answer(self._request(client), self._outbox.flow_run, asked, self._folder, self._used)
        if fault is None:
            self._sent[asked.id] = time.monotonic()
        elif fault or asked.id in self._sent:
            self._sent.pop(asked.id, None)
            with self._lock:
                self._show(asked, fault)

    @staticmethod
    def _request(client: Any) -> Request:
        def request(method: str, path: str, body: Any) -> Any:
            reply = client.request(method, path, json=body)
            return reply.json() if reply.content else None

        return request

    def _asked(self) -> ApprovalAsked | None:
        """The oldest open question."""
        waiting = {question.id for question in self._broker.open}
        return next((one for one in self._state().open if one.id in waiting), None)

    def _show(self, asked: ApprovalAsked, fault: str = "") -> None:
        """Pause the flow run with a new form."""
        self._fill(asked, fault)
        state = {"type": "PAUSED", "name": "Paused", "message": _short(asked)}
        self._outbox.put_between(state | {"state_details": self._details})

    def _fill(self, asked: ApprovalAsked, fault: str = "") -> None:
        """Have the server keep a form for a question."""
        self._shown, self._details = asked.id, {}
        if may_be_answered(asked, is_own=self._is_own):
            keyset = keyset_of(asked)
            contents = {"schema": schema_of(asked), "description": description_of(asked, fault)}
            for name, content in contents.items():
                self._outbox.put_input(keyset[name], content)
            self._details = state_details(keyset)


def take_answer(
    request: Request, flow_run: str, asked: ApprovalAsked, folder: Path, used: set[str]
) -> str | None:
    """Pass an answer on that the server has for a question: None if one was, else why it cannot be used.

    The text is empty if there is no answer. `used`: names of those that were looked at, which grows.
    """
    rows = request("POST", INPUT.format(id=flow_run) + "/filter", {"prefix": prefix_of(asked), "limit": MOST})
    answers = [answer for answer in answers_of(rows, asked) if answer.key not in used]
    reply, fault = first_usable(asked, answers)
    if reply is not None:
        send(folder, Answer(id=asked.id, reply=reply, by="page"))
    for answer in answers:
        used.add(answer.key)
        try:
            request("DELETE", f"{INPUT.format(id=flow_run)}/{answer.key}", None)
        except Exception as exc:
            if not is_refused(exc):  # it is known here; another process may ask about it again
                raise
    return None if reply is not None else fault


def collect_answers(
    request: Request, run: str, asked: Sequence[ApprovalAsked], folder: Path, *, is_own: bool
) -> bool:
    """Pass on what the page has for a run without a process; whether that was anything.

    Raises what the client raises.
    """
    open_ones = [one for one in asked if may_be_answered(one, is_own=is_own)]
    if not open_ones:
        return False
    by_name = {"flow_runs": {"name": {"any_": [run]}}, "limit": 1}
    rows = request("POST", "/flow_runs/filter", by_name)
    flow_run = str(rows[0]["id"]) if rows else ""
    return any([take_answer(request, flow_run, one, folder, set()) is None for one in open_ones if flow_run])


def _short(asked: ApprovalAsked) -> str:
    return f"Waits for an answer: {truncate(on_one_line(asked.question), 300)}"
