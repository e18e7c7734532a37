"""Documents are parted by their structure, leave nothing out, and know the place of each piece."""

import textwrap
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.knowledge.chunks import (
    MAX_CHARS,
    MAX_HEADING,
    SEGMENT_CHARS,
    Chunk,
    Document,
    DocumentPart,
    Span,
    code_blocks,
    markdown_blocks,
    python_blocks,
    split_document,
    text_blocks,
)
from memory.knowledge.documents import read_bytes

LONG = " ".join(f"Sentence number {n} says little." for n in range(100))


def markdown(text: str) -> list[Chunk]:
    return split_document(Document("a", "markdown", (DocumentPart(textwrap.dedent(text)),)))


def words(text: str) -> list[str]:
    return text.split()


def test_chunks_follow_sections_and_have_their_headings() -> None:
    first, second = markdown(f"# Bees\n\n## Honey\n\n{LONG[:900]}\n\n## Wax\n\n{LONG[:900]}\n")
    assert (first.headings, second.headings) == (("Bees", "Honey"), ("Bees", "Wax"))
    assert (first.first, first.last) == (1, 5)
    assert second.text.startswith("## Wax")
    assert (second.first, second.last) == (7, 9)


def test_short_sections_are_joined_under_common_headings() -> None:
    (piece,) = markdown("# Bees\n\n## Honey\n\nSweet.\n\n## Wax\n\nHard.\n")
    assert piece.headings == ("Bees",)
    assert "Sweet." in piece.text
    assert "Hard." in piece.text


def test_a_heading_alone_is_not_a_chunk() -> None:
    pieces = markdown(f"# Bees\n\n{LONG}\n")
    assert all("Sentence" in piece.text for piece in pieces)


def test_a_hash_in_a_code_block_is_not_a_heading() -> None:
    (piece,) = markdown("# Real\n\n```\n# not one\n```\n")
    assert piece.headings == ("Real",)


def test_a_table_is_split_between_rows_with_its_header() -> None:
    rows = "\n".join(f"| row {n} | {'x' * 40} |" for n in range(200))
    pieces = markdown(f"| name | value |\n| --- | --- |\n{rows}\n")
    assert len(pieces) > 3
    for piece in pieces:
        lines = piece.text.split("\n")
        assert lines[:2] == ["| name | value |", "| --- | --- |"]
        assert all(line.endswith(" |") for line in lines)
    assert pieces[1].first == (pieces[0].last or 0) + 1


def test_text_is_split_at_sentences() -> None:
    pieces = split_document(Document("a", "text", (DocumentPart(LONG),)))
    assert len(pieces) > 1
    assert all(piece.text.endswith(".") and piece.first == piece.last == 1 for piece in pieces)


def test_chunks_have_their_page_and_sheet() -> None:
    parts = (
        DocumentPart("first page", page=1),
        DocumentPart("second page", page=2),
        DocumentPart("| a |", name="Costs"),
    )
    one, two, three = split_document(Document("a", "markdown", parts, numbered=False))
    assert (one.page, two.page, three.headings, one.first) == (1, 2, ("Costs",), None)


CODE = textwrap.dedent('''\
    """Says what it does."""
    import os

    LIMIT = 3


    # Above it, and its own.
    @cached
    def small():
        return 1


    class Large:
        """A class."""

        def one(self):
            return "{one}"

        def two(self):
            return "{two}"
    ''').format(one="1" * 1000, two="2" * 1000)
SPANS = (
    Span(8, 10, ("small",)),
    Span(13, 20, ("Large",)),
    Span(16, 17, ("Large", "one")),
    Span(19, 20, ("Large", "two")),
)


def test_python_is_split_by_functions_and_methods() -> None:
    found = {block.headings: block for block in python_blocks(CODE, SPANS, MAX_CHARS)}
    assert found[("small",)].text.startswith("# Above it, and its own.\n@cached\n")
    assert found[("Large",)].text == 'class Large:\n    """A class."""'
    assert (found[("Large", "two")].first, found[("Large", "two")].last) == (19, 20)
    whole = python_blocks(CODE, SPANS, 10 * MAX_CHARS)
    assert [block.headings for block in whole] == [(), ("small",), ("Large",)]


def test_other_code_is_split_at_unindented_lines() -> None:
    blocks = code_blocks("int a() {\n  x();\n\n  y();\n}\n\nint b() {\n}\n")
    assert [block.first for block in blocks] == [1, 7]


LINE = st.sampled_from(
    [
        *("", "word", "# head", "## below", "- item", "| a | b |"),
        *("```", "    code", "[a]: b", "x" * 3000),
    ]
)
LINES = st.lists(LINE, max_size=30)


@given(LINES, st.sampled_from(["markdown", "text", "code", "python"]))
def test_chunks_lose_no_word_and_are_bounded(lines: list[str], form: str) -> None:
    text = "\n".join(lines)
    found = split_document(Document("a", form, (DocumentPart(text),)))  # type: ignore[arg-type]
    assert "".join(words("".join(piece.text + "\n" for piece in found))) == "".join(words(text))
    assert all(len(piece.text) <= MAX_CHARS for piece in found)


@given(LINES)
def test_chunk_lines_are_those_of_the_file(lines: list[str]) -> None:
    for block in (*markdown_blocks("\n".join(lines)), *text_blocks("\n".join(lines))):
        assert block.text == "\n".join(lines[block.first - 1 : block.last])


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
def test_all_line_endings_are_understood(ending: str) -> None:
    (piece,) = split_document(Document("a", "text", (DocumentPart(f"one{ending}two"),)))
    assert (piece.text, piece.last) == ("one\ntwo", 2)


MANY = 60_000
"""Characters: time that grows with the square of it is minutes."""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.md", f"# {'#' * MANY}x\nhello"),
        ("a.md", f"#{' ' * MANY}\nhello"),
        ("a.csv", f"a,b\n{' ' * MANY}{'-' * MANY}x\n1,2"),
        ("a.csv", f"a,b\n{'|' * MANY}x\n1,2"),
        ("a.md", f"---\n{'--- ' * (MANY // 4)}"),
        ("a.txt", f"a.{' ' * MANY}x"),
    ],
)
def test_the_time_for_a_text_grows_with_its_length(name: str, text: str) -> None:
    started = time.process_time()
    assert split_document(read_bytes(name, text.encode(), lambda _, __: {}))
    assert time.process_time() - started < 5


def test_a_long_heading_is_not_repeated_whole_in_each_chunk() -> None:
    text = f"# {'a' * 50_000}\n\n{'b ' * 50_000}"
    document = read_bytes("a.md", text.encode(), lambda _, __: {})
    assert len(document.title) == MAX_HEADING
    assert {len(name) for chunk in split_document(document) for name in chunk.headings} == {MAX_HEADING}


def test_long_markdown_keeps_its_headings_and_lines_and_its_code_whole() -> None:
    rule = "## Rule {}\n\nIt forbids crocodiles.\n\n```\n# no heading\n\n# nor this\n```\n\n"
    text = "# Rules\n\n" + "".join(rule.format(n) for n in range(SEGMENT_CHARS // 40))
    blocks = markdown_blocks(text)
    lines = text.split("\n")
    assert {block.headings[0] for block in blocks} == {"Rules"}
    assert {len(block.headings) for block in blocks} == {1, 2}
    assert all(block.text == "\n".join(lines[block.first - 1 : block.last]) for block in blocks)
    assert sum(block.kind == "code" for block in blocks) == SEGMENT_CHARS // 40
