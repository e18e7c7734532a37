"""Who does what follows from what memory knows of the roles, and anybody can read why."""

import json

from command import Orch
from endpoint import Endpoint, call, fault, texts_of
from scripted_model import MODELS, Cast, caller, patch, plan

from memory import Scope, open_store, run_record
from memory.records import RUN

WRITER = "You are a writer."
RESEARCHER = "You are a researcher."
PROMPT = "Describe the old lighthouse"
LOOK = {"id": "look", "title": "Look", "kind": "agent", "tools": [], "depends_on": []}


def remember(orch: Orch, *outcomes: tuple[str, str, int], model: str | None = None) -> None:
    """Runs of the same prompt, each of one agent: role, how it ended, and how often."""
    store = open_store(orch.home / "memory")
    store.add(
        run_record(
            run=f"{role}-{model}-{state}-{n}",
            prompt=PROMPT,
            outcome="completed" if state == "done" else "failed",
            answer="",
            plan=[LOOK | {"role": role, "state": state} | ({"model": model} if model else {})],
            scope=Scope(),
        )
        for role, state, times in outcomes
        for n in range(times)
    )
    store.close()


def instructions(endpoint: Endpoint) -> list[str]:
    """The roles of the agents, in order."""
    asked = [exchange for exchange in endpoint.exchanges if exchange.model == "agent"]
    return [role for e in asked for role in (WRITER, RESEARCHER) if role in texts_of(e.request)]


def test_a_role_with_a_bad_record_gives_its_work_to_a_better_one_of_its_kind(orch: Orch, endpoint: Endpoint):
    remember(orch, ("researcher", "failed", 6), ("writer", "done", 6))
    agents = {"Do look": [call("final_answer", {"answer": "It is white."})]}
    endpoint.reply = Cast(planner=[plan(caller("look"))], agents=agents, answer=[])
    done = orch("ask", PROMPT)
    assert done.code == 0, done.err
    assert instructions(endpoint) == [WRITER]
    reason = "instead of researcher, who did 0 of 6 such subtasks; writer did 6 of 6"
    assert f"- `look`: `writer` on `openai/agent`, {reason}" in orch.log
    assert reason in " ".join(done.err.split())
    (route,) = orch.events("PlanProposed")[0]["plan"]["routes"]
    assert (route["role"], route["instead_of"]) == ("writer", "researcher")
    assert reason in orch("show", orch.journal().parent.name).out


def test_what_a_run_came_to_is_the_record_of_the_next(orch: Orch, endpoint: Endpoint):
    agents = {"Do look": [call("final_answer", {"answer": "It is white."})] * 2}
    endpoint.reply = Cast(planner=[plan(caller("look"))] * 2, agents=agents, answer=[])
    assert orch("ask", PROMPT).code == 0
    assert "- `look`: `researcher` on `openai/agent`, as planned\n" in orch.log
    assert orch("ask", PROMPT).code == 0
    assert "as planned; did 1 of 1 such subtasks, in " in orch.log


def test_the_model_that_did_a_subtask_is_in_its_record(orch: Orch, endpoint: Endpoint):
    agents = {"Do look": [call("final_answer", {"answer": "It is white."})]}
    endpoint.reply = Cast(planner=[plan(caller("look"))], agents=agents, answer=[])
    assert orch("ask", PROMPT).code == 0
    store = open_store(orch.home / "memory")
    (run,) = store.all(RUN, Scope())
    store.close()
    assert [(row["role"], row["model"]) for row in run.data["plan"]] == [("researcher", "openai/agent")]


SPARE = {"ORCH_MODELS__AGENT_ALTERNATIVES": '["openai/spare"]'}
WHITE = call("final_answer", {"answer": "It is white."})


def knowing_the_spare(orch: Orch) -> None:
    """The model of the agents has failed at such work, and the other has not."""
    remember(orch, ("researcher", "failed", 6), model="openai/agent")
    remember(orch, ("researcher", "done", 6), model="openai/spare")


def test_a_model_with_a_bad_record_gives_its_work_to_a_better_one_that_the_user_named(
    orch: Orch, endpoint: Endpoint
):
    knowing_the_spare(orch)
    cast = Cast(planner=[plan(caller("look")), plan(caller("look"))], agents={"Do look": [WHITE]}, answer=[])
    endpoint.reply = lambda request, n: WHITE if request["model"] == "spare" else cast(request, n)
    done = orch("ask", PROMPT, **SPARE)
    assert done.code == 0, done.err
    assert [e.model for e in endpoint.exchanges] == ["planner", "spare"]
    why = (
        "as planned; openai/spare instead of openai/agent, which did 0 of 6 such subtasks; "
        "openai/spare did 6 of 6"
    )
    assert f"- `look`: `researcher` on `openai/spare`, {why}" in orch.log
    assert why in " ".join(done.err.split())
    assert why in orch("show", "last").out

    # What the command line says is asked, whatever is known of it.
    done = orch("ask", "--no-reuse", "-m", "openai/agent", PROMPT, ORCH_MODELS__AGENT="", **SPARE)
    assert done.code == 0, done.err
    assert [e.model for e in endpoint.exchanges][2:] == ["planner", "agent"]


