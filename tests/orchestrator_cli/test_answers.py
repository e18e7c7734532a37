"""What a typed line means, how a line is mended, and plans as text: the rules, without a terminal."""

import time
from itertools import pairwise

import pytest

from orchestrator_cli.approvals.broker import Question, UserReply
from orchestrator_cli.cli.chat.terminal_input import Key, edited, reply_of
from orchestrator_cli.errors import ConfigError, UsageError
from orchestrator_cli.plan import Catalogue, Plan, Subtask
from orchestrator_cli.planning.plan_text import edited_text, is_empty, plan_text, read_plan_text
from orchestrator_cli.planning.structured_output import Unusable
from orchestrator_cli.roles import parse_role
from orchestrator_cli.settings import approvals

MAY = Question(what="subtask", subject="a", question="May a start?")
COLOUR = Question(what="question", subject="a", question="Which?", result={"enum": ["red", 7, "3"]})
NAME = Question(what="question", subject="a", question="What is it called?")
SURE = Question(what="question", subject="a", question="Is it?", result={"type": "boolean"})


@pytest.mark.parametrize("line", ["y", "yes", "YES", "Yes.", " y "])
def test_yes_is_said_in_these_ways(line: str) -> None:
    assert reply_of(MAY, line) == UserReply(decision="yes")


@pytest.mark.parametrize(
    ("line", "remark"),
    [
        ("n", ""),
        ("No!", ""),
        ("no, because it explodes", "it explodes"),
        ("no because of the name", "of the name"),
        ("n: not now", "not now"),
        ("no, Because", ""),
    ],
)
def test_no_may_be_followed_by_the_reason(line: str, remark: str) -> None:
    assert reply_of(MAY, line) == UserReply(decision="no", remark=remark)


@pytest.mark.parametrize("line", ["", "yes, but only a", "nope", "not yet", "ja", "1", "yess"])
def test_nothing_else_decides(line: str) -> None:
    with pytest.raises(UsageError):
        reply_of(MAY, line)


def test_what_decides_nothing_is_answered_with_all_that_would() -> None:
    for details in ("", plan_text(Plan(goal="g", subtasks=()))):
        with pytest.raises(UsageError) as raised:
            reply_of(MAY.model_copy(update={"details": details}), "ja")
        assert ("edit" in raised.value.remedy) == bool(details)


@pytest.mark.parametrize(("line", "text"), [("1", "red"), ("2", "7"), ("3", "3"), ("red", "red")])
def test_a_choice_is_a_number_or_the_choice_itself(line: str, text: str) -> None:
    assert reply_of(COLOUR, line) == UserReply(decision="answered", text=text)


def test_what_is_none_of_the_choices_is_refused_with_the_choices() -> None:
    with pytest.raises(UsageError, match="1  red"):
        reply_of(COLOUR, "blue")


def test_an_answer_is_taken_as_it_is_and_refused_with_a_slash() -> None:
    assert reply_of(NAME, "no, because") == UserReply(decision="answered", text="no, because")
    assert reply_of(NAME, "/no because I do not know") == UserReply(decision="no", remark="I do not know")
    assert reply_of(SURE, "2") == UserReply(decision="answered", text="false")


def test_a_line_is_mended_from_its_end() -> None:
    line = ""
    for key in (Key("text", "one two  "), Key("word"), Key("text", "ü"), Key("back"), Key("text", "3")):
        line = edited(line, key)
    assert line == "one 3"
    assert edited(line, Key("line")) == ""


@pytest.mark.parametrize(
    ("said", "kinds"),
    [
        ("plan", "plan network secrets packages executes effects"),
        ("none", ""),
        ("none,plan", "plan"),
        ("plan, writes", "plan network secrets packages writes executes effects"),
        ("all", "plan tools network secrets packages writes executes effects"),
    ],
)
def test_naming_kinds_adds_to_what_is_asked_about_anyway(said: str, kinds: str) -> None:
    assert approvals(said.split(",")) == tuple(kinds.split())


# --- plans as text

CATALOGUE = Catalogue(roles=frozenset({"coder"}), tools=frozenset({"read_file"}))
PLAN = Plan(
    goal="yes",
    check="a['value'] == 'x: y'",
    subtasks=(
        Subtask(
            id="a",
            title="on",
            kind="tool",
            tools=("read_file",),
            inputs={"path": "# no comment", "n": "2026-01-01", "text": "one\n  two\n\n"},
        ),
        Subtask(
            id="b", title="Do: it", kind="agent", role="coder", instruction="- a\n- b", depends_on=("a",)
        ),
    ),
)


@pytest.mark.parametrize("sign", ["\n", "\r", "\x85", "\u2028", "\u2029"])
def test_a_fault_stays_within_its_comment(sign: str) -> None:
    text = plan_text(PLAN, [f"goal{sign}injected: yes"])
    assert "injected" in text
    assert read_plan_text(text, CATALOGUE) == (PLAN, ())


def test_a_plan_comes_back_from_its_text_as_it_was() -> None:
    assert read_plan_text(plan_text(PLAN), CATALOGUE) == (PLAN, ())


def test_what_was_typed_without_quotes_stays_text() -> None:
    text = plan_text(PLAN).replace("'2026-01-01'", "2026-01-01")
    assert read_plan_text(text, CATALOGUE)[0] == PLAN


@pytest.mark.parametrize("text", ["goal: [", "- a", "7", "goal: x\nsubtasks: 7", "\tgoal: x", "a: &a [*a]"])
def test_what_is_no_plan_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(Unusable):
        read_plan_text(text, CATALOGUE)


def test_faults_stand_at_the_top_once_and_what_was_written_below() -> None:
    text = edited_text(edited_text(plan_text(PLAN), ["first"]), ["second", "third"])
    assert text.count("# The plan as it will run") == 1
    assert "# - second\n# - third\n" in text
    assert "first" not in text
    assert read_plan_text(text, CATALOGUE)[0] == PLAN


def test_a_text_without_anything_but_comments_is_empty() -> None:
    assert is_empty("# a\n\n  # b\n")
    assert not is_empty(plan_text(PLAN))


LEVELS = "abcdefghijklmnopqrstuvwxyz"
COSTLY = {
    "aliases": "a: &a [x, x]\n"
    + "\n".join(f"{b}: &{b} [*{a}, *{a}]" for a, b in pairwise(LEVELS))
    + "\nsubtasks: *z\ngoal: *z\nname: *z",
    "depth": "goal: " + "[" * 20_000,
}


@pytest.mark.parametrize("text", COSTLY.values(), ids=COSTLY)
def test_what_would_cost_more_than_its_length_is_refused(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(Unusable):
        read_plan_text(text, CATALOGUE)
    with pytest.raises(ConfigError, match="role file"):
        parse_role("x.md", f"---\n{text}\n---\nGo.")
    assert time.monotonic() - began < 10


def test_a_plan_that_holds_a_value_twice_is_read_back() -> None:
    same = ["x", "y"]
    one = PLAN.subtasks[0].model_copy(update={"inputs": {"a": same, "b": same}})
    text = plan_text(PLAN.model_copy(update={"subtasks": (one, *PLAN.subtasks[1:])}))
    assert read_plan_text(text, CATALOGUE)[0].subtasks[0].inputs == {"a": same, "b": same}
