"""The status of a tool, folded from its history: its uses, and what was decided about it. Pure.

Three failures in a row put a version into quarantine; a success in between resets the count. A version in
quarantine is used again after it was enabled, which needs a passed trial since its last failure.

The uses of one version do not count for another.

What a call shows about a tool is judged here as well. A call is a failure if it raises what the tool does not
declare, runs out of time, crashes its sandbox, or returns something that is not JSON or not of the output
type. A declared error is the tool working as specified. If the arguments were not of the declared types, the
error is the caller's fault. A call that was ended from outside, or could not be made, shows nothing.

Not covered by judging: a wrong value of the right type, and the cost of a call.
"""

import builtins
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from orchestrator_cli.durable.text import truncate
from toolsmith.sandbox.spec import SandboxClosed, SandboxError
from toolsmith.spec import ToolSpec
from toolsmith.values import is_of_type, not_json, short_json, type_name

UseOutcome = Literal["success", "declined", "failure"]

FAILURES_IN_A_ROW = 3
ERROR_CHARS = 300
"""Characters of an error that are kept for each use."""
KEPT_USES = 20
"""Uses of each version that stay separate entries; older ones are summed."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True)

    at: datetime


class Used(_Entry):
    """One call."""

    what: Literal["used"] = "used"
    version: int
    outcome: UseOutcome
    seconds: float
    error: str = ""
    """What a failure was."""
    run: str = ""


class Uses(_Entry):
    """Summed calls, older than those with entries of their own."""

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
    """In use again, after being disabled or in quarantine."""

    what: Literal["enabled"] = "enabled"
    version: int


class Tried(_Entry):
    """The trial of a version was run again."""

    what: Literal["tried"] = "tried"
    version: int
    passed: bool


class RolledBack(_Entry):
    """An earlier version is the current one, until there is a newer one than `newest`."""

    what: Literal["rolled_back"] = "rolled_back"
    version: int
    newest: int
    reason: str


class Retired(_Entry):
    """Moved out of the library, because it was not used for long, or another tool serves in its place."""

    what: Literal["retired"] = "retired"
    served_by: str = ""
    """The other tool."""


class EditRefused(_Entry):
    """A hand edit that failed its trial."""

    what: Literal["edit_refused"] = "edit_refused"
    version: int
    fingerprint: str
    """Of the edited files: the same edit is not tried again."""
    reasons: tuple[str, ...]


Entry = Annotated[
    Used | Uses | Disabled | Enabled | Tried | RolledBack | Retired | EditRefused, Field(discriminator="what")
]


@dataclass(frozen=True)
class Tally:
    """The uses of one version."""

    successes: int = 0
    declined: int = 0
    """Calls whose arguments it rightly refused; they are not failures."""
    failures: int = 0
    seconds: float = 0.0
    """Of all its calls together."""
    last: datetime | None = None

    @property
    def calls(self) -> int:
        return self.successes + self.declined + self.failures


_NO_USES = Tally()


@dataclass(frozen=True)
class ToolStatus:
    """The state of a tool after all entries of its history."""

    disabled: str | None = None
    """Why it is disabled; None if it is not."""
    chosen: RolledBack | None = None
    tallies: Mapping[int, Tally] = field(default_factory=lambda: MappingProxyType({}))
    """By version."""
    failures: Mapping[int, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """What failed in a row, by version; oldest first."""
    passed: frozenset[int] = frozenset()
    """Versions whose trial passed after their last failure."""
    refused: EditRefused | None = None
    served_by: str = ""
    """The tool that serves in its place, if it was retired for that."""
    last: datetime | None = None
    """When it was last used, or decided about."""

    def current_version(self, versions: Sequence[int]) -> int:
        """Which of a tool's versions, at least one, is the current one."""
        newest = max(versions)
        chosen = self.chosen
        if chosen is not None and chosen.newest >= newest and chosen.version in versions:
            return chosen.version
        return newest

    def quarantine(self, version: int) -> tuple[str, ...]:
        """The failures for which a version is in quarantine; empty if it is not."""
        found = self.failures.get(version, ())
        return found if len(found) >= FAILURES_IN_A_ROW else ()

    def tally(self, version: int) -> Tally:
        return self.tallies.get(version, _NO_USES)


