"""Files that the user gives a run: which they may name, and what of each is kept for models.

Texts, PDF and Office files become Markdown, images become small ones without metadata, and recordings stay
as they are until a model has written them down. What is converted is converted in a sandbox. A file may be
anywhere, because the user named it; `named_files` says which are refused. What is in a file is data: prompts
have it between marks, and it grants nothing. Values of keys that are in it are masked.

Not covered: pictures within documents, video, and keys that a picture shows.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from memory.knowledge.chunks import Document
from memory.knowledge.documents import UnreadableDocument, shortened
from memory.knowledge.nested import read_file
from orchestrator_cli.durable.files import read_stored
from orchestrator_cli.durable.foreign import excerpt, in_brackets
from orchestrator_cli.errors import UsageError
from orchestrator_cli.recall.converter import Converter
from orchestrator_cli.recall.named_files import NamedFiles
from orchestrator_cli.settings import Settings
from orchestrator_cli.values import AttachedFile, Attachment
from toolsmith.sandbox.redaction import Secrets

MOST = 20
"""Files of one prompt."""
MAX_BYTES = 25 << 20
"""Of a file. What transcribes recordings takes no more, and a document of more is for the knowledge base."""
MAX_CHARS = 1_000_000
"""Of the text of a file."""
PLANNER_CHARS = 40_000
"""What a planner is shown of all files together."""
AGENT_CHARS = 120_000
"""The same for an agent whose model takes an unknown number of tokens."""

Kind = Literal["text", "image", "audio"]
IMAGES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}
AUDIO = {
    **{".mp3": "audio/mpeg", ".mpga": "audio/mpeg", ".mpeg": "audio/mpeg", ".m4a": "audio/mp4"},
    **{".mp4": "audio/mp4", ".wav": "audio/wav", ".webm": "audio/webm", ".ogg": "audio/ogg"},
    **{".oga": "audio/ogg", ".opus": "audio/ogg", ".flac": "audio/flac", ".aac": "audio/aac"},
}
"""Media types by the endings of names. Of a video, what is said is written down."""
TABLES = {".csv": "text/csv", ".tsv": "text/tab-separated-values"}
OTHER_IMAGES = frozenset((".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".ico", ".psd"))


@dataclass(frozen=True)
class FoundFile:
    """A file that the user named, before it is converted."""

    path: Path
    kind: Kind
    media: str
    data: bytes


@dataclass(frozen=True)
class ReadFile:
    """A file with what is to be kept of it."""

    attachment: Attachment
    content: bytes


def find_files(paths: Sequence[Path], settings: Settings) -> list[FoundFile]:
    """The files, each read once. Raises `UsageError` for one that cannot be read or may not be given."""
    if len(paths) > MOST:
        raise UsageError(f"{len(paths)} files are attached; a prompt takes {MOST} at most.", "Name fewer.")
    return [_found(path, settings) for path in dict.fromkeys(paths)]


def _found(path: Path, settings: Settings) -> FoundFile:
    real = NamedFiles(settings).check(path, "attached")
    try:
        data = read_stored(real, MAX_BYTES + 1)
    except OSError as exc:
        raise UsageError(f"{path} cannot be attached: {exc.strerror or exc}.", "Name a file.") from exc
    if len(data) > MAX_BYTES:
        raise UsageError(
            f"{path} has more than {MAX_BYTES >> 20} MB, which is more than can be attached.",
            "Put it into the workspace, or add a document to the knowledge base: orch kb add",
        )
    if not data:
        raise UsageError(f"{path} is empty.", "Leave it out.")
    suffix = path.suffix.lower()
    if suffix in OTHER_IMAGES:
        raise UsageError(f"{path} is an image that models do not take.", "Save it as PNG or JPEG.")
    if image := image_form(data):
        return FoundFile(path, "image", f"image/{image}", data)
    if media := AUDIO.get(suffix):
        return FoundFile(path, "audio", media, data)
    return FoundFile(path, "text", TABLES.get(suffix, "text/plain"), data)


def image_form(data: bytes) -> str:
    """`png`, `jpeg`, `gif` or `webp`; empty for any other content."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((form for start, form in IMAGES.items() if data.startswith(start)), "")


