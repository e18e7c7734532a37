"""The packages that a tool asks for, and the exact ones that it was given. Pure.

A tool names packages of the package index, with bounds on their versions if need be: `markdown>=3.6`.
Nothing else of what an installer understands is let through, because a specification is written by a model:
no addresses, no paths, no options, no extras and no markers.

A lock holds one exact version with its hashes for each package, those among it that others depend on. It
names no address, so it can be installed from any index that has the same files.
"""

import re
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, field_validator

MAX_PACKAGES = 10
_PLAIN = re.compile(r"[A-Za-z0-9._ ,<>=!~+*-]+")
_LOCKED = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[A-Za-z0-9.+!]+)(?: --hash=sha256:[0-9a-f]{64})+")
_REMEDY = "write a name of the package index, with bounds if need be, like markdown>=3.6"


def requirement(text: str) -> str:
    """A package in its one spelling: `Markdown >= 3.6` is `markdown>=3.6`. Raises ValueError."""
    from packaging.requirements import InvalidRequirement, Requirement  # not needed for most tools

    if not _PLAIN.fullmatch(text) or text.lstrip().startswith("-"):
        raise ValueError(f"{text[:80]!r} is no package that can be asked for; {_REMEDY}")
    try:
        read = Requirement(text)
    except InvalidRequirement as exc:
        raise ValueError(f"{text[:80]!r} is no package that can be asked for; {_REMEDY}") from exc
    if any(bound.operator == "===" for bound in read.specifier):
        raise ValueError(f"{text!r} compares versions as text; use == instead")
    return f"{_canonical(read.name)}{read.specifier}"


def name_of(wanted: str) -> str:
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
                raise ValueError(f"{line[:80]!r} is no exact version with its hashes")
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


def twice(wanted: Iterable[str]) -> list[str]:
    """Names that are asked for more than once."""
    names = [name_of(text) for text in wanted]
    return sorted({name for name in names if names.count(name) > 1})
