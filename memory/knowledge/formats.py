"""Converts documents of other programs to Markdown. This source file is sent to the sandbox and runs there.

    read_document("/workspace/document", "pdf")     # returns values that JSON can hold

Foreign files are hostile: zip bombs, endless pages, unbounded nesting. So the host never imports this module;
it sends the source to a sandbox with limits on time and memory and receives text. The module imports nothing
of ours, and each library only when a file needs it.

What is not covered: images and the text in them, formulas (their last value is read), comments, macros,
attachments, old Office files (.doc, .xls, .ppt).
"""

import ast
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

MAX_CHARS = 4_000_000


def read_document(path: str, form: str) -> dict[str, Any]:
    """Return `title` and `parts`: Markdown texts, each with its `page` or `name` if it has one.

    For Python, return `spans` instead of `parts`: first and last line of each function and class, with its
    qualified name as a list. Raises what the libraries raise, and `ValueError` with a plain reason.
    """
    title, found = _READERS[form](path)
    if form == "python":
        return {"title": title, "spans": list(found)}
    parts, chars = [], 0
    for part in found:
        chars += len(part["text"])
        if chars > MAX_CHARS:
            raise ValueError(f"it holds more than {MAX_CHARS:,} characters of text; split it")
        if part["text"].strip():
            parts.append(part)
    if not parts:
        raise ValueError("it holds no text" + ("; its pages may be images" if form == "pdf" else ""))
    return {"title": title, "parts": parts}


def _from_html(html: bytes | str) -> tuple[str, list[dict[str, Any]]]:
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    soup = BeautifulSoup(html, "html.parser")
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    for unread in soup(["script", "style", "template", "noscript", "head", "title", "svg", "iframe"]):
        unread.decompose()
    text = str(MarkdownConverter(heading_style="ATX", strip=["img"]).convert_soup(soup))
    return title, [{"text": re.sub(r"\n{3,}", "\n\n", text).strip()}]


def _pdf(path: str) -> tuple[str, Iterable[dict[str, Any]]]:
    from pypdf import PdfReader

    reader = PdfReader(path)
    if reader.is_encrypted and not reader.decrypt(""):
        raise ValueError("it is protected by a password")
    title = str((reader.metadata.title if reader.metadata else "") or "")
    pages = ({"text": page.extract_text(), "page": number} for number, page in enumerate(reader.pages, 1))
    return title, pages


def _docx(path: str) -> tuple[str, Iterable[dict[str, Any]]]:
    import mammoth

    with Path(path).open("rb") as file:
        # Without this, every image would be inlined as text.
        html = mammoth.convert_to_html(file, convert_image=mammoth.images.img_element(lambda _: {})).value
    return "", _from_html(html)[1]


def _xlsx(path: str) -> tuple[str, Iterable[dict[str, Any]]]:
    from openpyxl import load_workbook

    # Given a path, openpyxl would insist on a known file extension.
    book = load_workbook(
        io.BytesIO(Path(path).read_bytes()), read_only=True, data_only=True, keep_links=False
    )
    title = str(book.properties.title or "")
    sheets = ({"text": _table(sheet.iter_rows(values_only=True)), "name": sheet.title} for sheet in book)
    return title, sheets


def _pptx(path: str) -> tuple[str, Iterable[dict[str, Any]]]:
    from pptx import Presentation

    show = Presentation(path)
    slides = (
        {"text": "\n\n".join(_slide(slide)), "page": number} for number, slide in enumerate(show.slides, 1)
    )
    return str(show.core_properties.title or ""), slides


def _slide(slide: Any) -> Iterator[str]:
    heading = slide.shapes.title
    if heading is not None and heading.text_frame.text.strip():
        yield f"# {' '.join(heading.text_frame.text.split())}"
    for shape in slide.shapes:
        if heading is not None and shape.shape_id == heading.shape_id:
            continue
        if shape.has_text_frame:
            yield shape.text_frame.text
        elif getattr(shape, "has_table", False):
            yield _table([cell.text for cell in row.cells] for row in shape.table.rows)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        yield slide.notes_slide.notes_text_frame.text


def _table(rows: Iterable[Iterable[Any]]) -> str:
    """The rows that are not empty, as a Markdown table whose header is the first row."""
    lines, chars, wide = [], 0, 0
    for row in rows:
        cells = ["" if cell is None else " ".join(str(cell).replace("|", "\\|").split()) for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        if not cells:
            continue
        wide = max(wide, len(cells))
        chars += sum(map(len, cells))
        if chars > MAX_CHARS:
            raise ValueError(f"a sheet holds more than {MAX_CHARS:,} characters of text; split it")
        lines.append(f"| {' | '.join(cells)} |")
    if lines:
        lines.insert(1, f"|{' --- |' * wide}")
    return "\n".join(lines)


def _python(path: str) -> tuple[str, Iterable[list[Any]]]:
    tree = ast.parse(Path(path).read_bytes())
    summary = (ast.get_docstring(tree) or "").split("\n\n")[0]
    return " ".join(summary.split()), _spans(tree.body, [])


def _spans(body: list[ast.stmt], names: list[str]) -> Iterator[list[Any]]:
    """The spans of functions, classes and their methods."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield [first, node.end_lineno, [*names, node.name]]
            if isinstance(node, ast.ClassDef):
                yield from _spans(node.body, [*names, node.name])


_READERS: dict[str, Any] = {
    "html": lambda path: _from_html(Path(path).read_bytes()),
    "pdf": _pdf,
    "docx": _docx,
    "xlsx": _xlsx,
    "pptx": _pptx,
    "python": _python,
}
