"""The same function written a third time: what counts as the same, and what the reviser hears of it."""

import pytest
from command import Orch
from endpoint import Endpoint
from scripted_model import Cast, code, coder, decided, plan

from orchestrator_cli.events import CodeRan, Fact
from orchestrator_cli.state.duplicate_code import DuplicateCodeDetector, functions_in

PARSE = '''
def parse(line, sep=","):
    """Parse a line."""
    cells = []
    for cell in line.split(sep):
        cells.append(cell.strip())  # no blanks
    return cells
'''


def ran(text: str, subtask: str = "one", step: int = 1) -> CodeRan:
    return CodeRan(subtask=subtask, attempt=1, step=step, code=text, output="")


def marks(text: str) -> list[str]:
    return [written.mark for written in functions_in(text)]


@pytest.mark.parametrize(
    "same",
    [
        "def f(text, by=','):\n  got = []\n  for x in text.split(by): got.append(x.strip())\n  return got",
        PARSE.replace("# no blanks", "# strip"),
        PARSE.replace('    """Parse a line."""\n', ""),
        PARSE.replace("(line, sep=", "(line: str, sep: str =").replace("):", ") -> list[str]:", 1),
        PARSE.replace("cells = []", "cells: list[str] = []"),
        f"x = 1\nclass Reader:\n    {PARSE.strip().replace(chr(10), chr(10) + '    ')}",
    ],
    ids=["locals and formatting", "comments", "docstring", "annotations", "annotated local", "method"],
)
def test_names_of_locals_comments_docstrings_and_formatting_do_not_count(same: str) -> None:
    assert marks(same) == marks(PARSE) != []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cell.strip()", "cell.lstrip()"),
        ('sep=","', 'sep=";"'),
        ("return cells", "return len(cells)"),
        ("cells.append(cell.strip())", "line.append(cell.strip())"),
        ("line.split(sep)", "LINE.split(sep)"),
    ],
)
def test_what_a_function_does_counts(old: str, new: str) -> None:
    assert marks(PARSE.replace(old, new)) != marks(PARSE)


def test_two_locals_that_change_places_are_another_function() -> None:
    minus = "def f(a, b):\n    c = a - b\n    print(c)\n    return c"
    assert marks(minus) != marks(minus.replace("a - b", "b - a"))
    assert marks(minus) == marks(minus.replace("(a, b)", "(b, a)").replace("a - b", "b - a"))


def test_imports_and_globals_keep_their_names() -> None:
    text = "def f(t):\n    import json as j\n    global SEEN\n    SEEN = j.loads(t)\n    return SEEN"
    assert marks(text) == marks(text.replace("json as j", "json as k").replace("j.loads", "k.loads"))
    assert marks(text) != marks(text.replace("import json", "import pickle"))
    assert marks(text) != marks(text.replace("SEEN", "OTHER"))


@pytest.mark.parametrize(
    "text", ["def f(x):\n    y = x\n    return y", "f = 1", "def f(:", "def f(): pass", "("]
)
def test_what_is_short_or_no_python_is_passed_over(text: str) -> None:
    assert marks(text) == []


def test_a_function_within_another_is_a_part_of_it() -> None:
    inner = PARSE.strip().replace("\n", "\n    ")
    assert len(marks(f"def outer(lines):\n    {inner}\n    return [parse(line) for line in lines]")) == 1


def test_third_time_is_reported_once_and_a_step_counts_once() -> None:
    repeats = DuplicateCodeDetector()
    assert repeats.note(ran(PARSE + PARSE)) == ()
    assert repeats.note(ran("x = 1\n" + PARSE, "two")) == ()
    (noticed,) = repeats.note(ran(PARSE.replace("parse", "split"), "three"))
    assert (noticed.subtask, noticed.function) == ("three", "split")
    assert repeats.note(ran(PARSE, "four")) == ()


def test_facts_of_earlier_processes_count() -> None:
    past: list[Fact] = [ran(PARSE), ran(PARSE, step=2)]
    (noticed,) = DuplicateCodeDetector(past).note(ran(PARSE))
    assert DuplicateCodeDetector([*past, ran(PARSE), noticed]).note(ran(PARSE)) == ()


THRICE = [coder("one"), coder("two", ["one"]), coder("three", ["two"]), coder("four", ["three"])]
AGENTS = {
    f"Do {name}": [code(f"{PARSE.replace('cells', f'cells_{name}')}\nfinal_answer(parse('a, b'))")]
    for name in ("one", "two", "three", "four")
}


def test_reviser_hears_of_a_function_written_a_third_time(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[plan(*THRICE)], agents=AGENTS, reviser=[decided("keep", "One is left.")])
    assert orch("ask", "Parse them.").code == 0
    (event,) = orch.events("FunctionRepeated")
    assert (event["subtask"], event["function"]) == ("three", "parse")
    (asked,) = endpoint.of("reviser")
    assert "three wrote the same function: the same function was written three times" in asked.text
    assert "a tool would serve" in asked.text
    assert "the same function a third time" in orch.log


def test_revise_never_asks_no_reviser_about_it(orch: Orch, endpoint: Endpoint) -> None:
    endpoint.reply = Cast(planner=[plan(*THRICE)], agents=AGENTS)
    assert orch("ask", "Parse them.", ORCH_REVISE="never").code == 0
    assert len(orch.events("FunctionRepeated")) == 1


def test_a_hint_neither_ends_a_run_at_its_limit_nor_asks_where_nothing_is_left(
    orch: Orch, endpoint: Endpoint
) -> None:
    endpoint.reply = Cast(
        planner=[plan(*THRICE), plan(*THRICE[:3])],
        agents={title: lines * 2 for title, lines in AGENTS.items()},
        answer=["All is done.", "All is done."],
    )
    assert orch("ask", "Parse them.", ORCH_MAX_REVISIONS="0").code == 0
    assert orch("ask", "Parse them.").code == 0
