"""Loops: a list becomes parallel instances and one result in order, whatever becomes of each."""

import json
import threading
import tracemalloc
from typing import Any

import pytest
from command import Orch
from endpoint import Endpoint, call
from scripted_model import Cast, caller, code, coder, decided, patch, plan, tool_call

from orchestrator_cli.execution.map import MapRun, spread
from orchestrator_cli.execution.plan_changes import failures
from orchestrator_cli.plan import Result, Subtask
from orchestrator_cli.state import RunState

FINISH = call("final_answer", {"answer": "made"})


def listing(items: str, **fields: Any) -> tuple[dict[str, Any], list[str]]:
    """A subtask whose value is a list, and what its agent says."""
    return coder("list", **fields), [code(f"final_answer({items})")]


def each(**fields: Any) -> dict[str, Any]:
    """A call of `read_file` for every item."""
    base = tool_call("each", "read_file", ["list"], path="$item")
    return base | {"for_each": "$list.value"} | fields


def ask(orch: Orch, endpoint: Endpoint, items: str, loop: dict[str, Any], **cast: Any) -> dict[str, Any]:
    first, said = listing(items)
    agents = {"Do list": said} | cast.pop("agents", {})
    endpoint.reply = Cast(planner=[plan(first, loop)], agents=agents, **cast)
    done = orch("ask", "--json", "Do it for each.")
    return done.envelope


def value_of(orch: Orch, name: str) -> Any:
    found = [row["result"] for row in orch.events("SubtaskFinished") if row["subtask"] == name]
    assert len(found) == 1
    return found[0]["value"]


def write(orch: Orch, **files: str) -> None:
    for name, text in files.items():
        (orch.workspace / name).write_text(text)


def test_a_map_whose_items_were_all_done_before_a_kill_is_over(orch: Orch, endpoint: Endpoint) -> None:
    write(orch, a="A", b="B")
    ask(orch, endpoint, "['a', 'b']", each())
    journal = orch.journal()
    lines = journal.read_text().splitlines(keepends=True)
    last = max(n for n, line in enumerate(lines) if '"SubtaskFinished"' in line and '"each[' in line)
    journal.write_text("".join(lines[: last + 1]))  # as a kill at that moment leaves it
    endpoint.reply = Cast(answer=["All is done."])
    assert orch("resume", "last").code == 0
    assert value_of(orch, "each") == ["A", "B"]
    assert len([row for row in orch.events("ToolCalled") if row["tool"] == "read_file"]) == 2


def test_an_empty_list_has_an_empty_result(orch: Orch, endpoint: Endpoint) -> None:
    envelope = ask(orch, endpoint, "[]", each())
    assert envelope["outcome"] == "completed"
    assert value_of(orch, "each") == []


@pytest.mark.parametrize("items", ["'a, b'", "{'a': 1}", "7"])
def test_what_is_no_list_fails_the_subtask_with_that_reason(
    orch: Orch, endpoint: Endpoint, items: str
) -> None:
    envelope = ask(orch, endpoint, items, each(), reviser=[decided("stop", "There is no list.")])
    assert envelope["outcome"] == "failed"
    assert "each failed: $list.value is not a list" in endpoint.of("reviser")[0].text


def test_a_list_that_is_too_long_is_a_failure_that_names_the_setting(orch: Orch, endpoint: Endpoint) -> None:
    envelope = ask(orch, endpoint, "list(range(40_000))", each(), reviser=[decided("stop", "Too many.")])
    assert envelope["outcome"] == "failed"
    request = endpoint.of("reviser")[0].text
    assert "40,000" in request
    assert "max_items" in request


def loop_over(items: list[Any], **inputs: Any) -> MapRun:
    subtask = Subtask(id="each", title="Each", kind="tool", for_each="$w.value.items", inputs=inputs)
    found = Result(subtask="w", attempt=1, plan_version=1, value={"items": items, "all": "x" * 9_000})
    return spread(subtask, 1, {"w": found}, max_items=10_000)


@pytest.mark.parametrize("count", [1_000, 10_000])
def test_many_instances_share_what_they_refer_to(count: int) -> None:
    tracemalloc.start()
    try:
        made = loop_over([{"n": n} for n in range(count)], own="$item.n", all="$w.value.all").instances
        assert tracemalloc.get_traced_memory()[1] < 5_000 * count
    finally:
        tracemalloc.stop()
    assert [one.inputs["own"] for one in made] == list(range(count))
    assert all(one.inputs["all"] is made[0].inputs["all"] for one in made)


def test_what_all_instances_are_given_is_bounded() -> None:
    with pytest.raises(ValueError, match="item"):
        loop_over(list(range(10_000)), all="$w.value.items")
    with pytest.raises(ValueError, match="max_items"):
        loop_over(list(range(10_001)))


