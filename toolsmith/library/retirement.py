"""Tools that are no longer offered, and not lost: nothing has used them for long, or another serves instead.

    ROOT/.retired/    a library like the one around it

A tool that is retired is in use again as soon as a plan needs it, by its name or by what it does, without
being built again. One that was retired because another serves in its place is not: where it is needed, the
other is used, as long as the library has it.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta

from toolsmith.built import BuiltTool
from toolsmith.errors import LibraryError
from toolsmith.library.folder import Library
from toolsmith.library.status import Enabled, Retired
from toolsmith.names import folded
from toolsmith.spec import Need, ToolSpec

UNUSED = timedelta(days=180)
"""A tool that was not used for so long is retired."""

Faults = Callable[[ToolSpec], object]
"""What keeps a tool from being called as planned; false for nothing."""


def retired(library: Library) -> Library:
    """Those that are retired."""
    return Library(library.root / ".retired", now=library.now)


def retire(library: Library, name: str, served_by: str = "") -> None:
    """Move a tool that is in use out of the library. An older one of that name goes to the trash.

    Raises `LibraryError`, also as `Library.get` does.
    """
    library.get(name)
    out = retired(library)
    if out.versions(name):
        out.remove(name)
    library.note(name, Retired(at=library.now(), served_by=served_by))
    library.move(name, out.root / name)


def bring_back(library: Library, name: str) -> None:
    """Move a tool into the library again. Raises `LibraryError`, also if it has one of that name."""
    if library.versions(name):
        raise LibraryError(f"The library has another tool '{name}'.\nRemove or retire that one first.")
    retired(library).move(name, library.root / name)
    library.note(name, Enabled(at=library.now(), version=library.current_version(name)))


def unused(library: Library, longer_than: timedelta = UNUSED) -> tuple[str, ...]:
    """The tools in use that nothing has called, proved or decided about for so long, by name."""
    since = library.now() - longer_than
    return tuple(tool.name for tool in library.fit() if _last(library, tool) < since)


def _last(library: Library, tool: BuiltTool) -> datetime:
    last = library.status(tool.name).last
    return max(tool.created, last) if last is not None else tool.created


def offered(library: Library) -> Iterator[BuiltTool]:
    """The tools that may serve a need: those of the library, then the retired ones that would come back."""
    yield from library.fit()
    out = retired(library)
    for tool in out.fit():
        if not library.versions(tool.name) and not out.status(tool.name).served_by:
            yield tool


def in_use(library: Library, tool: BuiltTool) -> BuiltTool:
    """One of `offered`, which is in the library now. Raises `LibraryError`."""
    if library.versions(tool.name):
        return tool
    try:
        bring_back(library, tool.name)
    except LibraryError:
        if not library.versions(tool.name):  # otherwise another process was first
            raise
    return library.get(tool.name) or tool


def returned(library: Library, need: Need, faults: Faults) -> BuiltTool | None:
    """The retired tool that a need names, in use again, or the one that serves in its place.

    None if there is none that can be used as it is. Raises `LibraryError`.
    """
    out = retired(library)
    old = next((tool for tool in out.fit() if folded(tool.name) == folded(need.tool_name)), None)
    if old is None:
        return None
    if served_by := out.status(old.name).served_by:
        with suppress(LibraryError):
            other = library.get(served_by)
            if other is not None and not faults(other.spec):
                return other
    return in_use(library, old)
