"""Memories are shown where they help: two workspaces, three sessions, a model that repeats them."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint, Reply, call, texts_of
from qdrant_face import QdrantFace
from scripted_model import answered, caller, plan

from memory import open_store
from memory.facts import UserFact
from memory.findings import AGENT_TOKENS, MEMORY_TOKENS
from memory.learning import tokens
from memory.profile import learn
from memory.sessions import Exchange, save_exchange
from orchestrator_cli.recall.scopes import workspace_scope

SHOWN = re.compile(r'<untrusted source="memory(?: of the user)?">\n(.*?)</untrusted>', re.DOTALL)
WHOLE = re.compile(
    r"(?:From other conversations|What is remembered)[^\n]*\n" + SHOWN.pattern + r"\n*", re.DOTALL
)


def shown_in(request: str) -> str:
    return "\n".join(SHOWN.findall(request))


class Repeats:
    """A planner that answers with what memory shows it, and an agent that hands over the same."""

    def __init__(self) -> None:
        self.plans: dict[str, str] = {}
        """What is planned for a request, instead of an answer."""

    def __call__(self, request: dict[str, Any], _n: int) -> Reply:
        text = texts_of(request)
        if request["model"] == "planner":
            asked = text.rpartition("The request:\n\n")[2].strip()
            return self.plans.get(asked, answered(f"I was shown: {shown_in(text) or 'nothing'}"))
        if request["model"] == "agent":
            return call("final_answer", {"answer": shown_in(text) or "nothing"})
        return "All is done."


@pytest.fixture
def model(endpoint: Endpoint) -> Repeats:
    endpoint.reply = Repeats()
    return endpoint.reply


@pytest.fixture
def office(tmp_path: Path) -> str:
    (tmp_path / "office").mkdir()
    return str(tmp_path / "office")


def test_each_memory_is_shown_where_it_helps_and_none_where_it_does_not(
    orch: Orch, endpoint: Endpoint, model: Repeats, office: str
) -> None:
    def ask(text: str, *options: str) -> str:
        done = orch("ask", *options, text, ORCH_REMEMBER="rules")
        assert done.code == 0, done.err
        return str(endpoint.of("planner")[-1].request["messages"][-1]["content"])

    ask("Ada moved to Hauptstrasse 5 in Linz.", "--session", "contacts")
    ask("The new product is called Nimbus.", "--session", "product")
    ask("The auditor Deloitte charges 12,000 euros.", "-C", office, "--session", "audit")
    ask("Which port does the printer Brother use?")

    # In another session, and without one.
    assert "Hauptstrasse 5" in shown_in(ask("Write a letter to Ada.", "--session", "letters"))
    assert "Nimbus" in shown_in(request := ask("Draw a logo for Nimbus."))
    assert "session product" in shown_in(request)
    assert "printer Brother" in shown_in(request := ask("Install the printer Brother upstairs."))
    assert "Hauptstrasse" not in request

    # Not in another workspace, not for its own conversation, and not without a need.
    assert shown_in(ask("What does the auditor Deloitte charge?")) == ""
    assert "12,000 euros" in shown_in(ask("What does the auditor Deloitte charge us?", "-C", office))
    own = ask("Where does Ada live?", "--session", "contacts")
    assert "Hauptstrasse 5" in own
    assert "session contacts" not in own
    for nothing in ("Count the rows", "Count the rows of data.csv", "Write a poem about trees", "Go on."):
        assert shown_in(ask(nothing)) == ""

    # It costs no more than its budget.
    for exchange in endpoint.of("planner"):
        text = str(exchange.request["messages"][-1]["content"])
        assert sum(tokens(match.group()) for match in WHOLE.finditer(text)) <= MEMORY_TOKENS
        assert "memory" not in str(exchange.request["messages"][0]["content"]).split("Tools that exist")[1]
    assert {exchange.model for exchange in endpoint.exchanges} == {"planner"}


def test_two_users_of_a_server_are_shown_their_own(
    orch: Orch, endpoint: Endpoint, model: Repeats, office: str
) -> None:
    """Ten runs in two workspaces and three sessions."""
    with QdrantFace() as face:

        def ask(user: str, text: str, *options: str) -> str:
            done = orch(
                "ask",
                *options,
                text,
                ORCH_REMEMBER="rules",
                ORCH_MEMORY__URL=face.url,
                ORCH_MEMORY__USER=user,
            )
            assert done.code == 0, done.err
            return shown_in(str(endpoint.of("planner")[-1].request["messages"][-1]["content"]))

        assert ask("ada", "The contract with Zephyr ends in May.", "--session", "contracts") == ""
        assert ask("ben", "The contract with Zephyr ends in June.", "--session", "law") == ""
        assert (
            ask("ada", "The auditor Deloitte charges 12,000 euros.", "-C", office, "--session", "audit") == ""
        )
        assert ask("ben", "Always answer in German.") == ""

        assert "May" in (shown := ask("ada", "When does the contract with Zephyr end?"))
        assert "June" not in shown
        assert "German" not in shown
        assert "June" in (shown := ask("ben", "When does the contract with Zephyr end?"))
        assert "May" not in shown
        assert "German" in shown
        assert ask("ada", "What does the auditor Deloitte charge?") == ""
        assert "12,000" in ask("ada", "What does the auditor Deloitte charge us?", "-C", office)
        assert "German" in (shown := ask("ben", "What does the auditor Deloitte charge?", "-C", office))
        assert "12,000" not in shown
        assert ask("cleo", "When does the contract with Zephyr end?") == ""


def test_other_workspaces_are_shown_if_the_user_asks_for_it(
    orch: Orch, endpoint: Endpoint, model: Repeats, office: str
) -> None:
    assert orch("ask", "The auditor Deloitte charges 12,000 euros.", "-C", office, "--session", "a").code == 0
    for workspaces, shown in (("own", False), ("all", True)):
        assert (
            orch("ask", "What does the auditor Deloitte charge?", ORCH_MEMORY__WORKSPACES=workspaces).code
            == 0
        )
        request = endpoint.of("planner")[-1].request["messages"][-1]["content"]
        assert ("12,000" in shown_in(str(request))) is shown


def test_long_memories_stay_within_the_budget(orch: Orch, endpoint: Endpoint, model: Repeats) -> None:
    assert orch("ask", "Go on.", ORCH_REMEMBER="never").code == 0
    store = open_store(orch.home / "memory")
    scope = workspace_scope(orch.workspace)
    for n in range(12):
        said = f"The Zanzibar contract, part {n}, {'says much about Zanzibar and cloves ' * 12}."
        save_exchange(store, f"s{n}", Exchange(run=f"r{n}", prompt=said, answer=said), scope)
    facts = [
        UserFact(attribute=f"colour {n}", text=f"Colour {n} is {'red ' * 12}.", quote="colour")
        for n in range(30)
    ]
    learn(store, facts, scope=scope, now=datetime.now(UTC))
    empty = len(str(endpoint.of("planner")[0].request["messages"]))
    assert orch("ask", "What does the Zanzibar contract say about cloves?").code == 0
    request = endpoint.of("planner")[-1].request["messages"]
    assert "Zanzibar" in shown_in(str(request[-1]["content"]))
    assert len(str(request)) - empty <= 4 * MEMORY_TOKENS


def test_show_names_what_was_shown_and_why(orch: Orch, endpoint: Endpoint, model: Repeats) -> None:
    orch("ask", "--session", "contacts", "Ada moved to Hauptstrasse 5 in Linz.", ORCH_REMEMBER="never")
    orch("memory", "add", "I prefer metric units.")
    assert orch("ask", "Write a letter to Ada in metric units.").code == 0
    (recalled,) = orch.events("Recalled")
    said, fact = (next(one for one in recalled["shown"] if one["what"] == what) for what in ("said", "fact"))
    assert "Ada" in said["why"]
    assert said["score"] > 0
    assert fact["why"] == "it is pinned"
    assert said["id"][:8] in orch.log
    assert "Hauptstrasse" not in orch.log.split("recalled from memory")[-1].split("###")[0]
    run = orch.journal().parent.name
    assert "said before: the user said: Ada moved" in (page := orch("show", run).out)
    assert "fact about you: I prefer metric units." in page
    assert json.loads(orch("show", "--json", run).out)["memory"]["shown"] == recalled["shown"]


def test_agents_are_shown_what_concerns_their_subtask(orch: Orch, endpoint: Endpoint, model: Repeats) -> None:
    orch("memory", "add", "The spare printer Brother is in room 12.")
    work = plan(
        caller("printer", instruction="Say where the spare printer Brother is."),
        caller("poem", instruction="Write a poem about trees."),
    )
    model.plans["See to the printer Brother, and to a poem."] = work
    assert orch("ask", "See to the printer Brother, and to a poem.").code == 0
    found = {exchange.text.count("room 12") > 0: exchange for exchange in endpoint.of("agent")}
    assert "Do printer" in found[True].text
    assert "Do poem" in found[False].text
    assert shown_in(found[False].text) == ""
    assert tokens(WHOLE.search(found[True].text).group()) <= AGENT_TOKENS  # type: ignore[union-attr]


def test_what_an_answer_repeats_of_others_is_withheld(orch: Orch, endpoint: Endpoint, model: Repeats) -> None:
    text = (
        "Read the page about the spice markets of Zanzibar and list the cloves that traders sell to Europe."
    )
    model.plans[text] = plan(
        caller("page", tools=["fetch_url"], instruction="Read the page."), caller("after", ["page"])
    )
    assert orch("ask", "--session", "web", text).code == 0
    asked = "Draw a logo for our shop with Zanzibar cloves."
    assert orch("ask", asked).code == 0
    assert "All is done" not in shown_in(endpoint.of("planner")[-1].text)
    (recalled,) = orch.events("Recalled")
    assert [one["use"] for one in recalled["used"]] == ["withheld"]
    assert orch("feedback", recalled["used"][0]["run"], "good").code == 0
    assert orch("ask", asked).code == 0
    assert "All is done" in shown_in(endpoint.of("planner")[-1].text)
