"""What leads to a revision, what a reviser may decide, and what is kept of it."""

import json
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint, call
from scripted_model import Cast, caller, code, coder, decided, patch, plan, tool_call

FINISH = call("final_answer", {"answer": "made"})


def test_a_failed_subtask_leads_to_a_patch_that_is_shown_with_its_reason(
    orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.reply = Cast(
        planner=[plan(tool_call("fetch", "read_file", path="gone.txt"), caller("use", ["fetch"]))],
        reviser=[
            patch(
                "There is no gone.txt, so it is written first.",
                add=[coder("write")],
                replace=[caller("use", ["write"])],
            )
        ],
        agents={
            "Do write": [code("open('gone.txt', 'w').write('here')\nfinal_answer('written')")],
            "Do use": [FINISH],
        },
    )
    done = orch("ask", "--json", "Use gone.txt.")
    envelope = done.envelope
    assert (done.code, envelope["outcome"]) == (0, "completed")
    assert envelope["states"] == {"fetch": "failed", "write": "done", "use": "done"}
    assert envelope["plan"]["version"] == 2
    (revision,) = envelope["revisions"]
    assert revision["version"] == 2
    assert revision["reason"] == "There is no gone.txt, so it is written first."
    assert revision["cause"].startswith("fetch failed: ")
    assert [s["id"] for s in revision["patch"]["add"]] == ["write"]
    asked = endpoint.of("reviser")[0].text
    assert "fetch failed: " in asked
    assert "gone.txt" in asked
    for text in ("version 1 to 2", "so it is written first.", "+ write", "use: depends_on fetch → write"):
        assert text in orch.log


def test_a_failed_check_leads_to_a_patch(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[plan(coder("count", check="len(value) >= 3"), caller("use", ["count"]))],
        reviser=[
            patch("Three are needed.", add=[coder("recount")], replace=[caller("use", ["recount"])]),
        ],
        agents={
            "Do count": [code("final_answer([1])"), code("final_answer([1, 2])")],
            "Do recount": [code("final_answer([1, 2, 3])")],
            "Do use": [FINISH],
        },
    )
    done = orch("ask", "--json", "Count to three.")
    assert done.code == 0
    assert done.envelope["states"] == {"count": "failed", "recount": "done", "use": "done"}
    assert "len(value) >= 3" in done.envelope["revisions"][0]["cause"]


def test_agent_may_mend_a_failed_check(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[plan(coder("count", check="len(value) >= 3"))],
        agents={"Do count": [code("final_answer([1])"), code("final_answer([1, 2, 3])")]},
    )
    done = orch("ask", "--json", "Count to three.")
    assert (done.code, done.envelope["revisions"]) == (0, [])
    assert "len(value) >= 3" in endpoint.of("agent")[1].text


@pytest.mark.parametrize("kind", ["code", "tools"])
def test_a_surprise_of_an_agent_leads_to_a_patch(orch: Orch, endpoint: Endpoint, kind: str) -> None:
    surprise = "The file is a picture."
    steps = {
        "code": [code(f"report_surprise({surprise!r})\nfinal_answer('seen')")],
        "tools": [call("report_surprise", {"text": surprise}), FINISH],
    }
    make = {"code": coder, "tools": caller}[kind]
    endpoint.reply = Cast(
        planner=[plan(make("look"), caller("read", ["look"]))],
        reviser=[patch("A picture is not read.", replace=[caller("describe", ["look"]) | {"id": "read"}])],
        agents={"Do look": steps[kind], "Do describe": [FINISH]},
    )
    done = orch("ask", "--json", "Read the file.")
    assert done.code == 0
    assert done.envelope["revisions"][0]["cause"] == f"look reported a surprise: {surprise}"
    assert surprise in endpoint.of("reviser")[0].text
    assert surprise in orch.log


def test_without_a_surprise_or_failure_the_reviser_is_not_asked(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[plan(caller("one"), caller("two", ["one"]))], agents={"Do one": [FINISH], "Do two": [FINISH]}
    )
    assert orch("ask", "Do both.").code == 0
    assert endpoint.of("reviser") == []


def test_a_reviser_that_keeps_the_plan_leaves_the_rest_undone_and_the_run_failed(
    orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.reply = Cast(
        planner=[plan(tool_call("fetch", "read_file", path="gone.txt"), caller("use", ["fetch"]))],
        reviser=[decided("keep", "Nothing else can be done.")],
        answer=["There was no such file."],
    )
    done = orch("ask", "--json", "Use gone.txt.")
    assert (done.code, done.envelope["outcome"]) == (1, "failed")
    assert done.envelope["states"] == {"fetch": "failed", "use": "skipped"}
    assert done.envelope["answer"] == "There was no such file."
    assert "use" in done.envelope["error"]["remedy"]
    assert [row["reason"] for row in orch.events("RevisionDeclined")] == ["Nothing else can be done."]


@pytest.mark.parametrize(
    "lost",
    [tool_call("lost", "read_file", path="gone.txt"), coder("lost", when="False")],
    ids=["replaced", "skipped"],
)
@pytest.mark.parametrize(
    ("check", "code_"), [("made['value'] == 2", 1), ("made['value'] == 1", 0), ("lost['value'] == 1", 0)]
)
def test_a_goal_counts_although_something_was_replaced_or_skipped(
    orch: Orch, endpoint: Endpoint, lost: dict[str, Any], check: str, code_: int
) -> None:
    reviser = [decided("keep", "That is all.")]
    if lost["kind"] == "tool":
        reviser.insert(0, patch("Another way.", add=[coder("other")]))
    endpoint.reply = Cast(
        planner=[plan(coder("made"), lost, check=check)],
        reviser=reviser,
        agents={name: [code("final_answer(1)")] for name in ("Do made", "Do other")},
    )
    done = orch("ask", "--json", "Make one.")
    assert done.code == code_, done.err
    assert ("the goal is not met" in orch.log) == bool(code_)


def test_a_reviser_that_stops_ends_the_run_with_its_reason(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[plan(tool_call("fetch", "read_file", path="gone.txt"), caller("use", ["fetch"]))],
        reviser=[decided("stop", "The file does not exist.")],
    )
    done = orch("ask", "--json", "Use gone.txt.")
    assert (done.code, done.envelope["outcome"]) == (1, "failed")
    error, answer = done.envelope["error"], done.envelope["answer"]
    assert "The goal cannot be reached: The file does not exist." in error["message"]
    assert "gone.txt" in error["remedy"]
    assert "The file does not exist." in answer  # nothing was done, so no model is asked
    assert "Call read_file (failed)" in answer
    assert endpoint.of("answer") == []


@pytest.mark.parametrize("how", ["stop", "abort"])
def test_a_run_that_is_stopped_answers_from_what_was_done(orch: Orch, endpoint: Endpoint, how: str) -> None:
    (orch.workspace / "there.txt").write_text("It is there.")
    first = tool_call("first", "read_file", path="there.txt")
    fetch = tool_call("fetch", "read_file", ["first"], path="gone.txt")
    endpoint.reply = Cast(
        planner=[plan(first, fetch | ({"on_failure": "abort"} if how == "abort" else {}))],
        reviser=[decided("stop", "The file does not exist.")],
        answer=["One of the two was there."],
    )
    done = orch("ask", "--json", "Use both.")
    assert (done.code, done.envelope["answer"]) == (1, "One of the two was there.")
    request = endpoint.of("answer")[0].text
    assert "It is there." in request
    assert done.envelope["error"]["message"] in request


def test_a_surprise_ends_no_run_if_the_reviser_makes_no_sense(orch: Orch, endpoint: Endpoint) -> None:
    seen = [code("report_surprise('It is a picture.')\nfinal_answer('seen')")]
    endpoint.reply = Cast(
        planner=[plan(coder("look"), caller("read", ["look"]))],
        reviser=["I do not know."] * 4,
        agents={"Do look": seen, "Do read": [FINISH]},
    )
    done = orch("ask", "--json", "Read the file.")
    assert (done.code, done.envelope["states"]) == (0, {"look": "done", "read": "done"})
    assert len(orch.events("RevisionDeclined")) == 1


def test_faults_of_a_patch_go_back_to_the_reviser(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[plan(tool_call("fetch", "read_file", path="gone.txt"), caller("use", ["fetch"]))],
        reviser=[
            patch("Again.", replace=[tool_call("fetch", "read_file", path="other.txt")]),
            patch("Again.", add=[caller("more", role="painter")]),
            "I would rather not.",
            patch("It is not needed.", replace=[caller("use")]),
        ],
        agents={"Do use": [FINISH]},
    )
    done = orch("ask", "--json", "Use gone.txt.")
    assert done.code == 0
    first, second, third = (e.text.split("cannot be used.")[-1] for e in endpoint.of("reviser")[1:])
    assert "only pending subtasks can change" in first
    assert "'painter' is unknown" in second
    assert "no JSON object" in third
    assert [row["what"] for row in orch.events("PlanRefused")] == ["patch"] * 3


def test_more_revisions_than_allowed_end_the_run_with_exit_code_5(orch: Orch, endpoint: Endpoint) -> None:
    def another(name: str) -> str:
        return patch("Try once more.", add=[tool_call(name, "read_file", path="gone.txt")])

    endpoint.reply = Cast(
        planner=[plan(tool_call("fetch", "read_file", path="gone.txt"))], reviser=map(another, "abc")
    )
    done = orch("ask", "Use gone.txt.", ORCH_MAX_REVISIONS="2")
    assert done.code == 5
    assert "revised 2 times" in done.error
    assert "ORCH_MAX_REVISIONS" in done.error


def test_on_failure_skip_goes_on_and_abort_stops(orch: Orch, endpoint: Endpoint) -> None:
    broken = tool_call("fetch", "read_file", path="gone.txt")
    endpoint.reply = Cast(
        planner=[
            plan(broken | {"on_failure": "skip"}, caller("use", ["fetch"], inputs={"text": "$fetch.value"})),
            plan(broken | {"on_failure": "abort"}, caller("use", ["fetch"])),
        ],
        agents={"Do use": [FINISH]},
    )
    skipping = orch("ask", "--json", "Use gone.txt if it is there.")
    assert (skipping.code, skipping.envelope["states"]) == (0, {"fetch": "skipped", "use": "done"})
    aborting = orch("ask", "--json", "Use gone.txt.")
    assert (aborting.code, aborting.envelope["states"]) == (1, {"fetch": "failed", "use": "pending"})
    assert "fetch failed" in aborting.envelope["error"]["message"]


def test_a_condition_that_is_not_met_skips_its_subtask(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[
            plan(
                coder("look-up"),
                caller("more", ["look-up"], when="look_up.value['found'] > 3"),
                caller("less", ["look-up"], when="look_up.value['found'] <= 3"),
            )
        ],
        agents={"Do look-up": [code("final_answer({'found': 2})")], "Do less": [FINISH]},
    )
    done = orch("ask", "--json", "Look, then do more or less.")
    assert (done.code, done.envelope["states"]) == (0, {"look-up": "done", "more": "skipped", "less": "done"})


def test_revise_never_asks_no_reviser(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[plan(tool_call("fetch", "read_file", path="gone.txt"))])
    done = orch("ask", "--json", "Use gone.txt.", ORCH_REVISE="never")
    assert (done.code, endpoint.of("reviser")) == (1, [])
    assert json.loads(done.out)["outcome"] == "failed"
