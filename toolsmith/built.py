"""What a build makes: a tool with its proof, and the steps reported meanwhile. Frozen values."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from toolsmith.permissions import PackageLock
from toolsmith.proof.cases import Challenge, Suite
from toolsmith.spec import FrozenValue, Need, ToolSpec


class FunctionSignature(FrozenValue):
    """A function of a tool's module, for the log."""

    name: str
    """`count_words`, or `Parser.feed` for a method."""
    signature: str
    doc: str
    """The first paragraph of its docstring, on one line; empty when it has none."""


class CaseResult(FrozenValue):
    """The result of one case."""

    title: str
    passed: bool
    detail: str
    """Empty if passed; otherwise expected and actual, worded the same in every run."""
    seconds: float
    """Of the call itself."""
    memory_mb: float | None = None
    """The peak; None in records from before it was measured."""


class PropertyResult(FrozenValue):
    """The result of one property."""

    title: str
    passed: bool
    detail: str
    """Empty when passed; else the smallest input that was found to fail, and how it fails."""
    weak: str = ""
    """Why it says little, although it holds."""
    inputs: int
    """How many were tried."""
    counted: int
    """How many of them did not raise a declared error."""
    seconds: float


class MutantResult(FrozenValue):
    """One small fault that was planted into a tool's module, to see whether it is noticed."""

    kind: str
    line: int
    told: str
    """What is wrong with such a tool, in words about behaviour."""
    caught_by: str = ""
    """Title of the first case or property that noticed it; empty when none did."""


class TrialReport(FrozenValue):
    """The results of all cases in order, the examples of the specification first."""

    passed: bool
    """Whether all cases passed and all properties hold."""
    results: tuple[CaseResult, ...]
    properties: tuple[PropertyResult, ...] = ()
    mutants: tuple[MutantResult, ...] = ()
    """Empty if none could be made, if the tool has network, and in records from before there were any."""
    challenges: tuple[Challenge, ...] = ()
    """Objections of the code's writer to cases, with the rulings."""
    lock: PackageLock = PackageLock()
    """The packages that it was tried with."""

    @property
    def failures(self) -> tuple[str, ...]:
        """What failed, as `case 'title': detail` or `property 'title': detail`."""
        failed = [("case", result.title, result.detail) for result in self.results if not result.passed]
        failed += [("property", held.title, held.detail) for held in self.properties if not held.passed]
        return tuple(f"{what} '{title}': {detail}" for what, title, detail in failed)

    @property
    def lines(self) -> tuple[str, ...]:
        """The report for people: a line for each case, property and challenge, and one for planted faults."""
        rows = [("", result.title, result.passed, result.detail) for result in self.results]
        rows += [
            ("property: ", held.title, held.passed, held.detail or held.weak) for held in self.properties
        ]
        lines = [
            f"{'passed' if passed else 'failed'}: {what}{title}" + (f": {detail}" if detail else "")
            for what, title, passed, detail in rows
        ]
        if self.mutants:
            caught = len(self.mutants) - len(self.unnoticed)
            lines.append(f"noticed: {caught} of {len(self.mutants)} faults that were planted into the code")
        lines += [f"challenged: {one.title}: {one.verdict}: {one.ruling}" for one in self.challenges]
        return tuple(lines)

    @property
    def unnoticed(self) -> tuple[MutantResult, ...]:
        """The planted faults that nothing noticed."""
        return tuple(mutant for mutant in self.mutants if not mutant.caught_by)


class Origin(FrozenValue):
    """Where a tool comes from."""

    need: Need
    run: str | None = None
    """The run that needed it."""
    edit_of: int | None = None
    """The version whose files were edited by hand to make this one."""
    imported_from: str | None = None
    """The folder or file that it was imported from."""

    def is_built_by(self, run: str) -> bool:
        """Whether this run built the version itself; it did not if a person edited or imported it since."""
        return self.run == run and self.edit_of is None and self.imported_from is None


class BuiltTool(FrozenValue):
    """A tool of the library: its module passed every case."""

    name: str
    version: int
    spec: ToolSpec
    suite: Suite = Suite(cases=())
    source: str
    sha256: str
    """Of `source` in UTF-8."""
    functions: tuple[FunctionSignature, ...]
    trial: TrialReport
    origin: Origin
    created: datetime
    edited: bool = False
    """Its files were changed by hand after it was proved, so `trial` is not about `source`."""

    @property
    def lock(self) -> PackageLock:
        """The exact packages that it was proved with, and is used with."""
        return self.trial.lock

    @property
    def fingerprint(self) -> str:
        """A hash over what it does and asks for: its specification and its module.

        A permission for a tool is for this and not for its name, which another version may have later.
        """
        parts = [self.spec.model_dump(mode="json"), self.source]
        text = json.dumps(parts, ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# --- steps of a build


@dataclass(frozen=True)
class ReuseDecision:
    """How a need is served: by `tool`, by `tool` once extended, or by a new one (`tool` is "")."""

    kind: Literal["use", "extend", "new"]
    tool: str = ""
    reason: str = ""
    """Why it serves, or why none does; for `extend`, what to add."""


@dataclass(frozen=True)
class SpecWritten:
    """The specification is written and has no faults."""

    spec: ToolSpec


@dataclass(frozen=True)
class CasesWritten:
    """The cases are written and have no faults; reported again if more are added."""

    name: str
    suite: Suite


@dataclass(frozen=True)
class CodeWritten:
    """A module is written, and not yet checked. Rounds count from 1."""

    name: str
    round: int
    source: str


@dataclass(frozen=True)
class CodeFaulty:
    """The module breaks rules, or the reply holds none; nothing was run."""

    name: str
    round: int
    faults: tuple[str, ...]


@dataclass(frozen=True)
class TrialRan:
    """All cases were run on the module and, if they passed, the properties."""

    name: str
    round: int
    report: TrialReport


@dataclass(frozen=True)
class Challenged:
    """The writer of the code challenged a case, and a ruling was made."""

    name: str
    challenge: Challenge


@dataclass(frozen=True)
class MutantsTried:
    """Faults were planted into a module that had passed, to see what its cases notice."""

    name: str
    round: int
    mutants: tuple[MutantResult, ...]


@dataclass(frozen=True)
class Searched:
    """The library had tools that might serve the need `name`, and this was decided."""

    name: str
    decision: ReuseDecision


@dataclass(frozen=True)
class NotExtended:
    """No next version of `base` was proved that also serves the need `name`; a tool of its own is built."""

    name: str
    base: str
    reasons: tuple[str, ...]


BuildStep = (
    Searched
    | NotExtended
    | SpecWritten
    | CasesWritten
    | CodeWritten
    | CodeFaulty
    | TrialRan
    | Challenged
    | MutantsTried
)
Emit = Callable[[BuildStep], None]


def ignore_step(_: BuildStep) -> None:
    """The `emit` of callers that do not watch."""
