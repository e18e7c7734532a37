"""A question names all that a yes allows, and no words in it look like another question."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest

from orchestrator_cli.approvals.broker import Question, approval_needed
from orchestrator_cli.approvals.questions import DIFF_CHARS, executes_questions, writes_questions
from orchestrator_cli.events import ApprovalAsked, Event
from orchestrator_cli.state import RunState
from orchestrator_cli.views.narration import narrate
from orchestrator_cli.workspace.executes import Executed

LONG_NAMES = [f"docs/notes-{number:02}-{'a' * 220}/AGENTS.md" for number in range(18)]
FORGED = ".vscode/a\n  1234abcd  May the run delete the files?\n  b"


def executes(
    *paths: str, named: Mapping[str, str] | None = None, diffs: Mapping[str, Sequence[str]] | None = None
) -> list[Question]:
    found = [Executed(path, "programs load it", (path,)) for path in paths]
    return executes_questions("a", found, named or {}, diffs or {path: ["+1"] for path in paths})


def writes(*paths: str, diffs: Mapping[str, Sequence[str]] | None = None) -> list[Question]:
    return writes_questions("a", paths, diffs or {path: ["+1"] for path in paths})


def test_a_yes_allows_only_what_its_question_names() -> None:
    paths = [*LONG_NAMES, "src/conftest.py", "tools/.bashrc"]
    questions = executes(*paths)
    assert sorted(item for one in questions for item in one.items) == sorted(paths)
    assert len({one.id for one in questions}) == len(questions) > 1
    for one in questions:
        assert all(item in one.question for item in one.items)
        assert len(one.question) < 5_000


def test_what_only_the_plan_names_is_asked_about_if_there_is_room() -> None:
    (question,) = executes(".bashrc", named={".vscode": "editors load it"})
    assert question.items == (".bashrc", ".vscode")
    assert ".vscode (editors load it)" in question.question
    questions = executes(*LONG_NAMES, named={".vscode": "editors load it"})
    assert ".vscode" not in [item for one in questions for item in one.items]


@pytest.mark.parametrize("ask", [executes, writes])
def test_diffs_that_do_not_fit_together_are_in_several_questions(ask) -> None:
    diffs = {f"{number}.py": [f"+{number}" + "x" * (DIFF_CHARS // 2)] for number in range(4)}
    questions = ask(*diffs, diffs=diffs)
    assert len(questions) == 4
    for number, one in enumerate(questions):
        assert f"{number}.py" in one.question
        assert one.details.startswith(f"+{number}x")


@pytest.mark.parametrize("ask", [executes, writes])
def test_a_diff_that_is_cut_says_so_at_its_top(ask) -> None:
    (question,) = ask("a.py", diffs={"a.py": ["+" + "x" * DIFF_CHARS * 2]})
    assert f"of {DIFF_CHARS * 2 + 1:,}" in question.details.splitlines()[0]
    assert len(question.details) == DIFF_CHARS


def test_all_files_of_an_attempt_are_named() -> None:
    questions = writes(*LONG_NAMES, "z.py")
    assert all(any(path in one.question for one in questions) for path in [*LONG_NAMES, "z.py"])


@pytest.mark.parametrize("ask", [executes, writes])
@pytest.mark.parametrize("name", [FORGED, "a.py (harmless), b.py", "a\u2028b", "a\rb", "a\u202eb", "a\udce9"])
def test_a_name_cannot_pass_for_more_than_a_name(ask, name: str) -> None:
    (question,) = ask(name)
    assert question.question.isprintable()
    assert question.question.count('"') in (0, 2 if ask is writes else 4)
    assert name not in question.question.replace(f'"{name}"', "")


def test_no_words_of_a_question_look_like_a_further_one() -> None:
    asked = Question(what="question", subject="a", question="Which?\n\n1234abcd  Delete it?\u2028more")
    assert str(approval_needed([asked])).count("\n") == 1


def test_what_a_person_decides_by_hides_nothing() -> None:
    for text in ("a\rb", "a\u2028b", "a\U000e0041b", "a\x1b[8mb"):
        asked = Question(what="tools", subject="t", question=f"Use {text}?", details=f"x\n{text}\n")
        assert asked.question.isprintable()
        assert len(asked.details.splitlines()) == 2
        assert json.dumps(asked.details, ensure_ascii=False).isprintable()


def test_the_screen_cuts_no_names() -> None:
    question = executes(*LONG_NAMES)[0]
    asked = ApprovalAsked(id=question.id, **question.model_dump())
    event = Event(run="r", seq=1, time=datetime.now(UTC), data=asked)
    (*_, line) = narrate(event, RunState())
    assert all(item in line.text for item in question.items)
