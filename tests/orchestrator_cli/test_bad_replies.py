"""Models that answer with what cannot be used, or not at all: asked again, then one clear error."""

import json
import time

import pytest
from command import Orch
from endpoint import Endpoint, call, fault
from scripted_model import Cast, answered, caller, coder, plan

GOOD = answered("Mended.")
CIRCLE = plan(caller("a", ["c"]), caller("b", ["a"]), caller("c", ["b"]))


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("I would first look at the files and then write a summary.", "no JSON object"),
        (plan(coder("one"))[:-40], "not valid JSON"),
        (plan(), "subtasks: is empty"),
        (plan(caller("one", role="painter")), "'painter' is unknown: there are coder, researcher, writer"),
        (plan(caller("one", tools=["!"])), "'!' is no tool's name"),
        (CIRCLE, "goes in a circle: "),
        (plan(caller("one", ["two"])), "names 'two', which is no subtask"),
        (plan(caller("one"), coder("one"), caller("two", ["one"])), "is used twice"),
        (plan(caller("one", inputs={"x": "$gone.value"})), "needs 'gone' in depends_on"),
        (plan(caller("one", result={"type": "nonsense"})), "not a JSON Schema"),
        (plan(caller("one", check="open('/etc/passwd')")), "reads open"),
        (plan(caller("one", mood="cheerful")), "mood"),
        (plan(*(caller(f"s{n}") for n in range(21))), "at most 20 are allowed"),
        (json.dumps([1, 2]), "no JSON object"),
        ("", "the reply is empty"),
    ],
    ids=lambda value: value[:30] if " " in value and "{" not in value else "",
)
def test_a_faulty_plan_goes_back_with_its_faults(
    orch: Orch, endpoint: Endpoint, reply: str, said: str
) -> None:
    endpoint.reply = Cast(planner=[reply, GOOD])
    done = orch("plan", "Do it.")
    assert done.code == 0, done.err
    second = endpoint.of("planner")[1]
    assert said in second.text
    assert [m["role"] for m in second.request["messages"]] == ["system", "user", "assistant", "user"]


def test_all_faults_of_a_plan_are_reported_at_once(orch: Orch, endpoint: Endpoint) -> None:
    faulty = plan(
        caller("one", ["gone"], role="painter", check="value >"),
        coder("two", instruction=" ", result={"type": 1}),
    )
    endpoint.reply = Cast(planner=[faulty, GOOD])
    assert orch("plan", "Do it.").code == 0
    text_sent = endpoint.of("planner")[1].text
    for text in ("'gone'", "'painter'", "is no expression", "is empty: say", "not a JSON Schema"):
        assert text in text_sent


def test_a_planner_that_never_gives_a_plan_ends_in_one_clear_error(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=["Well, ..."] * 5)
    done = orch("ask", "Do it.")
    assert (done.code, endpoint.arrived) == (1, 4)
    assert "The planner gave no usable plan in 4 tries" in done.error
    assert "Put the prompt another way, or name a more capable model with -m." in done.error
    assert "Traceback" not in done.err


