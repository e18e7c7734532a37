"""A question of a run as an input form of Prefect's page, answered as the page does it: over HTTP."""

import json
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint
from engine import Engine, authorization
from forwarder import Forwarder
from scripted_model import Cast, caller, plan, tool_call
from test_background import FINISH, end, pid_of
from test_flow_run import once_begun
from test_schedules import Up, up
from test_terminal_people import CHOOSE, Open, open_screen, wait_for

from orchestrator_cli.approvals.page_form import (
    PageAnswer,
    answers_of,
    description_of,
    may_be_answered,
    prefix_of,
    reply_of_form,
    schema_of,
)
from orchestrator_cli.errors import UsageError
from orchestrator_cli.events import ApprovalAsked

__all__ = ["open_screen", "up"]

USE = caller("use", ["choose"], inputs={"colour": "$choose.value"})
WRITE = tool_call("write", "write_file", path="one.txt", content="made")
APPROVED = WRITE | {"approve": True, "on_failure": "skip"}


class Page:
    """The page of one run's flow run."""

    def __init__(self, engine: Engine, orch: Orch) -> None:
        self._engine = engine
        self._orch = orch

    @property
    def flow_run(self) -> dict[str, Any]:
        found = self._engine.flow_runs(self._orch.journal().parent.name)
        return found[0] if found else {"id": "", "state_type": "", "state": {"state_details": {}}}

    @property
    def keyset(self) -> dict[str, str] | None:
        found: dict[str, str] | None = self.flow_run["state"]["state_details"].get("run_input_keyset")
        return found

    def await_form(self) -> dict[str, Any]:
        """The schema of the form, as the page asks for it."""
        wait_for(lambda: self.flow_run["state_type"] == "PAUSED" and self.keyset is not None)
        assert self.keyset is not None
        path = f"flow_runs/{self.flow_run['id']}/input"
        self.description: str = self._engine.api(f"{path}/{self.keyset['description']}")
        found: dict[str, Any] = self._engine.api(f"{path}/{self.keyset['schema']}")
        return found

    def resume(self, **filled: Any) -> str:
        """Press Resume; whether the server accepted it."""
        said = self._engine.api(f"flow_runs/{self.flow_run['id']}/resume", {"run_input": filled})
        return str(said["status"])


@pytest.fixture
def page(engine: Engine, orch: Orch) -> Page:
    return Page(engine, orch)


def asked(**fields: Any) -> ApprovalAsked:
    base = {"id": "1234abcd", "what": "question", "subject": "choose", "question": "Which?"}
    return ApprovalAsked.model_validate(base | fields)


# --- the form


@pytest.mark.parametrize(
    ("fields", "filled", "expected"),
    [
        ({"what": "network"}, {"answer": "yes"}, ("yes", "", "")),
        ({"what": "network"}, {"answer": "no", "because": "too far"}, ("no", "", "too far")),
        ({}, {"answer": "the newest"}, ("answered", "the newest", "")),
        ({}, {"refuse": True}, ("no", "", "")),
        ({"result": {"enum": ["a", 2]}}, {"answer": "2"}, ("answered", "2", "")),
        ({"result": {"type": "boolean"}}, {"answer": "true"}, ("answered", "true", "")),
    ],
)
def test_what_is_filled_in_is_the_answer(
    fields: dict[str, Any], filled: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    reply = reply_of_form(asked(**fields), PageAnswer("", json.dumps(filled)))
    assert (reply.decision, reply.text, reply.remark) == expected


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"what": "network"}, '{"answer": "Yes, all of it"}'),
        ({"what": "network"}, '{"answer": true}'),
        ({"what": "network"}, "{}"),
        ({}, '{"answer": " "}'),
        ({}, '{"answer": "a", "decision": "yes"}'),
        ({}, "gASVDgAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOULg=="),
        ({}, "[" * 100_000),
        ({"result": {"enum": ["a", "b"]}}, '{"answer": "c"}'),
    ],
)
def test_what_is_no_answer_is_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError):
        reply_of_form(asked(**fields), PageAnswer("", text))


def test_a_form_lists_the_choices_and_its_text_is_no_markup() -> None:
    assert schema_of(asked(what="network"))["properties"]["answer"]["enum"] == ["yes", "no"]  # type: ignore
    listed = schema_of(asked(result={"enum": ["a", 2]}))["properties"]["answer"]["enum"]  # type: ignore
    assert listed == ["a", "2"]
    text = description_of(asked(question="![x](http://one.test/a)", details="# big\n<script>"), "not so")
    assert all(line.startswith("    ") for line in text.split("\n"))


def test_only_the_own_server_may_permit() -> None:
    assert may_be_answered(asked(what="network"), is_own=True)
    assert not may_be_answered(asked(what="network"), is_own=False)
    assert may_be_answered(asked(), is_own=False)
    assert not may_be_answered(asked(subject=""), is_own=False)


