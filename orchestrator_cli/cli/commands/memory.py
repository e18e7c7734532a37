"""`orch memory`: list, search, review, add, forget, export, import and migrate what is remembered."""

import dataclasses
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from memory import Hit, Record
from memory.repeated import AskedAgain
from memory.sessions import Exchange, SessionSummary
from orchestrator_cli.admin.memory import SHORT_ID, ForgetResult, MemoryAdmin, MemoryStats
from orchestrator_cli.admin.memory_review import questions_asked_again
from orchestrator_cli.cli.options import CommonOptions, InspectOptions, Output, with_options
from orchestrator_cli.cli.reporting import confirm, print_either, reporting, settings_of
from orchestrator_cli.durable.foreign import escaped
from orchestrator_cli.errors import RunFailed, UsageError
from orchestrator_cli.views.console import Console
from orchestrator_cli.views.streams import write
from orchestrator_cli.views.text import counted, one_line, size

app = typer.Typer(rich_markup_mode=None)

All = Annotated[bool, typer.Option("--all", help="Include all workspaces.")]
Kind = Annotated[
    list[str] | None,
    typer.Option(
        "--kind", help="Show only this kind: fact, session, turn, run or tool. Repeat it for several."
    ),
]
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, help="Show at most this many.")]


@app.callback(invoke_without_command=True)
@with_options
def memory(context: typer.Context, *, common: CommonOptions) -> None:
    """List, search, change and move what is remembered. Without a command, list it."""
    if context.invoked_subcommand is None:
        list_memory(**vars(common))


@app.command("list")
@with_options
def list_memory(
    kind: Kind = None,
    limit: Limit = 30,
    past: Annotated[bool, typer.Option("--past", help="Include facts that no longer hold.")] = False,
    everywhere: All = False,
    *,
    common: InspectOptions,
) -> None:
    """List what is remembered, newest first: facts about you, sessions, runs, tools."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        found = _admin(common.workspace, everywhere, console).all(tuple(kind or ()), past=past)
        more = [f"… and {len(found) - limit:,} more: -n {len(found)}"] if len(found) > limit else []
        rows = [_row(record) for record in found[:limit]]
        print_either(common.as_json, rows, [*record_lines(found[:limit]), *more])


@app.command()
@with_options
def show(
    ident: Annotated[
        str, typer.Argument(metavar="ID", help="The beginning of the id, or the name of a session.")
    ],
    everywhere: All = False,
    *,
    common: InspectOptions,
) -> None:
    """Show everything about one record."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        record = _admin(common.workspace, everywhere, console).find(ident)
        print_either(common.as_json, _row(record), page_lines(record))


@app.command()
@with_options
def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The words to search for.")],
    kind: Kind = None,
    limit: Limit = 10,
    everywhere: All = False,
    *,
    common: InspectOptions,
) -> None:
    """Search what is remembered; the best hits come first."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        admin = _admin(common.workspace, everywhere, console)
        hits = admin.search(text, limit=limit, kinds=tuple(kind or ()))
        rows = [{**_row(hit.record), "score": hit.score} for hit in hits]
        print_either(common.as_json, rows, hit_lines(hits))


@app.command()
@with_options
def add(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A fact about you, as one sentence.")],
    here: Annotated[bool, typer.Option("--here", help="The fact holds in this workspace only.")] = False,
    *,
    common: CommonOptions,
) -> None:
    """Remember a fact for good. Facts that it contradicts no longer hold."""
    with reporting(Output(debug=common.debug)) as console:
        learned = _admin(common.workspace, everywhere=False, console=console).add(text, here=here)
        for record in learned.new:
            console.lines([f"Remembered as {str(record.id)[:8]}: {record.text}"])
        for record in learned.again:
            console.lines([f"Already known as {str(record.id)[:8]}, now kept for good: {record.text}"])
        for record in learned.ended:
            console.lines([f"No longer holds: {record.text}"])


@app.command()
@with_options
def review(common: InspectOptions) -> None:
    """Show questions that were asked again and again here with the same answer, and could be facts."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        settings = settings_of(common.workspace)
        found = questions_asked_again(settings, lambda text: console.lines([text]))
        rows = [dataclasses.asdict(one) | {"last": one.last.isoformat(), "fact": one.fact} for one in found]
        print_either(common.as_json, rows, review_lines(found))


