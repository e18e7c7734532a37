"""The chain of hashes over a log: pure functions between bytes and blocks.

A block is a text and the comment on a line of its own that seals it. The text of a block reaches
from the line after the seal before it to its own seal, so that the blocks are the whole file:

    <!-- orch WHAT place N after HASH-BEFORE hash HASH -->

WHAT is `log ID` for the head of the file, `entry SEQ run RUN` for an entry, `cut BYTES` for what a
killed writer left, and `added` for what somebody else wrote at the end. HASH is the SHA-256 over
`HASH-BEFORE`, a line feed, `WHAT place N`, a line feed, and the text with `\\r\\n` as `\\n`.

What is not covered: who wrote it. Somebody who may write the file can write a new chain; that is
noticed by what stands elsewhere (`heads`, the journals).
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

What = Literal["log", "entry", "cut", "added"]

NONE = "0" * 64
"""What the first block comes after."""

LONGEST_SEAL = 1024
"""Bytes in which the last seal of a file and the line feed after it have room."""

_FORM = (
    rb"<!-- orch (?P<head>log (?P<id>[0-9a-f]+)|entry (?P<seq>\d+) run (?P<run>[A-Za-z0-9_.-]*)|"
    rb"cut (?P<torn>\d+)|added) place (?P<place>\d+) after (?P<after>[0-9a-f]{64}) "
    rb"hash (?P<hash>[0-9a-f]{64}) -->"
)
_SEAL = re.compile(rb"^" + _FORM + rb"\r?(?:\n|\Z)", re.MULTILINE)
_LAST = re.compile(rb"(?:\A|\n)" + _FORM + rb"\r?\n\Z")
_ENTRY = re.compile(rb"^<!-- orch entry (\d+) run (\S*)(?: place [^\n]*)? -->\r?$", re.MULTILINE)
_UNSEALED = re.compile(rb"^<!-- orch entry \d+ run \S* -->\r?$", re.MULTILINE)
_COMMENT = re.compile(
    rb"^(?:" + _FORM + rb"|<!-- orch entry (?P<seq_>\d+) run (?P<run_>[A-Za-z0-9_.-]*) -->)\r?(?:\n|\Z)",
    re.MULTILINE,
)
_BEGINNINGS = tuple(text.encode() for text in ("\n### 0 · ", "\n**0** · run ", "\n## Run "))
"""What every entry begins with, numbers as 0."""
_DIGITS = re.compile(rb"\d+")
_PLAIN = re.compile(r"[^A-Za-z0-9_.-]|(?<=-)-")


@dataclass(frozen=True)
class Seal:
    """The comment that ends a block."""

    head: str
    """WHAT, as it stands there."""
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
        """Of the head of a log."""
        return self.head.split(" ")[1] if self.what == "log" else ""

    @property
    def seq(self) -> int | None:
        return int(self.head.split(" ")[1]) if self.what == "entry" else None

    @property
    def run(self) -> str:
        return self.head.split(" ")[3] if self.what == "entry" else ""

    @property
    def torn(self) -> int:
        """How many bytes of a `cut` block its killed writer had written."""
        return int(self.head.split(" ")[1]) if self.what == "cut" else 0


@dataclass(frozen=True)
class Block:
    """A sealed piece of a log."""

    text: bytes
    seal: Seal
    line: int
    """The line on which its text begins, from 1."""

    @cached_property
    def is_sound(self) -> bool:
        """Whether text and seal belong together."""
        return hash_of(self.seal.head, self.seal.place, self.seal.after, self.text) == self.seal.hash


@dataclass(frozen=True)
class Log:
    """A log as it was read: its blocks, and what stands behind the last seal."""

    blocks: tuple[Block, ...]
    rest: bytes
    rest_line: int


def sealed(head: str, place: int, after: str, text: bytes) -> Seal:
    """The seal of a text."""
    return Seal(head, place, after, hash_of(head, place, after, text))


def hash_of(head: str, place: int, after: str, text: bytes) -> str:
    canonical = text.replace(b"\r\n", b"\n") if b"\r" in text else text
    return hashlib.sha256(f"{after}\n{head} place {place}\n".encode() + canonical).hexdigest()


def entry_head(seq: int, run: str) -> str:
    """The WHAT of an entry; a run's name is written so that it cannot end the comment."""
    return f"entry {seq} run {_PLAIN.sub('_', run)}"


def read_log(data: bytes) -> Log:
    blocks: list[Block] = []
    start, line = 0, 1
    for match in _SEAL.finditer(data):
        text = data[start : match.start()]
        blocks.append(Block(text, _seal(match), line))
        line += text.count(b"\n") + 1
        start = match.end()
    return Log(tuple(blocks), data[start:], line)


def last_seal(end: bytes) -> Seal | None:
    """The seal that a file ends with, from its last bytes; None where it does not end with one."""
    match = _LAST.search(end)
    return _seal(match) if match else None


def first_seal(data: bytes) -> Seal | None:
    match = _SEAL.search(data)
    return _seal(match) if match else None


@dataclass(frozen=True)
class Piece:
    """An entry, sealed or not, or (without a number) what stands between entries."""

    text: bytes
    line: int
    seq: int | None = None
    run: str = ""
    hash: str = ""


def pieces_of(data: bytes) -> Iterator[Piece]:
    """All of a log but the comments, in order: also what was written before there were seals."""
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
    """How many entries were written before there were hashes."""
    return sum(1 for _ in _UNSEALED.finditer(data))


def is_torn(rest: bytes) -> bool:
    """Whether a text without a seal can be what a killed writer left: an entry that breaks off."""
    rest = rest.replace(b"\r\n", b"\n")
    numbered = _DIGITS.sub(b"0", rest)
    begun = any(numbered.startswith(sign) or sign.startswith(numbered) for sign in _BEGINNINGS)
    return begun and not any(_comments(rest))


def _comments(rest: bytes) -> Iterator[bytes]:
    """Whole lines that look like a seal. A writer that had come so far was done."""
    return (line for line in rest.split(b"\n")[:-1] if line.startswith(b"<!-- orch "))


def _seal(match: re.Match[bytes]) -> Seal:
    return Seal(match["head"].decode(), int(match["place"]), match["after"].decode(), match["hash"].decode())
