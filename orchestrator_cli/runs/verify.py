"""Checks whether a `fileLog.md` is what the runs wrote, by its chain, its recorded head, and the journals.

Not covered: entries of runs whose journal is not here, or that another version of orch wrote, are
checked by the chain and the head alone; a change of the log, the head and the journals together
is not noticed.
"""

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator_cli import __version__
from orchestrator_cli.errors import RunFailed, UsageError
from orchestrator_cli.events import Event, RunResumed, RunStarted
from orchestrator_cli.journal.chain_check import (
    ChainFault,
    Findings,
    RecordedEntries,
    check_chain,
    fault_of_cuts,
    fault_of_head,
    fault_of_journals,
    names_of_log,
)
from orchestrator_cli.journal.hash_chain import (
    Head,
    Log,
    head_of,
    log_bytes,
    newest_at,
    original_of,
    read_log,
)
from orchestrator_cli.journal.journal import read_journal
from orchestrator_cli.plan import Plan
from orchestrator_cli.runs.find import check_names_itself, homes_of
from orchestrator_cli.settings import Settings
from orchestrator_cli.views.entries import entry_for, form, plan_after


@dataclass(frozen=True)
class Audit:
    """The result of a check."""

    path: Path
    findings: Findings
    fault: ChainFault | None
    notes: tuple[str, ...]
    runs: tuple[str, ...]
    """Those whose journals the entries were compared with."""


def read_file_log(path: Path) -> bytes:
    """The bytes of a log. Raises `UsageError`."""
    try:
        return log_bytes(path)
    except FileNotFoundError:
        raise UsageError(
            f"There is no log {path}.", "A run writes one into its workspace; name that with -C."
        ) from None
    except OSError as exc:
        raise UsageError(f"The log {path} cannot be read: {exc.strerror}.") from exc


def audit(path: Path, settings: Settings) -> Audit:
    """Check a log. Raises `UsageError` if it cannot be read."""
    homes = homes_of(settings)
    data = read_file_log(path)
    while True:
        found = _audited(path, data, homes)
        # A run that continued meanwhile has written to both the log and the head, so they did not match.
        if found.fault is None or (now := read_file_log(path)) == data:
            return found
        data = now


def _audited(path: Path, data: bytes, homes: tuple[Path, ...]) -> Audit:
    log = read_log(data)
    findings = check_chain(log)
    recorded = dict(_recorded(homes, {block.seal.run for block in log.blocks if block.seal.run}))
    fault, notes = findings.fault, list(findings.notes)
    head = head_of(homes, log.id) if log.blocks else None
    if fault is None:
        # First the journals, which name the entry; the head says only that something is wrong.
        fault = fault_of_journals(
            findings, recorded, lambda place: head is None or head.form_at(place) in ("", form())
        )
        fault = fault or _compared_with_head(path, findings, head, homes, bool(recorded), notes)
    if fault is None and any(block.seal.what == "cut" for block in log.blocks) and recorded:
        journals = [path for home in homes for path in (home / "runs").glob("*/journal.jsonl")]
        every = (found for path in journals if (found := _of_journal(path)) is not None)
        fault = fault_of_cuts(findings, every)
    return Audit(path, findings, fault, (*notes, *_not_compared(log, recorded)), tuple(sorted(recorded)))


def _compared_with_head(
    path: Path, findings: Findings, head: Head | None, homes: tuple[Path, ...], known: bool, notes: list[str]
) -> ChainFault | None:
    """`known`: the journal of one of its runs is here, so the log should be recorded, too."""
    blocks = findings.log.blocks
    if head is not None:
        notes.extend(_other_words(head))
        if (original := original_of(homes, head.log, path)) is not None:
            notes.append(f"This is a copy of {original}: its entries are about the workspace there.")
        if (later := len(blocks) - 1 - head.place) > 0:
            notes.append(f"The last {later} places are newer than the end recorded in {homes[0]}.")
        return fault_of_head(findings, head)
    other = newest_at(homes, path.absolute())
    if other is not None and (known or not blocks):
        what = f"This is not the log that orch last wrote here, which had places 0 to {other.place}."
        return ChainFault("altered", 0, 1, what)
    if blocks:
        notes.append(f"{homes[0]} has no record of this log, so a missing end would not be noticed.")
    return None


def _other_words(head: Head) -> Iterator[str]:
    if other := [first for first, name in head.forms if name == form()]:
        if len(head.forms) > 1:
            yield f"Entries before place {other[-1]} were worded by another version; not all are compared."
    elif head.forms:
        yield "All entries were worded by another version, so only the chain and its end are checked."


def _recorded(homes: Iterable[Path], runs: Iterable[str]) -> Iterator[tuple[str, RecordedEntries]]:
    for run in sorted(runs):
        for home in homes:
            if (found := _of_journal(home / "runs" / run / "journal.jsonl")) is not None:
                yield run, found
                break


def _of_journal(path: Path) -> RecordedEntries | None:
    with contextlib.suppress(OSError, RunFailed):
        check_names_itself(path)
        return recorded_of(read_journal(path))
    return None


def recorded_of(found: Iterable[Event]) -> RecordedEntries:
    """The log entries for the events of a run."""
    entries: dict[int, bytes] = {}
    elsewhere: set[int] = set()
    plan: Plan | None = None
    version = __version__
    for event in found:
        match event.data:
            case RunStarted() | RunResumed():
                version = event.data.version
        entry = entry_for(event, plan)
        plan = plan_after(plan, event)
        if entry is None:
            continue
        entries[event.seq] = f"\n{entry}\n\n".encode("utf-8", "replace")
        if version != __version__:
            elsewhere.add(event.seq)
    return RecordedEntries(entries, frozenset(elsewhere))


def _not_compared(log: Log, recorded: Mapping[str, RecordedEntries]) -> Iterator[str]:
    runs = {block.seal.run for block in log.blocks if block.seal.run}
    if unknown := sorted(runs - recorded.keys()):
        yield f"Not compared with a journal, since none is here: {names_of_log(unknown)}."
    if other := sorted(run for run in runs & recorded.keys() if recorded[run].elsewhere):
        yield f"Not compared word by word, since another version wrote them: {names_of_log(other)}."


# --- texts too long for an entry


def kept_text(settings: Settings, digest: str) -> str:
    """The full text that an entry shortened, by its hash or a prefix of it. Raises `UsageError`."""
    wanted = digest.lower()
    if not re.fullmatch(r"[0-9a-f]{6,64}", wanted):
        raise UsageError(f"{digest} is not a hash.", "Copy it from the line that says what was left out.")
    found = {path.name: path for home in homes_of(settings) for path in home.glob(f"runs/*/blobs/{wanted}*")}
    if len(found) != 1:
        what = "Several texts begin with" if found else "There is no text"
        raise UsageError(f"{what} {digest}.", "It is stored with its run, in the home of that run.")
    ((name, path),) = found.items()
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != name:
        raise UsageError(f"{path} is damaged: its hash is wrong.")
    return content.decode("utf-8", "replace")