@app.command()
@with_options
def forget(
    what: Annotated[
        str,
        typer.Argument(
            metavar="TEXT-or-ID",
            help="Forget all records that contain this text, or the one with this id or session name.",
        ),
    ],
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask for confirmation.")] = False,
    everywhere: All = False,
    *,
    common: InspectOptions,
) -> None:
    """Erase records from memory and from the disk, and report where else their text is recorded."""
    with reporting(Output(debug=common.debug)) as console:
        admin = _admin(common.workspace, everywhere, console)
        records = admin.to_forget(what)
        if not yes:
            console.lines(record_lines(records[:20]))
            which = "this" if len(records) == 1 else f"these {len(records)}" if records else what
            confirm(f"Forget {which} for good?", "Forgetting", "forgotten")
        done = admin.forget(records, what)
        found = {
            "forgotten": [str(ident) for ident in done.ids],
            "erased": done.erased,
            "files": done.looked.files,
            "bytes": done.looked.bytes,
            "left": [str(record.id) for record in done.left],
            "found": [str(path) for path in done.looked.found],
            "unread": [str(path) for path in done.looked.unread],
            "elsewhere": [{"path": str(p.path), "remedy": p.remedy} for p in done.elsewhere],
        }
        print_either(common.as_json, found, forgotten_lines(done))


@app.command()
@with_options
def export(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="The file to create; - is standard output.")],
    everywhere: All = False,
    *,
    common: CommonOptions,
) -> None:
    """Write what is remembered to a file, one line of JSON for each record."""
    with reporting(Output(debug=common.debug)) as console:
        admin = _admin(common.workspace, everywhere, console)
        if str(target) == "-":
            write(sys.stdout, escaped("".join(admin.export_lines())))
        else:
            console.lines([f"{counted(admin.export(target), 'record')} → {target}"])


@app.command("import")
@with_options
def import_memory(
    source: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A file written by `orch memory export`; - is standard input."),
    ],
    mine: Annotated[
        bool,
        typer.Option("--mine", help="Trust the file as your own: facts in it count as said by you."),
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite existing records that differ.")
    ] = False,
    *,
    common: CommonOptions,
) -> None:
    """Import an export. Existing records that differ are kept. If one line is wrong, nothing is imported."""
    with reporting(Output(debug=common.debug)) as console:
        result = _admin(common.workspace, everywhere=True, console=console).import_file(
            source, mine=mine, replace=replace
        )
        action = "replaced" if replace else "kept; --replace overwrites them"
        console.lines(
            [
                f"{len(result.added)} new, {len(result.same)} unchanged, {len(result.differing)} differ"
                + (f" and were {action}" if result.differing else "")
            ]
        )
        if not mine and result.added:
            console.lines(
                [
                    "They count as said by a file, not by you. If the file is your own, import it again with "
                    "--mine --replace."
                ]
            )


@app.command()
@with_options
def stats(everywhere: All = False, *, common: InspectOptions) -> None:
    """Show how much is remembered, where it is stored and how much space it takes."""
    with reporting(Output(quiet=True, debug=common.debug)) as console:
        found = _admin(common.workspace, everywhere, console).stats()
        value = dataclasses.asdict(found) | {"set_aside": [str(path) for path in found.set_aside]}
        print_either(common.as_json, value, stats_lines(found))


@app.command()
@with_options
def embed(
    anew: Annotated[bool, typer.Option("--anew", help="Make all vectors again, also existing ones.")] = False,
    *,
    common: CommonOptions,
) -> None:
    """Make missing vectors with the model of memory.dense. The model receives what is remembered."""
    with reporting(Output(debug=common.debug)) as console:
        admin = _admin(common.workspace, everywhere=True, console=console)
        done = admin.embed(lambda made, all_: console.lines([f"{made:,} of {all_:,}"]), anew=anew)
        if done.made or not done.missing:
            console.lines([f"{done.made:,} made, {done.missing:,} missing."])
        if done.missing:
            raise RunFailed(
                f"{done.missing:,} records still have no vector; they are found by their words.",
                "Fix the problem above and run the command again: finished vectors are kept.",
            )