def test_a_tool_that_differs_in_spelling_only_is_the_tool_that_is_meant(
    orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.reply = Cast(planner=[plan(caller("one", tools=["Read-File"]))])
    done = orch("plan", "--json", "Look.")
    assert json.loads(done.out)["subtasks"][0]["tools"] == ["read_file"]


# --- the provider


def test_an_unreachable_provider_is_named_and_exits_with_4(orch: Orch) -> None:
    gone = "http://user:hush@127.0.0.1:9/v1"
    done = orch("ask", "Hello?", OPENAI_BASE_URL=gone, ORCH_MODEL_RETRIES="0")
    assert done.code == 4
    assert "openai/planner cannot be reached at http://127.0.0.1:9: " in done.error
    assert "OPENAI_BASE_URL" in done.error
    assert "hush" not in done.err

    looked = orch("doctor", "--json", OPENAI_BASE_URL=gone)
    (found,) = [row for row in json.loads(looked.out) if row["name"] == "model"]
    assert (looked.code, found["ok"]) == (3, False)
    assert "http://127.0.0.1:9 cannot be reached" in found["detail"]
    assert "OPENAI_BASE_URL" in found["remedy"]
    assert "hush" not in looked.out


def test_a_refused_key_is_not_tried_again_and_exits_with_4(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = lambda request, n: fault(401, "Incorrect API key provided")
    done = orch("ask", "Hello?")
    assert (done.code, endpoint.arrived) == (4, 1)
    assert "refused the key" in done.error
    assert "Check the provider's API key" in done.error
    assert "test-key" not in done.err


def test_a_429_is_tried_again_after_the_time_it_asks_for(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = lambda request, n: fault(429, "slow down", retry_after="2") if n == 1 else GOOD
    done = orch("ask", "Hello?")
    assert (done.code, done.out) == (0, "Mended.\n")
    first, second = endpoint.exchanges
    assert 1.9 < second.arrived - first.answered < 4
    assert "Trying again in 2.0 s." in done.err


def test_a_429_that_never_ends_exits_with_4(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = lambda request, n: fault(429, "slow down", retry_after="0")
    done = orch("ask", "Hello?")
    assert (done.code, endpoint.arrived) == (4, 3)
    assert "limiting requests (429)" in done.error
    assert "fallbacks" in done.error


@pytest.mark.slow
def test_a_500_is_tried_again(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = lambda request, n: fault(500, "oops") if n < 3 else GOOD
    done = orch("ask", "Hello?")
    assert (done.code, done.out, endpoint.arrived) == (0, "Mended.\n", 3)


def test_a_500_that_never_ends_exits_with_4(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = lambda request, n: fault(500, "oops")
    done = orch("ask", "Hello?", ORCH_MODEL_RETRIES="1")
    assert (done.code, endpoint.arrived) == (4, 2)
    assert "oops" in done.error
    assert "Try again, or name another model with -m." in done.error


def test_a_reply_after_the_time_limit_exits_with_4(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = lambda request, n: {"content": GOOD, "sleep": 30}
    started = time.monotonic()
    done = orch("ask", "Hello?", ORCH_MODEL_TIMEOUT="1", ORCH_MODEL_RETRIES="0")
    assert time.monotonic() - started < 8
    assert done.code == 4
    assert "did not answer" in done.error


def test_a_reply_that_is_cut_is_asked_for_again(orch: Orch, endpoint: Endpoint) -> None:
    cast = Cast(
        planner=[{"content": GOOD, "cut": True}, plan(caller("one"), caller("two"))],
        agents={n: [call("final_answer", {"answer": n})] for n in ("Do one", "Do two")},
        answer=[{"content": "The answer in two halves.", "cut": True}, "The whole answer."],
    )
    endpoint.reply = cast
    done = orch("ask", "Hello?")
    assert done.code == 0, done.err
    assert done.out == "The whole answer.\n"
    assert [len(endpoint.of(role)) for role in ("planner", "answer")] == [2, 2]


def test_an_empty_message_of_an_agent_is_no_crash(orch: Orch, endpoint: Endpoint) -> None:
    empty = {"content": None}
    endpoint.reply = Cast(
        planner=[plan(coder("one"), caller("two"))],
        agents={
            "Do one": [empty, "<code>\nfinal_answer(1)\n</code>"],
            "Do two": [empty, call("final_answer", {"answer": 2})],
        },
    )
    done = orch("ask", "--json", "Hello?")
    assert (done.code, done.envelope["states"]) == (0, {"one": "done", "two": "done"})


def test_a_fault_of_the_provider_while_agents_work_keeps_what_was_finished(
    orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.reply = Cast(
        planner=[plan(coder("one"), coder("two", ["one"]))],
        agents={
            "Do one": ["<code>\nopen('one.txt', 'w').write('kept')\nfinal_answer(1)\n</code>"],
            "Do two": [fault(401, "the key has expired")],
        },
    )
    done = orch("ask", "Do both.")
    assert done.code == 4
    assert "the key has expired" in done.error
    assert (orch.files(), orch.remains()) == (["one.txt"], [])
    assert "run failed" in orch.log
