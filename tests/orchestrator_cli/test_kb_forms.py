"""Documents as people have them are read in the sandbox, and what of one is not read is named."""

from collections.abc import Iterator
from email.message import EmailMessage

import pytest
from made_files import epub, notebook, pdf, saved
from openpyxl import Workbook
from pptx import Presentation
from pptx.util import Inches

from memory.knowledge.chunks import Document
from memory.knowledge.documents import UnreadableDocument, read_bytes
from orchestrator_cli.recall.converter import Converter
from orchestrator_cli.settings import load_settings


@pytest.fixture(scope="module")
def convert(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Converter]:
    with Converter(load_settings({}, tmp_path_factory.mktemp("workspace"))) as converter:
        yield converter


def text_of(document: Document) -> str:
    return "\n".join(part.text for part in document.parts)


# --- pages


def test_what_is_around_the_content_of_a_page_is_left_out(convert: Converter) -> None:
    page = (
        b"<title>Bees</title><body><header><p>Shop</p><h1>Honey</h1></header><nav>Home</nav>"
        b"<div role='navigation'>Next</div><article><header><p>By Ann</p></header><p>Sweet</p>"
        b"<footer>Sources</footer></article><footer>Imprint</footer></body>"
    )
    text = text_of(read_bytes("bees.html", page, convert))
    assert [word for word in ("Shop", "Home", "Next", "Imprint") if word in text] == []
    assert [word for word in ("# Honey", "By Ann", "Sweet", "Sources") if word not in text] == []


def test_a_page_with_a_main_part_is_that_part(convert: Converter) -> None:
    page = b"<div>Tags</div><main><header>Of bees</header><nav>Path</nav><p>Sweet</p></main><p>Ads</p>"
    assert text_of(read_bytes("bees.html", page, convert)) == "Of bees\n\nSweet"


def test_a_page_of_links_only_is_read_whole(convert: Converter) -> None:
    page = b"<nav><a href='/honey'>All about honey</a></nav>"
    assert "All about honey" in text_of(read_bytes("bees.html", page, convert))


# --- PDF and Office files


def test_scanned_pages_among_others_are_named(convert: Converter) -> None:
    document = read_bytes("bees.pdf", pdf("Bees make honey", "", "Wax is hard", "", ""), convert)
    assert [part.page for part in document.parts] == [1, 3]
    (unread,) = document.unread
    assert "page 2, 4-5" in unread


def test_formulas_without_a_value_are_shown_and_counted(convert: Converter) -> None:
    book = Workbook()
    book.active.title = "Costs"
    for row in (["item", "euro"], ["boiler", 1200], ["sum", "=SUM(B2:B2)"]):
        book.active.append(row)
    document = read_bytes("costs.xlsx", saved(book), convert)
    assert document.parts[0].text.endswith("| sum | =SUM(B2:B2) |")
    (unread,) = document.unread
    assert "formulas in Costs (1" in unread


def test_grouped_text_of_a_slide_is_read(convert: Converter) -> None:
    show = Presentation()
    shapes = show.slides.add_slide(show.slide_layouts[6]).shapes
    inner = shapes.add_group_shape().shapes.add_group_shape().shapes
    inner.add_textbox(0, 0, Inches(1), Inches(1)).text_frame.text = "Launch in October"
    assert text_of(read_bytes("show.pptx", saved(show), convert)) == "Launch in October"


# --- other programs


def test_a_book_is_read_chapter_by_chapter(convert: Converter) -> None:
    chapters = {
        "two.xhtml": "<h1>Wax</h1>",
        "gone.xhtml": "",
        "bad.xhtml": "<p>Old</p>",
        "one.xhtml": "Sweet",
    }
    book = bytearray(epub(chapters))
    book[book.rindex(b"OPS/bad.xhtml") - 30] ^= 0xFF  # its checksum
    document = read_bytes("bees.epub", bytes(book), convert)
    assert (document.title, [part.text for part in document.parts]) == ("Of bees", ["# Wax", "Sweet"])
    assert [why.split(" (")[0] for why in document.unread] == [
        "the chapter gone.xhtml",
        "the chapter bad.xhtml",
    ]


