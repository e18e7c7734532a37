"""`orch tools`: the library as its user keeps it, with the real command on real files."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import smolagents
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, answered, plan, texts_of, tool_call
from toolsmith_replies import CASES, CODE, SPEC

from memory import Scope, open_store, tool_record
from memory.records import TOOL
from orchestrator_cli.durable.yaml_text import read_front_matter
from orchestrator_cli.recall.skills import find_skills
from toolsmith.built import BuiltTool, CaseResult, Origin, TrialReport
from toolsmith.library import Library
from toolsmith.library.retirement import UNUSED
from toolsmith.library.status import Judgement
from toolsmith.proof.cases import Suite
from toolsmith.skill_folder import skill_files
from toolsmith.spec import Need, ToolSpec

FAILED = Judgement("failure", "KeyError: 'é'")


@pytest.fixture
def library(orch: Orch) -> Library:
    return Library(orch.home / "tools")


def keep(library: Library, code: str = CODE, name: str = "count_vowels") -> BuiltTool:
    code = code.replace("def count_vowels", f"def {name}")
    spec, suite = ToolSpec.model_validate(SPEC | {"name": name}), Suite.model_validate(CASES)
    passed = tuple(CaseResult(title=case.title, passed=True, detail="", seconds=0) for case in suite.of(spec))
    report = TrialReport(passed=True, results=passed)
    return library.add(spec, code, report, Origin(need=Need(name=spec.name, purpose="p"), run="r1"), suite)


def fail(library: Library, tool: BuiltTool, times: int = 3) -> None:
    for _ in range(times):
        library.record_use(tool, FAILED, 0.5)


def rows(orch: Orch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = orch("tools", "list", "--json").envelope  # type: ignore[assignment]
    return found


def test_a_library_without_tools_says_how_one_comes_to_be(orch: Orch) -> None:
    done = orch("tools")
    assert (done.code, done.out) == (0, "")
    assert "No tools yet" in done.err
    assert rows(orch) == []


def test_list_shows_the_status_of_each_tool(orch: Orch, library: Library) -> None:
    tool = keep(library)
    library.record_use(tool, Judgement("success", ""), 1.5)
    done = orch("tools", "list")
    assert done.out.splitlines() == [
        "count_vowels v1  in use  1 call, 1.5 s each",
        "    count_vowels(text: string) -> integer",
        "    Count the vowels of a text.",
    ]
    fail(library, tool)
    assert "count_vowels v1  QUARANTINE  4 calls, 3 failed" in orch("tools").out
    (row,) = rows(orch)
    assert (row["state"], row["uses"]["failures"]) == ("quarantine", 3)
    assert row["why"][0] == "KeyError: 'é'"


def test_a_tool_that_cannot_be_read_is_listed_with_what_to_do(orch: Orch, library: Library) -> None:
    tool = keep(library)
    (library.folder(tool.name, 1) / "tool.json").write_text("{")
    (row,) = rows(orch)
    assert row["state"] == "unreadable"
    assert "Restore or delete" in row["why"][1]


def test_show_tells_all_about_a_version(orch: Orch, library: Library) -> None:
    tool = keep(library)
    keep(library, CODE + "# two\n")
    text = orch("tools", "show", "count_vowels@1").out
    for part in (
        "count_vowels v1 (v2 counts) · in use",
        f"sha256       {tool.sha256}",
        "is_vowel(sign: str) -> bool",
        "enforced     at every call: an empty folder instead of the workspace; no network; no secrets",
        "ok    a word",
        "by run r1",
        "return sum(is_vowel(sign) for sign in text)",
    ):
        assert part in text
    page = orch("tools", "show", "count_vowels", "--json").envelope
    assert (page["shown"], page["versions"], page["trial"]["passed"]) == (2, [1, 2], True)


def test_unknown_tool_names_the_nearest(orch: Orch, library: Library) -> None:
    keep(library)
    done = orch("tools", "show", "count_vowel")
    assert done.code == 2
    assert done.error == (
        "error: The library has no tool 'count_vowel'. "
        "Did you mean count_vowels? List the tools with: orch tools list"
    )
    assert "It has v1." in orch("tools", "show", "count_vowels@9").error


def test_a_tool_is_run_with_arguments_and_its_value_is_json(orch: Orch, library: Library) -> None:
    keep(library)
    done = orch("tools", "run", "count_vowels", "text=a=1 e")
    assert (done.code, done.out) == (0, "2\n"), done.err
    (run,) = json.loads(orch("runs", "--json").out)
    assert run["state"] == "completed"
    assert "You asked for this call" in orch.log
    assert (library.status("count_vowels").tally(1).calls, orch.remains()) == (1, [])


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["count_vowels"], 2, "count_vowels(text: string)"),
        (["count_vowels", "text=a", "more=1"], 2, "more"),
        (["count_vowels", "text"], 2, "NAME=VALUE"),
        (["count_vowels", "text="], 1, "the text is empty"),
        (["count_vowel", "text=a"], 2, "Did you mean count_vowels"),
        (["count_vowels@1", "text=a"], 2, "orch tools rollback count_vowels 1"),
    ],
)
def test_a_call_that_cannot_be_made_says_why(
    orch: Orch, library: Library, args: list[str], code: int, said: str
) -> None:
    keep(library)
    keep(library, CODE + "# two\n")
    done = orch("tools", "run", *args)
    assert (done.code, done.out) == (code, "")
    assert said in done.error


def test_a_tool_that_asks_for_more_is_run_only_after_a_yes(
    orch: Orch, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SPEC, "secrets", ["VOWEL_KEY"])
    keep(library)
    call = ("tools", "run", "count_vowels", "text=a")
    assert orch(*call).code == 3
    refused = orch(*call, VOWEL_KEY="secret-value-1")
    assert (refused.code, "VOWEL_KEY" in refused.error) == (6, True)
    assert not (orch.home / "runs").exists()
    done = orch(*call, "-y", VOWEL_KEY="secret-value-1")
    assert (done.code, done.out) == (0, "1\n"), done.err


def test_a_tool_that_is_out_of_use_is_not_run(orch: Orch, library: Library) -> None:
    keep(library)
    assert orch("tools", "disable", "count_vowels").code == 0
    done = orch("tools", "run", "count_vowels", "text=a")
    assert (done.code, "orch tools enable" in done.error) == (2, True)
    assert orch("tools", "enable", "count_vowels").code == 0
    (library.folder("count_vowels", 1) / "tool.py").write_text(CODE + "# edited\n")
    done = orch("tools", "run", "count_vowels", "text=a")
    assert (done.code, "orch tools test" in done.error) == (2, True)


def test_a_tool_in_quarantine_is_used_again_when_it_passed_and_was_enabled(
    orch: Orch, library: Library
) -> None:
    fail(library, keep(library))
    refused = orch("tools", "enable", "count_vowels")
    assert refused.code == 2
    assert "orch tools test count_vowels" in refused.error
    tested = orch("tools", "test", "count_vowels")
    assert (tested.code, tested.out.splitlines()[0]) == (0, "ok    an example")
    assert "orch tools enable count_vowels" in tested.err
    assert "is in use again" in orch("tools", "enable", "count_vowels").err
    assert [row["state"] for row in rows(orch)] == ["in use"]


def test_a_tool_that_fails_its_trial_ends_with_1_and_names_the_case(orch: Orch, library: Library) -> None:
    keep(library, CODE.replace("sum(is_vowel(sign) for sign in text)", "7"))
    done = orch("tools", "test", "count_vowels")
    assert done.code == 1
    assert "FAIL  a word\n      value: expected 3, got 7" in done.out
    assert "orch tools rollback count_vowels" in done.error


def test_testing_an_edited_tool_adopts_the_edit(orch: Orch, library: Library) -> None:
    tool = keep(library)
    file = library.folder(tool.name, 1) / "tool.py"
    file.write_text(CODE + "# by hand\n")
    assert [row["state"] for row in rows(orch)] == ["edited"]
    done = orch("tools", "test", "count_vowels", "--json")
    assert (done.envelope["version"], done.envelope["adopted"], done.envelope["passed"]) == (2, True, True)
    assert file.read_text() == CODE


def test_going_back_and_the_difference_of_versions(orch: Orch, library: Library) -> None:
    keep(library)
    keep(library, CODE + "# two\n")
    assert "+# two" in orch("tools", "diff", "count_vowels").out.splitlines()
    assert "-# two" in orch("tools", "diff", "count_vowels", "2", "1").out.splitlines()
    done = orch("tools", "rollback", "count_vowels", "--because", "slow")
    assert "count_vowels v1" in done.err
    assert [row["version"] for row in rows(orch)] == [1]
    assert "back to v1: slow" in orch("tools", "show", "count_vowels").out
    assert keep(library, CODE + "# three\n").version == 3
    assert [row["version"] for row in rows(orch)] == [3]


def test_a_tool_is_disabled_with_a_reason_and_enabled(orch: Orch, library: Library) -> None:
    keep(library)
    assert orch("tools", "disable", "count_vowels", "--because", "not now").code == 0
    assert [(row["state"], row["why"][0]) for row in rows(orch)] == [("disabled", "not now")]
    assert orch("tools", "enable", "count_vowels").code == 0
    assert [row["state"] for row in rows(orch)] == ["in use"]


def test_removing_has_to_be_confirmed_and_goes_to_the_trash(orch: Orch, library: Library) -> None:
    keep(library)
    assert orch("tools", "reindex", "--json").envelope == {"added": ["count_vowels"], "removed": []}
    unsaid = orch("tools", "remove", "count_vowels")
    assert (unsaid.code, [row["name"] for row in rows(orch)]) == (6, ["count_vowels"])
    assert orch("tools", "remove", "count_vowels", "-y").code == 0
    assert rows(orch) == []
    assert [path.name.split("-")[0] for path in (library.root / ".trash").iterdir()] == ["count_vowels"]
    assert orch("tools", "reindex", "--json").envelope == {"added": [], "removed": []}


def test_the_index_is_brought_in_step_by_hand(orch: Orch, library: Library) -> None:
    keep(library)
    assert orch("tools", "reindex", "--json").envelope["added"] == ["count_vowels"]
    assert orch("tools", "reindex", "--json").envelope["added"] == []
    (library.root / "count_vowels").rename(library.root / ".elsewhere")
    assert orch("tools", "reindex", "--json").envelope["removed"] == ["count_vowels"]


@pytest.mark.parametrize("name", ["gift", "gift.zip"])
def test_a_tool_is_given_away_and_taken_in_by_another_user(
    orch: Orch, library: Library, tmp_path: Path, name: str
) -> None:
    keep(library)
    gift = str(tmp_path / name)
    assert orch("tools", "export", "count_vowels", gift).code == 0
    other = str(tmp_path / "other")
    taken = orch("tools", "import", gift, ORCH_HOME=other)
    assert (taken.code, "passed its trial here" in taken.err) == (0, True)
    again = orch("tools", "import", gift, ORCH_HOME=other)
    assert (again.code, "the library has the same tool" in again.err) == (0, True)
    assert "imported from gift" in orch("tools", "show", "count_vowels", ORCH_HOME=other).out


def test_another_tool_of_the_name_is_not_written_over(
    orch: Orch, library: Library, tmp_path: Path, make: Callable[[], Library]
) -> None:
    keep(library)
    gift = str(tmp_path / "gift")
    assert orch("tools", "export", "count_vowels", gift).code == 0
    other = make()
    mine = keep(other, CODE + "# mine\n")
    home = str(other.root.parent)
    refused = orch("tools", "import", gift, ORCH_HOME=home)
    assert refused.code == 1
    assert "has another tool 'count_vowels'" in refused.err
    assert other.get("count_vowels") == mine
    assert orch("tools", "import", gift, "--next-version", ORCH_HOME=home).code == 0
    assert other.versions("count_vowels") == (1, 2)
    assert other.version("count_vowels", 1) == mine


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], Library]:
    return lambda: Library(tmp_path / "other" / "tools")


def test_a_changed_archive_is_refused_with_the_remedy(orch: Orch, library: Library, tmp_path: Path) -> None:
    keep(library)
    assert orch("tools", "export", "count_vowels", str(tmp_path / "gift")).code == 0
    (tmp_path / "gift" / "count_vowels" / "v1" / "tool.py").write_text("import os\n")
    done = orch("tools", "import", str(tmp_path / "gift"), ORCH_HOME=str(tmp_path / "other"))
    assert done.code == 2
    assert "hashes do not match" in done.error
    assert "Get it again" in done.error


def test_json_is_one_line_that_a_program_reads(orch: Orch, library: Library) -> None:
    keep(library)
    for command in (("list",), ("show", "count_vowels"), ("reindex",)):
        assert json.loads(orch("tools", *command, "--json").out) is not None


def run_skill(folder: Path, arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Run the script with nothing but the standard library."""
    command = [sys.executable, "-E", "-S", f"{folder}/scripts/run.py", *filter(None, [arguments])]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, cwd="/")
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def test_a_tool_is_exported_as_a_skill_that_any_agent_can_run(
    orch: Orch, library: Library, tmp_path: Path
) -> None:
    keep(library)
    target = orch.home / "skills"
    assert orch("tools", "export", "count_vowels", "--skill", str(target)).code == 0
    folder = target / "count-vowels"
    assert run_skill(folder, '{"text": "banana"}') == (0, "3", "")
    assert run_skill(folder, "", stdin='{"text": "banana"}') == (0, "3", "")
    assert [run_skill(folder, wrong)[0] for wrong in ("{}", "no JSON", "[]")] == [1, 1, 1]
    (skill,) = find_skills(orch.workspace, orch.home).skills
    assert (skill.name, skill.description) == ("count-vowels", "Count the vowels of a text.")
    assert "- `text` (string):" in skill.text
    again = orch("tools", "export", "count_vowels", "--skill", str(target))
    assert (again.code, "already" in again.error) == (2, True)
    assert orch("tools", "export", "count_vowels", "--skill", "--smolagents", str(tmp_path)).code == 2


