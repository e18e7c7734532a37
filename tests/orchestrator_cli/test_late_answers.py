"""Two answers to one question: the first counts, and the run notes the other."""

import json
from pathlib import Path
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, plan

from orchestrator_cli.approvals.broker import ApprovalBroker, Question, UserReply, asked_event
from orchestrator_cli.approvals.inbox import Answer, Inbox, send
from orchestrator_cli.approvals.late import check_was_used, too_late
from orchestrator_cli.approvals.page_form import prefix_of
from orchestrator_cli.approvals.page_mirror import QuestionMirror
from orchestrator_cli.cancellation import Cancellation
from orchestrator_cli.engine.outbox import PrefectOutbox
from orchestrator_cli.errors import UsageError
from orchestrator_cli.events import ApprovalGiven, Noticed
from orchestrator_cli.state import RunState

COLOUR = Question(what="question", subject="choose", question="Which colour?")
MAY = Question(what="network", subject="fetch", question="May it?")


def answer(text: str, **more: Any) -> Answer:
    return Answer(id=COLOUR.id, reply=UserReply(decision="answered", text=text), **more)


class Asking:
    """A run that asks for a colour."""

    def __init__(self, folder: Path, question: Question = COLOUR) -> None:
        self.folder = folder
        self.facts: list[Any] = []
        self.broker = ApprovalBroker(self.facts.append, policy=(), attended=True)
        self.state = RunState(asked={question.id: asked_event(question)})
        self.inbox = Inbox(folder, self.broker, Cancellation(), self.facts.append, state=lambda: self.state)
        self.broker.request(question, always=True)

    @property
    def given(self) -> list[Any]:
        return [fact.value or fact.decision for fact in self.facts if isinstance(fact, ApprovalGiven)]

    @property
    def notices(self) -> list[str]:
        return [fact.message for fact in self.facts if isinstance(fact, Noticed)]


@pytest.fixture
def asking(tmp_path: Path) -> Asking:
    return Asking(tmp_path)


@pytest.mark.parametrize(
    ("counts", "said", "is_late"),
    [
        ({"decision": "answered", "value": "red"}, UserReply(decision="answered", text="red"), False),
        ({"decision": "answered", "value": 7}, UserReply(decision="answered", text="7"), False),
        (
            {"decision": "answered", "value": {"a": [1]}},
            UserReply(decision="answered", text='{"a":[1]}'),
            False,
        ),
        ({"decision": "yes"}, UserReply(decision="yes"), False),
        ({"decision": "answered", "value": "red"}, UserReply(decision="answered", text="green"), True),
        ({"decision": "yes"}, UserReply(decision="no"), True),
        ({"decision": "no"}, UserReply(decision="no", remark="too far"), True),
        ({"decision": "yes"}, UserReply(decision="yes", text="subtasks: []"), True),
    ],
)
def test_an_answer_that_says_the_same_is_not_late(
    counts: dict[str, Any], said: UserReply, *, is_late: bool
) -> None:
    given = ApprovalGiven.model_validate({"id": "1234abcd", **counts})
    assert (too_late(given, said) is not None) is is_late


def test_the_first_answer_counts_and_the_other_is_noted(asking: Asking) -> None:
    send(asking.folder, answer("red"))
    late = send(asking.folder, answer("green\x1b[2J", by="page"))
    asking.inbox.read()
    assert asking.given == ["red"]
    (notice,) = asking.notices
    assert all(words in notice for words in (COLOUR.id, "choose", "“red”", "“green", "Prefect's page"))
    assert "\x1b" not in notice
    assert not late.exists()


def test_only_who_sent_the_late_answer_hears_of_it(asking: Asking) -> None:
    for text in ("red", "green"):
        send(asking.folder, answer(text))
    asking.inbox.read()
    check_was_used(asking.facts, COLOUR.id, "choose", answer("red").reply)
    with pytest.raises(UsageError, match="too late"):
        check_was_used(asking.facts, COLOUR.id, "choose", answer("green").reply)


class Server:
    """Prefect's API, which has an answer to every question."""

    def __init__(self) -> None:
        self.content = b"x"
        self.rows: list[dict[str, Any]] = []

    def request(self, method: str, path: str, **_: Any) -> "Server":
        if method == "DELETE":
            self.rows = [row for row in self.rows if not path.endswith(row["key"])]
        return self

    def json(self) -> Any:
        return self.rows


@pytest.mark.parametrize("looks_before", [1, 2])
def test_an_answer_on_the_page_that_comes_too_late_is_noted(tmp_path: Path, looks_before: int) -> None:
    asking = Asking(tmp_path, MAY)
    mirror = QuestionMirror(
        PrefectOutbox("run", "id", resumed=False),
        asking.folder,
        asking.broker,
        lambda: asking.state,
        is_own=True,
    )
    mirror.details()  # it fills in the form
    server = Server()
    asking.broker.answer(MAY.id, "yes")
    for look in range(1, 4):
        if look == looks_before:
            key = f"{prefix_of(asked_event(MAY))}1-response"
            server.rows = [{"key": key, "value": json.dumps({"answer": "no"}), "created": "2027-01-01"}]
        mirror.look(server)
    asking.inbox.read()
    assert asking.given == ["yes"]
    assert ["page" in notice for notice in asking.notices] == [True]


def test_of_answers_to_a_run_without_a_process_the_first_counts(orch: Orch, endpoint: Endpoint) -> None:
    human = {"id": "choose", "title": "Choose", "kind": "human", "instruction": "Which colour?"}
    endpoint.reply = Cast(planner=[plan(human)])
    assert orch("ask", "Paint it.").code == 6
    (asked,) = orch.events("ApprovalAsked")
    for text in ("red", "green"):
        reply = UserReply(decision="answered", text=text)
        send(orch.journal().parent, Answer(id=asked["id"], reply=reply))
    assert orch("resume", "last").code == 0
    assert [given["value"] for given in orch.events("ApprovalGiven")] == ["red"]
    assert ["“green”" in row["message"] for row in orch.events("Noticed")] == [True]
