"""Converts documents of other programs to Markdown. This source file is sent to the sandbox and runs there.

    read_document("/workspace/document", "pdf")     # returns values that JSON can hold
    read_on()                                       # the rest of a long one, as long as there is `more`

Foreign files are hostile: zip bombs, endless pages, unbounded nesting. So the host never imports this module;
it sends the source to a sandbox with limits on time and memory and receives text. The module imports nothing
of ours, and each library only when a file needs it.

What of a file is not read is named in `unread`: pages that are images, cells without a value, cut outputs.

What is not covered: images and the text in them, formulas that have a value (the value is read), comments,
macros, footnotes of RTF, old Office files (.doc, .xls, .ppt). Files within files are for `containers`.
"""

import ast
import io
import json
import posixpath
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

MAX_CHARS = 50_000_000
BATCH_CHARS = 500_000
"""Of the text of one reply, and of a part of it. A reply must fit into a message of the sandbox."""
OUTPUT_CHARS = 10_000
"""Of an output of a notebook."""
MAX_PART_BYTES = 50 * 2**20
"""Of a chapter of a book, unpacked."""
FEW_CHARS = 30
"""A page that is an image may have a number, or the name of a scanner, as text."""

_rest: Iterator[dict[str, Any]] = iter(())
"""The parts of the current document that were not returned yet."""


def read_document(path: str, form: str) -> dict[str, Any]:
    """Return `title`, and `parts`, `unread` and `more` as `read_on` does.

    For Python, return `spans` instead: first and last line of each function and class, with its qualified
    name as a list. Raises what the libraries raise, and `ValueError` with a plain reason.
    """
    global _rest  # noqa: PLW0603  (the state of one reader in a process of its own)
    title, found = _READERS[form](path)
    if form == "python":
        return {"title": title, "spans": list(found)}
    _rest = _bounded(found)
    reply = read_on()
    if not reply["parts"]:
        unread = "its pages may be images" if form == "pdf" else "; ".join(reply["unread"])
        raise ValueError("; ".join(filter(None, ["it holds no text", unread])))
    return {"title": title, **reply}


def read_on() -> dict[str, Any]:
    """Return the next `parts`: Markdown texts, each with its `page` or `name` if it has one.

    `unread` names what was not read, with the reason, and `more` whether parts are left.
    """
    parts: list[dict[str, Any]] = []
    unread, empty, chars = list[str](), list[int](), 0
    for part in _rest:
        text = part.setdefault("text", "")
        unread += part.pop("unread", ())
        if part.pop("is_image", False) or (not text.strip() and "page" in part):
            empty.append(part["page"])
        if text.strip():
            parts.append(part)
            chars += len(text)
        if chars >= BATCH_CHARS:
            break
    if empty:
        unread.append(f"page {_ranges(empty)} (little or no text; it may be an image)")
    return {"parts": parts, "unread": unread, "more": chars >= BATCH_CHARS}