def read_files(
    found: Iterable[FoundFile], convert: Converter, keys: Secrets, refused: Callable[[Path], str]
) -> Iterator[ReadFile]:
    """What is kept of each file. Raises `UsageError` for one that cannot be converted.

    The values of `keys` are masked in texts and recordings. `refused` says of a file within another why it is
    not given to models; empty if it is.
    """
    taken: set[str] = set()
    for file in found:
        name = _free_name(file.path.name, taken)
        taken.add(name)
        try:
            media, content, about = _converted(file, convert, refused)
        except UnreadableDocument as exc:
            raise UsageError(f"{file.path} cannot be attached: {exc}.", "Leave it out.") from exc
        if file.kind != "image":
            is_text = file.kind == "text"
            content = keys.mask(content.decode()).encode() if is_text else keys.mask_bytes(content)
        attachment = Attachment(
            name=name,
            path=str(file.path.resolve()),
            kind=file.kind,
            media=media,
            size=len(file.data),
            sha256=hashlib.sha256(file.data).hexdigest(),
            kept=hashlib.sha256(content).hexdigest(),
            about=about,
        )
        yield ReadFile(attachment, content)


def _converted(file: FoundFile, convert: Converter, refused: Callable[[Path], str]) -> tuple[str, bytes, str]:
    """The media type of what is kept, that, and in words how it differs from the file."""
    if file.kind == "audio":
        return file.media, file.data, ""
    if file.kind == "image":
        return picture(convert.image(file.data))
    found = read_file(file.path.name, file.data, convert, refused=lambda place: refused(file.path / place))
    texts = ((one.place, _text(one.document)) for one in found)
    text = "\n\n".join(f"{in_brackets(place)}\n\n{text}" if place else text for place, text in texts)
    if len(text) > MAX_CHARS:
        raise UnreadableDocument(f"it holds more than {MAX_CHARS:,} characters of text")
    lines = [f"{one.place}: {why}" if one.place else why for one in found for why in one.document.unread]
    lines = list(dict.fromkeys(lines))  # a file can hold several of one name
    unread = f", without {'; '.join(shortened(lines))}" if lines else ""
    is_markdown = len(found) > 1 or found[0].document.form == "markdown"
    media = "text/markdown" if is_markdown else file.media
    return media, text.encode(), f"{len(text):,} characters{unread}"


def picture(row: object) -> tuple[str, bytes, str]:
    """The media type, content and size of an image in the reply of a converter, which is untrusted.

    Raises `UnreadableDocument`.
    """
    match row:
        case {
            "data": str() as text,
            "width": int() as width,
            "height": int() as height,
            "from": [int() as wide, int() as high],
        }:
            data = base64.b64decode(text)
            was = f", scaled down from {wide} x {high}" if max(wide, high) > max(width, height) else ""
            if (form := image_form(data)) in ("png", "jpeg"):
                return f"image/{form}", data, f"{width} x {height} pixels{was}"
    raise UnreadableDocument("it could not be converted")


def _text(document: Document) -> str:
    parts = []
    for part in document.parts:
        place = f"page {part.page}" if part.page is not None else part.name
        parts.append(f"{in_brackets(place)}\n\n{part.text.strip()}" if place else part.text.strip())
    return "\n\n".join(parts)


def _free_name(name: str, taken: Collection[str]) -> str:
    """The file's name as a plan may write it, with a number if another file has it."""
    plain = re.sub(r"[^\w.-]+", "_", name)[-80:] or "file"
    stem, dot, suffix = plain.rpartition(".")
    numbered = (f"{stem}-{n}.{suffix}" if dot and stem else f"{plain}-{n}" for n in range(2, MOST + 2))
    return plain if plain not in taken else next(one for one in numbered if one not in taken)


# --- for models


def shown(
    attachments: Iterable[Attachment],
    contents: Mapping[str, bytes],
    transcripts: Mapping[str, str],
    *,
    most_chars: int,
    sees: bool,
) -> tuple[AttachedFile, ...]:
    """The attachments as one model is given them.

    Args:
        contents: what is kept, by its hash.
        transcripts: of recordings, by the names of the attachments.
        most_chars: of all texts together; each gets an equal share, and what is left of the others'.
        sees: whether the model takes images.
    """
    found = list(attachments)
    texts = {one.name: _words(one, contents, transcripts) for one in found if one.kind != "image"}
    left, rest = most_chars, len(texts)
    for name in sorted(texts, key=lambda one: len(texts[one])):
        texts[name] = excerpt(texts[name], left // rest)
        left, rest = left - len(texts[name]), rest - 1
    return tuple(
        AttachedFile(
            name=one.name,
            line=one.line,
            text=texts.get(one.name, ""),
            image=address(one.media, contents[one.kept]) if one.kind == "image" and sees else "",
        )
        for one in found
    )


def _words(one: Attachment, contents: Mapping[str, bytes], transcripts: Mapping[str, str]) -> str:
    return transcripts.get(one.name, "") if one.kind == "audio" else contents[one.kept].decode()


def address(media: str, data: bytes) -> str:
    """A content as a `data:` address."""
    return f"data:{media};base64,{base64.b64encode(data).decode()}"
