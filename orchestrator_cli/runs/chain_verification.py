"""The first fault of a chain, and where: a pure function over a log as it was read.

A fault is named by the place in the chain, counted from the head of the file, and by the number
and run of the entry. Where an entry was altered together with its seal, its place alone is sure.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator_cli.journal.hash_chain import NONE, Block, Log, Seal, hash_of, is_torn, unsealed_entries

Kind = Literal["altered", "removed", "reordered", "inserted"]

TRIED = 20
_BEGINNING = re.compile(rb"\n(?=\n(?:### \d|\*\*\d|## Run )|# fileLog\n)")
_NUMBER = re.compile(rb"^(?:### |\*\*)(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Fault:
    """What is wrong first."""

    kind: Kind
    place: int
    """Of the entry that was altered, removed, inserted or put elsewhere, or before which it was."""
    line: int
    what: str
    """A sentence for people."""


@dataclass(frozen=True)
class Findings:
    log: Log
    fault: Fault | None
    notes: tuple[str, ...]
    """What is no fault, and somebody who checks should know."""

    @property
    def entries(self) -> int:
        return sum(block.seal.what == "entry" for block in self.log.blocks)

    @property
    def end(self) -> Seal | None:
        return self.log.blocks[-1].seal if self.log.blocks else None


def check_chain(log: Log) -> Findings:
    """The first fault within a log by itself."""
    return Findings(log, _fault_in(log), tuple(_notes(log)))


def name_of(block: Block) -> str:
    """An entry as people are told of it."""
    seal = block.seal
    if seal.what == "entry":
        return f"entry {seal.seq} of run {seal.run} (place {seal.place})"
    told = {"log": "the head of the log", "cut": "what was cut off", "added": "what was added"}[seal.what]
    return f"{told} (place {seal.place})"


def _notes(log: Log) -> list[str]:
    notes = []
    if not log.blocks:
        notes.append("No entry has a hash: this log was written before there were any.")
        return notes
    if (old := unsealed_entries(log.blocks[0].text)) > 0:
        lines = log.blocks[0].text.count(b"\n")
        notes.append(
            f"The first {old} entries ({lines} lines) were written before there were hashes; "
            "the chain covers them from the moment on when it began."
        )
    notes += [
        f"The text from line {block.line} on was cut off: its writer was stopped while writing."
        for block in log.blocks
        if block.seal.what == "cut"
    ]
    if log.rest and is_torn(log.rest):
        notes.append(
            f"The text from line {log.rest_line} on was cut off: its writer was stopped while writing. "
            "The next run closes it."
        )
    return notes


def _fault_in(log: Log) -> Fault | None:
    before = NONE
    for number, block in enumerate(log.blocks):
        if fault := _fault_at(log.blocks, number, before):
            return fault
        before = block.seal.hash
    # A log without any seal is an old one; whether it may be is for those who know its head.
    if log.blocks and log.rest and not is_torn(log.rest):
        return _fault_of_rest(log)
    return None


def _fault_at(blocks: Sequence[Block], number: int, before: str) -> Fault | None:
    block = blocks[number]
    if block.seal.after != before or not block.is_sound:
        return _altered(block, number, before) if not block.is_sound else _misplaced(blocks, number, before)
    if number == 0 and block.seal.what != "log":
        return Fault("removed", 0, block.line, "The head of the log is missing.")
    if number and block.seal.what == "log":
        return Fault("inserted", number, block.line, "A second head of a log stands here.")
    if block.seal.place != number:
        return Fault("altered", number, block.line, f"{name_of(block)} should have place {number}.")
    if block.seal.what == "added":
        return Fault(
            "inserted", number, block.line, f"Text that orch did not write was added (place {number})."
        )
    return None


def _altered(block: Block, number: int, before: str) -> Fault:
    """Text and seal do not belong together: one was changed, or a seal or a text before it came or went."""
    for start in _beginnings(block.text):
        if _hash_from(block, start) != block.seal.hash:
            continue
        line = block.line
        if block.seal.after == before:
            return Fault("inserted", number, line, f"Text was inserted before {_small(name_of(block))}.")
        return Fault(
            "altered",
            number,
            line,
            f"{_named(block.text[:start], number)} was altered: its seal is not there.",
        )
    if block.seal.after == before:
        return Fault("altered", number, block.line, f"{_capital(name_of(block))} was altered.")
    return Fault("altered", number, block.line, f"{_named(block.text, number)} was altered.")


def _beginnings(text: bytes) -> list[int]:
    """Where a block may begin within a text: the last ones, since each has to be hashed."""
    return [match.end() for match in _BEGINNING.finditer(text)][-TRIED:]


def _hash_from(block: Block, start: int) -> str:
    return hash_of(block.seal.head, block.seal.place, block.seal.after, block.text[start:])


def _misplaced(blocks: Sequence[Block], number: int, before: str) -> Fault:
    """A sound block that does not come after the one before it."""
    block = blocks[number]
    places: Mapping[str, int] = {one.seal.hash: n for n, one in reversed(list(enumerate(blocks)))}
    if (first := places[block.seal.hash]) < number:
        return Fault("inserted", number, block.line, f"A copy of {name_of(blocks[first])} was inserted.")
    earlier = places.get(block.seal.after)
    if earlier is not None and earlier < number:
        added = blocks[earlier + 1]
        return Fault("inserted", earlier + 1, added.line, f"{_capital(name_of(added))} was inserted.")
    if earlier is not None:
        follows = name_of(blocks[earlier])
        return Fault(
            "reordered",
            number,
            block.line,
            f"{_capital(name_of(block))} stands before {follows}, which it follows.",
        )
    if any(one.seal.after == before and one.is_sound for one in blocks[number + 1 :]):
        return Fault("inserted", number, block.line, f"{_capital(name_of(block))} is not of this log.")
    missing = block.seal.place - number
    if missing < 1:
        return Fault(
            "altered", number, block.line, f"{_capital(name_of(block))} does not follow what is before it."
        )
    told = f"place {number}" if missing == 1 else f"places {number} to {block.seal.place - 1}"
    return Fault(
        "removed", number, block.line, f"What had {told} was removed before {_small(name_of(block))}."
    )


def _fault_of_rest(log: Log) -> Fault:
    place = len(log.blocks)
    if b"\n<!-- orch " in log.rest:
        return Fault(
            "altered", place, log.rest_line, f"{_named(log.rest, place)} was altered: its seal is not there."
        )
    return Fault(
        "inserted",
        place,
        log.rest_line,
        f"Text that orch did not write was added at the end (place {place}).",
    )


def _named(text: bytes, place: int) -> str:
    """An entry whose seal cannot be believed, by the number in its heading."""
    if place == 0:
        return "The head of the log (place 0)"
    match = _NUMBER.search(text)
    return f"Entry {match[1].decode()} (place {place})" if match else f"The entry at place {place}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]
