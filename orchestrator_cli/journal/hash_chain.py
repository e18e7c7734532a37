"""The chain of hashes over a log, and the record of its newest block that each home keeps.

A block is a text and, on a line of its own, the comment that seals it. The text of a block begins
after the seal before it and ends at its own seal, so the blocks make up the whole file:

    <!-- orch WHAT place N after HASH-BEFORE hash HASH -->

WHAT is `log ID` for the head of the file, `entry SEQ run RUN` for an entry, `cut BYTES` for a
fragment of a killed writer, `copy ID` for the note that the home did not write what is above, with the id
from there on, and `added` for text that another program appended. HASH is the SHA-256 of `HASH-BEFORE`, a
line feed, `WHAT place N`, a line feed, and the text with `\\r\\n` as `\\n`.

    HOME/logs/ID.json      path of the log, place and hash of its last block, and from which place on
                           which version of the wording was used

The log itself cannot show that its end is missing, or that its whole chain was rewritten; this
record can. It is written after the log, under the log's lock, in one write: after a kill it may be
one block behind, and is never ahead.

Not covered: a person who rewrites the log and this record and the journals; and a power failure,
after which the record may be some blocks behind, or unreadable and so unknown.
"""

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from orchestrator_cli.durable.files import naming, write_atomic

MAX_LOG_MB = 256
FOUND = "The text above was here before: nothing in this data folder shows that `orch` wrote it."
"""Written below a log that this home has no record of."""

What = Literal["log", "entry", "cut", "copy", "added"]

NONE = "0" * 64
"""The hash before the first block."""

LONGEST_SEAL = 1024
"""At most so many bytes for the last seal of a file and the line feed after it."""

_FORM = (
    rb"<!-- orch (?P<head>log (?P<id>[0-9a-f]{1,64})|entry (?P<seq>\d{1,18}) run (?P<run>[A-Za-z0-9_.-]*)|"
    rb"cut (?P<torn>\d{1,18})|copy (?P<copy>[0-9a-f]{1,64})|added) place (?P<place>\d{1,18}) "
    rb"after (?P<after>[0-9a-f]{64}) "
    rb"hash (?P<hash>[0-9a-f]{64}) -->"
)
_SEAL = re.compile(rb"^" + _FORM + rb"\r?(?:\n|\Z)", re.MULTILINE)
_LAST = re.compile(rb"(?:\A|\n)" + _FORM + rb"\r?\n\Z")
_ENTRY = re.compile(rb"^<!-- orch entry (\d{1,18}) run (\S*)(?: place [^\n]*)? -->\r?$", re.MULTILINE)
_UNSEALED = re.compile(rb"^<!-- orch entry \d{1,18} run \S* -->\r?$", re.MULTILINE)
_COMMENT = re.compile(
    rb"^(?:" + _FORM + rb"|<!-- orch entry (?P<seq_>\d{1,18}) run (?P<run_>[A-Za-z0-9_.-]*) -->)\r?(?:\n|\Z)",
    re.MULTILINE,
)
_BEGINNINGS = tuple(text.encode() for text in ("\n### 0 · ", "\n**0** · run ", "\n## Run "))
"""The possible beginnings of an entry, with 0 for each number."""
_DIGITS = re.compile(rb"\d+")
_PLAIN = re.compile(r"[^A-Za-z0-9_.-]|(?<=-)-")


@dataclass(frozen=True)
class Seal:
    """The comment that ends a block."""

    head: str
    """WHAT, as written."""
    place: int
    after: str
    hash: str

    @property
    def line(self) -> str:
        return f"<!-- orch {self.head} place {self.place} after {self.after} hash {self.hash} -->\n"

    @property
    def what(self) -> What:
        return self.head.split(" ")[0]  # type: ignore[return-value]

    @property
    def id(self) -> str:
        """The log's id from here on, in the seal of its head and of a copy; else empty."""
        return self.head.split(" ")[1] if self.what in ("log", "copy") else ""

    @property
    def seq(self) -> int | None:
        return int(self.head.split(" ")[1]) if self.what == "entry" else None

    @property
    def run(self) -> str:
        return self.head.split(" ")[3] if self.what == "entry" else ""

    @property
    def torn(self) -> int:
        """The bytes of a `cut` block that its killed writer had written."""
        return int(self.head.split(" ")[1]) if self.what == "cut" else 0


