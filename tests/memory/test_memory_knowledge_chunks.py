"""Documents are parted by their structure, leave nothing out, and know where each piece stands."""

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.knowledge.chunks import (
    MAX_CHARS,
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

LONG = " ".join(f"Sentence number {n} says little." for n in range(100))


def markdown(text: str) -> list[Chunk]:
    return split_document(Document("a", "markdown", (DocumentPart(textwrap.dedent(text)),)))


def words(text: str) -> list[str]:
    return text.split()


def test_sections_part_a_text_and_lead_to_their_pieces() -> None:
    first, second = markdown(f"# Bees\n\n## Honey\n\n{LONG[:900]}\n\n## Wax\n\n{LONG[:900]}\n")
    assert (first.headings, second.headings) == (("Bees", "Honey"), ("Bees", "Wax"))
    assert (first.first, first.last) == (1, 5)
    assert second.text.startswith("## Wax")
    assert (second.first, second.last) == (7, 9)


def test_short_sections_stand_together_under_what_they_have_in_common() -> None:
    (piece,) = markdown("# Bees\n\n## Honey\n\nSweet.\n\n## Wax\n\nHard.\n")
    assert piece.headings == ("Bees",)
    assert "Sweet." in piece.text
    assert "Hard." in piece.text


def test_a_title_alone_is_no_piece() -> None:
    pieces = markdown(f"# Bees\n\n{LONG}\n")
    assert all("Sentence" in piece.text for piece in pieces)


def test_a_hash_in_a_block_of_code_is_no_heading() -> None:
    (piece,) = markdown("# Real\n\n```\n# not one\n```\n")
    assert piece.headings == ("Real",)


def test_a_table_is_parted_between_rows_and_keeps_its_head() -> None:
    rows = "\n".join(f"| row {n} | {'x' * 40} |" for n in range(200))
    pieces = markdown(f"| name | value |\n| --- | --- |\n{rows}\n")
    assert len(pieces) > 3
    for piece in pieces:
        lines = piece.text.split("\n")
        assert lines[:2] == ["| name | value |", "| --- | --- |"]
        assert all(line.endswith(" |") for line in lines)
    assert pieces[1].first == (pieces[0].last or 0) + 1


def test_text_is_parted_at_the_ends_of_sentences() -> None:
    pieces = split_document(Document("a", "text", (DocumentPart(LONG),)))
    assert len(pieces) > 1
    assert all(piece.text.endswith(".") and piece.first == piece.last == 1 for piece in pieces)


def test_a_page_belongs_to_its_pieces_and_a_sheet_leads_to_them() -> None:
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


def test_functions_of_python_are_pieces_and_large_classes_are_parted_into_methods() -> None:
    found = {block.headings: block for block in python_blocks(CODE, SPANS, MAX_CHARS)}
    assert found[("small",)].text.startswith("# Above it, and its own.\n@cached\n")
    assert found[("Large",)].text == 'class Large:\n    """A class."""'
    assert (found[("Large", "two")].first, found[("Large", "two")].last) == (19, 20)
    whole = python_blocks(CODE, SPANS, 10 * MAX_CHARS)
    assert [block.headings for block in whole] == [(), ("small",), ("Large",)]


def test_other_code_is_parted_where_a_line_begins_without_indentation() -> None:
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
def test_no_word_is_lost_and_no_piece_is_too_long(lines: list[str], form: str) -> None:
    text = "\n".join(lines)
    found = split_document(Document("a", form, (DocumentPart(text),)))  # type: ignore[arg-type]
    assert "".join(words("".join(piece.text + "\n" for piece in found))) == "".join(words(text))
    assert all(len(piece.text) <= MAX_CHARS for piece in found)


@given(LINES)
def test_the_lines_of_a_piece_are_those_of_the_file(lines: list[str]) -> None:
    for block in (*markdown_blocks("\n".join(lines)), *text_blocks("\n".join(lines))):
        assert block.text == "\n".join(lines[block.first - 1 : block.last])


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
def test_lines_end_as_on_any_system(ending: str) -> None:
    (piece,) = split_document(Document("a", "text", (DocumentPart(f"one{ending}two"),)))
    assert (piece.text, piece.last) == ("one\ntwo", 2)
