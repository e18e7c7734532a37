"""A tool whose files were changed by hand: proved by its trial before it is used, without a model call.

An edit that its trial proves becomes the next version, with the origin `edit_of`; the files of the version
that was edited are then as they were. An edit that it does not prove is left where it is, and the tool is
used as it was proved last; the same edit is not tried again. Two that notice an edit at the same time, in
threads or processes, adopt it once.

Both files count: whoever changes a case in `tool.json` says what the tool has to do from now on. A record
that cannot be read any more is an edit that cannot be proved.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from toolsmith.build import adopt_edit
from toolsmith.built import BuiltTool
from toolsmith.errors import LibraryError, ToolDisabled, ToolEdited, ToolQuarantined, ToolRefused
from toolsmith.library import Library, records
from toolsmith.library.standing import EditRefused
from toolsmith.permissions import NOTHING, Permissions
from toolsmith.requirements import PackageLock
from toolsmith.spec import ToolSpec

if TYPE_CHECKING:
    from toolsmith.sandbox import Backend

Adopt = Callable[[str], BuiltTool]
"""Proves the edited tool of that name and keeps it, such as `adopt_edit`. Raises ToolRefused."""


@dataclass(frozen=True)
class Settled:
    """What may be used of a tool that was edited."""

    tool: BuiltTool | None
    """None where there is no version that was proved."""
    adopted: bool
    folder: Path
    """Where the edited files are, or were."""
    reasons: tuple[str, ...] = ()
    """Why the edit was not adopted."""


def settle(name: str, library: Library, adopt: Adopt) -> Settled | None:
    """Have the edit of a tool proved, if it has one; None where it has none and `get` says it all.

    Raises:
        LibraryError: `get` raises it for another reason than an edit, or the library cannot be written.
    """
    if not _is_edited(name, library):
        return None
    with library.building(name):
        version = library.counting(name)
        if not version or not _is_edited(name, library):  # another one was first
            return None
        folder = library.folder(name, version)
        found = records.fingerprint(folder)
        refused = library.standing(name).refused
        if refused is not None and refused.fingerprint == found:
            return Settled(library.fallback(name), False, folder, refused.reasons)
        try:
            tool = adopt(name)
        except ToolRefused as exc:
            reasons = exc.reasons
        except LibraryError as exc:
            reasons = (str(exc).splitlines()[0],)
        else:
            library.restore(name, version)
            return Settled(tool, True, folder)
        library.note(
            name, EditRefused(at=datetime.now(UTC), version=version, fingerprint=found, reasons=reasons)
        )
        return Settled(library.fallback(name), False, folder, reasons)


def usable(name: str, library: Library, adopt: Adopt) -> tuple[BuiltTool | None, Settled | None]:
    """The tool as it may be used, and what became of an edit. Raises what `get` raises but `ToolEdited`."""
    settled = settle(name, library, adopt)
    if settled is None or settled.adopted:
        return library.get(name), settled
    tool = settled.tool
    if tool is not None and (failures := library.standing(name).quarantine(tool.version)):
        raise ToolQuarantined(name, tool.version, failures)
    return tool, settled


def adopting(
    library: Library, backend: "Backend | None", permit: Callable[[ToolSpec, PackageLock], Permissions]
) -> Adopt:
    """What proves an edit with what it is permitted.

    What `permit` raises comes out as it is: that a trial may not have what it needs is no fault of the edit,
    which is tried again the next time.
    """

    def adopt(name: str) -> BuiltTool:
        tool = library.edited(name)
        given = NOTHING
        if tool is not None and tool.spec.privileged:
            given = permit(tool.spec, _lock_of(tool, library))
        return adopt_edit(name, library=library, backend=backend, permit=lambda _: given)

    return adopt


def _lock_of(tool: BuiltTool, library: Library) -> PackageLock:
    """The exact packages to try an edited tool with: those it was proved with, if it asks for the same."""
    proved = library.fallback(tool.name)
    same = proved is not None and proved.spec.packages == tool.spec.packages
    return proved.lock if proved is not None and same else PackageLock()


def _is_edited(name: str, library: Library) -> bool:
    """Whether the version that counts is not what was proved; also where it cannot be read any more."""
    try:
        library.get(name)
    except ToolEdited:
        return True
    except (ToolDisabled, ToolQuarantined):
        return False
    except LibraryError:
        return library.is_unreadable(name)
    return False