@dataclass(frozen=True)
class SealedBlock:
    """A text of a log and its seal."""

    text: bytes
    seal: Seal
    line: int
    """The line on which its text begins, from 1."""

    @cached_property
    def is_sound(self) -> bool:
        """Whether the seal's hash is that of the text."""
        return hash_of(self.seal.head, self.seal.place, self.seal.after, self.text) == self.seal.hash


@dataclass(frozen=True)
class Log:
    """A parsed log: its blocks, and the text after the last seal."""

    blocks: tuple[SealedBlock, ...]
    rest: bytes
    rest_line: int

    @property
    def id(self) -> str:
        """The id under which its newest block is recorded; empty if it has none."""
        return next((block.seal.id for block in reversed(self.blocks) if block.seal.id), "")


def sealed(head: str, place: int, after: str, text: bytes) -> Seal:
    """The seal of a text."""
    return Seal(head, place, after, hash_of(head, place, after, text))


def hash_of(head: str, place: int, after: str, text: bytes) -> str:
    canonical = text.replace(b"\r\n", b"\n") if b"\r" in text else text
    return hashlib.sha256(f"{after}\n{head} place {place}\n".encode() + canonical).hexdigest()


def entry_head(seq: int, run: str) -> str:
    """The WHAT of an entry; the run's name is escaped so that it cannot end the comment."""
    return f"entry {seq} run {_PLAIN.sub('_', run)}"


def open_log(path: Path | str, flags: int = os.O_RDONLY, folder: int | None = None) -> int:
    """The descriptor of a log that may come from a stranger: an ordinary file and no link.

    It is opened for writing only if it has no other name, because that may be outside of the workspace.
    `folder`: a descriptor of the folder that `path` is relative to.

    Raises `OSError`, also if it is larger than `MAX_LOG_MB`.
    """
    file = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644, dir_fd=folder)
    status = os.fstat(file)
    is_one, may_write = status.st_nlink <= 1, bool(flags & (os.O_WRONLY | os.O_RDWR))
    if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_LOG_MB << 20 and (is_one or not may_write):
        return file
    os.close(file)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "it is no ordinary file")
    if may_write and not is_one:
        raise OSError(0, "it is a hard link: another file would change with it; move it away")
    raise OSError(errno.EFBIG, f"it is larger than {MAX_LOG_MB} MB; move it away to start a new one")


def log_bytes(path: Path) -> bytes:
    """All of a log. Raises `OSError` as `open_log` does."""
    with os.fdopen(open_log(path), "rb") as file:
        return file.read()


def read_log(data: bytes) -> Log:
    blocks: list[SealedBlock] = []
    start, line = 0, 1
    for match in _SEAL.finditer(data):
        text = data[start : match.start()]
        blocks.append(SealedBlock(text, _seal(match), line))
        line += text.count(b"\n") + 1
        start = match.end()
    return Log(tuple(blocks), data[start:], line)


def last_seal(end: bytes) -> Seal | None:
    """The seal at the end of a file, from its last bytes; None if it does not end with one."""
    match = _LAST.search(end)
    return _seal(match) if match else None


@dataclass(frozen=True)
class Piece:
    """An entry, sealed or not, or, without a number, the text between entries."""

    text: bytes
    line: int
    seq: int | None = None
    run: str = ""
    hash: str = ""


def pieces_of(data: bytes) -> Iterator[Piece]:
    """All of a log but the comments, in order, including entries from before there were seals."""
    start, line = 0, 1
    for match in _COMMENT.finditer(data):
        text = data[start : match.start()]
        seq, run = match["seq"] or match["seq_"], match["run"] or match["run_"] or b""
        yield Piece(text, line, int(seq) if seq else None, run.decode(), (match["hash"] or b"").decode())
        line += text.count(b"\n") + 1
        start = match.end()
    if rest := data[start:]:
        yield Piece(rest, line)


