import re
from dataclasses import dataclass
from functools import total_ordering

from smolagents import tool

FORM = re.compile(
    r"^(?P<major>0|[1-9][0-9]*)\.(?P<minor>0|[1-9][0-9]*)\.(?P<patch>0|[1-9][0-9]*)"
    r"(?:-(?P<pre>[0-9A-Za-z.-]+))?(?:\+(?P<build>[0-9A-Za-z.-]+))?\Z"
)


@total_ordering
@dataclass(frozen=True)
class Identifier:
    """One part of a pre-release: a number or a word; numbers are lower than words."""

    text: str

    def __lt__(self, other: "Identifier") -> bool:
        mine, others = self.text.isdigit(), other.text.isdigit()
        if mine and others:
            return int(self.text) < int(other.text)
        return mine if mine != others else self.text < other.text


@dataclass(frozen=True)
class Version:
    """A version taken apart."""

    text: str
    core: tuple[int, int, int]
    pre: tuple[Identifier, ...]

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Take a version apart, or say that it is none."""
        found = FORM.match(text)
        if found is None:
            raise ValueError(f"not a semantic version: {text!r}")
        pre = found["pre"].split(".") if found["pre"] is not None else []
        build = found["build"].split(".") if found["build"] is not None else []
        leading = any(len(part) > 1 and part[0] == "0" and part.isdigit() for part in pre)
        if "" in pre or "" in build or leading:
            raise ValueError(f"not a semantic version: {text!r}")
        core = (int(found["major"]), int(found["minor"]), int(found["patch"]))
        return cls(text, core, tuple(Identifier(part) for part in pre))

    def __lt__(self, other: "Version") -> bool:
        if self.core != other.core:
            return self.core < other.core
        if self.pre == other.pre:
            return self.text < other.text
        if not self.pre or not other.pre:
            return bool(self.pre)
        return self.pre < other.pre


@tool
def sort_versions(versions: list[str], newest_first: bool = False) -> list[str]:
    """Sort versions by semantic versioning.

    Args:
        versions: Texts such as 1.2.3, 1.0.0-rc.1 or 1.0.0+build.
        newest_first: Whether to begin with the newest.

    Returns:
        The texts in order.
    """
    ordered = sorted(Version.parse(text) for text in versions)
    if newest_first:
        ordered.reverse()
    return [version.text for version in ordered]
