"""PDF, Office files and HTML become text in the sandbox; hostile ones end there and are named."""

import io
import zipfile
from collections.abc import Callable, Iterator

import pytest
from made_files import docx, epub, paragraph, pdf, saved
from openpyxl import Workbook
from pptx import Presentation

from memory.knowledge.documents import UnreadableDocument, read_bytes
from orchestrator_cli.recall.converter import Converter
from orchestrator_cli.settings import Settings, load_settings
from toolsmith.sandbox import Limits


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings({}, tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def convert(settings: Settings) -> Iterator[Converter]:
    with Converter(settings) as converter:
        yield converter


def test_each_page_of_a_pdf_is_known_by_its_number(convert: Converter) -> None:
    document = read_bytes("bees.pdf", pdf("Bees make honey", "Wax is hard"), convert)
    assert [(part.page, part.text.strip()) for part in document.parts] == [
        (1, "Bees make honey"),
        (2, "Wax is hard"),
    ]
    assert not document.numbered


def test_a_pdf_without_text_says_so(convert: Converter) -> None:
    with pytest.raises(UnreadableDocument, match="it holds no text; its pages may be images"):
        read_bytes("scan.pdf", pdf(""), convert)


def test_headings_and_paragraphs_of_a_word_file_are_read(convert: Converter) -> None:
    file = docx(paragraph("Honey", "Heading1") + paragraph("Bees make it."))
    document = read_bytes("bees.docx", file, convert)
    assert "Honey" in document.parts[0].text
    assert "Bees make it." in document.parts[0].text


def test_sheets_and_slides_are_read_with_their_tables_and_titles(convert: Converter) -> None:
    book = Workbook()
    book.active.title = "Costs"
    for row in (["item", "euro"], ["boiler", 1200], [None, None], ["a|b", None]):
        book.active.append(row)
    (sheet,) = read_bytes("costs.xlsx", saved(book), convert).parts
    assert sheet.name == "Costs"
    assert sheet.text == "| item | euro |\n| --- | --- |\n| boiler | 1200 |\n| a\\|b |"
    show = Presentation()
    slide = show.slides.add_slide(show.slide_layouts[1])
    slide.shapes.title.text, slide.placeholders[1].text = "Roadmap", "Launch in October"
    slide.notes_slide.notes_text_frame.text = "Say it slowly"
    document = read_bytes("show.pptx", saved(show), convert)
    assert document.title == "Roadmap"
    assert document.parts[0].page == 1
    assert document.parts[0].text == "# Roadmap\n\nLaunch in October\n\nSay it slowly"


def test_a_page_of_the_web_is_read_without_its_scripts(convert: Converter) -> None:
    page = (
        b"<html><head><title>Bees &amp; wax</title></head><script>evil()</script><h2>Honey</h2><p>Sweet</p>"
    )
    document = read_bytes("https://example.org/", page, convert, "text/html")
    assert (document.title, document.parts[0].text) == ("Bees & wax", "## Honey\n\nSweet")


def test_functions_of_python_are_found_and_what_is_no_python_is_read_all_the_same(convert: Converter) -> None:
    document = read_bytes("a.py", b"class A:\n    def b(self): ...\n", convert)
    assert [(span.first, span.last, span.names) for span in document.spans] == [
        (1, 2, ("A",)),
        (2, 2, ("A", "b")),
    ]
    assert read_bytes("b.py", b"def (:\n", convert).spans == ()


def bomb(file: bytes, name: str, filling: bytes) -> bytes:
    """An Office file with 150 MB of one part, which are a few hundred kB as they stand."""
    made = io.BytesIO()
    old, new = zipfile.ZipFile(io.BytesIO(file)), zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED)
    with old, new:
        for entry in old.namelist():
            head, _, tail = old.read(entry).partition(filling)
            with new.open(entry, "w", force_zip64=True) as part:
                part.write(head)
                for _ in range(150 if entry == name else 1):
                    part.write(filling * (2**20 // len(filling) if entry == name else bool(tail)))
                part.write(tail)
    return made.getvalue()


HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "docx": ("memory|longer than", lambda: bomb(docx(paragraph("a")), "word/document.xml", b"a")),
    "xlsx": ("memory|longer than", lambda: bomb(saved(Workbook()), "xl/worksheets/sheet1.xml", b" ")),
    "html": ("RecursionError|longer than|memory", lambda: b"<div>" * 50_000 + b"deep"),
    "pdf": ("PdfStreamError|PdfReadError", lambda: pdf("Bees")[:200]),
    "epub": ("larger than", lambda: epub({"a.xhtml": "a" * 60_000_000})),
    "notebook": ("RecursionError", lambda: b'{"cells": ' + b"[" * 200_000),
    "mail": (
        "RecursionError|memory|longer than",
        lambda: b"Subject: a\n" + b"Content-Type: multipart/mixed; boundary=x\n\n--x\n" * 20_000,
    ),
    "python": ("SyntaxError|MemoryError|memory", lambda: b"x = " + b"(" * 100_000),
}


@pytest.mark.parametrize("form", HOSTILE)
def test_a_hostile_file_ends_within_the_limits_and_the_next_one_is_read(
    settings: Settings, form: str
) -> None:
    reason, make = HOSTILE[form]
    file = make()
    with Converter(settings, Limits(wall_s=4, memory_mb=300, processes=8, disk_mb=64)) as narrow:
        with pytest.raises(UnreadableDocument, match=reason) as caught:
            narrow(file, form)
        assert len(str(caught.value).splitlines()) == 1
        assert read_bytes("bees.pdf", pdf("Bees make honey"), narrow).parts[0].page == 1
