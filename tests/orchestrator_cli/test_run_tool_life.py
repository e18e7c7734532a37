"""Built tools over several runs: counted, withdrawn, rebuilt, edited by hand, indexed again."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from command import COMMAND, Orch
from endpoint import Endpoint, call
from scripted_model import Cast, answered, caller, code, coder, patch, plan, tool_call
from toolsmith_replies import CASED, CASES, CODE, SPEC, SPECIFIED, WRITTEN

from toolsmith.built import BuiltTool, CaseResult, Origin, TrialReport
from toolsmith.library import Library
from toolsmith.library.status import Judgement
from toolsmith.proof.cases import Suite
from toolsmith.spec import Need, ToolSpec

PROMPT = "How many vowels has banana?"
NEW = [{"name": "count_vowels", "purpose": "counts the vowels of a text"}]
FRAIL = CODE.replace("    return sum(", "    assert text.isascii(), text\n    return sum(")
"""It passes its cases, and fails at letters that no case has."""


@pytest.fixture
def library(orch: Orch) -> Library:
    return Library(orch.home / "tools")


def keep(library: Library, source: str = CODE) -> BuiltTool:
    spec, suite = ToolSpec.model_validate(SPEC), Suite.model_validate(CASES)
    passed = tuple(CaseResult(title=case.title, passed=True, detail="", seconds=0) for case in suite.of(spec))
    report = TrialReport(passed=True, results=passed)
    need = Need(name=spec.name, purpose="counts the vowels of a text")
    return library.add(spec, source, report, Origin(need=need, run="r1"), suite)


def fail(library: Library, tool: BuiltTool) -> None:
    for _ in range(3):
        library.record_use(tool, Judgement("failure", "AssertionError: é"), 0.1)


def notices(orch: Orch) -> str:
    return "\n".join(row["message"] for row in orch.events("Noticed"))


def test_after_three_failures_a_tool_is_withdrawn_and_the_agent_hears_it(
    orch: Orch, endpoint: Endpoint, library: Library
) -> None:
    tool = keep(library, FRAIL)
    failing = [call("count_vowels", {"text": f"é{number}"}) for number in range(3)]
    steps = [*failing, call("count_vowels", {"text": "banana"}), call("final_answer", {"answer": 3})]
    endpoint.reply = Cast(planner=[plan(caller("count", tools=["count_vowels"]))], agents={"Do count": steps})
    done = orch("ask", "--json", PROMPT)
    assert done.code == 0
    (refused,) = orch.events("ToolRefused")
    assert refused["reasons"][0].startswith("The tool 'count_vowels' v1 is in quarantine: it failed 3 times")
    assert "AssertionError: é0" in refused["reasons"][0]
    outcomes = [(row["ok"], row["outcome"]) for row in orch.events("ToolCalled")]
    assert [ok for ok, _ in outcomes] == [False] * 4
    assert "is in quarantine" in outcomes[3][1], "the fourth call did not come to the tool"
    assert library.status(tool.name).tally(1).failures == 3


def test_calls_from_a_coders_code_are_counted_as_far_as_they_came(
    orch: Orch, endpoint: Endpoint, library: Library
) -> None:
    tool = keep(library, FRAIL)
    step = (
        "for text in ('banana', '', 'é1', 'é2', 'é3'):\n"
        "    try:\n        print(count_vowels(text))\n    except Exception as error:\n        print(error)"
    )
    steps = [code(step), code("print(count_vowels('banana'))"), code("final_answer(3)")]
    endpoint.reply = Cast(planner=[plan(coder("count", tools=["count_vowels"]))], agents={"Do count": steps})
    assert orch("ask", "--json", PROMPT).code == 0
    tally = library.status(tool.name).tally(1)
    assert (tally.successes, tally.declined, tally.failures) == (1, 1, 3)
    assert library.status(tool.name).quarantine(1)
    second = orch.events("CodeRan")[1]
    assert "is in quarantine" in second["error"], "it was withdrawn after the step"


def test_a_need_for_a_tool_in_quarantine_builds_a_new_version_that_knows_the_failures(
    orch: Orch, endpoint: Endpoint, library: Library
) -> None:
    fail(library, keep(library, FRAIL))
    endpoint.reply = Cast(
        planner=[plan(tool_call("count", "count_vowels", text="banané"), new_tools=NEW)],
        toolsmith=[SPECIFIED, CASED, WRITTEN],
    )
    done = orch("ask", "--json", PROMPT)
    assert (done.code, done.envelope["answer"]) == (0, "2")
    assert "count_vowels(text: string)" not in endpoint.of("planner")[0].text, "it was not offered"
    assert "AssertionError: é" in endpoint.of("toolsmith")[0].text
    (built,) = orch.events("ToolBuilt")
    assert built["version"] == 2
    assert library.status("count_vowels").tally(2).successes == 1


def test_of_a_disabled_tool_that_is_asked_for_by_name_the_reviser_hears_why(
    orch: Orch, endpoint: Endpoint, library: Library
) -> None:
    keep(library)
    library.disable("count_vowels", "it is too slow")
    endpoint.reply = Cast(
        planner=[plan(tool_call("count", "count_vowels", text="banana"), new_tools=NEW)],
        reviser=[patch("It is counted by code instead.", add=[coder("count-here")])],
        agents={"Do count-here": [code("final_answer(3)")]},
    )
    assert orch("ask", "--json", PROMPT).code == 0
    assert "The tool 'count_vowels' is disabled: it is too slow" in endpoint.of("reviser")[0].text
    assert "count_vowels(text: string)" not in endpoint.of("planner")[0].text
    assert len(endpoint.of("toolsmith")) == 0


def test_an_edit_by_hand_is_proved_in_the_run_without_a_model_call(
    orch: Orch, endpoint: Endpoint, library: Library
) -> None:
    tool = keep(library)
    file = library.folder(tool.name, 1) / "tool.py"
    file.write_text(CODE + "# by hand\n")
    endpoint.reply = Cast(planner=[plan(tool_call("count", "count_vowels", text="banana"))])
    done = orch("ask", "--json", PROMPT)
    assert (done.code, done.envelope["answer"]) == (0, "3")
    assert "was edited by hand in" in notices(orch)
    assert "it was proved, and is now v2" in notices(orch)
    assert [row["version"] for row in orch.events("ToolReused")] == [2]
    assert file.read_text() == CODE
    assert len(endpoint.of("toolsmith")) == 0


def test_failed_edit_leaves_the_proved_tool_in_use_and_is_reported(
    orch: Orch, endpoint: Endpoint, library: Library
) -> None:
    tool = keep(library)
    file = library.folder(tool.name, 1) / "tool.py"
    file.write_text(CODE.replace("sum(is_vowel(sign) for sign in text)", "7"))
    endpoint.reply = Cast(planner=[plan(tool_call("count", "count_vowels", text="banana"))])
    done = orch("ask", "--json", PROMPT)
    assert (done.code, done.envelope["answer"]) == (0, "3")
    assert f"was edited by hand in {file.parent}, and v1 is used as it was proved: case" in notices(orch)
    assert "expected 3, got 7" in notices(orch)


def test_a_run_fills_the_index_that_was_deleted(orch: Orch, endpoint: Endpoint, library: Library) -> None:
    keep(library)
    assert orch("tools", "reindex").code == 0
    shutil.rmtree(orch.home / "memory")
    endpoint.reply = Cast(planner=[answered("3")])
    assert orch("ask", "--json", "Count the vowels of a text, please.").code == 0
    assert "count_vowels(text: string)" in endpoint.of("planner")[0].text


def test_a_tool_that_only_the_index_has_is_not_offered(
    orch: Orch, endpoint: Endpoint, library: Library
) -> None:
    keep(library)
    assert orch("tools", "reindex").code == 0
    shutil.rmtree(library.root)
    endpoint.reply = Cast(planner=[answered("3")])
    assert orch("ask", "--json", "Count the vowels of a text, please.").code == 0
    assert "count_vowels(text: string)" not in endpoint.of("planner")[0].text


def test_a_kill_between_the_file_and_the_index_is_made_good_by_the_next_run(
    orch: Orch, endpoint: Endpoint, library: Library, tmp_path: Path
) -> None:
    endpoint.reply = Cast(
        planner=[plan(tool_call("count", "count_vowels", text="banana"), new_tools=NEW)],
        toolsmith=[SPECIFIED, CASED, WRITTEN],
    )
    with (tmp_path / "stderr").open("w") as errors:
        process = subprocess.Popen(
            [*COMMAND, "ask", "--stream-json", PROMPT],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=orch.workspace,
            env=orch.environment(),
        )
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["data"]["kind"] == "ToolBuilt":
                process.kill()
                break
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
    assert library.known() == {"count_vowels": 1}
    endpoint.reply = Cast(planner=[answered("3")])
    assert orch("ask", "--json", "Count the vowels of a text, please.").code == 0
    assert "count_vowels(text: string)" in endpoint.of("planner")[-1].text
