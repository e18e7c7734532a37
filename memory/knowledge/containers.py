"""Takes files out of ZIP files and e-mails. This source file is sent to the sandbox and runs there.

    list_files("/workspace/document", "zip", 100, 2**20)    # those that fit into the bounds, and the others
    read_file("/workspace/document", "zip", 3, 0)           # a piece of the file that has number 3

Nothing is unpacked to a disk. A ZIP file may be a bomb: sizes are bounded before a byte is unpacked, and no
more than the size that a file is said to have is unpacked of it. The module imports nothing of ours.

What is not covered: names that lead out, which the host checks because documents are cited by them.
"""

import base64
import mimetypes
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

MAX_RATIO = 200
"""A file that is packed better than this is taken for a bomb, if it is large."""
LARGE = 2**20
MAX_NAME = 250
MAX_NAMED = 1_000
"""Files that are not read, and are named; the others are counted."""
PIECE = 4 * 2**20
"""Bytes of one reply, which must fit into a message of the sandbox."""


class InnerFile(NamedTuple):
    """A file within the file."""

    name: str
    size: int
    fault: str = ""
    """Why it is not read; empty if it is."""


def list_files(path: str, form: str, most_files: int, most_bytes: int) -> dict[str, Any]:
    """Return `files`: number, name and size of each. `unread` names those that are not read, and why.

    Hidden files are left out. Raises what the libraries raise.
    """
    files, unread, size = list[list[Any]](), list[str](), 0
    for number, entry in enumerate(_LISTS[form](path)):
        fault = entry.fault
        if entry.name.endswith("/") or (form == "zip" and _is_hidden(entry.name)):
            continue
        if not fault and len(files) >= most_files:
            fault = "there are too many files"
        if not fault and size + entry.size > most_bytes:
            fault = "it and the files before it are too large"
        if len(entry.name) > MAX_NAME:
            fault = "its name is too long"
        if fault:
            unread.append(f"{entry.name[:MAX_NAME]} ({fault})")
        else:
            files.append([number, entry.name, entry.size])
            size += entry.size
    more = [f"{len(unread) - MAX_NAMED:,} more"] if len(unread) > MAX_NAMED else []
    return {"files": files, "unread": unread[:MAX_NAMED] + more}


def read_file(path: str, form: str, number: int, start: int) -> dict[str, Any]:
    """Return at most `PIECE` bytes of a file from `start` on, as `data` (base64)."""
    return {"data": base64.b64encode(_READERS[form](path, number, start)).decode()}


# --- ZIP


def _zip_entries(path: str) -> Iterator[InnerFile]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            # The library ends a name at its first NUL.
            name = info.filename.replace("\\", "/")
            yield InnerFile(name, info.file_size, _zip_fault(info))


def _is_hidden(name: str) -> bool:
    """As the hidden files of a folder, and what a Mac adds to those of others."""
    return any(part.strip(".") and part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _zip_fault(info: zipfile.ZipInfo) -> str:
    if stat.S_ISLNK(info.external_attr >> 16):
        return "it is a link"
    if info.flag_bits & 1:
        return "it is protected by a password"
    if info.file_size > LARGE and info.file_size > MAX_RATIO * info.compress_size:
        return f"it is packed to less than 1/{MAX_RATIO} of its size, as bombs are"
    return ""


_Reader = Callable[[str, int, int], bytes]


def _zip_piece(path: str, number: int, start: int) -> bytes:
    with zipfile.ZipFile(path) as archive, archive.open(archive.infolist()[number]) as file:
        file.seek(start)
        return file.read(PIECE)


# --- e-mail


def _mail_entries(path: str) -> Iterator[InnerFile]:
    for number, part in enumerate(_attachments(path), 1):
        name = str(part.get_filename() or "").replace("/", "_").replace("\\", "_").strip()
        if not name:
            ending = mimetypes.guess_extension(part.get_content_type()) or ""
            name = f"part-{number}{'.eml' if _is_mail(part) else ending}"
        yield InnerFile(name, len(_bytes(part)))


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


_LISTS = {"zip": _zip_entries, "mail": _mail_entries}
_READERS: dict[str, _Reader] = {
    "zip": _zip_piece,
    "mail": lambda path, number, start: _bytes(_attachments(path)[number])[start : start + PIECE],
}
