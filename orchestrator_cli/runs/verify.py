"""Whether a `fileLog.md` is what the runs wrote: its chain, its recorded head, and the journals.

What is not covered: entries of runs whose journal is not here, or that another version of orch
wrote, are held against the chain and the head alone; and whoever changes the log, the head and
the journals together is not noticed.
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
from orchestrator_cli.journal.chain_heads import Head, head_of, newest_at
from orchestrator_cli.journal.hash_chain import Log, read_log
from orchestrator_cli.journal.journal import read_journal
from orchestrator_cli.plan import Plan
from orchestrator_cli.runs.chain_comparison import Recorded, fault_of_cuts, fault_of_head, fault_of_journals
from orchestrator_cli.runs.chain_verification import Fault, Findings, check_chain
from orchestrator_cli.runs.find import DEMO
from orchestrator_cli.settings import Settings
from orchestrator_cli.views.entries import entry_for, form, plan_after


@dataclass(frozen=True)
class Audit:
    """What came of a check."""

    path: Path
    findings: Findings
    fault: Fault | None
    notes: tuple[str, ...]
    runs: tuple[str, ...]
    """Those whose journals the entries were held against."""


def read_file_log(path: Path) -> bytes:
    """The bytes of a log. Raises `UsageError`."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"There is no log {path}.", "A run writes one into its workspace; name that with -C."
        ) from None
    except OSError as exc:
        raise UsageError(f"The log {path} cannot be read: {exc.strerror}.") from exc


def audit(path: Path, settings: Settings) -> Audit:
    """Check a log as far as can be. Raises `UsageError` where it cannot be read."""
    homes = homes_of(settings)
    data = read_file_log(path)
    while True:
        found = _audited(path, data, homes)
        # A run that went on meanwhile has written to the log and to its end; then the two did not fit.
        if found.fault is None or (now := read_file_log(path)) == data:
            return found
        data = now


def _audited(path: Path, data: bytes, homes: tuple[Path, ...]) -> Audit:
    log = read_log(data)
    findings = check_chain(log)
    recorded = dict(_recorded(homes, {block.seal.run for block in log.blocks if block.seal.run}))
    fault, notes = findings.fault, list(findings.notes)
    head = head_of(homes, log.blocks[0].seal.id) if log.blocks else None
    if fault is None:
        # The journals name the entry; the head alone says only that something is wrong.
        fault = fault_of_journals(findings, recorded, lambda place: _has_words_of_today(head, place))
        fault = fault or _held_against_head(path, findings, head, homes, bool(recorded), notes)
    if fault is None and any(block.seal.what == "cut" for block in log.blocks) and recorded:
        fault = fault_of_cuts(findings, _all_recorded(homes))
    return Audit(path, findings, fault, (*notes, *_not_compared(log, recorded)), tuple(sorted(recorded)))


def homes_of(settings: Settings) -> tuple[Path, ...]:
    """Where runs may have their records: `orch demo` has a home of its own."""
    return settings.home, settings.home / DEMO


def _has_words_of_today(head: Head | None, place: int) -> bool:
    return head is None or head.form_at(place) in ("", form())


def _held_against_head(
    path: Path, findings: Findings, head: Head | None, homes: tuple[Path, ...], known: bool, notes: list[str]
) -> Fault | None:
    """`known`: a journal of one of its runs is here, so that the log should be known too."""
    blocks = findings.log.blocks
    if head is not None:
        notes.extend(_other_words(head))
        if (later := len(blocks) - 1 - head.place) > 0:
            notes.append(f"The last {later} places came after the end that is recorded in {homes[0]}.")
        return fault_of_head(findings, head)
    other = newest_at(homes, path.absolute())
    if other is not None and (known or not blocks):
        told = f"This is not the log that orch wrote here last, which had places 0 to {other.place}."
        return Fault("altered", 0, 1, told)
    if blocks:
        notes.append(f"{homes[0]} knows nothing of this log, so what is missing at its end cannot be told.")
    return None


def _other_words(head: Head) -> Iterator[str]:
    if other := [first for first, name in head.forms if name == form()]:
        if len(head.forms) > 1:
            yield f"Entries before place {other[-1]} were worded by another version; not all are compared."
    elif head.forms:
        yield "All entries were worded by another version: they are held against the chain and its end alone."


def _recorded(homes: Iterable[Path], runs: Iterable[str]) -> Iterator[tuple[str, Recorded]]:
    for run in sorted(runs):
        for home in homes:
            if (found := _of_journal(home / "runs" / run / "journal.jsonl")) is not None:
                yield run, found
                break


def _all_recorded(homes: Iterable[Path]) -> Iterator[Recorded]:
    for home in homes:
        for path in (home / "runs").glob("*/journal.jsonl"):
            if (found := _of_journal(path)) is not None:
                yield found


def _of_journal(path: Path) -> Recorded | None:
    with contextlib.suppress(OSError, RunFailed):
        return recorded_of(read_journal(path))
    return None


def recorded_of(found: Iterable[Event]) -> Recorded:
    """The entries that the events of a run lead to."""
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
    return Recorded(entries, frozenset(elsewhere))


def _not_compared(log: Log, recorded: Mapping[str, Recorded]) -> Iterator[str]:
    runs = {block.seal.run for block in log.blocks if block.seal.run}
    if unknown := sorted(runs - recorded.keys()):
        yield f"Not held against a journal, since there is none here: {', '.join(unknown)}."
    if other := sorted(run for run in runs & recorded.keys() if recorded[run].elsewhere):
        yield f"Not held word by word against the journal, as another version wrote them: {', '.join(other)}."


# --- what was too long for an entry


def kept_text(settings: Settings, digest: str) -> str:
    """The whole of a text that an entry cut, by its hash or the beginning of that. Raises `UsageError`."""
    wanted = digest.lower()
    if not re.fullmatch(r"[0-9a-f]{6,64}", wanted):
        raise UsageError(f"{digest} is no hash.", "Take it from the line that says what was left out.")
    found = {path.name: path for home in homes_of(settings) for path in home.glob(f"runs/*/blobs/{wanted}*")}
    if len(found) != 1:
        told = "Several texts begin with" if found else "No text was kept under"
        raise UsageError(f"{told} {digest}.", "It lies beside the run in the home where that was made.")
    ((name, path),) = found.items()
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != name:
        raise UsageError(f"{path} is damaged: it has another hash.")
    return content.decode("utf-8", "replace")