@app.command()
@with_options
def rebuild(*, common: InspectOptions) -> None:
    """Add what memory lacks from the journals of runs and the built tools, except what you forgot."""
    with reporting(Output(debug=common.debug)) as console:
        done = _admin(common.workspace, everywhere=True, console=console).rebuild()
        lines = [
            f"Added from the journals: {counted(done.runs, 'run')}, {counted(done.messages, 'exchange')} of "
            f"sessions; from the library: {counted(done.tools, 'tool')}.",
            "Facts about you are in no journal. Restore them from an export: orch memory import FILE",
        ]
        if done.forgotten:
            lines.insert(1, f"Left out because you forgot them: {done.forgotten:,}.")
        print_either(common.as_json, dataclasses.asdict(done), lines)


@app.command()
@with_options
def migrate(
    to: Annotated[str, typer.Argument(metavar="server|folder", help="Where to copy all of memory.")],
    common: CommonOptions,
) -> None:
    """Copy all of memory to the server of memory.url, or from there to the data folder."""
    with reporting(Output(debug=common.debug)) as console:
        targets: tuple[Literal["server"], Literal["folder"]] = ("server", "folder")
        if to not in targets:
            raise UsageError(f"Memory cannot be copied to {to!r}.", "Use server or folder.")
        moved = _admin(common.workspace, everywhere=True, console=console).migrate(
            to, lambda done, all_: console.lines([f"{done:,} of {all_:,}"])
        )
        counts = (
            f"{moved.copied:,} copied, {moved.there:,} already there, {moved.newer:,} newer there and kept."
        )
        console.lines([counts, "The original is unchanged."])


def _admin(workspace: Path | None, everywhere: bool, console: Console) -> MemoryAdmin:
    return MemoryAdmin(settings_of(workspace), everywhere=everywhere, warn=lambda text: console.lines([text]))


# --- lines of text

TEXT_CHARS = 100
NOTHING = "Nothing is remembered yet."


def record_lines(records: Iterable[Record]) -> list[str]:
    """A line for each record: id, time, kind, text, and whether it is pinned, ended or untrusted."""
    return [_record_line(record) for record in records] or [NOTHING]


def fact_lines(records: Sequence[Record]) -> list[str]:
    if not records:
        return ["Nothing is remembered about you. Add a fact with: orch memory add TEXT"]
    return record_lines(records)


def hit_lines(hits: Sequence[Hit]) -> list[str]:
    return [_record_line(hit.record) for hit in hits] or ["No record shares a word with that."]


def review_lines(found: Sequence[AskedAgain]) -> list[str]:
    """Each question with its answer, and the command that keeps them as a fact."""
    lines = []
    for one in found:
        lines += [
            f"Asked {one.times} times, last on {one.last.astimezone():%Y-%m-%d}: {one_line(one.question)}",
            f"    {one_line(one.answer)}",
            f"    Keep it as a fact: orch memory add --here -- {shlex.quote(one_line(one.fact))}",
        ]
    return lines or ["No question was asked here again and again with the same answer."]


def page_lines(record: Record) -> list[str]:
    """All fields of a record."""
    rows: list[tuple[str, object]] = [
        ("id", record.id),
        ("kind", record.kind),
        ("key", record.key),
        ("workspace", record.scope.project or "any"),
        ("written", _when(record.created)),
        ("trusted", "yes" if record.trusted else f"no, it came from {_origin(record)}"),
        ("session", record.session),
        ("holds from", record.valid_from and _when(record.valid_from)),
        ("holds until", record.valid_to and _when(record.valid_to)),
        ("instead", record.superseded_by),
        (
            "used",
            f"{counted(record.uses, 'time')}, last {_when(record.last_used)}" if record.last_used else None,
        ),
        ("pinned", "yes" if record.pinned else None),
        ("quote", record.source.quote if record.source else None),
        ("from", record.source.ref if record.source else None),
    ]
    head = [f"{name:<12}{one_line(str(value))}" for name, value in rows if value]
    return [*head, "", *record.text.splitlines()]


