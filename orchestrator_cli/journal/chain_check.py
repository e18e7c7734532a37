"""The first fault of a log: within its chain, against its recorded head, and against the journals.

Pure functions. A fault is named by the place in the chain, counted from the head of the file, and
by the number and run of the entry. If an entry was altered together with its seal, only its place
is certain. The head and the journals reveal even a chain that was rewritten as a whole.

A log may come from a stranger. What it says of itself is never a finding: its words are quoted, on one line
and short, and its names are short.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from orchestrator_cli.durable.foreign import escaped, excerpt, foreign_line
from orchestrator_cli.journal.hash_chain import (
    FOUND,
    NONE,
    Head,
    Log,
    Seal,
    SealedBlock,
    hash_of,
    is_torn,
    unsealed_entries,
)

Kind = Literal["altered", "removed", "reordered", "inserted"]

TRIED = 20
"""Possible beginnings of a block that are tried, from the end; each costs a hash."""
WORDS_CHARS, NAME_CHARS, NAMES_SHOWN, NOTES_SHOWN = 200, 60, 10, 20
"""Of the words and of each name that a log gives, and how many names and notes are shown."""
_BEGINNING = re.compile(rb"\n(?=\n(?:### \d|\*\*\d|## Run )|# fileLog\n)")
_NUMBER = re.compile(rb"^(?:### |\*\*)(\d+)", re.MULTILINE)
_SEAL = b"<!-- orch entry "


@dataclass(frozen=True)
class ChainFault:
    """The first thing that is wrong with a log."""

    kind: Kind
    place: int
    """Of the entry that was altered, inserted or moved, or before which one was removed."""
    line: int
    what: str
    """A sentence for people."""


@dataclass(frozen=True)
class Findings:
    log: Log
    fault: ChainFault | None
    notes: tuple[str, ...]
    """Not faults, but worth knowing for the reader of a check."""

    @property
    def entries(self) -> int:
        return sum(block.seal.what == "entry" for block in self.log.blocks)

    @property
    def end(self) -> Seal | None:
        return self.log.blocks[-1].seal if self.log.blocks else None


@dataclass(frozen=True)
class RecordedEntries:
    """What the log has to contain according to the journal of a run."""

    entries: Mapping[int, bytes]
    """The text of each entry by the number of its event."""
    elsewhere: frozenset[int] = frozenset()
    """Numbers of entries that another version of orch wrote, whose wording is unknown here."""


def words_of_log(text: str) -> str:
    """What a log says, in quotes that it cannot end."""
    return escaped(json.dumps(excerpt(" ".join(text.split()), WORDS_CHARS), ensure_ascii=False))


def names_of_log(names: Iterable[str]) -> str:
    """Names that a log gives, of runs or numbers."""
    shown = [foreign_line(name, NAME_CHARS) for name in names]
    more = len(shown) - NAMES_SHOWN
    return ", ".join(shown[:NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def check_chain(log: Log) -> Findings:
    """The first fault within a log by itself."""
    notes = _notes(log)
    shown = [*islice(notes, NOTES_SHOWN)]
    more = sum(1 for _ in notes)
    return Findings(log, _fault_in(log), (*shown, *([f"{more:,} more such notes."] if more else ())))


def name_of(block: SealedBlock) -> str:
    seal = block.seal
    if seal.what == "entry":
        return f"entry {seal.seq} of run {names_of_log([seal.run])} (place {seal.place})"
    name = {
        "log": "the head of the log",
        "cut": "the fragment",
        "copy": "the note of a copy",
        "added": "the added text",
    }[seal.what]
    return f"{name} (place {seal.place})"


def _notes(log: Log) -> Iterator[str]:
    if not log.blocks:
        yield "No entry has a hash: this log is from a version without them."
        return
    if (old := unsealed_entries(log.blocks[0].text)) > 0:
        lines = log.blocks[0].text.count(b"\n")
        yield (
            f"The first {old} entries ({lines} lines) were written before there were hashes; "
            "the chain protects them since its beginning."
        )
    for block in log.blocks:
        if block.seal.what == "cut":
            yield f"The log says that from line {block.line} on it was cut off: its writer was stopped."
        if FOUND.encode() in block.text and block.seal.what in ("log", "copy"):
            line = block.line + block.text.count(b"\n")
            yield f"Up to line {line}, this log was here before; nothing shows that orch wrote that part."
        elif block.seal.what == "copy":
            said = words_of_log(block.text.decode("utf-8", "replace"))
            yield f"Up to line {block.line}, this log says that it was copied from another workspace: {said}"
    if log.rest and is_torn(log.rest):
        yield (
            f"The text from line {log.rest_line} on was cut off: its writer was stopped while writing. "
            "The next run closes it."
        )


# --- the chain by itself


def _fault_in(log: Log) -> ChainFault | None:
    before = NONE
    for number, block in enumerate(log.blocks):
        if fault := _fault_at(log.blocks, number, before):
            return fault
        before = block.seal.hash
    # A log without any seal is an old one; whether it may be is decided with the recorded head.
    if log.blocks and log.rest and not is_torn(log.rest):
        return _fault_of_rest(log)
    return None


def _fault_at(blocks: Sequence[SealedBlock], number: int, before: str) -> ChainFault | None:
    block = blocks[number]
    if not block.is_sound:
        return _altered(block, number, before)
    if block.seal.after != before:
        return _misplaced(blocks, number, before)
    if number == 0 and block.seal.what != "log":
        return ChainFault("removed", 0, block.line, "The head of the log is missing.")
    if number and block.seal.what == "log":
        return ChainFault("inserted", number, block.line, "This is a second head of a log.")
    if block.seal.place != number:
        return ChainFault("altered", number, block.line, f"{name_of(block)} should have place {number}.")
    if block.seal.what == "added":
        what = f"Text that orch did not write was added (place {number})."
        return ChainFault("inserted", number, block.line, what)
    return None


def _altered(block: SealedBlock, number: int, before: str) -> ChainFault:
    """Text and seal do not match: one was changed, or a seal or text before it was added or removed."""
    follows = block.seal.after == before
    # The last possible beginnings only, since each has to be hashed.
    for start in [match.end() for match in _BEGINNING.finditer(block.text)][-TRIED:]:
        if (
            hash_of(block.seal.head, block.seal.place, block.seal.after, block.text[start:])
            != block.seal.hash
        ):
            continue
        if follows:
            what = f"Text was inserted before {name_of(block)}."
            return ChainFault("inserted", number, block.line, what)
        what = f"{_named(block.text[:start], number)} was altered: its seal is missing."
        return ChainFault("altered", number, block.line, what)
    name = _capital(name_of(block)) if follows else _named(block.text, number)
    return ChainFault("altered", number, block.line, f"{name} was altered.")


def _misplaced(blocks: Sequence[SealedBlock], number: int, before: str) -> ChainFault:
    """A sound block that does not follow the one before it."""
    block = blocks[number]
    places: Mapping[str, int] = {one.seal.hash: n for n, one in reversed(list(enumerate(blocks)))}
    if (first := places[block.seal.hash]) < number:
        what = f"A copy of {name_of(blocks[first])} was inserted."
        return ChainFault("inserted", number, block.line, what)
    earlier = places.get(block.seal.after)
    if earlier is not None and earlier < number:
        added = blocks[earlier + 1]
        return ChainFault("inserted", earlier + 1, added.line, f"{_capital(name_of(added))} was inserted.")
    if earlier is not None:
        what = f"{_capital(name_of(block))} is before {name_of(blocks[earlier])}, which it follows."
        return ChainFault("reordered", number, block.line, what)
    if any(one.seal.after == before and one.is_sound for one in blocks[number + 1 :]):
        what = f"{_capital(name_of(block))} does not belong to this log."
        return ChainFault("inserted", number, block.line, what)
    missing = block.seal.place - number
    if missing < 1:
        what = f"{_capital(name_of(block))} does not follow the block before it."
        return ChainFault("altered", number, block.line, what)
    removed = _places(number, block.seal.place - 1)
    return ChainFault("removed", number, block.line, f"{removed} removed before {name_of(block)}.")


def _fault_of_rest(log: Log) -> ChainFault:
    place = len(log.blocks)
    if b"\n<!-- orch " in log.rest:
        what = f"{_named(log.rest, place)} was altered: its seal is missing."
        return ChainFault("altered", place, log.rest_line, what)
    what = f"Text that orch did not write was added at the end (place {place})."
    return ChainFault("inserted", place, log.rest_line, what)


def _named(text: bytes, place: int) -> str:
    """An entry whose seal cannot be trusted, by the number in its heading."""
    if place == 0:
        return "The head of the log (place 0)"
    match = _NUMBER.search(text)
    return (
        f"Entry {names_of_log([match[1].decode()])} (place {place})"
        if match
        else f"The entry at place {place}"
    )


def _places(first: int, last: int) -> str:
    return (
        f"The entry at place {first} was"
        if first == last
        else f"The entries at places {first} to {last} were"
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# --- the chain against the recorded head and the journals


def fault_of_head(findings: Findings, head: Head) -> ChainFault | None:
    """A missing end, or a chain other than the one that was recorded."""
    blocks = findings.log.blocks
    if head.place >= len(blocks):
        place, line = len(blocks), findings.log.rest_line
        return ChainFault("removed", place, line, f"{_places(place, head.place)} removed at the end.")
    block = blocks[head.place]
    if block.seal.hash == head.hash:
        return None
    what = f"The chain was rewritten: {name_of(block)} has another hash than was recorded."
    return ChainFault("altered", head.place, block.line, what)


def fault_of_journals(
    findings: Findings,
    recorded: Mapping[str, RecordedEntries],
    is_comparable: Callable[[int], bool] = lambda _: True,
) -> ChainFault | None:
    """The first entry that contradicts its run's journal; runs without a journal are skipped.

    `is_comparable`: whether the entry at a place has today's wording. The others only have to exist.
    """
    present: dict[str, set[int]] = {}
    for block in findings.log.blocks:
        if block.seal.seq is not None:
            present.setdefault(block.seal.run, set()).add(block.seal.seq)
    faults = [
        fault
        for block in findings.log.blocks
        if block.seal.run in recorded
        and (fault := _contradiction(block, recorded[block.seal.run], is_comparable(block.seal.place)))
    ]
    faults += _gaps(findings.log.blocks, present, recorded)
    return min(faults, key=lambda fault: fault.place, default=None)


def fault_of_cuts(findings: Findings, recorded: Iterable[RecordedEntries]) -> ChainFault | None:
    """A text that is sealed as a fragment, but is not the beginning of an entry of any journal."""
    known = [text for one in recorded for text in one.entries.values()]
    for block in findings.log.blocks:
        torn = block.text[: block.seal.torn]
        if block.seal.what == "cut" and not any(_is_beginning(torn, text) for text in known):
            what = f"The fragment at place {block.seal.place} is not the beginning of a recorded entry."
            return ChainFault("inserted", block.seal.place, block.line, what)
    return None


def _is_beginning(torn: bytes, text: bytes) -> bool:
    """Whether an entry breaks off like this, in its text or in the seal after it."""
    seal = torn[len(text) :]
    begun = seal.startswith(_SEAL) or _SEAL.startswith(seal)
    return text.startswith(torn) or (torn.startswith(text) and begun)


def _contradiction(block: SealedBlock, recorded: RecordedEntries, is_comparable: bool) -> ChainFault | None:
    seq = block.seal.seq
    if seq is None or seq in recorded.elsewhere:
        return None
    name = _capital(name_of(block))
    if seq not in recorded.entries:
        what = f"{name} was inserted: the run's journal has no such entry."
        return ChainFault("inserted", block.seal.place, block.line, what)
    if is_comparable and block.text.replace(b"\r\n", b"\n") != recorded.entries[seq]:
        what = f"{name} was altered: it differs from the run's journal."
        return ChainFault("altered", block.seal.place, block.line, what)
    return None


def _gaps(
    blocks: Iterable[SealedBlock], present: Mapping[str, set[int]], recorded: Mapping[str, RecordedEntries]
) -> Iterable[ChainFault]:
    """Missing entries between two that are present. Those at either end may be in another log."""
    for block in blocks:
        run, seq = block.seal.run, block.seal.seq
        if seq is None or run not in recorded:
            continue
        before = max((number for number in present[run] if number < seq), default=None)
        if before is None:
            continue
        known = recorded[run].entries.keys() | recorded[run].elsewhere
        if missing := sorted(number for number in known if before < number < seq):
            place = block.seal.place
            name = names_of_log([run])
            what = f"Entry {missing[0]} of run {name} was removed before entry {seq} (place {place})."
            yield ChainFault("removed", place, block.line, what)
