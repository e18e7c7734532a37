"""What a fault of a model ends: an attempt, what depends on it, or the run."""

from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint, Reply, call, fault
from scripted_model import Cast, coder, decided, patch, plan

WHOLE = {"content": "Thought: on with it.\n<code>\nfinal_answer('half", "finish_reason": "content_filter"}
OF_ONE_REQUEST = {
    "overflow": fault(400, "This model's maximum context length is 8192 tokens; your messages have 9000"),
    "filter": fault(
        400, "Your request was rejected as a result of our safety system: content_policy_violation"
    ),
    "withheld": WHOLE,
    "parameter": fault(400, "Unsupported parameter: 'messages' is not supported with this model"),
    "unprocessable": fault(422, "it cannot be processed"),
    "too large": fault(413, "the request is too large"),
}
LOST = fault(401, "no such key")
NO_RETRIES = {"ORCH_MODEL_RETRIES": "0"}


def done(name: str) -> list[Reply]:
    step = f"open('{name}.txt', 'w').write('{name}')\nfinal_answer('{name} is done')"
    return [f"Thought: on with it.\n<code>\n{step}\n</code>"]


def late(name: str) -> list[Reply]:
    return [{"content": done(name)[0], "sleep": 1.5}]


def failures(orch: Orch) -> dict[str, dict[str, Any]]:
    return {row["subtask"]: row for row in orch.events("SubtaskFailed") if row["final"]}


def states(orch: Orch) -> dict[str, str]:
    found: dict[str, str] = orch("show", "last", "--json").envelope["states"]
    return found


# --- one request


@pytest.mark.parametrize("kind", OF_ONE_REQUEST)
def test_a_refused_request_ends_its_attempt_alone(orch: Orch, endpoint: Endpoint, kind: str) -> None:
    endpoint.reply = Cast(
        planner=[plan(coder("bad", retries=1), coder("good"))],
        agents={"Do bad": [OF_ONE_REQUEST[kind], *done("bad")], "Do good": late("good")},
    )
    ended = orch("ask", "Do both.")
    assert ended.code == 0, ended.err
    assert orch.files() == ["bad.txt", "good.txt"]
    assert [row["final"] for row in orch.events("SubtaskFailed")] == [False]


def test_the_reviser_routes_around_a_refused_request(orch: Orch, endpoint: Endpoint) -> None:
    much = "Thought: on with it.\n<code>\nprint('q' * 30_000)\n</code>"
    endpoint.reply = Cast(
        planner=[plan(coder("big"), coder("good", check="files == ['good.txt']"))],
        agents={
            "Do big": [OF_ONE_REQUEST["overflow"]],
            "Do small": done("small"),
            "Do good": [much, *late("good")],
        },
        reviser=[patch("it was too long", add=[coder("small")])],
    )
    ended = orch("ask", "Do both.")
    assert ended.code == 0, ended.err
    assert orch.files() == ["good.txt", "small.txt"]
    assert failures(orch)["big"]["provider_lost"] is False
    assert "too long" in endpoint.of("reviser")[0].text
    assert "1.txt" in endpoint.of("agent")[-1].text or "1.txt" in endpoint.of("agent")[-2].text


def test_a_refused_request_that_nothing_mends_is_a_failed_part(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[plan(coder("big"), coder("good"))],
        agents={"Do big": [OF_ONE_REQUEST["overflow"]], "Do good": done("good")},
        reviser=[decided("keep", "the rest is enough")],
    )
    ended = orch("ask", "Do both.")
    assert ended.code == 1
    assert ended.out.strip() == "All is done."


# --- a provider


@pytest.mark.parametrize(
    ("policy", "code", "good"), [("skip", 0, True), ("revise", 0, True), ("abort", 4, False)]
)
def test_the_plan_says_what_follows_a_lost_provider(
    orch: Orch, endpoint: Endpoint, policy: str, code: int, good: bool
) -> None:
    endpoint.reply = Cast(
        planner=[plan(coder("one", on_failure=policy), coder("slow"), coder("next", after=["slow"]))],
        agents={"Do one": [LOST], "Do slow": late("slow"), "Do next": done("next"), "Do two": done("two")},
        reviser=[patch("another way", add=[coder("two")])],
    )
    ended = orch("ask", "Do it.")
    assert ended.code == code, ended.err
    assert ("next.txt" in orch.files()) is good


