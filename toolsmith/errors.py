"""What can go wrong between a need and a proved tool.

    ToolsmithError
    ├── ReplyFaulty       a model's reply does not hold what was asked for, or holds it with faults
    ├── ToolNotBuilt       no round of writing gave a tool that passes its own cases, or it was not allowed
    ├── PermissionRefused what a specification asks for is not allowed; `build_tool` makes it a ToolNotBuilt
    ├── PackagesUnavailable its packages cannot be installed; `build_tool` makes it a ToolNotBuilt as well
    └── LibraryError      the folder of tools cannot be read or written, or a tool is not fit for use
        ├── ToolEdited        a tool's files were changed by hand after it was proved
        ├── ToolDisabled      the user does not want a tool to be used
        └── ToolQuarantined   a tool failed too often in a row

Faults of the sandbox itself (`SandboxUnavailable`, …) and of the model (whatever `complete` raises) are not
translated: the caller knows them and has its own remedies.
"""

from collections.abc import Sequence


class ToolsmithError(Exception):
    """Base of all errors of this package; its text names the thing and the remedy."""


class ReplyFaulty(ToolsmithError):
    """A model's reply cannot be used. `faults` go back to the model, `reply` is what it wrote."""

    def __init__(self, faults: Sequence[str], reply: str = "") -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)
        self.reply = reply


class ToolNotBuilt(ToolsmithError):
    """The toolsmith gave up on a tool. `reasons` are the faults or failed cases of the last round."""

    def __init__(self, name: str, reasons: Sequence[str]) -> None:
        reason = "; ".join(reasons[:3]) + ("; …" if len(reasons) > 3 else "")
        super().__init__(
            f"The tool '{name}' was not built: {reason}\n"
            "Say more exactly what it has to do, give the toolsmith a stronger model, or write it by hand."
        )
        self.name = name
        self.reasons = tuple(reasons)


class PermissionRefused(ToolsmithError):
    """A tool may not have what its specification asks for. The text says why, in words for the asker."""


class PackagesUnavailable(ToolsmithError):
    """The packages of a tool cannot be had. The text says why and what to do, and holds no address."""


class LibraryError(ToolsmithError):
    """The library cannot do what was asked; the text names the folder and the remedy."""


class ToolEdited(LibraryError):
    """A tool is not what was proved: `tool.py` or `tool.json` was changed by hand."""

    def __init__(self, name: str, version: int, folder: str) -> None:
        super().__init__(
            f"The tool '{name}' v{version} was changed by hand since it was proved ({folder}).\n"
            "Prove it again with adopt_edit, restore its files, or delete that folder."
        )
        self.name = name
        self.version = version


class ToolDisabled(LibraryError):
    """The user has disabled a tool. `reason` is what was said of why; it may be empty."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"The tool '{name}' is disabled" + (f": {reason}" if reason else ".") + "\n"
            "Enable it, or do without it."
        )
        self.name = name
        self.reason = reason


class ToolQuarantined(LibraryError):
    """A tool failed several times in a row. `failures` are what went wrong, oldest first."""

    def __init__(self, name: str, version: int, failures: Sequence[str]) -> None:
        failed = f"it failed {len(failures)} times in a row: {'; '.join(failures[-3:])}"
        super().__init__(
            f"The tool '{name}' v{version} is in quarantine: {failed}\n"
            "Build a new version, go back to an earlier one, or enable it when its trial passes again."
        )
        self.name = name
        self.version = version
        self.failures = tuple(failures)