def test_the_words_of_a_tool_stay_in_their_place_in_a_skill(library: Library) -> None:
    tool = keep(library)
    purpose = "Counts: [all]\n---\nname: other\n# vowels " + "x" * 2_000
    tool = tool.model_copy(update={"spec": tool.spec.model_copy(update={"purpose": purpose})})
    values, text = read_front_matter(skill_files(tool)["SKILL.md"])
    assert values["name"] == "count-vowels"
    assert len(values["description"]) <= 1_024
    assert "\nname: other" not in text


def test_a_tool_that_was_edited_by_hand_becomes_no_skill(
    orch: Orch, library: Library, tmp_path: Path
) -> None:
    tool = keep(library)
    (library.folder(tool.name, tool.version) / "tool.py").write_text(tool.source + "# edited\n")
    assert orch("tools", "export", "count_vowels", "--skill", str(tmp_path / "shared")).code == 2
    assert not (tmp_path / "shared").exists()


def test_a_tool_is_exported_as_a_folder_that_smolagents_loads(
    orch: Orch, library: Library, tmp_path: Path
) -> None:
    keep(library)
    done = orch("tools", "export", "--smolagents", "count_vowels", str(tmp_path / "shared"))
    assert done.code == 0, done.err
    loaded = smolagents.Tool.from_code((tmp_path / "shared" / "count_vowels" / "tool.py").read_text())
    assert loaded(text="banana") == 3
    again = orch("tools", "export", "--smolagents", "count_vowels", str(tmp_path / "shared"))
    assert (again.code, "already" in again.error) == (2, True)