def _bounded(found: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The parts, the long ones in pieces. Raises `ValueError` if there is too much text."""
    chars = 0
    for part in found:
        text = part.get("text", "")
        chars += len(text)
        if chars > MAX_CHARS:
            raise ValueError(f"it holds more than {MAX_CHARS:,} characters of text; split it")
        while len(text) > BATCH_CHARS:
            end = text.rfind("\n", 0, BATCH_CHARS) + 1 or BATCH_CHARS
            yield {**part, "text": text[:end], "unread": ()}
            text = text[end:]
        yield {**part, "text": text}


def _ranges(numbers: list[int]) -> str:
    """`1, 3-5`."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)


# --- pages of the web, and of books

_UNSEEN = ["script", "style", "template", "noscript", "head", "title", "svg", "iframe"]
_MENUS = "nav, [role=navigation], [role=search]"
_AROUND = "header, footer, [role=banner], [role=contentinfo]"
"""Of the page, unless they are those of an article in it."""


def _from_html(html: bytes | str, *, is_page: bool = False) -> tuple[str, list[dict[str, Any]]]:
    """The title and the text; of a page without its menus, header and footer, unless it has nothing else."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(html, "html.parser")
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    for unread in soup(_UNSEEN):
        unread.decompose()
    if not is_page:
        return title, [{"text": _markdown(soup)}]
    for menu in soup.select(_MENUS):
        menu.decompose()
    for around in soup.select(_AROUND):
        if around.parent is not None and around.find_parent(("article", "main", "section")) is None:
            # The header of a page may hold the only heading.
            around.replace_with(*(found.extract() for found in around("h1")))
    text = _markdown(soup.select_one("main, [role=main]") or soup)
    return (title, [{"text": text}]) if text else _from_html(html)


def _markdown(soup: Any) -> str:
    from markdownify import MarkdownConverter

    text = str(MarkdownConverter(heading_style="ATX", strip=["img"]).convert_soup(soup))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


_PROTECTION = "META-INF/encryption.xml"


def _epub(path: str) -> tuple[str, Iterable[dict[str, Any]]]:
    """The chapters in the order in which they are read."""
    book = zipfile.ZipFile(path)
    # Without a cipher, only fonts are scrambled.
    if _PROTECTION in book.namelist() and b"xmlenc#aes" in _entry(book, _PROTECTION):
        raise ValueError("it is protected, so that only some programs can read it")
    root = _xml(book, "META-INF/container.xml").find(".//{*}rootfile")
    if root is None:
        raise ValueError("it does not say where its chapters are")
    place = root.get("full-path") or ""
    package = _xml(book, place)
    items = {item.get("id"): item for item in package.iterfind("{*}manifest/{*}item")}
    chapters = [items.get(ref.get("idref")) for ref in package.iterfind("{*}spine/{*}itemref")]
    title = package.findtext("{*}metadata/{http://purl.org/dc/elements/1.1/}title") or ""
    return title, (_chapter(book, posixpath.dirname(place), chapter) for chapter in chapters)


def _chapter(book: zipfile.ZipFile, folder: str, item: Any) -> dict[str, Any]:
    href = urldefrag(unquote(item.get("href") or "")).url if item is not None else ""
    if item is not None and "nav" in (item.get("properties") or "").split():
        return {}
    try:
        html = _entry(book, posixpath.normpath(posixpath.join(folder, href)))
    except Exception as exc:  # the others may be sound
        why = "missing" if isinstance(exc, KeyError) else str(exc)
        return {"unread": [f"the chapter {href or 'without a name'} ({why})"]}
    title, (part,) = _from_html(html)
    return {**part, "name": title}


def _xml(book: zipfile.ZipFile, name: str) -> Any:
    from xml.etree import ElementTree

    try:
        return ElementTree.fromstring(_entry(book, name))
    except KeyError:
        raise ValueError(f"it has no {name[:80] or 'list of chapters'}") from None


def _entry(book: zipfile.ZipFile, name: str) -> bytes:
    with book.open(name) as file:
        data = file.read(MAX_PART_BYTES + 1)
    if len(data) > MAX_PART_BYTES:
        raise ValueError(f"{name[:80]} in it is larger than {MAX_PART_BYTES >> 20} MB")
    return data


# --- PDF and Office files


def _pdf(path: str) -> tuple[str, Iterable[dict[str, Any]]]:
    from pypdf import PdfReader

    reader = PdfReader(path)
    if reader.is_encrypted and not reader.decrypt(""):
        raise ValueError("it is protected by a password")
    title = str((reader.metadata.title if reader.metadata else "") or "")
    return title, _pages(reader)


def _pages(reader: Any) -> Iterator[dict[str, Any]]:
    for number, page in enumerate(reader.pages, 1):
        try:
            text = page.extract_text()
            is_image = len(text.strip()) < FEW_CHARS and len(page.images) > 0
        except Exception as exc:  # the others may be sound
            yield {"unread": [f"page {number} (damaged: {type(exc).__name__})"]}
            continue
        yield {"text": text, "page": number, "is_image": is_image}
    if names := sorted(set(reader.attachments)):
        yield {"unread": [f"the files attached to it: {', '.join(names)}"]}


def _docx(path: str) -> tuple[str, Iterable[dict[str, Any]]]:
    import mammoth

    with Path(path).open("rb") as file:
        # Without this, every image would be inlined as text.
        html = mammoth.convert_to_html(file, convert_image=mammoth.images.img_element(lambda _: {})).value
    return "", _from_html(html)[1]


def _xlsx(path: str) -> tuple[str, Iterable[dict[str, Any]]]:
    from openpyxl import load_workbook

    # Given a path, openpyxl would insist on a known file extension.
    data = Path(path).read_bytes()
    values = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    title, sheets = str(values.properties.title or ""), values.worksheets
    if not _has_formulas(data):
        rows = ((sheet.iter_rows(values_only=True), sheet.title) for sheet in sheets)
        return title, ({"text": text, "name": name} for found, name in rows for text in _tables(found))
    formulas = load_workbook(io.BytesIO(data), read_only=True, keep_links=False)
    return title, (part for pair in zip(sheets, formulas.worksheets, strict=True) for part in _sheet(*pair))


def _has_formulas(data: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(data)) as book:
        for name in book.namelist():
            if name.startswith("xl/worksheets/"):
                with book.open(name) as sheet:
                    while chunk := sheet.read(2**20):
                        if b"<f" in chunk:
                            return True
    return False


def _sheet(values: Any, formulas: Any) -> Iterator[dict[str, Any]]:
    """The rows; a formula whose value was never stored is shown as it is, and counted."""
    missing = 0

    def row(cells: Iterable[Any], made: Iterable[Any]) -> Iterator[Any]:
        nonlocal missing
        for cell, formula in zip(cells, made, strict=False):
            # A text that is empty has a type.
            is_missing = cell.value is None and formula is not None and cell.data_type == "n"
            missing += is_missing
            yield getattr(formula, "text", formula) if is_missing else cell.value

    both = zip(values.iter_rows(), formulas.iter_rows(values_only=True), strict=False)
    for text in _tables(row(*pair) for pair in both):
        yield {"text": text, "name": values.title}
    if missing:
        yield {"unread": [f"the values of formulas in {values.title} ({missing:,}, never stored)"]}


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
    for shape in _shapes(slide.shapes):
        if heading is not None and shape.shape_id == heading.shape_id:
            continue
        if shape.has_text_frame:
            yield shape.text_frame.text
        elif getattr(shape, "has_table", False):
            yield from _tables([cell.text for cell in row.cells] for row in shape.table.rows)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        yield slide.notes_slide.notes_text_frame.text


def _shapes(shapes: Any) -> Iterator[Any]:
    """The shapes, with those of groups in their place."""
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _shapes(shape.shapes)
        else:
            yield shape


def _tables(rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    """The rows that are not empty, as a Markdown table whose header is the first row.

    A long table becomes several with the same header.
    """
    lines, chars, head, wide = list[str](), 0, "", 0
    for row in rows:
        cells = ["" if cell is None else " ".join(str(cell).replace("|", "\\|").split()) for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        if not cells:
            continue
        line = f"| {' | '.join(cells)} |"
        wide, head, chars = max(wide, len(cells)), head or line, chars + len(line)
        lines.append(line)
        if chars > BATCH_CHARS // 2:
            yield _table(lines, head, wide)
            lines, chars = [], 0
    if lines:
        yield _table(lines, head, wide)


def _table(lines: list[str], head: str, wide: int) -> str:
    return "\n".join([head, f"|{' --- |' * wide}", *(lines[1:] if lines[0] is head else lines)])


def _rtf(path: str) -> tuple[str, Iterable[dict[str, Any]]]:
    from striprtf import striprtf

    convert: Any = striprtf.rtf_to_text
    text: str = convert(Path(path).read_bytes().decode("latin-1"), errors="replace")
    # It writes a character outside the basic plane as the two halves that RTF has.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return "", [{"text": text}]


# --- code


def _notebook(path: str) -> tuple[str, Iterable[dict[str, Any]]]:
    book = json.loads(Path(path).read_bytes())
    cells = book.get("cells") if isinstance(book, dict) else None
    if cells is None and isinstance(book, dict):  # before version 4
        cells = [cell for sheet in book.get("worksheets") or [] for cell in sheet["cells"]]
    if cells is None:
        raise ValueError("it is not a notebook")
    language = ((book.get("metadata") or {}).get("language_info") or {}).get("name") or "python"
    texts, cut, other = list[str](), list[int](), list[int]()
    for number, cell in enumerate(cells, 1):
        source = _joined(cell.get("source", cell.get("input")))
        if cell.get("cell_type") != "code":
            texts.append(source)
            continue
        texts.append(_fenced(source, language))
        for text in map(_output, cell.get("outputs") or []):
            texts.append(_fenced((text or "")[:OUTPUT_CHARS], "text"))
            other += [] if text is not None else [number]
            cut += [number] if text and len(text) > OUTPUT_CHARS else []
    unread = [f"outputs of cell {_ranges(other)} (pictures, or no text)"] if other else []
    unread += [f"outputs of cell {_ranges(cut)} (after {OUTPUT_CHARS:,} characters)"] if cut else []
    return "", [{"text": "\n\n".join(filter(None, texts)), "unread": unread}]


def _output(output: dict[str, Any]) -> str | None:
    """The text of an output; None if it has none, as a picture."""
    if output.get("output_type") in ("error", "pyerr"):
        return f"{output.get('ename')}: {output.get('evalue')}"
    data = output.get("data") or {}
    text = output.get("text", data.get("text/plain", data.get("text/markdown")))
    if text is None or any(media.startswith(("image/", "video/", "audio/")) for media in data):
        return None
    return re.sub(r"\x1b\[[0-9;]*m", "", _joined(text))


def _joined(lines: Any) -> str:
    return "".join(map(str, lines)) if isinstance(lines, list) else str(lines or "")


def _fenced(text: str, language: str) -> str:
    longest = max(map(len, re.findall("`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}" if text.strip() else ""


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


# --- e-mail


def _mail(path: str) -> tuple[str, Iterable[dict[str, Any]]]:
    """Who wrote to whom and when, and the body. Attachments are for `containers`."""
    import email
    import email.policy

    with Path(path).open("rb") as file:
        mail: Any = email.message_from_binary_file(file, policy=email.policy.default)
    subject = " ".join(str(mail["subject"] or "").split())
    names = ("From", "To", "Cc", "Date")
    head = [f"{name}: {' '.join(str(mail[name]).split())}  " for name in names if mail[name]]
    if not head and not subject:
        raise ValueError("it is no e-mail")
    heading = [f"# {subject}"] if subject else []
    return subject, [{"text": "\n\n".join([*heading, "\n".join(head), _body(mail)])}]


def _body(mail: Any) -> str:
    """As plain text, or as Markdown if it has HTML only."""
    for kind in ("plain", "html"):
        if (part := mail.get_body((kind,))) is None:
            continue
        try:
            text = str(part.get_content())
        except LookupError:  # a character set that does not exist
            text = part.get_payload(decode=True).decode("utf-8", "replace")
        text = _from_html(text)[1][0]["text"] if kind == "html" else text.strip()
        if text:
            return str(text)
    return ""


_READERS: dict[str, Any] = {
    "html": lambda path: _from_html(Path(path).read_bytes(), is_page=True),
    "pdf": _pdf,
    "docx": _docx,
    "xlsx": _xlsx,
    "pptx": _pptx,
    "epub": _epub,
    "rtf": _rtf,
    "notebook": _notebook,
    "mail": _mail,
    "python": _python,
}
