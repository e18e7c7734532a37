"""`orch scripts`: a folder of the user's scripts as processes of their own `orch.toml`."""

import dataclasses
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator_cli.admin.own_settings import own_processes, remove_process, write_processes
from orchestrator_cli.admin.scripts.folder import read_scripts
from orchestrator_cli.admin.scripts.proposals import Proposal, Proposals, propose
from orchestrator_cli.cli.options import CommonOptions, InspectOptions, Output, with_options
from orchestrator_cli.cli.reporting import (
    confirm,
    on_terminal,
    print_either,
    print_lines,
    reporting,
    settings_of,
)
from orchestrator_cli.durable.followed_links import real_path
from orchestrator_cli.durable.foreign import foreign_line, visible
from orchestrator_cli.durable.places import Places
from orchestrator_cli.errors import ApprovalNeeded, UsageError
from orchestrator_cli.recall.named_files import NamedFiles
from orchestrator_cli.settings import user_file
from orchestrator_cli.trust import shown_path
from orchestrator_cli.views.text import counted

app = typer.Typer(rich_markup_mode=None)

NAME_WIDTH = 24


@app.callback(invoke_without_command=True)
@with_options
def scripts(context: typer.Context, *, common: CommonOptions) -> None:
    """Register the scripts of a folder as processes. Without a command, list your processes."""
    if context.invoked_subcommand is None:
        list_scripts(**vars(common))


@app.command()
@with_options
def add(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder with the scripts.")],
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Register all that is shown.")] = False,
    read_only: Annotated[
        list[str] | None,
        typer.Option(
            "--read-only", metavar="NAME", help="This script has no effects; repeat for more, or say all."
        ),
    ] = None,
    *,
    common: InspectOptions,
) -> None:
    """Show the scripts of a folder as processes, and register those that you accept. None is run."""
    with reporting(Output(debug=common.debug)) as console:
        place, own = _checked(folder, common.workspace), user_file()
        found = propose(read_scripts(place), own_processes(own))
        found = dataclasses.replace(found, proposals=_marked(found.proposals, read_only or []))
        print_either(common.as_json, _as_json(found), _page(place, found))
        if not found.proposals:
            return
        chosen = found.proposals if yes else _asked(found.proposals, place, read_only or [])
        new = {one.name: one.table for one in chosen if not one.changes}
        changed = {one.name: one.table for one in chosen if one.changes}
        if chosen:
            write_processes(own, new, changed)
        names = ", ".join((*new, *changed)) or "nothing"
        console.lines([f"Registered in {shown_path(own)}: {names}."])


