"""What a built tool may use besides its arguments and files: domains, secrets and packages.

A specification names them. The caller's `permit` grants them or raises `PermissionRefused`, after the
specification is written and before there is any code. Without a `permit` everything is refused.

Packages are named as in the package index, with version bounds if needed: `markdown>=3.6`. Nothing else that
an installer understands is accepted, because a model writes the specification: no addresses, paths, options,
extras or markers. A lock holds one exact version with its hashes for each package and its dependencies. It
contains no address, so it can be installed from any index that has the same files.

Not covered: what a granted server does with what a tool sends it, including a secret.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, field_validator

# --- packages


MAX_PACKAGES = 10
_PLAIN = re.compile(r"[A-Za-z0-9._ ,<>=!~+*-]+")
_LOCKED = re.compile(r"\A(?P<name>[a-z0-9-]+)==(?P<version>[A-Za-z0-9.+!]+)(?: --hash=sha256:[0-9a-f]{64})+")
_REMEDY = "write a name of the package index, with bounds if need be, like markdown>=3.6"


def requirement(text: str) -> str:
    """A package in its one spelling: `Markdown >= 3.6` is `markdown>=3.6`. Raises ValueError."""
    from packaging.requirements import InvalidRequirement, Requirement  # not needed for most tools

    if not _PLAIN.fullmatch(text) or text.lstrip().startswith("-"):
        raise ValueError(f"{text[:80]!r} is not a package that can be requested; {_REMEDY}")
    try:
        read = Requirement(text)
    except InvalidRequirement as exc:
        raise ValueError(f"{text[:80]!r} is not a package that can be requested; {_REMEDY}") from exc
    if any(bound.operator == "===" for bound in read.specifier):
        raise ValueError(f"{text!r} compares versions as text; use == instead")
    return f"{_canonical(read.name)}{read.specifier}"


def requirement_fault(text: str) -> str:
    """Why a text is not a package that can be requested; empty if it is one."""
    try:
        requirement(text)
    except ValueError as exc:
        return str(exc)
    return ""


def package_name(wanted: str) -> str:
    """The name alone, as an index compares names: `markdown>=3.6` is about `markdown`."""
    return _canonical(re.split(r"[<>=!~ ]", wanted.strip(), maxsplit=1)[0])


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


class PackageLock(BaseModel):
    """Exact versions with the hashes of their files, `markdown==3.6 --hash=sha256:…`, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lines: tuple[str, ...] = ()

    @field_validator("lines")
    @classmethod
    def _exact(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        for line in lines:
            if not _LOCKED.fullmatch(line):
                raise ValueError(f"{line[:80]!r} is not an exact version with its hashes")
        return tuple(sorted(lines))

    @property
    def versions(self) -> tuple[str, ...]:
        """What it installs, as `markdown 3.6`."""
        found = (_LOCKED.fullmatch(line) for line in self.lines)
        return tuple(f"{match['name']} {match['version']}" for match in found if match)


def read_lock(text: str) -> PackageLock:
    """The lock in what uv wrote, which breaks long lines. Raises ValueError."""
    whole = re.sub(r"\s*\\\n\s*", " ", text)
    rows = (row.strip() for row in whole.splitlines())
    return PackageLock(lines=tuple(row for row in rows if row and not row.startswith("#")))


def repeated_names(wanted: Iterable[str]) -> list[str]:
    """Names that are asked for more than once."""
    names = [package_name(text) for text in wanted]
    return sorted({name for name in names if names.count(name) > 1})


# --- permissions


@dataclass(frozen=True)
class Installation:
    """Installed packages: where they are, how they are imported, and which they are."""

    folder: Path
    modules: frozenset[str]
    lock: PackageLock


@dataclass(frozen=True)
class Permissions:
    """What was granted. The values of secrets never appear in its repr."""

    network: tuple[str, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Value by name."""
    packages: Installation | None = None
    """The installed packages."""

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


NO_PERMISSIONS = Permissions()
