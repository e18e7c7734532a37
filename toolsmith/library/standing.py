"""How a tool stands: how its uses went, and what was decided about it. Pure.

Whatever befalls a tool is an entry, and its standing follows from its entries in their order. Three
failures in a row put a version into quarantine; a success in between begins the count anew. A version in
quarantine is in use again once a trial passed after its last failure and it was enabled.

What is a failure is told in `uses`. The uses of one version say nothing about another.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Outcome = Literal["success", "declined", "failure"]

FAILURES_IN_A_ROW = 3
ERROR_CHARS = 300
"""So much of an error is kept of each use."""
KEPT_USES = 20
"""So many uses of each version stay entries of their own; older ones are added up."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True)

    at: datetime


class Used(_Entry):
    """One call."""

    what: Literal["used"] = "used"
    version: int
    outcome: Outcome
    seconds: float
    error: str = ""
    """What a failure was."""
    run: str = ""


class Uses(_Entry):
    """Calls that were added up. They lie before all calls that are entries of their own."""

    what: Literal["uses"] = "uses"
    version: int
    successes: int
    declined: int
    failures: int
    seconds: float


class Disabled(_Entry):
    what: Literal["disabled"] = "disabled"
    reason: str


class Enabled(_Entry):
    """In use again, be it from being disabled or from quarantine."""

    what: Literal["enabled"] = "enabled"
    version: int


class Tried(_Entry):
    """The trial of a version was run again."""

    what: Literal["tried"] = "tried"
    version: int
    passed: bool


class RolledBack(_Entry):
    """An earlier version counts, until there is a newer one than `newest`."""

    what: Literal["rolled_back"] = "rolled_back"
    version: int
    newest: int
    reason: str


class EditRefused(_Entry):
    """A hand edit that its trial did not prove."""

    what: Literal["edit_refused"] = "edit_refused"
    version: int
    fingerprint: str
    """Of the files as they were then: the same edit is not tried again."""
    reasons: tuple[str, ...]


Entry = Annotated[
    Used | Uses | Disabled | Enabled | Tried | RolledBack | EditRefused, Field(discriminator="what")
]


@dataclass(frozen=True)
class Tally:
    """The uses of one version."""

    successes: int = 0
    declined: int = 0
    """Calls with arguments that it rightly refused; they are no failures of the tool."""
    failures: int = 0
    seconds: float = 0.0
    """Of all its calls together."""
    last: datetime | None = None

    @property
    def calls(self) -> int:
        return self.successes + self.declined + self.failures


_NO_USES = Tally()


@dataclass(frozen=True)
class Standing:
    """What follows from all entries of a tool."""

    disabled: str | None = None
    """Why it is disabled; None where it is not."""
    chosen: RolledBack | None = None
    tallies: Mapping[int, Tally] = field(default_factory=lambda: MappingProxyType({}))
    """By version."""
    failures: Mapping[int, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """What failed in a row, by version; oldest first."""
    passed: frozenset[int] = frozenset()
    """Versions whose trial passed after their last failure."""
    refused: EditRefused | None = None

    def counting(self, versions: Sequence[int]) -> int:
        """Which of a tool's versions counts. There is at least one."""
        newest = max(versions)
        chosen = self.chosen
        if chosen is not None and chosen.newest >= newest and chosen.version in versions:
            return chosen.version
        return newest

    def quarantine(self, version: int) -> tuple[str, ...]:
        """The failures for which a version is in quarantine; empty where it is not."""
        found = self.failures.get(version, ())
        return found if len(found) >= FAILURES_IN_A_ROW else ()

    def tally(self, version: int) -> Tally:
        return self.tallies.get(version, _NO_USES)


def standing_of(entries: Iterable[Entry]) -> Standing:
    standing = Standing()
    for entry in entries:
        standing = _after(standing, entry)
    return standing


def _after(standing: Standing, entry: Entry) -> Standing:
    match entry:
        case Used():
            return _used(standing, entry)
        case Uses(version=version):
            before = standing.tally(version)
            tally = Tally(
                before.successes + entry.successes,
                before.declined + entry.declined,
                before.failures + entry.failures,
                before.seconds + entry.seconds,
                entry.at,
            )
            return replace(standing, tallies={**standing.tallies, version: tally})
        case Disabled(reason=reason):
            return replace(standing, disabled=reason)
        case Enabled(version=version):
            return replace(standing, disabled=None, failures={**standing.failures, version: ()})
        case Tried(version=version, passed=passed):
            proved = standing.passed | {version} if passed else standing.passed - {version}
            return replace(standing, passed=proved)
        case RolledBack():
            return replace(standing, chosen=entry)
        case EditRefused():
            return replace(standing, refused=entry)


def _used(standing: Standing, use: Used) -> Standing:
    version, before = use.version, standing.tally(use.version)
    tally = Tally(
        before.successes + (use.outcome == "success"),
        before.declined + (use.outcome == "declined"),
        before.failures + (use.outcome == "failure"),
        before.seconds + use.seconds,
        use.at,
    )
    standing = replace(standing, tallies={**standing.tallies, version: tally})
    if use.outcome == "declined":
        return standing
    # A quarantine outlasts the success of a call that was under way: only `enabled` ends it.
    row = standing.failures.get(version, ())
    if use.outcome == "failure":
        row = (*row, use.error)[-KEPT_USES:]
        return replace(
            standing, failures={**standing.failures, version: row}, passed=standing.passed - {version}
        )
    return standing if standing.quarantine(version) else _begun_anew(standing, version)


def _begun_anew(standing: Standing, version: int) -> Standing:
    return replace(standing, failures={**standing.failures, version: ()})


def compacted(entries: Sequence[Entry]) -> list[Entry]:
    """The same standing in fewer entries: of each version only the newest uses stay as they are.

    All uses of a version in quarantine stay, because they are why it is there.
    """
    standing = standing_of(entries)
    uses: dict[int, list[Used]] = {}
    old: set[int] = set()
    for entry in entries:
        if not isinstance(entry, Used) or standing.quarantine(entry.version):
            continue
        if entry.outcome == "declined":
            old.add(id(entry))
        else:
            uses.setdefault(entry.version, []).append(entry)
    old |= {id(use) for found in uses.values() for use in found[:-KEPT_USES]}
    summed = standing_of(e for e in entries if isinstance(e, Uses) or id(e) in old)
    sums: list[Entry] = [
        Uses(
            at=tally.last,
            version=version,
            successes=tally.successes,
            declined=tally.declined,
            failures=tally.failures,
            seconds=round(tally.seconds, 3),
        )
        for version, tally in sorted(summed.tallies.items())
        if tally.last is not None
    ]
    return [*sums, *(e for e in entries if not isinstance(e, Uses) and id(e) not in old)]
