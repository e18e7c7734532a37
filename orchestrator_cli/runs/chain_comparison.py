"""A whole chain held against what stands elsewhere: the head that was remembered, and the journals.

Pure functions. They find what a chain that somebody wrote anew cannot hide.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from orchestrator_cli.journal.chain_heads import Head
from orchestrator_cli.journal.hash_chain import Block
from orchestrator_cli.runs.chain_verification import Fault, Findings, name_of

_SEAL = b"<!-- orch entry "


@dataclass(frozen=True)
class Recorded:
    """What the journal of a run says that the log has to hold."""

    entries: Mapping[int, bytes]
    """The text of each entry by the number of its event."""
    elsewhere: frozenset[int] = frozenset()
    """Numbers of entries that another version of orch wrote, whose words are not known here."""


def fault_of_journals(
    findings: Findings, recorded: Mapping[str, Recorded], known: Callable[[int], bool] = lambda _: True
) -> Fault | None:
    """The first entry that is other than its journal says; runs without a journal are passed over.

    `known`: whether the entry at a place has the words of today. Others have to be there, and no more.
    """
    present: dict[str, set[int]] = {}
    for block in findings.log.blocks:
        if block.seal.seq is not None:
            present.setdefault(block.seal.run, set()).add(block.seal.seq)
    faults = [
        fault
        for block in findings.log.blocks
        if block.seal.run in recorded
        and (fault := _unlike(block, recorded[block.seal.run], known(block.seal.place)))
    ]
    faults += _gaps(findings.log.blocks, present, recorded)
    return min(faults, key=lambda fault: fault.place, default=None)


def fault_of_cuts(findings: Findings, recorded: Iterable[Recorded]) -> Fault | None:
    """A text that is sealed as cut off, and is the beginning of no entry of any journal."""
    known = [text for one in recorded for text in one.entries.values()]
    for block in findings.log.blocks:
        torn = block.text[: block.seal.torn]
        if block.seal.what == "cut" and not any(_is_beginning(torn, text) for text in known):
            told = (
                f"The text that was cut off (place {block.seal.place}) is the beginning of no recorded entry."
            )
            return Fault("inserted", block.seal.place, block.line, told)
    return None


def _is_beginning(torn: bytes, text: bytes) -> bool:
    """Whether an entry breaks off so, in its text or in the seal after it."""
    seal = torn[len(text) :]
    begun = seal.startswith(_SEAL) or _SEAL.startswith(seal)
    return text.startswith(torn) or (torn.startswith(text) and begun)


def fault_of_head(findings: Findings, head: Head) -> Fault | None:
    """Whether the end is missing, or what was written before the remembered end is other than it was."""
    blocks = findings.log.blocks
    if head.place >= len(blocks):
        place, line = len(blocks), findings.log.rest_line
        told = f"place {place}" if head.place == place else f"places {place} to {head.place}"
        return Fault("removed", place, line, f"What had {told} was removed at the end.")
    block = blocks[head.place]
    if block.seal.hash == head.hash:
        return None
    told = f"The chain was written anew: {name_of(block)} has another hash than was recorded."
    return Fault("altered", head.place, block.line, told)


def _unlike(block: Block, recorded: Recorded, known: bool) -> Fault | None:
    seq = block.seal.seq
    if seq is None or seq in recorded.elsewhere:
        return None
    name = name_of(block)
    name = name[:1].upper() + name[1:]
    if seq not in recorded.entries:
        told = f"{name} was inserted: the run's journal has no such entry."
        return Fault("inserted", block.seal.place, block.line, told)
    if known and block.text.replace(b"\r\n", b"\n") != recorded.entries[seq]:
        told = f"{name} was altered: the run's journal says otherwise."
        return Fault("altered", block.seal.place, block.line, told)
    return None


def _gaps(
    blocks: Iterable[Block], present: Mapping[str, set[int]], recorded: Mapping[str, Recorded]
) -> Iterable[Fault]:
    """Entries that are missing between two that are there. Those at either end may be in another log."""
    for block in blocks:
        run, seq = block.seal.run, block.seal.seq
        if seq is None or run not in recorded:
            continue
        there = present[run]
        before = max((number for number in there if number < seq), default=None)
        if before is None:
            continue
        known = recorded[run].entries.keys() | recorded[run].elsewhere
        if missing := sorted(number for number in known if before < number < seq):
            told = (
                f"Entry {missing[0]} of run {run} was removed before entry {seq} (place {block.seal.place})."
            )
            yield Fault("removed", block.seal.place, block.line, told)