# --- retired tools


def test_a_tool_that_another_can_serve_for_is_named_and_retired(orch: Orch, library: Library) -> None:
    used = keep(library)
    keep(library, name="vowels_in")
    library.record_use(used, Judgement("success", ""), 0.1)
    review = orch("tools", "review", "--unused-for=0", "--json").envelope
    assert [row["name"] for row in review["unused"]] == ["count_vowels", "vowels_in"]
    (pair,) = review["overlaps"]
    assert (pair["tool"], pair["served_by"]) == ("vowels_in", "count_vowels")
    assert "orch tools retire vowels_in --for count_vowels" in orch("tools", "review").out
    assert orch("tools", "retire", "vowels_in", "--for", "count_vowels").code == 0
    assert {row["name"]: row["state"] for row in rows(orch)} == {
        "count_vowels": "in use",
        "vowels_in": "retired",
    }
    assert orch("tools", "enable", "vowels_in").code == 0
    assert {row["state"] for row in rows(orch)} == {"in use"}


def test_a_tool_that_is_named_is_tried_whatever_its_words(orch: Orch, library: Library) -> None:
    tool = keep(library)
    spec = tool.spec.model_copy(update={"name": "tally", "purpose": "Something else altogether."})
    code = CODE.replace("def count_vowels", "def tally").replace("Count the vowels of a text.", spec.purpose)
    library.add(spec, code, tool.trial, tool.origin, tool.suite)
    assert orch("tools", "retire", "count_vowels", "--for", "tally").code == 0


