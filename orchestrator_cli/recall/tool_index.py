"""The index of built tools in memory, synchronised with the library, which is authoritative.

The index can miss a tool if a process was killed between storing and indexing it, if the index was deleted,
or if a library was copied. Names and versions are compared, and only missing or outdated tools are read.
Tools are offered from the library: one that is only in the index is never offered.

What is not covered: the prompts that a tool has served, which only the index has.
"""

from dataclasses import dataclass

from memory import Memory, Record, Scope, Trust, tool_record
from memory.records import TOOL, record_id
from toolsmith.built import BuiltTool
from toolsmith.errors import LibraryError
from toolsmith.library import Library

SCOPE = Scope()


@dataclass(frozen=True)
class IndexChanges:
    """What synchronisation changed, by the tools' names."""

    added: tuple[str, ...] = ()
    """Tools that were missing, or indexed with another version."""
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


def add_missing(library: Library, memory: Memory) -> IndexChanges:
    """Add missing and outdated tools to the index. Raises `MemoryFault`."""
    known = library.known()
    if not known:
        return IndexChanges()
    found = memory.get([record_id(SCOPE, TOOL, name) for name in known], SCOPE)
    versions = {record.key: record for record in found}
    missing = [
        name
        for name, version in known.items()
        if name not in versions or versions[name].data.get("version") != str(version)
    ]
    tools = [tool for name in missing if (tool := _readable(library, name)) is not None]
    memory.add([record_of(tool, _prompts(versions.get(tool.name))) for tool in tools])
    return IndexChanges(added=tuple(tool.name for tool in tools))


def reindex(library: Library, memory: Memory) -> IndexChanges:
    """Also remove tools that the library does not have. Raises `MemoryFault`."""
    changes, known = add_missing(library, memory), library.known()
    gone = [record for record in memory.all(TOOL, SCOPE) if record.key not in known]
    if gone:
        memory.delete([record.id for record in gone], SCOPE)
    return IndexChanges(changes.added, tuple(sorted(record.key for record in gone)))


def record_of(tool: BuiltTool, prompts: list[str]) -> Record:
    """The index entry of a tool that served these prompts."""
    trust: Trust = "own" if tool.origin.imported_from is None else "file"
    return tool_record(
        name=tool.name,
        version=str(tool.version),
        purpose=tool.spec.purpose,
        signature=tool.spec.signature,
        scope=SCOPE,
        prompts=prompts,
        trust=trust,
    )


def _prompts(record: Record | None) -> list[str]:
    prompts = record.data.get("prompts") if record is not None else None
    return [str(prompt) for prompt in prompts] if isinstance(prompts, list) else []


def served_prompts(memory: Memory, name: str) -> list[str]:
    """The prompts that a tool served, as far as the index knows. Raises `MemoryFault`."""
    return [
        prompt for record in memory.get([record_id(SCOPE, TOOL, name)], SCOPE) for prompt in _prompts(record)
    ]


def _readable(library: Library, name: str) -> BuiltTool | None:
    try:
        tool = library.edited(name)
        return library.fallback(name) if tool is not None and tool.edited else tool
    except LibraryError:
        return library.fallback(name)
