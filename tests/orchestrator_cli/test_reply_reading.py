"""Reading replies, without a model: thoughts in pieces, repetition, and JSON with slips."""

import contextlib
import json
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_cli.durable.json_text import json_from_reply
from orchestrator_cli.execution.code_block import find_code
from orchestrator_cli.models.repetition import RepetitionWatch
from orchestrator_cli.models.thoughts import ThoughtSplitter, split_thoughts

PARTS = (
    "<think>",
    "</think>",
    "<thin",
    "<code>",
    "</code>",
    "```",
    "```json",
    "\n",
    " ",
    "a",
    '"',
    "`",
    "hm",
    "<",
)
TEXTS = st.lists(st.sampled_from(PARTS), max_size=25).map("".join)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(1, 7))
def test_the_pieces_of_a_reply_do_not_matter(text: str, size: int) -> None:
    splitter, whole = ThoughtSplitter(), ThoughtSplitter()
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    assert "".join(map(splitter.feed, parts)) + splitter.end() == whole.feed(text) + whole.end()
    assert splitter.thoughts == whole.thoughts


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_nothing_is_lost_and_text_without_tags_is_unchanged(text: str) -> None:
    split = split_thoughts(text)
    assert sum(map(split.text.count, "ahm")) + sum(map(split.thoughts.count, "ahm")) >= text.count("hm")
    plain = text.replace("think", "")
    assert split_thoughts(plain).text == plain


# --- repetition

WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda")
DICE = random.Random(1)
HONEST = {
    "rows": "\n".join(f"{n},{DICE.randint(0, 1)},0,0" for n in range(3_000)),
    "equal rows": "a,b\n" + "0,0\n" * 400,
    "a wide table": f"| {'x' * 40} |\n|{'-' * 1_500}|\n" + "\n".join(f"| {n} | ok |" for n in range(400)),
    "a ruler": "=" * 1_500,
    "results": "\n".join(f"tests/test_{n}.py::test_it PASSED" for n in range(500)),
    "a matrix": json.dumps([[int(i == j) for i in range(40)] for j in range(40)], indent=1),
    "boilerplate": "\n".join(f"def test_{n}():\n    assert run('{n}') == 0\n" for n in range(300)),
    "prose": " ".join(DICE.choice(WORDS) for _ in range(3_000)),
    "lines of a poem": "Row, row, row your boat\nGently down the stream\n" * 12,
    "closing brackets": "\n".join("]" for _ in range(100)),
    "blank lines": "a\n" + "\n" * 1_000,
}
LOOPING = {
    "a sentence": "I should look at the files first. " * 100,
    "a paragraph": f"{' '.join(WORDS)} and then it is done.\n\n" * 60,
    "a long paragraph": f"{' '.join((*WORDS,) * 8)}.\n" * 20,
    "two lines": "First I read the file.\nThen I write the file.\n" * 80,
    "dashes": "|" + "-" * 4_000,
    "zeros": "0." + "0" * 3_000,
    "blanks": "{}" + " \n" * 3_000,
    "tokens": "the the the " * 400,
}


def watched(text: str) -> bool:
    watch = RepetitionWatch()
    return any(watch.feed(text[at : at + 5]) for at in range(0, len(text), 5))


@pytest.mark.parametrize("text", HONEST.values(), ids=HONEST)
def test_honest_repetition_is_left(text: str) -> None:
    assert not watched(text)


@pytest.mark.parametrize("text", LOOPING.values(), ids=LOOPING)
@pytest.mark.parametrize("before", ["", HONEST["prose"]], ids=["at once", "after prose"])
def test_a_loop_is_noticed(text: str, before: str) -> None:
    assert watched(f"{before}\n{text}")


# --- JSON

OBJECTS = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.recursive(
        st.integers(0, 9) | st.text("xy z", max_size=4), lambda v: st.lists(v, max_size=3), max_leaves=6
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=100, deadline=None)
@given(OBJECTS, st.data())
def test_no_repair_makes_a_cut_object_shorter(value: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps({**value, "last": [{"id": 1}, {"id": 2}]}).replace("{", "{ // note\n", 1)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    with pytest.raises(ValueError, match=r"JSON"):
        json_from_reply(cut, (), lambda _: None)


@settings(max_examples=100, deadline=None)
@given(OBJECTS)
def test_a_repair_gives_what_was_meant(value: dict[str, Any]) -> None:
    repairs: list[str] = []
    text = json.dumps(value)[:-1] + ",}"
    assert json_from_reply(text, (), repairs.append) == value
    assert len(repairs) == 1
    with pytest.raises(ValueError, match=r"not valid JSON"):
        json_from_reply(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a' * 50_000,
        "{" * 200_000,
        '{"a"} ' * 5_000,
        "{'a':" * 20_000 + "1" + "}" * 20_000,
        '{"a": "' + 'x" y' * 20_000 + '"}',
        '{"a": [' + "(" * 90_000 + "}",
        "{" + ",".join(f'"{n}":1' for n in range(60_000)) + ',"59999":1}',
    ],
    ids=["openings", "braces", "many", "deep", "quotes", "parentheses", "twice"],
)
def test_no_reply_takes_long_to_read(text: str) -> None:
    began = time.process_time()
    with contextlib.suppress(ValueError):
        json_from_reply(text, (), lambda _: None)
    assert time.process_time() - began < 10


@pytest.mark.parametrize("line", ["a</think>", "</think>\n", "a\n", "\r\n", "<think></think>\n", "```\n"])
def test_no_thoughts_take_long_to_find(line: str) -> None:
    text = line * (250_000 // len(line))
    began = time.process_time()
    split_thoughts(text)
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    "text",
    [
        "Well.\n<code>\nx = [" + "1," * 40_000 + '"""\n' + "</code>\n" * 1_000,
        "<think>" + "<code>x</code>" * 15_000,
        "Well. <code>" + "x = 1\n" * 15_000 + "?</code>" * 1_000,
        "```\n" * 60_000,
    ],
    ids=["ends", "within", "late", "fences"],
)
def test_no_code_takes_long_to_find(text: str) -> None:
    began = time.process_time()
    find_code(text)
    assert time.process_time() - began < 20