def status_of(entries: Iterable[Entry]) -> ToolStatus:
    status = ToolStatus()
    for entry in entries:
        # Summed uses come first, whenever they were.
        status = replace(_after(status, entry), last=max(entry.at, status.last or entry.at))
    return status


def _after(status: ToolStatus, entry: Entry) -> ToolStatus:
    match entry:
        case Used():
            return _used(status, entry)
        case Uses():
            return _counted(status, entry, entry.successes, entry.declined, entry.failures)
        case Disabled(reason=reason):
            return replace(status, disabled=reason)
        case Enabled(version=version):
            return replace(status, disabled=None, served_by="", failures={**status.failures, version: ()})
        case Tried(version=version, passed=passed):
            proved = status.passed | {version} if passed else status.passed - {version}
            return replace(status, passed=proved)
        case RolledBack():
            return replace(status, chosen=entry)
        case Retired(served_by=other):
            return replace(status, served_by=other)
        case EditRefused():
            return replace(status, refused=entry)


def _counted(
    status: ToolStatus, entry: Used | Uses, successes: int, declined: int, failures: int
) -> ToolStatus:
    before = status.tally(entry.version)
    tally = Tally(
        before.successes + successes,
        before.declined + declined,
        before.failures + failures,
        before.seconds + entry.seconds,
        entry.at,
    )
    return replace(status, tallies={**status.tallies, entry.version: tally})


def _used(status: ToolStatus, use: Used) -> ToolStatus:
    version, outcome = use.version, use.outcome
    status = _counted(status, use, outcome == "success", outcome == "declined", outcome == "failure")
    if use.outcome == "declined":
        return status
    # A call that was under way may still succeed; only `enabled` ends a quarantine.
    row = status.failures.get(version, ())
    if use.outcome == "failure":
        row = (*row, use.error)[-KEPT_USES:]
        return replace(status, failures={**status.failures, version: row}, passed=status.passed - {version})
    return (
        status if status.quarantine(version) else replace(status, failures={**status.failures, version: ()})
    )


def compacted(entries: Sequence[Entry]) -> list[Entry]:
    """Fewer entries with the same status: the newest uses of each version stay, older ones are summed.

    All uses of a version in quarantine stay, because they are its reason.
    """
    status = status_of(entries)
    uses: dict[int, list[Used]] = {}
    old: set[int] = set()
    for entry in entries:
        if not isinstance(entry, Used) or status.quarantine(entry.version):
            continue
        if entry.outcome == "declined":
            old.add(id(entry))
        else:
            uses.setdefault(entry.version, []).append(entry)
    old |= {id(use) for found in uses.values() for use in found[:-KEPT_USES]}
    summed = status_of(e for e in entries if isinstance(e, Uses) or id(e) in old)
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


class Judgement(NamedTuple):
    outcome: UseOutcome
    error: str
    """The error of a failure; otherwise empty."""


def judge_value(spec: ToolSpec, value: object) -> Judgement:
    """The judgement on a call that returned."""
    if fault := not_json(value):
        return Judgement("failure", _cut(f"it returned what is not JSON: {fault}"))
    if not is_of_type(value, spec.output_type):
        text = f"it returned {short_json(value)}, which is {type_name(value)} and not {spec.output_type}"
        return Judgement("failure", _cut(text))
    return Judgement("success", "")


def judge_error(spec: ToolSpec, error: BaseException, arguments: Mapping[str, Any]) -> Judgement | None:
    """The judgement on a call that raised; None if it shows nothing about the tool."""
    if not isinstance(error, SandboxError) or isinstance(error, SandboxClosed):
        return None
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if text.startswith(_NOT_THE_TOOL):
        return None
    name = text.partition(":")[0]
    raised = getattr(builtins, name, None)
    if spec.declares((name, *(kind.__name__ for kind in getattr(raised, "__mro__", ())))):
        return Judgement("declined", "")
    if spec.argument_faults(arguments):
        return Judgement("declined", "")
    return Judgement("failure", _cut(text))


# Messages of the host about calls that never reached the tool; see `toolsmith.sandbox`.
_NOT_THE_TOOL = ("cannot pass the arguments of ", "the sandbox is busy ")


def _cut(text: str) -> str:
    return truncate(" ".join(text.encode(errors="backslashreplace").decode().split()), ERROR_CHARS)