def test_one_of_five_that_fails_is_null_where_failures_are_skipped(orch: Orch, endpoint: Endpoint) -> None:
    write(orch, a="A", b="B", d="D", e="E")
    loop = each(on_failure="skip")
    envelope = ask(orch, endpoint, "['a', 'b', 'c', 'd', 'e']", loop)
    assert envelope["outcome"] == "completed"
    assert value_of(orch, "each") == ["A", "B", None, "D", "E"]
    failed = [row["subtask"] for row in orch.events("SubtaskFailed")]
    assert failed == ["each[2]"]


def test_one_failure_of_five_reaches_the_reviser_with_its_position(orch: Orch, endpoint: Endpoint) -> None:
    write(orch, a="A", b="B", d="D", e="E")
    reviser = [patch("c is left out.", add=[tool_call("again", "read_file", path="a")])]
    envelope = ask(orch, endpoint, "['a', 'b', 'c', 'd', 'e']", each(), reviser=reviser)
    assert envelope["states"] == {"list": "done", "each": "failed", "again": "done"}
    request = endpoint.of("reviser")[0].text
    assert "1 of 5 items failed: [2]" in request
    assert '"each[0]": "A"' in request
    # No further item was begun after the failure; those before it are not lost from the record.
    finished = [row["subtask"] for row in orch.events("SubtaskFinished")]
    assert {"each[0]", "each[1]"} <= set(finished)


def test_results_keep_the_order_of_the_list_and_files_of_all_are_committed(
    orch: Orch, endpoint: Endpoint
) -> None:
    loop = caller("each", ["list"], for_each="$list.value", inputs={"name": "$item.name", "n": "$index"})
    loop |= {"role": "coder"}

    def work(request: dict[str, Any]) -> str:
        text = json.dumps(request["messages"])
        name, n = next((x, i) for i, x in enumerate(("slow", "quick", "last")) if f'name\\": \\"{x}' in text)
        wait = "import time\ntime.sleep(0.6)\n" if name == "slow" else ""
        return code(f"{wait}open('{name}.txt', 'w').write('{n}')\nfinal_answer('{name} {n}')")

    agents = {f"Do each ({n} of 3)": [work] for n in (1, 2, 3)}
    items = "[{'name': 'slow'}, {'name': 'quick'}, {'name': 'last'}]"
    envelope = ask(orch, endpoint, items, loop, agents=agents)
    assert envelope["outcome"] == "completed"
    assert value_of(orch, "each") == ["slow 0", "quick 1", "last 2"]
    assert orch.files() == ["last.txt", "quick.txt", "slow.txt"]
    whole = next(r["result"] for r in orch.events("SubtaskFinished") if r["subtask"] == "each")
    assert whole["files"] == ["last.txt", "quick.txt", "slow.txt"]


def test_instances_run_at_once_up_to_max_parallel(orch: Orch, endpoint: Endpoint) -> None:
    loop = caller("each", ["list"], for_each="$list.value", inputs={"n": "$item"})
    lock, now, most = threading.Lock(), [0], [0]
    together = threading.Barrier(2, timeout=20)

    def work(_: dict[str, Any]) -> Any:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        together.wait()
        with lock:
            now[0] -= 1
        return FINISH

    agents = {f"Do each ({n} of 4)": [work] for n in (1, 2, 3, 4)}
    first, said = listing("[1, 2, 3, 4]")
    endpoint.reply = Cast(planner=[plan(first, loop)], agents={"Do list": said} | agents)
    done = orch("ask", "--json", "--max-parallel", "2", "Do it for each.")
    assert done.envelope["outcome"] == "completed"
    assert value_of(orch, "each") == ["made"] * 4
    assert most[0] == 2


def test_a_goal_that_is_missed_though_all_is_done_leads_to_the_reviser(
    orch: Orch, endpoint: Endpoint
) -> None:
    write(orch, a="A", b="BB")
    first = tool_call("first", "read_file", path="a")
    endpoint.reply = Cast(
        planner=[plan(first, check="first['value'] == 'BB' or len(first['value']) > 1")],
        reviser=[
            patch("b has it.", add=[tool_call("second", "read_file", path="b")]),
            decided("keep", "That is all there is."),
        ],
    )
    done = orch("ask", "--json", "Find BB.")
    assert [("the goal is not met" in one.text) for one in endpoint.of("reviser")] == [True, True]
    assert done.envelope["states"] == {"first": "done", "second": "done"}
    # The check is what the planner wrote; it still does not hold, and that is not hidden.
    assert done.code == 1


def test_finished_items_are_in_their_order_whatever_came_first() -> None:
    done = {
        name: Result(subtask=name, attempt=1, plan_version=1, value=name[-2], summary="")
        for name in ("each[10]", "each[2]", "other[0]", "each[0]")
    }
    found = failures(RunState(failures={"each": "one failed"}, instances=done))
    rows = json.loads(found["each"].partition("finished: ")[2])
    assert [*rows] == ["each[0]", "each[2]", "each[10]"]