def test_a_tool_that_fails_the_cases_of_another_cannot_serve_for_it(orch: Orch, library: Library) -> None:
    keep(library)
    keep(library, CODE.replace("aeiou", "aei"), "vowels_in")
    done = orch("tools", "retire", "count_vowels", "--for", "vowels_in")
    assert done.code == 2
    assert {row["state"] for row in rows(orch)} == {"in use"}


def test_a_retired_tool_is_shown_to_no_planner_until_it_is_needed(
    orch: Orch, library: Library, endpoint: Endpoint
) -> None:
    keep(library)
    assert orch("tools", "retire", "count_vowels").code == 0
    asked: list[str] = []

    def planner(request: dict[str, Any]) -> str:
        asked.append(texts_of(request))
        return plan(
            tool_call("count", "vowel_counter", text="hello"),
            new_tools=[{"name": "vowel_counter", "purpose": SPEC["purpose"]}],
        )

    endpoint.reply = Cast(planner=[planner])  # the same purpose: no model is asked
    done = orch("ask", "Count the vowels of a text: hello")
    assert done.code == 0, done.err
    assert "count_vowels" not in asked[0]
    assert [row["state"] for row in rows(orch)] == ["in use"]
    assert orch.events("ToolBuilt") == []


def test_a_tool_that_was_not_used_for_long_is_retired_and_keeps_what_it_served(
    orch: Orch, library: Library, endpoint: Endpoint
) -> None:
    long_ago = Library(library.root, now=lambda: datetime.now(UTC) - UNUSED - timedelta(days=1))
    keep(long_ago)
    store = open_store(orch.home / "memory")
    served = tool_record(
        name="count_vowels", version="1", purpose="p", signature="()", scope=Scope(), prompts=["Say aeiou."]
    )
    store.add([served])
    endpoint.reply = Cast(planner=[answered("hello")])
    done = orch("ask", "Say hello.")
    assert done.code == 0
    assert [event["message"] for event in orch.events("Noticed") if "count_vowels" in event["message"]]
    assert [row["state"] for row in rows(orch)] == ["retired"]
    assert store.all(TOOL, Scope()) == []
    assert orch("tools", "enable", "count_vowels").code == 0
    assert orch("tools", "reindex").code == 0
    (back,) = store.all(TOOL, Scope())
    assert back.data["prompts"] == ["Say aeiou."]