def entries_in(data: bytes) -> set[tuple[int, str]]:
    """Number and run of every entry, with or without a hash."""
    return {(int(match[1]), match[2].decode("utf-8", "replace")) for match in _ENTRY.finditer(data)}


def unsealed_entries(data: bytes) -> int:
    """The number of entries from before there were hashes."""
    return sum(1 for _ in _UNSEALED.finditer(data))


def is_torn(rest: bytes) -> bool:
    """Whether a text without a seal can be the fragment of a killed writer: an entry that breaks off."""
    rest = rest.replace(b"\r\n", b"\n")
    numbered = _DIGITS.sub(b"0", rest)
    begun = any(numbered.startswith(sign) or sign.startswith(numbered) for sign in _BEGINNINGS)
    # A whole line that looks like a seal is the last that a writer writes.
    return begun and not any(line.startswith(b"<!-- orch ") for line in rest.split(b"\n")[:-1])


def _seal(match: re.Match[bytes]) -> Seal:
    return Seal(match["head"].decode(), int(match["place"]), match["after"].decode(), match["hash"].decode())


# --- the newest block, as the home knows it

HEADS = "logs"
WIDTH = 256
"""Bytes of a record without the path."""


@dataclass(frozen=True)
class Head:
    """The last block of a log, as it was last written."""

    log: str
    path: str
    place: int
    hash: str
    forms: tuple[tuple[int, str], ...] = ()
    """Pairs of a place and the version of the wording used from there on."""

    def form_at(self, place: int) -> str:
        """The version of the wording of the entry at a place; empty if unknown."""
        return next((form for first, form in reversed(self.forms) if first <= place), "")


def note_head(home: Path, head: Head, form: str) -> None:
    """Replace the record of a log whose last entry was worded in `form`. Raises `OSError`."""
    path = home / HEADS / f"{head.log}.json"
    known = _read_head(path)
    forms = known.forms if known is not None else ()
    if not forms or forms[-1][1] != form:
        # The head of a log has no words that could differ.
        forms = (*forms, (head.place if head.place > 1 else 0, form))
    head = replace(head, forms=forms)
    # Padded to one length for every place, so that one write in place is enough: a new file for each
    # entry would cost more than the entry itself.
    text = json.dumps(asdict(head), ensure_ascii=True).ljust(WIDTH + 6 * len(head.path))
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(path, text, sync=False)
        return
    try:
        with naming(file):
            os.ftruncate(file, os.pwrite(file, text.encode(), 0))
    finally:
        os.close(file)


def head_of(homes: Iterable[Path], log: str) -> Head | None:
    """The record of a log in any of the homes; of several, the one with the highest place."""
    found = [head for home in homes if (head := _read_head(home / HEADS / f"{log}.json")) is not None]
    return max(found, key=lambda head: head.place, default=None)


def original_of(homes: Iterable[Path], log: str, path: Path) -> Path | None:
    """The other file with this log, if it was last written there and still is; then `path` is a copy."""
    head = head_of(homes, log)
    if head is None or not log:
        return None
    other = Path(head.path)
    with suppress(OSError):
        if not other.samefile(path) and read_log(log_bytes(other)).id == log:
            return other
    return None


def newest_at(homes: Iterable[Path], path: Path) -> Head | None:
    """The log that was last written to at this path."""
    found = [
        (record.stat().st_mtime_ns, head)
        for home in homes
        for record in (home / HEADS).glob("*.json")
        if (head := _read_head(record)) is not None and head.path == str(path)
    ]
    return max(found, key=lambda pair: pair[0], default=(0, None))[1]


def _read_head(path: Path) -> Head | None:
    with suppress(OSError, ValueError, TypeError):
        row = json.loads(path.read_text(encoding="utf-8"))
        forms = tuple((int(place), str(form)) for place, form in row.pop("forms", ()))
        return Head(**row, forms=forms)
    return None