@app.command("list")
@with_options
def list_scripts(common: InspectOptions) -> None:
    """List the processes of your own orch.toml."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        rows = [
            {"name": name, **row}
            for name, row in sorted(own_processes(user_file()).items())
            if _is_table(row)
        ]
        if common.as_json or rows:
            print_either(common.as_json, rows, [line for row in rows for line in _row_lines(row)])
        else:
            console.lines(["No processes yet. Register a folder of scripts with: orch scripts add FOLDER"])


@app.command()
@with_options
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the process.")],
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask for confirmation.")] = False,
    *,
    common: CommonOptions,
) -> None:
    """Remove a process from your own orch.toml. The script stays."""
    with reporting(Output(debug=common.debug)) as console:
        own = user_file()
        if not yes and name in own_processes(own):
            confirm(f"Remove the process {foreign_line(name, 80)}?", "Removing it", "removed")
        remove_process(own, name)
        console.lines([f"The process {foreign_line(name, 80)} is no longer in {shown_path(own)}."])


def _checked(folder: Path, workspace: Path | None) -> Path:
    """The real path of a folder. Raises `UsageError` if scripts cannot be taken from there."""
    settings = settings_of(workspace)
    place = real_path(folder.expanduser())
    if not place.is_dir():
        raise UsageError(f"{shown_path(folder)} is not a folder.", "Name the folder with the scripts.")
    if Places(settings.own_places).holding(place) is not None:
        raise UsageError(
            f"{shown_path(place)} is inside a folder of orch, which holds what models wrote.",
            "Scripts run with your rights: keep yours in a folder of their own.",
        )
    return NamedFiles(settings).check(folder.expanduser())


def _marked(proposals: Sequence[Proposal], read_only: Sequence[str]) -> tuple[Proposal, ...]:
    """The proposals, of which the named ones have no effects. Raises `UsageError` for an unknown name."""
    if unknown := sorted({*read_only} - {one.name for one in proposals} - {"all"}):
        known = ", ".join(one.name for one in proposals) or "none"
        raise UsageError(f"There is no new script {unknown[0]} here.", f"The new ones are: {known}")
    return tuple(
        one.read_only() if not one.changes and ("all" in read_only or one.name in read_only) else one
        for one in proposals
    )


def _asked(proposals: Sequence[Proposal], folder: Path, read_only: Sequence[str]) -> Sequence[Proposal]:
    """What a person accepts at the terminal. Raises `ApprovalNeeded` without one."""
    if not on_terminal():
        flags = [part for name in read_only for part in ("--read-only", name)]
        command = shlex.join(["orch", "scripts", "add", str(folder), *flags, "--yes"])
        raise ApprovalNeeded("A person has to accept the scripts.", f"Accept all of them with: {command}")
    answer = _answer(
        f"Register {'it' if len(proposals) == 1 else 'all'}?", "y = yes, n = no, s = each by itself"
    )
    if answer != "s":
        return proposals if answer == "y" else ()
    return [kept for one in proposals if (kept := _asked_one(one)) is not None]


def _asked_one(proposal: Proposal) -> Proposal | None:
    help_text = "y = yes, n = no" if proposal.changes else "y = yes, r = yes, it has no effects, n = no"
    answer = _answer(f"Register {proposal.name}?", help_text)
    if answer == "r" and not proposal.changes:
        return proposal.read_only()
    return proposal if answer == "y" else None


def _answer(question: str, choices: str) -> str:
    """The first letter of an answer; n for an empty one. Ctrl-C and the end of the input interrupt."""
    print_lines([f"{question} ({choices}) [n]: "], sys.stderr)
    line = sys.stdin.readline()
    if not line:
        raise KeyboardInterrupt
    return line.strip().lower()[:1] or "n"


# --- how it is shown


def _page(folder: Path, found: Proposals) -> Iterator[str]:
    new = [one for one in found.proposals if not one.changes]
    changed = [one for one in found.proposals if one.changes]
    where = shown_path(folder)
    yield f"{counted(len(new), 'new script')} in {where}" + (":" if new else ".")
    for one in new:
        yield from _proposal_lines(one)
    if changed:
        yield "Changed since they were registered:"
        for one in changed:
            yield from (*_proposal_lines(one), f"    replaces: {', '.join(one.changes)}")
    if found.registered:
        yield f"Registered already: {', '.join(found.registered)}"
    if found.left_out:
        yield "Left out:"
        for left in found.left_out:
            yield f"  {foreign_line(visible(left.path.name), 80)}: {foreign_line(left.why, 300)}"


def _proposal_lines(one: Proposal) -> Iterator[str]:
    process = one.process
    effects = "effects" if process.effects else "no effects"
    yield f"  {one.name:<{NAME_WIDTH}} {effects:<11} {foreign_line(process.when, 200)}"
    yield f"    {foreign_line(f'flow {process.flow}' if process.flow else process.shown_command, 500)}"
    inputs: dict[str, Any] = process.inputs or {}
    properties, required = inputs.get("properties"), inputs.get("required")
    for name, schema in properties.items() if isinstance(properties, dict) else ():
        words = _words(schema if isinstance(schema, dict) else {}, needed=name in (required or ()))
        yield f"    {name:<{NAME_WIDTH - 2}} {words}"
    for note in one.notes:
        yield f"    note: {foreign_line(note, 200)}"


def _words(schema: dict[str, Any], *, needed: bool) -> str:
    """A JSON Schema in a few words."""
    enum, kind, items = schema.get("enum"), schema.get("type", "any value"), schema.get("items")
    said = kind if isinstance(kind, str) else " or ".join(map(str, kind))
    if isinstance(enum, list):
        said = " | ".join(map(str, enum))
    if said == "array":
        said = f"list of {items.get('type', 'values')}s" if isinstance(items, dict) else "list"
    parts = [
        said,
        "" if needed else "optional",
        f"default {schema['default']}" if "default" in schema else "",
    ]
    about = f": {schema['description']}" if schema.get("description") else ""
    return foreign_line(", ".join(filter(None, parts)) + about, 200)


def _as_json(found: Proposals) -> dict[str, Any]:
    return {
        "proposals": [
            {
                "name": one.name,
                "script": str(one.script),
                "changes": list(one.changes),
                "notes": list(one.notes),
                **one.process.model_dump(mode="json", exclude_none=True),
            }
            for one in found.proposals
        ],
        "left_out": [{"path": str(left.path), "why": left.why} for left in found.left_out],
        "registered": list(found.registered),
    }


def _is_table(row: Any) -> bool:
    return isinstance(row, dict)


def _row_lines(row: dict[str, Any]) -> Iterator[str]:
    command = row.get("command")
    parts = list(map(str, command)) if isinstance(command, list) else []
    what = str(row.get("flow") or shlex.join([*parts, *map(str, row.get("arguments", []))]))
    effects = "no effects" if row.get("effects") is False else "effects"
    yield f"{row['name']:<{NAME_WIDTH}} {effects:<11} {foreign_line(row.get('when', ''), 200)}"
    yield f"    {foreign_line(what, 500)}"
    path = Path(str(row.get("flow", "")).rpartition(":")[0]) if row.get("flow") else None
    named = [Path(part) for part in parts if part.startswith("/")] if path is None else [path]
    if lost := [one for one in named if one.is_absolute() and not one.exists()]:
        yield f"    is gone: {shown_path(lost[-1])}"
