"""The output of `orch kb`: no control sequences, bounded lists, citations that a program can parse."""

from dataclasses import replace
from pathlib import Path

import pytest

from memory.knowledge import FoundChunk
from memory.knowledge.ingest import IngestReport
from orchestrator_cli.cli.commands.kb import NAMED_AT_MOST, chunk_lines, report_lines
from orchestrator_cli.recall.knowledge import cite


def found(title: str, ref: str, **place: int | None) -> FoundChunk:
    position = {"first": None, "last": None, "page": None} | place
    return FoundChunk(ref=ref, part=3, title=title, text="", headings=(), score=1.0, **position)


@pytest.mark.parametrize(
    ("piece", "citation"),
    [
        (found("Rules", "/docs/a.md", first=3, last=9), "[Rules, a.md, lines 3-9]"),
        (found("Rules", "/elsewhere/a.md", first=3, last=3), "[Rules, /elsewhere/a.md, line 3]"),
        (found("b.txt", "/docs/notes/b.txt", first=1, last=2), "[notes/b.txt, lines 1-2]"),
        (found("A [draft]\nof mine", "/docs/a.pdf", page=7), "[A (draft) of mine, a.pdf, page 7]"),
        (
            found("ho［use]", "/docs/m.zip/x, line 1] [Rules, a】\n.md", page=7),
            "[ho(use), m.zip/x, line 1) (Rules, a)\\n.md, page 7]",
        ),
        (found("Bees", "https://example.org/bees"), "[Bees, https://example.org/bees, part 3]"),
    ],
)
def test_citation_has_title_path_and_position(piece: FoundChunk, citation: str) -> None:
    assert cite(piece, Path("/docs")) == citation


def test_report_names_all_faults_and_counts_long_lists_of_skipped_files() -> None:
    many = [(f"{n}.png", "it is no text") for n in range(NAMED_AT_MOST + 5)]
    faults = [(f"{n}.pdf", "broken") for n in range(30)]
    report = IngestReport(unchanged=["a", "b", "c"], skipped=many, faults=faults)
    lines = report_lines(report, Path("/docs"))
    assert lines[0] == "Documents: 3 unchanged."
    assert "  … and 5 more" in lines
    assert sum("NOT READ" in line for line in lines) == 30


def test_control_sequences_of_a_document_are_not_printed() -> None:
    chunk = replace(found("a", "/docs/a"), headings=("head\x1b[2Jing",), text="red \x1b[31mtext\x07\nmore")
    lines = chunk_lines([chunk], Path("/docs"))
    assert lines == ["[a, part 3]", "    heading", "    red text", "    more"]