def test_answers_of_other_questions_and_other_things_are_passed_over() -> None:
    one, row = asked(), {"created": "2027-01-01", "value": "{}"}
    rows: list[Any] = [
        None,
        {"key": 3, "value": "{}"},
        row | {"key": f"{prefix_of(one)}1-schema"},
        row | {"key": "orch-ffffffff-1-response"},
        row | {"key": f"{prefix_of(one)}1-response"},
        row | {"key": f"{prefix_of(one)}2-response", "created": "2027-01-02"},
    ]
    assert [found.key[-10:] for found in answers_of(rows, one)] == ["2-response", "1-response"]
    assert answers_of({"detail": "no"}, one) == []


# --- runs


@pytest.mark.resident
def test_an_answer_on_the_page_reaches_a_run_that_waits(orch: Orch, endpoint: Endpoint, page: Page) -> None:
    endpoint.reply = Cast(planner=[plan(CHOOSE, USE)], agents={"Do use": [FINISH]})
    orch("ask", "--detach", "--answer-within=2h", "Paint it.")
    form = page.await_form()
    assert form["properties"]["answer"]["enum"] == ["red", "green"]
    assert "Which colour?" in page.description
    assert page.resume(answer="blue") == "REJECT"
    assert page.resume(answer="green") == "ACCEPT"
    wait_for(lambda: bool(orch.events("RunFinished")))
    (given,) = orch.events("ApprovalGiven")
    assert (given["by"], given["value"]) == ("page", "green")
    assert "Prefect's page" in (orch.workspace / "fileLog.md").read_text()
    wait_for(lambda: page.flow_run["state_type"] == "COMPLETED")


@pytest.mark.resident
def test_a_permission_is_given_on_the_page_of_the_own_server(
    orch: Orch, endpoint: Endpoint, page: Page
) -> None:
    endpoint.reply = Cast(planner=[plan(APPROVED, APPROVED | {"id": "again"})])
    orch("ask", "--detach", "--answer-within=2h", "Write it.")
    page.await_form()
    before = page.keyset
    assert page.resume(answer="no", because="not now") == "ACCEPT"
    wait_for(lambda: page.keyset not in (None, before))  # the next question has a form of its own
    assert page.resume(answer="yes") == "ACCEPT"
    wait_for(lambda: bool(orch.events("RunFinished")))
    said = [(one["by"], one["decision"], one["remark"]) for one in orch.events("ApprovalGiven")]
    assert said == [("page", "no", "not now"), ("page", "yes", "")]


@pytest.mark.thorough
def test_the_form_goes_when_the_question_is_answered_elsewhere(
    orch: Orch, endpoint: Endpoint, page: Page
) -> None:
    slow = {"content": "made", "sleep": 600}
    endpoint.reply = Cast(planner=[plan(CHOOSE, USE)], agents={"Do use": [slow]})
    run = orch("ask", "--detach", "--answer-within=2h", "Paint it.").out.strip()
    page.await_form()
    assert orch("approve", run, "--answer=red").code == 0
    wait_for(lambda: page.flow_run["state_type"] == "RUNNING")
    assert page.keyset is None
    assert page.resume(answer="green") == "ABORT"
    assert orch("cancel", run).code == 0
    wait_for(lambda: bool(orch.events("RunFinished")))


def test_an_answer_to_a_run_without_a_process_counts_when_it_is_resumed(
    orch: Orch, endpoint: Endpoint, page: Page
) -> None:
    endpoint.reply = Cast(planner=[plan(CHOOSE, USE)], agents={"Do use": [FINISH]})
    paused = orch("ask", "--json", "Paint it.")
    assert paused.code == 6
    page.await_form()
    assert page.resume(answer="green") == "ACCEPT"
    done = orch("resume", paused.envelope["run"], "--json")
    assert (done.code, done.envelope["outcome"]) == (0, "completed")
    (given,) = orch.events("ApprovalGiven")
    assert (given["by"], given["value"]) == ("page", "green")


@pytest.mark.thorough
def test_attach_sees_an_answer_on_the_page(
    orch: Orch, endpoint: Endpoint, engine: Engine, page: Page, open_screen: Open
) -> None:
    planner = once_begun(orch, engine, plan(CHOOSE, USE))
    endpoint.reply = Cast(planner=[planner], agents={"Do use": [FINISH]})
    run = orch("ask", "--detach", "Paint it.").out.strip()
    assert end(orch)["outcome"] == "paused"
    screen = open_screen("attach", run)
    screen.expect("[1-2] › ")
    orch("ui", "--print")  # on a busy machine the run has left its last messages to be sent
    page.await_form()
    assert page.resume(answer="red") == "ACCEPT"
    screen.expect("All is done.")
    assert screen.end() == 0
    assert orch.events("ApprovalGiven")[0]["by"] == "page"