def test_a_run_that_is_resumed_asks_the_model_that_was_chosen(orch: Orch, endpoint: Endpoint):
    knowing_the_spare(orch)
    cast = Cast(planner=[plan(caller("look"), caller("more", ["look"]))])
    endpoint.reply = lambda request, n: (
        cast(request, n)
        if request["model"] != "spare"
        else fault(401, "bad key")
        if "Do more" in texts_of(request)
        else WHITE
    )
    assert orch("ask", PROMPT, **SPARE).code == 4
    remember(orch, ("researcher", "failed", 30), model="openai/spare")
    endpoint.reply = lambda request, n: WHITE if request["model"] == "spare" else cast(request, n)
    before = len(endpoint.exchanges)
    done = orch("resume", "last", **SPARE)
    assert done.code == 0, done.err
    assert [e.model for e in endpoint.exchanges[before:]] == ["spare", "answer"]


def test_a_limit_on_money_holds_for_the_models_that_may_be_asked_too(orch: Orch):
    priced = dict.fromkeys(MODELS, "openai/gpt-4o-mini")
    done = orch("ask", "--max-cost", "1", PROMPT, **priced, **SPARE)
    assert done.code == 3
    assert "no price is known of openai/spare." in done.error


def test_the_role_that_a_person_writes_into_the_plan_is_left(orch: Orch, endpoint: Endpoint):
    remember(orch, ("researcher", "failed", 6), ("writer", "done", 6))
    agents = {"Do look": [call("final_answer", {"answer": "It is white."})]}
    endpoint.reply = Cast(planner=[plan(caller("look"))], agents=agents, answer=[])
    assert orch("ask", "--approve", "plan", PROMPT).code == 6
    run = orch.journal().parent.name
    (asked,) = orch.events("ApprovalAsked")
    assert "role: writer" in asked["details"]
    assert "routes" not in asked["details"]
    done = orch("approve", run, asked["id"], "--edit", EDITOR="sed -i s/writer$/researcher/")
    assert done.code == 0, done.err
    assert instructions(endpoint) == [RESEARCHER]
    assert "instead of researcher" not in orch.log.partition("plan edited by the user")[2]


def test_the_plan_alone_says_who_would_do_it_and_why(orch: Orch, endpoint: Endpoint):
    remember(orch, ("researcher", "failed", 6), ("writer", "done", 6))
    endpoint.reply = Cast(planner=[plan(caller("look"))])
    assert "agent writer" in (out := orch("plan", PROMPT).out)
    assert "instead of researcher" in out


def test_what_a_patch_adds_goes_to_the_better_role_too(orch: Orch, endpoint: Endpoint):
    remember(orch, ("researcher", "failed", 6), ("writer", "done", 6))
    first = {
        "id": "read",
        "title": "Read",
        "kind": "tool",
        "tools": ["read_file"],
        "inputs": {"path": "gone"},
    }
    endpoint.reply = Cast(
        planner=[plan(first)],
        reviser=[patch("there is no such file", add=[caller("look")])],
        agents={"Do look": [call("final_answer", {"answer": "It is white."})]},
    )
    done = orch("ask", PROMPT)
    assert done.code == 0, done.err
    assert instructions(endpoint) == [WRITER]
    revised = orch.log.partition("plan revised")[2]
    assert "- `look`: `writer` on `openai/agent`, instead of researcher" in revised


def test_a_role_whose_model_has_no_key_is_done_by_the_model_of_the_others(orch: Orch, endpoint: Endpoint):
    roles = orch.home / "roles"
    roles.mkdir(parents=True)
    text = "---\nname: painter\nwhen: paints\nagent: tools\nmodel: mistral/large\n---\nYou are a painter."
    (roles / "painter.md").write_text(text)
    agents = {"Do look": [call("final_answer", {"answer": "It is white."})]}
    row = caller("look", role="painter")
    endpoint.reply = Cast(planner=[plan(row)], agents=agents, answer=[])
    done = orch("ask", "--json", PROMPT)
    assert done.code == 0, done.err
    assert json.loads(done.out)["answer"] == "It is white."
    why = "its own model mistral/large cannot be asked: MISTRAL_API_KEY is not set"
    assert f"- `look`: `painter` on `openai/agent`, as planned; {why}" in orch.log
