"""A run leaves files that are executed later only where a person agreed: once for the whole run."""

from typing import Any

from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, code, coder, patch, plan, tool_call

TASKS = {"path": ".vscode/tasks.json", "content": "{}"}
MAKES_BOTH = """import os
os.makedirs(".vscode", exist_ok=True)
open(".vscode/tasks.json", "w").write("{}")
open("other.txt", "w").write("work")
final_answer("made")"""


def asked(orch: Orch) -> list[dict[str, Any]]:
    return orch.events("ApprovalAsked")


def test_without_a_terminal_the_run_pauses_and_the_answer_commits_all_files(
    orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.reply = Cast(planner=[plan(coder("make"))], agents={"Do make": [code(MAKES_BOTH)] * 2})
    done = orch("ask", "--json", "Make it.")
    assert (done.code, done.envelope["outcome"]) == (6, "paused")
    assert orch.files() == []
    (question,) = asked(orch)
    assert (question["what"], question["items"]) == ("executes", [".vscode"])
    assert ".vscode/tasks.json" in question["question"]
    assert "editors" in question["question"]
    assert "+{}" in question["details"]
    assert "other.txt" not in question["details"]
    assert "orch approve" in done.envelope["error"]["remedy"]

    approved = orch("approve", "last", "--yes", "--json")
    assert (approved.code, approved.envelope["states"]) == (0, {"make": "done"})
    assert orch.files() == [".vscode/tasks.json", "other.txt"]
    assert len(asked(orch)) == 1


def test_a_no_fails_the_subtask_which_leaves_nothing(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[plan(coder("make"))],
        agents={"Do make": [code(MAKES_BOTH)] * 2},
        reviser=[patch("Without it.", add=[tool_call("less", "write_file", path="b.txt", content="b")])],
    )
    assert orch("ask", "Make it.").code == 6
    done = orch("approve", "last", "--no", "--because", "I use another editor", "--json")
    assert done.envelope["states"] == {"make": "failed", "less": "done"}
    reason = endpoint.of("reviser")[0].text
    assert "did not allow it to change .vscode: I use another editor" in reason
    assert orch.files() == ["b.txt"]


def test_files_that_the_plan_names_are_one_question_for_the_whole_run(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(
        planner=[
            plan(
                tool_call("one", "write_file", **TASKS),
                tool_call("two", "write_file", ["one"], path=".vscode/settings.json", content="{}"),
                tool_call("three", "write_file", ["two"], path="tests/conftest.py", content=""),
            )
        ]
    )
    assert orch("ask", "Set up my editor.").code == 6
    (question,) = asked(orch)
    assert question["items"] == [".vscode", "tests/conftest.py"]
    assert orch("approve", "last", "--yes").code == 0
    assert len(asked(orch)) == 1
    assert orch.files() == [".vscode/settings.json", ".vscode/tasks.json", "tests/conftest.py"]


def test_who_asks_nothing_or_says_yes_beforehand_finds_it_in_the_log(orch: Orch, endpoint: Endpoint) -> None:
    for flag, by in (("-y", "flag"), ("--approve=none", "settings")):
        endpoint.reply = Cast(planner=[plan(tool_call("one", "write_file", **TASKS))])
        assert orch("ask", flag, "Set up my editor.", "--no-reuse").code == 0
        (given,) = orch.events("ApprovalGiven")
        assert given["by"] == by
        assert orch.files() == [".vscode/tasks.json"]
        assert orch("undo", "last").code == 0


MAKES_MANY = """import os
for name in "abcdefghijklmnop":
    os.makedirs(f"docs/{name * 200}")
    open(f"docs/{name * 200}/AGENTS.md", "w").write("Be kind.")
final_answer("made")"""


def test_what_does_not_fit_in_one_question_is_asked_in_several_at_once(
    orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.reply = Cast(planner=[plan(coder("make"))], agents={"Do make": [code(MAKES_MANY)] * 2})
    assert orch("ask", "Make it.").code == 6
    questions = asked(orch)
    assert len(questions) > 1
    assert len({item for one in questions for item in one["items"]}) == 16
    assert all(item in one["question"] for one in questions for item in one["items"])

    approved = orch("approve", "last", "--yes", "--json")
    assert (approved.code, approved.envelope["states"]) == (0, {"make": "done"})
    assert len(orch.files()) == 16
