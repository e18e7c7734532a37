"""The index of built tools in memory, kept in step with the library, which is the truth.

A tool lacks in the index when a process was killed between keeping it and remembering it, when the index
was deleted, and when a library was copied. Names and versions are compared, and only what is lacking or
old is read. Whoever offers tools asks the library: one that only the index has is never offered.

Not covered: the prompts that a tool has served, which only the index has kept.
"""

from dataclasses import dataclass

from memory import Memory, Record, Scope, Trust, tool_record
from memory.records import TOOL, record_id
from toolsmith.built import BuiltTool
from toolsmith.errors import LibraryError
from toolsmith.library import Library

SCOPE = Scope()


@dataclass(frozen=True)
class Indexed:
    """What was changed to bring the index in step, by name."""

    added: tuple[str, ...] = ()
    """New in it, or there with another version."""
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


def fill(library: Library, memory: Memory) -> Indexed:
    """Put into the index what it lacks of the library. Raises `MemoryFault`."""
    known = library.known()
    if not known:
        return Indexed()
    found = memory.get([record_id(SCOPE, TOOL, name) for name in known], SCOPE)
    versions = {record.key: record for record in found}
    lacking = [
        name
        for name, version in known.items()
        if name not in versions or versions[name].data.get("version") != str(version)
    ]
    tools = [tool for name in lacking if (tool := _readable(library, name)) is not None]
    memory.add([record_of(tool, _prompts(versions.get(tool.name))) for tool in tools])
    return Indexed(added=tuple(tool.name for tool in tools))


def reindex(library: Library, memory: Memory) -> Indexed:
    """The same, and take out what the library does not have. Raises `MemoryFault`."""
    filled, known = fill(library, memory), library.known()
    gone = [record for record in memory.all(TOOL, SCOPE) if record.key not in known]
    if gone:
        memory.delete([record.id for record in gone], SCOPE)
    return Indexed(filled.added, tuple(sorted(record.key for record in gone)))


def record_of(tool: BuiltTool, prompts: list[str]) -> Record:
    """The index entry of a tool that has served these prompts."""
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


def served(memory: Memory, name: str) -> list[str]:
    """The prompts that a tool is known to have served. Raises `MemoryFault`."""
    return [
        prompt for record in memory.get([record_id(SCOPE, TOOL, name)], SCOPE) for prompt in _prompts(record)
    ]


def _readable(library: Library, name: str) -> BuiltTool | None:
    try:
        tool = library.edited(name)
        return library.fallback(name) if tool is not None and tool.edited else tool
    except LibraryError:
        return library.fallback(name)
