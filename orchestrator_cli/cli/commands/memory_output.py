"""Memory as lines of text: records, sessions, hits of a search, and the result of forgetting."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator_cli.views.text import counted, one_line, size

if TYPE_CHECKING:
    from memory import Hit, Record
    from memory.sessions import Exchange, SessionSummary
    from orchestrator_cli.admin.memory import ForgetResult, MemoryStats

SHORT_ID = 8
TEXT_CHARS = 100
NOTHING = "Nothing is remembered yet."


def record_lines(records: Iterable["Record"]) -> list[str]:
    """A line for each record: id, time, kind, text, and whether it is pinned, ended or untrusted."""
    return [_record_line(record) for record in records] or [NOTHING]


def fact_lines(records: Sequence["Record"]) -> list[str]:
    if not records:
        return ["Nothing is remembered about you. Add a fact with: orch memory add TEXT"]
    return record_lines(records)


def hit_lines(hits: Sequence["Hit"]) -> list[str]:
    return [_record_line(hit.record) for hit in hits] or ["No record shares a word with that."]


def page_lines(record: "Record") -> list[str]:
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


def about_session(name: str, exchanges: Sequence["Exchange"]) -> list[str]:
    """The name and state of a session."""
    if not exchanges:
        return [f"Session {name}: nothing was said yet."]
    last = one_line(exchanges[-1].prompt, 60)
    return [f"Session {name}: {counted(len(exchanges), 'prompt')} so far, the last: {last}"]


def session_lines(found: Sequence["SessionSummary"], current: str) -> list[str]:
    """A line for each session, newest first; `*` marks the current one."""
    if not found:
        return ["No session of this workspace is remembered yet."]
    width = max(len(session.name) for session in found)
    return [
        f"{'*' if session.name == current else ' '} {session.name:<{width}}  {_when(session.latest)}"
        f"  {session.exchanges:>3}  {one_line(session.title, 60)}"
        for session in found
    ]


def forgotten_lines(done: "ForgetResult") -> list[str]:
    """What was deleted, the search that proves it, and where else the text is."""
    looked, lines = done.looked, [f"Forgotten: {counted(len(done.records), 'record')}."]
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


def stats_lines(stats: "MemoryStats") -> list[str]:
    total = sum(stats.kinds.values())
    lines = [f"{stats.where}: {counted(total, 'record')}, {size(stats.bytes)} on this disk"]
    lines += [f"  {kind:<8} {count:>8,}" for kind, count in stats.kinds.items()]
    lines.append(
        f"{counted(stats.ended, 'fact')} ended, {stats.faded:,} faded; {stats.pinned:,} pinned; "
        f"{stats.untrusted:,} from tools, files or the web; {counted(stats.workspaces, 'workspace')}"
    )
    lines.append(_vectors_line(stats))
    lines += [f"Put aside because it could not be read: {path}" for path in stats.set_aside]
    return lines


def _vectors_line(stats: "MemoryStats") -> str:
    there = ", ".join(f"{name} {count:,}" for name, count in stats.vectors.items()) or "none"
    if stats.dense is None:
        return f"dense vectors: {there}; memory.dense is not set, so searches are by words alone"
    lack = f"; {counted(stats.lacking, 'record')} without: orch memory embed" if stats.lacking else ""
    return f"dense vectors of {stats.dense}: {there}{lack}"


def as_json(record: "Record") -> dict[str, object]:
    """The output of `--json` for a record."""
    return {"id": str(record.id), **record.model_dump(mode="json"), "trusted": record.trusted}


def export_line(count: int, target: Path) -> str:
    return f"{counted(count, 'record')} → {target}"


def _record_line(record: "Record") -> str:
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


def _origin(record: "Record") -> str:
    if record.trust != "own":
        return "the web" if record.trust == "web" else "a file"
    return f"a {record.source.type}" if record.source else "somewhere else"


def _when(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M}"
