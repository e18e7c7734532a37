"""What a check of a log, and a replay of a run, came to: pure functions to plain lines and to JSON values."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from orchestrator_cli.replay.compare import FileVerdict, Replayed, SubtaskVerdict
from orchestrator_cli.runs.verify import Audit
from orchestrator_cli.views.text import counted, one_line


def audit_lines(found: Audit) -> list[str]:
    if found.fault is not None:
        head = f"{found.path}, line {found.fault.line}: {found.fault.kind}. {found.fault.what}"
    else:
        entries = found.findings.entries
        told = f"{entries} entr{'y' if entries == 1 else 'ies'} with hashes"
        head = f"{found.path}: {told}, none altered; held against {counted(len(found.runs), 'journal')}."
    return [head, *(f"  {note}" for note in found.notes)]


def audit_json(found: Audit) -> dict[str, Any]:
    """Keys: `file`, `ok`, `entries`, `last` (hash of the last), `runs` (with a journal), `fault`, `notes`.

    `fault` is null, or has `kind`, `place`, `line` and `what`.
    """
    end = found.findings.end
    return {
        "file": str(found.path),
        "ok": found.fault is None,
        "entries": found.findings.entries,
        "last": end.hash if end is not None else None,
        "runs": list(found.runs),
        "fault": None if found.fault is None else asdict(found.fault),
        "notes": list(found.notes),
    }


def replayed_lines(found: Replayed) -> list[str]:
    """A line per subtask and file."""
    lines = [line for one in found.subtasks for line in _subtask_lines(one)]
    lines += [f"note: {one_line(note)}" for note in found.notes]
    if not found.subtasks:
        return [f"Run {found.run} has no finished subtask that could have changed files.", *lines]
    end = (
        "every change of a file was made again and is the same" if found.same else "not all of it is the same"
    )
    return [*lines, f"run {found.run}: {end}"]


def _subtask_lines(one: SubtaskVerdict) -> Iterator[str]:
    attempt = f", attempt {one.attempt}" if one.attempt > 1 else ""
    yield f"{one_line(one.subtask)}{attempt}: {one.outcome} ({counted(one.steps, 'step')})"
    yield from (f"  because {one_line(why, 300)}" for why in one.why if one.outcome == "not replayed")
    yield from (f"  {_file_line(file)}" for file in one.files)
    yield from (f"  note: {one_line(why, 300)}" for why in one.why if one.outcome != "not replayed")


def _file_line(file: FileVerdict) -> str:
    path = one_line(file.path)
    if file.same:
        return f"same       {path} {_short(file.then)}"
    return f"different  {path}: {file.what}; then {_short(file.then)}, now {_short(file.now)}"


def _short(sha256: str | None) -> str:
    return sha256[:12] if sha256 else "none"


def replayed_json(found: Replayed) -> dict[str, Any]:
    """Keys: `run`, `same`, `notes`, and `subtasks` with `subtask`, `attempt`, `outcome`, `steps`, `why` and
    `files` (`path`, `same`, `then`, `now`, `what`).
    """
    return {
        "run": found.run,
        "same": found.same,
        "notes": list(found.notes),
        "subtasks": [asdict(one) for one in found.subtasks],
    }
