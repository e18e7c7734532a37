"""`orch log`: read what the runs of a workspace did, verify that it was not changed, and do it again."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator_cli.cli.options import CommonOptions, InspectOptions, Output, RunName, with_options
from orchestrator_cli.cli.reporting import print_content, print_either, print_json, reporting, settings_of
from orchestrator_cli.errors import UsageError
from orchestrator_cli.runs.find import find_run
from orchestrator_cli.runs.verify import Audit, audit, kept_text, read_file_log
from orchestrator_cli.views.filelog import EntryFilter, entries_of, markdown_of, select_entries
from orchestrator_cli.views.streams import show_page
from orchestrator_cli.views.text import counted, file_name, one_line

if TYPE_CHECKING:
    from orchestrator_cli.replay.compare import Replayed, SubtaskVerdict

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
@with_options
def log(
    context: typer.Context,
    *,
    run: Annotated[
        str, typer.Option("--run", metavar="RUN", help="Only this run: its id, the end of it, or `last`.")
    ] = "",
    tools: Annotated[bool, typer.Option("--tools", help="Only entries about tools.")] = False,
    grep: Annotated[str, typer.Option("--grep", metavar="TEXT", help="Only entries with this text.")] = "",
    common: InspectOptions,
) -> None:
    """Read fileLog.md: what the runs of this workspace did."""
    if context.invoked_subcommand is not None:
        return
    with reporting(Output(quiet=True, debug=common.debug)):
        path = _log_of(common.workspace)
        found = select_entries(entries_of(read_file_log(path)), EntryFilter(run, tools, grep))
        if common.as_json:
            print_json([entry.as_json() for entry in found if entry.number is not None])
        elif found:
            show_page(markdown_of(found))
        else:
            raise UsageError(f"No entry of {path} matches.", "`orch log` without options shows all of them.")


@app.command()
@with_options
def verify(
    file: Annotated[
        Path | None, typer.Argument(help="The log to verify (default: that of the workspace).")
    ] = None,
    *,
    common: InspectOptions,
) -> None:
    """Check that no entry was altered, removed, reordered or inserted; name the first that was."""
    with reporting(Output(quiet=True, debug=common.debug)):
        found = audit(file or _log_of(common.workspace), settings_of(common.workspace))
        print_either(common.as_json, _audit_json(found), _audit_lines(found))
        raise typer.Exit(1 if found.fault else 0)


@app.command()
@with_options
def show(
    digest: Annotated[
        str, typer.Argument(metavar="HASH", help="The hash in the entry, or the beginning of it.")
    ],
    common: CommonOptions,
) -> None:
    """Print the whole of a text that was too long for its entry."""
    with reporting(Output(quiet=True, debug=common.debug)):
        text = kept_text(settings_of(common.workspace), digest)
        print_content(text)


@app.command()
@with_options
def replay(run: RunName, common: InspectOptions) -> None:
    """Repeat a run's recorded work on a copy of the workspace, and compare the files it makes."""
    with reporting(Output(quiet=True, debug=common.debug)):
        # Reading the log needs no agents and no sandbox, and starts faster without them.
        from orchestrator_cli.replay.compare import replay_run
        from orchestrator_cli.runtime import choose_sandbox

        settings = settings_of(common.workspace)
        found = replay_run(find_run(settings, run), settings, choose_sandbox(settings))
        value = {"run": found.run, "same": found.same, "notes": found.notes}
        value["subtasks"] = [asdict(one) for one in found.subtasks]
        print_either(common.as_json, value, _replayed_lines(found))
        raise typer.Exit(0 if found.same else 1)


def _log_of(workspace: Path | None) -> Path:
    return settings_of(workspace).workspace.resolve() / "fileLog.md"


# --- lines and JSON


def _audit_lines(found: Audit) -> list[str]:
    if found.fault is not None:
        head = f"{found.path}, line {found.fault.line}: {found.fault.kind}. {found.fault.what}"
    else:
        entries = found.findings.entries
        checked = f"{entries} entr{'y' if entries == 1 else 'ies'} with hashes"
        head = f"{found.path}: {checked}, none altered; compared with {counted(len(found.runs), 'journal')}."
    return [head, *(f"  {note}" for note in found.notes)]


def _audit_json(found: Audit) -> dict[str, Any]:
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
        "notes": found.notes,
    }


def _replayed_lines(found: "Replayed") -> list[str]:
    """A line per subtask and file."""
    lines = [line for one in found.subtasks for line in _subtask_lines(one)]
    lines += [f"note: {one_line(note)}" for note in found.notes]
    if not found.subtasks:
        return [f"Run {found.run} has no finished subtask that could have changed files.", *lines]
    end = (
        "every change of a file was made again and is the same" if found.same else "not all of it is the same"
    )
    return [*lines, f"run {found.run}: {end}"]


def _subtask_lines(one: "SubtaskVerdict") -> Iterator[str]:
    attempt = f", attempt {one.attempt}" if one.attempt > 1 else ""
    yield f"{one_line(one.subtask)}{attempt}: {one.outcome} ({counted(one.steps, 'step')})"
    yield from (f"  because {one_line(why, 300)}" for why in one.why if one.outcome == "not replayed")
    for file in one.files:
        path, then = file_name(file.path), _short(file.then)
        if file.same:
            yield f"  same       {path} {then}"
        else:
            yield f"  different  {path}: {file.what}; then {then}, now {_short(file.now)}"
    yield from (f"  note: {one_line(why, 300)}" for why in one.why if one.outcome != "not replayed")


def _short(sha256: str | None) -> str:
    return sha256[:12] if sha256 else "none"
