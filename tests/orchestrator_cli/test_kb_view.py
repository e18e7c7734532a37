"""How the knowledge base is told: harmless letters, few lines, citations that can be read by a program."""

from pathlib import Path

import pytest

from memory.knowledge import Found
from orchestrator_cli.recall.knowledge import cite
from orchestrator_cli.views.kb import NAMED_AT_MOST, PieceRow, Reading, piece_lines, reading_lines


def found(title: str, ref: str, **place: int | None) -> Found:
    told = {"first": None, "last": None, "page": None} | place
    return Found(ref=ref, part=3, title=title, text="", headings=(), score=1.0, **told)


@pytest.mark.parametrize(
    ("piece", "told"),
    [
        (found("Rules", "/docs/a.md", first=3, last=9), "[Rules, a.md, lines 3-9]"),
        (found("Rules", "/elsewhere/a.md", first=3, last=3), "[Rules, /elsewhere/a.md, line 3]"),
        (found("b.txt", "/docs/notes/b.txt", first=1, last=2), "[notes/b.txt, lines 1-2]"),
        (found("A [draft]\nof mine", "/docs/a.pdf", page=7), "[A (draft) of mine, a.pdf, page 7]"),
        (found("Bees", "https://example.org/bees"), "[Bees, https://example.org/bees, part 3]"),
    ],
)
def test_a_piece_is_cited_by_title_path_and_place(piece: Found, told: str) -> None:
    assert cite(piece, Path("/docs")) == told


def test_faults_are_all_named_and_of_much_that_was_skipped_the_number() -> None:
    many = [(f"{n}.png", "it is no text") for n in range(NAMED_AT_MOST + 5)]
    lines = reading_lines(Reading(0, 0, 3, [], many, [(f"{n}.pdf", "broken") for n in range(30)]))
    assert lines[0] == "Documents: 3 unchanged."
    assert "  … and 5 more" in lines
    assert sum("NOT READ" in line for line in lines) == 30


def test_what_a_document_says_cannot_act_upon_the_terminal() -> None:
    lines = piece_lines([PieceRow("[a]", "head\x1b[2Jing", "red \x1b[31mtext\x07\nmore")])
    assert lines == ["[a]", "    heading", "    red text", "    more"]