def test_a_book_with_a_cipher_says_so(convert: Converter) -> None:
    cipher = {
        "META-INF/encryption.xml": '<EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/>'
    }
    with pytest.raises(UnreadableDocument, match="protected"):
        read_bytes("bees.epub", epub({"one.xhtml": "<p>Sweet</p>"}, **cipher), convert)


def test_a_notebook_is_its_cells_and_the_text_they_printed(convert: Converter) -> None:
    picture = {"output_type": "display_data", "data": {"image/png": "iVBORw0K", "text/plain": "<Figure>"}}
    cells = (
        {"cell_type": "markdown", "source": ["# Bees\n", "and wax"]},
        {
            "cell_type": "code",
            "source": "print(3)",
            "outputs": [{"output_type": "stream", "text": ["3\n"]}, picture],
        },
        {
            "cell_type": "code",
            "source": "1 / 0",
            "outputs": [{"output_type": "error", "ename": "ZeroDivisionError", "evalue": "by zero"}],
        },
        {"cell_type": "code", "source": "x", "outputs": [{"data": {"text/plain": "y" * 20_000}}]},
    )
    document = read_bytes("bees.ipynb", notebook(*cells), convert)
    text = text_of(document)
    assert document.title == "Bees"
    assert "```python\nprint(3)\n```\n\n```text\n3\n```" in text
    assert "ZeroDivisionError: by zero" in text
    assert ("iVBOR" in text, "<Figure>" in text, len(text) < 11_000) == (False, False, True)
    assert [(why.split(" (")[0]) for why in document.unread] == ["outputs of cell 2", "outputs of cell 4"]


RTF = rb"""{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Arial;}}{\*\generator Word;}{\info{\title T}}
{\pict\pngblip 89504e470d0a}\f0 Honig f\'fcr \u8364?3 \u-10179?\u-9152?\par Zweite Zeile}"""


@pytest.mark.parametrize("name", ["bees.rtf", "bees.doc.txt"])
def test_rich_text_is_read_by_its_content(convert: Converter, name: str) -> None:
    assert text_of(read_bytes(name, RTF, convert)) == "Honig für €3 \U0001f440\nZweite Zeile"


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "8bit"])
@pytest.mark.parametrize("kind", ["plain", "html"])
def test_the_body_of_a_mail_is_decoded(convert: Converter, encoding: str, kind: str) -> None:
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = "Für Bienen", "Ann <ann@example.org>", "bo@example.org"
    text = (
        "Der Honig ist süß."
        if kind == "plain"
        else "<html><body><p>Der Honig ist <b>süß</b>.</p></body></html>"
    )
    mail.set_content(text, subtype=kind, cte=encoding)
    document = read_bytes("bees.eml", mail.as_bytes(), convert)
    shown = text_of(document)
    assert document.title == "Für Bienen"
    assert "From: Ann <ann@example.org>" in shown
    assert ("Der Honig ist süß." if kind == "plain" else "Der Honig ist **süß**.") in shown


def test_a_mail_with_an_empty_text_is_read_from_its_html(convert: Converter) -> None:
    mail = EmailMessage()
    mail["Subject"] = "Bees"
    mail.set_content(" \n")
    mail.add_alternative("<p>Sweet</p>", subtype="html")
    assert "Sweet" in text_of(read_bytes("bees.eml", mail.as_bytes(), convert))


def test_a_long_document_comes_in_parts_and_loses_nothing(convert: Converter) -> None:
    text = "".join(f"Bee number {n} is called Maja.\n" for n in range(40_000))
    document = read_bytes("bees.ipynb", notebook({"cell_type": "markdown", "source": text}), convert)
    assert len(document.parts) > 2
    assert "".join(part.text for part in document.parts) == text