def test_an_attempt_is_made_again_after_a_lost_provider(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[plan(coder("one", retries=1), coder("two"))],
        agents={"Do one": [fault(500), *done("one")], "Do two": done("two")},
    )
    assert orch("ask", "Do both.", **NO_RETRIES).code == 0
    assert orch.files() == ["one.txt", "two.txt"]


def test_results_are_given_if_the_reviser_cannot_be_asked(orch: Orch, endpoint: Endpoint) -> None:
    """`after` waits for what the reviser is asked about, and `next` does not."""
    endpoint.reply = Cast(
        planner=[
            plan(coder("one"), coder("after", after=["one"]), coder("slow"), coder("next", after=["slow"]))
        ],
        agents={"Do one": [LOST], "Do slow": late("slow"), "Do next": done("next")},
        reviser=[LOST],
    )
    ended = orch("ask", "Do it.")
    assert ended.code == 4
    assert "next is done" in ended.out
    assert "orch resume" in ended.error
    assert orch.files() == ["next.txt", "slow.txt"]
    endpoint.reply = Cast(agents={"Do one": done("one"), "Do after": done("after")})
    again = orch("resume", "last")
    assert again.code == 0, again.err
    assert orch.files() == ["after.txt", "next.txt", "one.txt", "slow.txt"]


def test_work_that_failed_for_a_provider_is_pending_on_resume(orch: Orch, endpoint: Endpoint) -> None:
    """Without a reviser, what waits for it is skipped; that is pending again too."""
    endpoint.reply = Cast(
        planner=[plan(coder("one"), coder("after", after=["one"]), coder("good"))],
        agents={"Do one": [LOST], "Do good": done("good")},
    )
    quiet = {"ORCH_REVISE": "never"}
    ended = orch("ask", "Do it.", **quiet)
    assert ended.code == 4
    assert ended.out.strip() == "All is done."
    assert states(orch) == {"one": "failed", "after": "skipped", "good": "done"}
    endpoint.reply = Cast(agents={"Do one": done("one"), "Do after": done("after")})
    assert orch("resume", "last", **quiet).code == 0
    assert states(orch) == {"one": "done", "after": "done", "good": "done"}
    assert orch.files() == ["after.txt", "good.txt", "one.txt"]


def test_items_that_failed_for_a_provider_are_done_again(orch: Orch, endpoint: Endpoint) -> None:
    listing = coder("list", result={"type": "array"})
    each = coder("each", after=["list"], for_each="$list.value", inputs={"name": "$item"})
    step = "final_answer(name.upper())"
    finish = f"Thought: on with it.\n<code>\n{step}\n</code>"
    endpoint.reply = Cast(
        planner=[plan(listing, each)],
        agents={
            "Do list": ["Thought: on with it.\n<code>\nfinal_answer(['a', 'b'])\n</code>"],
            "Do each (1 of 2)": [finish],
            "Do each (2 of 2)": [LOST],
        },
        reviser=[LOST],
    )
    assert orch("ask", "Do it.").code == 4
    endpoint.reply = Cast(agents={"Do each (2 of 2)": [finish]})
    again = orch("resume", "last", "--json")
    assert again.code == 0, again.err
    values = [row["result"]["value"] for row in orch.events("SubtaskFinished") if row["subtask"] == "each"]
    assert values == [["A", "B"]]


def test_a_lost_provider_of_the_toolsmith_costs_only_what_needs_the_tool(
    orch: Orch, endpoint: Endpoint
) -> None:
    tool = {"name": "count_words", "purpose": "Counts the words of a text."}
    endpoint.reply = Cast(
        planner=[plan(coder("counting", tools=["count_words"]), coder("slow"), new_tools=[tool])],
        agents={"Do slow": late("slow")},
        toolsmith=[LOST],
        reviser=[LOST],
    )
    ended = orch("ask", "Do it.")
    assert ended.code == 4
    assert orch.files() == ["slow.txt"]
    assert failures(orch)["counting"]["provider_lost"] is True


def test_a_limit_still_ends_the_run(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[plan(coder("one", retries=2, on_failure="skip"), coder("slow"))],
        agents={"Do one": [call("none", {})], "Do slow": [{"content": "late", "sleep": 60}]},
    )
    ended = orch("ask", "Do it.", "--max-calls", "3")
    assert ended.code == 5
    assert ended.seconds < 30
