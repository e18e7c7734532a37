"""The index of built tools in memory, by which they are recalled, in step with the library.

The library is authoritative: tools are offered from it, and one that is only in the index is never offered.
The index can miss a tool if a process was killed between storing and indexing it, if the index was deleted,
or if a library was copied. Names and versions are compared, and only missing or outdated tools are read.

A tool that is retired stops holding in the index. If it comes back, so do the prompts that it has served,
which only the index has.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from memory import Memory, Record, Scope, Trust, tool_record
from memory.records import TOOL, record_id
from toolsmith.built import BuiltTool
from toolsmith.errors import LibraryError
from toolsmith.library import Library
from toolsmith.library.retirement import retire, retired, unused

DAILY = timedelta(days=1)
_LOOKED = ".looked"


@dataclass(frozen=True)
class IndexChanges:
    """What synchronisation changed, by the tools' names."""

    added: tuple[str, ...] = ()
    """Tools that were missing, or indexed with another version."""
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


def add_missing_tools(library: Library, memory: Memory, user: Scope) -> IndexChanges:
    """Add missing and outdated tools to the user's index. Raises `MemoryFault`."""
    known = library.known()
    if not known:
        return IndexChanges()
    now = datetime.now(UTC)
    ids = [record_id(user, TOOL, name) for name in known]
    there = {record.key: record for record in memory.get(ids, user, at="ever")}
    missing = [
        name
        for name, version in known.items()
        if name not in there or there[name].data.get("version") != str(version) or not there[name].holds(now)
    ]
    tools = [tool for name in missing if (tool := _readable(library, name)) is not None]
    memory.add([_entry(tool, _prompts(there.get(tool.name)), user) for tool in tools])
    return IndexChanges(added=tuple(tool.name for tool in tools))


def reindex_tools(library: Library, memory: Memory, user: Scope) -> IndexChanges:
    """Also remove tools that the library does not have. Raises `MemoryFault`."""
    changes, known, out = add_missing_tools(library, memory, user), library.known(), retired(library).known()
    now = datetime.now(UTC)
    others = [record for record in memory.all(TOOL, user, at="ever") if record.key not in known]
    ended = [record for record in others if record.key in out and record.holds(now)]
    gone = [record for record in others if record.key not in out]
    if ended:
        memory.add([record.ended(now) for record in ended])
    if gone:
        memory.delete([record.id for record in gone], user)
    return IndexChanges(changes.added, tuple(sorted(record.key for record in (*ended, *gone))))


def after_use(memory: Memory, tool: BuiltTool, prompt: str, user: Scope) -> Record:
    """The entry of a tool, with this prompt added to those that it has served. Raises `MemoryFault`."""
    known = memory.get([record_id(user, TOOL, tool.name)], user, at="ever")
    served = [each for record in known for each in _prompts(record)]
    return _entry(tool, [*(each for each in served if each != prompt), prompt], user)


def retire_unused(library: Library) -> tuple[str, ...]:
    """Retire the tools that were not used for long; looks once a day. Their names.

    Raises `LibraryError` and `OSError`.
    """
    if not library.root.is_dir() or _looked_today(library):
        return ()
    names = unused(library)
    for name in names:
        retire(library, name)
    return names


def _looked_today(library: Library) -> bool:
    stamp: Path = library.root / _LOOKED
    try:
        age = datetime.now().timestamp() - stamp.stat().st_mtime
        if 0 <= age < DAILY.total_seconds():
            return True
    except FileNotFoundError:
        pass
    stamp.touch()
    return False


def _entry(tool: BuiltTool, prompts: list[str], user: Scope) -> Record:
    """The entry of a tool that served these prompts, in every workspace."""
    trust: Trust = "own" if tool.origin.imported_from is None else "file"
    return tool_record(
        name=tool.name,
        version=str(tool.version),
        purpose=tool.spec.purpose,
        signature=tool.spec.signature,
        scope=user,
        prompts=prompts,
        trust=trust,
    )


def _prompts(record: Record | None) -> list[str]:
    prompts = record.data.get("prompts") if record is not None else None
    return [str(prompt) for prompt in prompts] if isinstance(prompts, list) else []


def _readable(library: Library, name: str) -> BuiltTool | None:
    try:
        tool = library.edited(name)
        return library.fallback(name) if tool is not None and tool.edited else tool
    except LibraryError:
        return library.fallback(name)
