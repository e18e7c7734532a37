"""What a built tool may have beside its arguments and its files: domains, secrets by name, and packages.

A specification names them; the caller's `permit` allows them, or raises `PermissionRefused`, once the
specification is written and before there is any code. Packages it also has installed, in a folder that the
tool's sandbox alone can read. Without a `permit` everything is refused.

Not covered: what a granted server does with what a tool sends it, a secret among that."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from toolsmith.errors import PermissionRefused
from toolsmith.requirements import PackageLock

if TYPE_CHECKING:
    from toolsmith.packages import Installation
    from toolsmith.spec import ToolSpec


@dataclass(frozen=True)
class Permissions:
    """What was allowed. The values of secrets stand in no text that is made of this."""

    network: tuple[str, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Value by name."""
    packages: "Installation | None" = None
    """Where the packages are that it asks for."""

    @property
    def lock(self) -> PackageLock:
        """The exact packages."""
        return self.packages.lock if self.packages is not None else PackageLock()

    @property
    def modules(self) -> frozenset[str]:
        """What a tool may import of its packages."""
        return self.packages.modules if self.packages is not None else frozenset()

    @property
    def folder(self) -> Path | None:
        """The folder of its packages, for its sandbox."""
        return self.packages.folder if self.packages is not None else None


NOTHING = Permissions()
Permit = Callable[["ToolSpec"], Permissions]
"""Allows what a specification asks for. Raises PermissionRefused, and PackagesUnavailable."""


def nobody_allows(spec: "ToolSpec") -> Permissions:
    """For callers that allow nothing."""
    if asked := asked_for(spec):
        raise PermissionRefused(f"it asks for {asked}, and nobody is there to allow that")
    return NOTHING


def asked_for(spec: "ToolSpec") -> str:
    """What a specification asks for, in one line; empty for nothing: `network: a.example; packages: b`."""
    parts = [("network", spec.network), ("secrets", spec.secrets), ("packages", spec.packages)]
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)
