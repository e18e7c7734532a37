"""Tools whose files were edited by hand: proved by their trial before use, without a model call.

An edit that passes becomes the next version, with the origin `edit_of`, and the files of the edited version
are restored. An edit that fails stays on disk, the tool is used as it was last proved, and the same edit is
not tried again. If two threads or processes notice an edit at the same time, it is adopted once.

Both files count: a changed case in `tool.json` changes what the tool has to do. A record that cannot be read
is an edit that cannot be proved.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from toolsmith.build import adopt_edit
from toolsmith.built import BuiltTool
from toolsmith.errors import LibraryError, ToolDisabled, ToolEdited, ToolNotBuilt, ToolQuarantined
from toolsmith.library import Library, records
from toolsmith.library.status import EditRefused
from toolsmith.permissions import NO_PERMISSIONS, PackageLock, Permissions
from toolsmith.spec import ToolSpec

if TYPE_CHECKING:
    from toolsmith.sandbox import Backend

Adopt = Callable[[str], BuiltTool]
"""Proves and keeps the edited tool of that name, as `adopt_edit` does. Raises ToolNotBuilt."""


@dataclass(frozen=True)
class EditOutcome:
    """What became of an edit, and the version that may be used."""

    tool: BuiltTool | None
    """None if no version was proved."""
    adopted: bool
    folder: Path
    """Where the edited files are, or were."""
    reasons: tuple[str, ...] = ()
    """Why the edit was not adopted."""


def settle_edit(name: str, library: Library, adopt: Adopt) -> EditOutcome | None:
    """Prove the edit of a tool; None if it has none, so that `get` decides.

    Raises:
        LibraryError: `get` raises it for another reason than an edit, or the library cannot be written.
    """
    if not _is_edited(name, library):
        return None
    with library.build_lock(name):
        version = library.current_version(name)
        if not version or not _is_edited(name, library):  # another process settled it first
            return None
        folder = library.folder(name, version)
        found = records.fingerprint(folder)
        refused = library.status(name).refused
        if refused is not None and refused.fingerprint == found:
            return EditOutcome(library.fallback(name), False, folder, refused.reasons)
        try:
            tool = adopt(name)
        except ToolNotBuilt as exc:
            reasons = exc.reasons
        except LibraryError as exc:
            reasons = (str(exc).splitlines()[0],)
        else:
            library.restore(name, version)
            return EditOutcome(tool, True, folder)
        library.note(
            name, EditRefused(at=datetime.now(UTC), version=version, fingerprint=found, reasons=reasons)
        )
        return EditOutcome(library.fallback(name), False, folder, reasons)


def usable_tool(name: str, library: Library, adopt: Adopt) -> tuple[BuiltTool | None, EditOutcome | None]:
    """The version that may be used, and the outcome of an edit. Raises as `get` does, except `ToolEdited`."""
    settled = settle_edit(name, library, adopt)
    if settled is None or settled.adopted:
        return library.get(name), settled
    tool = settled.tool
    if tool is not None and (failures := library.status(name).quarantine(tool.version)):
        raise ToolQuarantined(name, tool.version, failures)
    return tool, settled


def edit_prover(
    library: Library, backend: "Backend | None", permit: Callable[[ToolSpec, PackageLock], Permissions]
) -> Adopt:
    """An `Adopt` that proves an edit with what `permit` grants.

    What `permit` raises passes through: if a grant is refused, the edit is tried again the next time.
    """

    def adopt(name: str) -> BuiltTool:
        tool = library.edited(name)
        given = NO_PERMISSIONS
        if tool is not None and tool.spec.privileged:
            # If it asks for the same packages, it is tried with the very versions that it was proved with.
            proved = library.fallback(tool.name)
            same = proved is not None and proved.spec.packages == tool.spec.packages
            given = permit(tool.spec, proved.lock if proved is not None and same else PackageLock())
        return adopt_edit(name, library=library, backend=backend, permit=lambda _: given)

    return adopt


def _is_edited(name: str, library: Library) -> bool:
    """Whether the current version differs from what was proved; also True if it cannot be read."""
    try:
        library.get(name)
    except ToolEdited:
        return True
    except (ToolDisabled, ToolQuarantined):
        return False
    except LibraryError:
        return library.is_unreadable(name)
    return False