def about_session(name: str, exchanges: Sequence[Exchange]) -> list[str]:
    """The name and state of a session."""
    if not exchanges:
        return [f"Session {name}: nothing was said yet."]
    last = one_line(exchanges[-1].prompt, 60)
    return [f"Session {name}: {counted(len(exchanges), 'prompt')} so far, the last: {last}"]


def session_lines(found: Sequence[SessionSummary], current: str) -> list[str]:
    """A line for each session, newest first; `*` marks the current one."""
    if not found:
        return ["No session of this workspace is remembered yet."]
    width = max(len(session.name) for session in found)
    return [
        f"{'*' if session.name == current else ' '} {session.name:<{width}}  {_when(session.latest)}"
        f"  {session.exchanges:>3}  {one_line(session.title, 60)}"
        for session in found
    ]


def forgotten_lines(done: ForgetResult) -> list[str]:
    """What was deleted, the search that proves it, and where else the text is."""
    looked = done.looked
    lines = [f"{'Forgotten' if done.erased else 'Deleted'}: {counted(len(done.ids), 'record')}."]
    if done.left:
        others = counted(len(done.left), "other record")
        lines.append(f"{others} contain the same text; to forget them, give the text and --all:")
        lines += [f"  {line}" for line in record_lines(done.left[:10])]
    what = f"{counted(looked.files, 'file')} of memory ({size(looked.bytes)}) were searched"
    if looked.found:
        lines.append(f"{what}; the text is still in:")
        lines += [f"  {path}" for path in looked.found]
        if not done.left:
            lines.append("You may delete shard.corrupt-* folders; for other files, forget the text again.")
    else:
        lines.append(f"{what}: the text is in none of them.")
    lines += [f"Could not be read: {path}" for path in looked.unread]
    if done.url:
        lines.append(f"The files of the server {done.url} are not here and were not searched.")
    if done.elsewhere:
        lines.append("The text is also recorded outside of memory:")
        for place in done.elsewhere:
            lines += [f"  {place.path}", f"      {place.remedy}"]
    return lines


def stats_lines(stats: MemoryStats) -> list[str]:
    total = sum(stats.kinds.values())
    lines = [f"{stats.where}: {counted(total, 'record')}, {size(stats.bytes)} on this disk"]
    lines += [f"  {kind:<8} {count:>8,}" for kind, count in stats.kinds.items()]
    lines.append(
        f"{counted(stats.ended, 'fact')} ended, {stats.faded:,} faded; {stats.pinned:,} pinned; "
        f"{stats.untrusted:,} from tools, files or the web; {counted(stats.workspaces, 'workspace')}"
    )
    lines.append(_vectors_line(stats))
    lines += [
        f"Writes that wait for a server in {place}: {count:,}" for place, count in stats.waiting.items()
    ]
    lines += [f"Put aside because it could not be read: {path}" for path in stats.set_aside]
    return lines


def _vectors_line(stats: MemoryStats) -> str:
    there = ", ".join(f"{name} {count:,}" for name, count in stats.vectors.items()) or "none"
    if stats.dense is None:
        return f"dense vectors: {there}; there is no embedding model, so searches are by words alone"
    lack = f"; {counted(stats.lacking, 'record')} without: orch memory embed" if stats.lacking else ""
    return f"dense vectors of {stats.dense}: {there}{lack}"


def _row(record: Record) -> dict[str, object]:
    """The output of `--json` for a record."""
    return {"id": str(record.id), **record.model_dump(mode="json"), "trusted": record.trusted}


def _record_line(record: Record) -> str:
    marks = [
        "pinned" if record.pinned else "",
        f"until {_when(record.valid_to)}" if record.valid_to else "",
        "" if record.trusted else f"from {_origin(record)}",
    ]
    notes = ", ".join(mark for mark in marks if mark)
    # A session is continued by its name.
    named = f"{record.key}: {record.text}" if record.kind == "session" else record.text
    text = one_line(named, TEXT_CHARS)
    head = f"{str(record.id)[:SHORT_ID]}  {_when(record.created)}  {record.kind:<7}  {text}"
    return f"{head}  ({notes})" if notes else head


def _origin(record: Record) -> str:
    if record.trust != "own":
        return "the web" if record.trust == "web" else "a file"
    return f"a {record.source.type}" if record.source else "somewhere else"


def _when(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M}"
