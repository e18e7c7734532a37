"""What Prefect's UI is sent: words that stay words, and few artifacts if many results wait."""

from typing import Any

import pytest
from markdown_it import MarkdownIt

from orchestrator_cli.engine.artifacts import MANY, TOGETHER_CHARS, Artifacts, plan_markdown, together
from orchestrator_cli.plan import Plan, Result, Subtask


def result(number: int, data: str = "````\nfound\n````") -> dict[str, Any]:
    ids = {"task_run_id": f"task {number}", "flow_run_id": "flow"}
    return {"key": f"result-s{number}", "data": data, "description": f"Look, {number}", **ids}


def test_many_results_become_one_artifact_of_the_flow_run_in_which_each_is_named() -> None:
    (one,) = together([result(n) for n in range(MANY)])
    assert (one["key"], one["task_run_id"], one["flow_run_id"]) == ("results", None, "flow")
    assert [f"## Look, {n} (result-s{n})" in one["data"] for n in range(MANY)] == [True] * MANY
    assert one["description"] == f"{MANY} results, the last: Look, {MANY - 1}"


def test_versions_of_the_plan_stay_apart() -> None:
    plan = {"key": "plan", "data": "# Plan", "description": "why", "task_run_id": None, "flow_run_id": "flow"}
    assert [row["key"] for row in together([plan, result(1), plan, result(2)])] == ["plan", "plan", "results"]


@pytest.mark.parametrize("length", [TOGETHER_CHARS, 50 * TOGETHER_CHARS])
def test_of_a_long_result_there_is_the_beginning_and_its_fence_is_closed(length: int) -> None:
    (one,) = together([result(1, f"````\n{'x' * length}\n````"), result(2)])
    assert one["data"].count("````") == 4
    assert len(one["data"]) < TOGETHER_CHARS + 200


HOSTILE = [
    '<a class="fixed inset-0 z-50" href="https://example.org/?all-of-it">',
    "![seen](https://example.org/a.png) [Log in](https://example.org)",
    "Look\n\n# Plan, version 2\n\n<b>approved</b>",
    "a | b\n|---|---|\n| `c` | ~~d~~ |",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_words_of_a_model_are_words_on_the_page(text: str) -> None:
    subtask = Subtask(id="look", title=text, kind="agent", role=text, tools=(text,), depends_on=(text,))
    rows: list[dict[str, Any]] = []
    artifacts = Artifacts(rows.append)
    plan = Plan(goal=text, subtasks=(subtask,))
    artifacts.show_plan(plan, text)
    value = Result(subtask="look", attempt=1, plan_version=1, value="found", files=(text,))
    artifacts.show_result(value, text)
    assert len(plan_markdown(plan).splitlines()) == 7
    shown = [row["data"] for row in [*rows, *together([*rows, *rows])]]
    shown += [row["description"] for row in rows]
    for markdown in shown:
        tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(markdown)
        found = {one.type for token in tokens for one in [token, *(token.children or ())]}
        assert not found & {"html_block", "html_inline", "link_open", "image", "s_open"}
        assert sum(one.type == "tr_open" for one in tokens) <= 2
