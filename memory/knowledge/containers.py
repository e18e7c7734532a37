"""Takes files out of ZIP files and e-mails. This source file is sent to the sandbox and runs there.

    list_files("/workspace/document", "zip", 100, 2**20)    # those that fit into the bounds, and the others
    read_on()                                               # what is in them, as long as there is `more`

A file is parsed once, when it is listed. Nothing is unpacked to a disk. A ZIP file may be a bomb: sizes are
bounded before a byte is unpacked, and no more than the size that a file is said to have is unpacked of it.
The module imports nothing of ours.

What is not covered: names that lead out or are protected, which the host checks: it is given every name as
the file has it.
"""

import base64
import io
import mimetypes
import stat
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

MAX_ENTRIES = 100_000
"""Of the list of a file, with folders and hidden files. One that has more is not read."""

MAX_RATIO = 200
"""What is packed better than this is taken for a bomb, if it is large: one file, or all of them together."""
LARGE = 2**20
MAX_NAME = 250
MAX_NAMED = 1_000
"""Files that are not read, and are named; the others are counted."""
REPLY = 4 * 2**20
"""Bytes of one reply, which must fit into a message of the sandbox with one more piece."""
PIECE = 2**20

_TOO_LONG = f"it lists more than {MAX_ENTRIES:,} files"
_BOMB = f"packed to less than 1/{MAX_RATIO} of its size, as bombs are"


class InnerFile(NamedTuple):
    """A file within the file."""

    name: str
    """As the file has it, with `/` between folders."""
    size: int
    open: Callable[[], IO[bytes]]
    fault: str = ""
    """Why it is not read; empty if it is."""


_rest: Iterator[tuple[int, bytes, str]] = iter(())
"""The pieces of the files that were listed last."""


def list_files(path: str, form: str, most_files: int, most_bytes: int) -> dict[str, Any]:
    """Return `files`: number, name and size of each. `unread` names those that are not read, and why.

    Hidden files are left out. Raises what the libraries raise, and `ValueError` with a plain reason.
    """
    global _rest  # noqa: PLW0603  (the state of one reader in a process of its own)
    found, unread, size, whole = dict[int, InnerFile](), list[str](), 0, 0
    for number, entry in enumerate(_LISTS[form](path)):
        if number >= MAX_ENTRIES:
            raise ValueError(_TOO_LONG)
        if entry.name.endswith("/") or _is_hidden(entry.name):
            continue
        fault = entry.fault
        whole += 0 if fault else entry.size
        if not fault and len(found) >= most_files:
            fault = "there are too many files"
        if not fault and size + entry.size > most_bytes:
            fault = "it and the files before it are too large"
        if len(entry.name) > MAX_NAME:
            fault = "its name is too long"
        if fault:
            unread.append(f"{entry.name[:MAX_NAME]} ({fault})")
        else:
            found[number] = entry
            size += entry.size
    if form == "zip" and whole > max(LARGE, MAX_RATIO * Path(path).stat().st_size):
        raise ValueError(f"it is {_BOMB}")
    _rest = (piece for number, entry in found.items() for piece in _pieces(number, entry))
    more = [f"{len(unread) - MAX_NAMED:,} more"] if len(unread) > MAX_NAMED else []
    files = [[number, entry.name, entry.size] for number, entry in found.items()]
    return {"files": files, "unread": unread[:MAX_NAMED] + more}


def read_on() -> dict[str, Any]:
    """Return the next `pieces` of the files that were listed, and `more`: whether others may be left.

    Each has the number of its file, its bytes (base64), and why no more of the file can be read, which is
    empty if it can.
    """
    pieces, size = list[list[Any]](), 0
    for number, data, fault in _rest:
        pieces.append([number, base64.b64encode(data).decode(), fault])
        size += len(data)
        if size >= REPLY:
            break
    return {"pieces": pieces, "more": size >= REPLY}


def _pieces(number: int, entry: InnerFile) -> Iterator[tuple[int, bytes, str]]:
    try:
        with entry.open() as file:
            left = entry.size
            while left > 0 and (data := file.read(min(left, PIECE))):
                left -= len(data)
                yield number, data, ""
    except Exception as exc:  # the others may be sound
        yield number, b"", f"{type(exc).__name__}: {exc}"[:MAX_NAME]


# --- ZIP


def _zip_entries(path: str) -> Iterator[InnerFile]:
    # Each entry of the list begins with these bytes. The library would parse all of them.
    if Path(path).read_bytes().count(b"PK\1\2") > MAX_ENTRIES:
        raise ValueError(_TOO_LONG)
    archive = zipfile.ZipFile(path)
    for info in archive.infolist():
        # The library ends a name at its first NUL.
        name = info.filename.replace("\\", "/")
        yield InnerFile(name, info.file_size, partial(archive.open, info), _zip_fault(info))


def _is_hidden(name: str) -> bool:
    """As the hidden files of a folder, and what a Mac adds to those of others."""
    return any(part.strip(".") and part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _zip_fault(info: zipfile.ZipInfo) -> str:
    if stat.S_ISLNK(info.external_attr >> 16):
        return "it is a link"
    if info.flag_bits & 1:
        return "it is protected by a password"
    if info.file_size > LARGE and info.file_size > MAX_RATIO * info.compress_size:
        return f"it is {_BOMB}"
    return ""


# --- e-mail


def _mail_entries(path: str) -> Iterator[InnerFile]:
    for number, part in enumerate(_attachments(path), 1):
        name = str(part.get_filename() or "").replace("\\", "/").strip().strip("/")
        if not name:
            ending = mimetypes.guess_extension(part.get_content_type()) or ""
            name = f"part-{number}{'.eml' if _is_mail(part) else ending}"
        content = _bytes(part)
        yield InnerFile(name, len(content), partial(io.BytesIO, content))


def _attachments(path: str) -> list[Any]:
    """The parts that are neither the body, nor hold others."""
    import email
    import email.policy

    with Path(path).open("rb") as file:
        mail: Any = email.message_from_binary_file(file, policy=email.policy.default)
    bodies = [mail.get_body((kind,)) for kind in ("plain", "html")]
    return [part for part in _leaves(mail) if not any(part is body for body in bodies)]


def _leaves(part: Any) -> Iterator[Any]:
    if part.is_multipart() and not _is_mail(part):
        for inner in part.iter_parts():
            yield from _leaves(inner)
    else:
        yield part


def _is_mail(part: Any) -> bool:
    return bool(part.get_content_type() == "message/rfc822" and part.is_multipart())


def _bytes(part: Any) -> bytes:
    if _is_mail(part):
        return bytes(part.get_payload(0).as_bytes())
    return part.get_payload(decode=True) or b""


_LISTS: dict[str, Callable[[str], Iterator[InnerFile]]] = {"zip": _zip_entries, "mail": _mail_entries}
