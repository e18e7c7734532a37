"""The code of a reply: no content of the code ends it, and slips of form are repaired."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_cli.execution.code_block import find_code, thought_of

LINES = [
    "</code>",
    "<code>",
    "<code>x</code>",
    " </code> ",
    "```",
    "```python",
    "</code",
    "Observation:",
    "x",
]
PAGE = "page = '''<pre>\n<code>x</code>\n</code>\n```\n'''\nfinal_answer(page)"


@given(st.lists(st.sampled_from(LINES), max_size=8), st.booleans())
def test_no_content_ends_the_block(lines: list[str], is_comment: bool) -> None:
    if is_comment:
        code = "\n".join(f"# {line}" for line in lines) + "\nfinal_answer(1)"
    else:
        code = "page = '''\n" + "\n".join(lines) + "\n'''\nfinal_answer(page)"
    for reply in (
        f"Thought: on.\n<code>\n{code}\n</code>",
        f"Thought: on.\n<code>\n{code}\n</code>\nObservation:\nfine\n<code>\nfinal_answer(2)\n</code>",
        f"Thought: on.\n<code>\n```python\n{code}\n```\n</code>",
        f"Thought: on.\n<code>\n{code}\n</code",
        f"Thought: on.\n<code>\n{code}",
    ):
        found = find_code(reply)
        assert found is not None
        assert found.code.strip() == code.strip()
        assert thought_of(reply) == "on."


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("go <code>print(1)</code>", "print(1)"),
        ("go <code>print(1)</code> and <code>print(2)</code>", "print(1)"),
        ("go\n<code>\nprint(1)</code>\nObservation:\n1\n<code>\nprint(2)\n</code>", "print(1)"),
        ("I write `<code>` and `</code>`.\n<code>\nprint(1)\n</code>", "print(1)"),
        ("see `<code>` <code>print(1)</code>", "print(1)"),
        ("```python\nprint(1)\n```", "print(1)"),
        ("```\nprint(1)\n```", "print(1)"),
        ("```\n<code>\nprint(1)\n</code>\n```", "print(1)"),
        ("```python\nold()\n```\n<code>\nprint(1)\n</code>", "print(1)"),
        ("```json\n{}\n```\nNow:\n<code>\nprint(1)\n</code>", "print(1)"),
        (f"go\n```python\n{PAGE}\n```\nbye", PAGE),
        (PAGE, PAGE),
        ("go\n<code>\n# the tag </code> ends it\nx = 1\n</code>", "# the tag </code> ends it\nx = 1"),
        ("go\n<code>\npage = '<code>x</code>\nprint(1)\n</code>", "page = '<code>x</code>\nprint(1)"),
    ],
)
def test_the_code_that_was_meant_is_found(reply: str, code: str) -> None:
    found = find_code(reply)
    assert found is not None
    assert found.code == code


@pytest.mark.parametrize("reply", ["", "Done", "The answer is 42.", "42", "<code>\n</code>"])
def test_a_reply_without_code_has_none(reply: str) -> None:
    assert find_code(reply) is None


def test_a_block_without_its_end_may_be_cut() -> None:
    closed, cut = find_code("<code>\nprint(1)\n</code>"), find_code("<code>\nprint(1)\n")
    assert closed is not None
    assert cut is not None
    assert (closed.is_closed, cut.is_closed) == (True, False)


@pytest.mark.parametrize("junk", ["<code>(</code> ", "\n<code>(\n</code>", "<code>(", " <", "```python\n"])
def test_a_reply_full_of_tags_is_read_in_bounded_time(junk: str) -> None:
    find_code(junk * 3_000)