@pytest.mark.thorough  # two cold processes; test_schedules has orch up, and the resume below an answer
def test_orch_up_goes_on_with_a_run_that_was_answered_on_the_page(
    orch: Orch, endpoint: Endpoint, page: Page, up: Callable[[], Up]
) -> None:
    endpoint.reply = Cast(planner=[plan(CHOOSE, USE)], agents={"Do use": [FINISH]})
    assert orch("schedule", "add", "paint", "Paint it.").code == 0
    serving = up()
    assert orch("schedule", "run", "paint").code == 0
    wait_for(lambda: bool(list((orch.home / "runs").glob("*/journal.jsonl"))))
    wait_for(lambda: bool(orch.events("RunFinished")))
    page.await_form()
    wait_for(lambda: "waits for you" in serving.log.read_text())
    serving.end()
    again = up()  # it takes the run up as one that waits, and leaves the form
    wait_for(lambda: again.log.read_text().count("waits for you") > 1)
    page.await_form()
    assert page.resume(answer="green") == "ACCEPT"
    wait_for(lambda: len(orch.events("RunFinished")) == 2)
    assert orch.events("RunFinished")[-1]["outcome"] == "completed"


@pytest.mark.thorough
def test_a_process_that_was_killed_has_left_its_form(orch: Orch, endpoint: Endpoint, page: Page) -> None:
    endpoint.reply = Cast(planner=[plan(CHOOSE, USE)], agents={"Do use": [FINISH]})
    run = orch("ask", "--detach", "--answer-within=2h", "Paint it.").out.strip()
    page.await_form()
    os.kill(pid_of(orch), signal.SIGKILL)
    assert page.resume(answer="green") == "ACCEPT"
    wait_for(lambda: "died" in orch("runs").out)
    assert orch("resume", run, "--json").envelope["outcome"] == "completed"


# --- a server of others


@pytest.fixture
def team(engine: Engine) -> Iterator[dict[str, str]]:
    """The variables that name a server which is not the home's."""
    with Forwarder(engine.url, lambda _path, _body: None) as forwarder:
        yield {"PREFECT_API_URL": forwarder.url, "PREFECT_API_AUTH_STRING": engine.password}


def put_response(engine: Engine, flow_run: str, question: str) -> None:
    """What anyone can do who may write to the server."""
    body = {"key": f"orch-{question}-forged00-response", "value": '{"answer": "yes"}'}
    request = urllib.request.Request(
        f"{engine.url}/flow_runs/{flow_run}/input",
        json.dumps(body).encode(),
        {"content-type": "application/json", **authorization(engine.password)},
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        assert reply.status == 201


@pytest.mark.thorough
def test_another_server_answers_in_words_and_permits_nothing(
    orch: Orch, endpoint: Endpoint, engine: Engine, page: Page, team: dict[str, str]
) -> None:
    write = APPROVED | {"depends_on": ["choose"]}
    endpoint.reply = Cast(planner=[plan(CHOOSE, write)])
    run = orch("ask", "--detach", "--answer-within=2h", "Paint it.", **team).out.strip()
    page.await_form()
    assert page.resume(answer="green") == "ACCEPT"
    wait_for(lambda: len(orch.events("ApprovalAsked")) == 2)
    wait_for(lambda: page.flow_run["state_type"] == "PAUSED" and page.keyset is None)
    put_response(engine, page.flow_run["id"], orch.events("ApprovalAsked")[1]["id"])
    os.kill(pid_of(orch), signal.SIGKILL)
    wait_for(lambda: "died" in orch("runs").out)
    # Neither a process that waits nor one that resumes the run takes it.
    assert orch("resume", run, "--answer-within=4s", **team).code == 0
    said = [(one["by"], one["decision"]) for one in orch.events("ApprovalGiven")]
    assert said == [("page", "answered"), ("deadline", "no")]
    assert not (orch.workspace / "one.txt").exists()


def test_a_server_that_answers_nothing_holds_nothing_up(
    orch: Orch, endpoint: Endpoint, engine: Engine
) -> None:
    def broken(path: str, _: Any) -> Any:
        return 500 if "/input" in path else None

    with Forwarder(engine.url, broken) as forwarder:
        team = {"PREFECT_API_URL": forwarder.url, "PREFECT_API_AUTH_STRING": engine.password}
        endpoint.reply = Cast(planner=[plan(CHOOSE, USE)], agents={"Do use": [FINISH]})
        options = ["--answer-within=3s", "--default-answer=red", "--json"]
        done = orch("ask", *options, "Paint it.", **team)
        assert done.envelope["outcome"] == "completed"
        assert done.seconds < 25
