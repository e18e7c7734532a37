"""What the chain makes: a tool with its proof. Frozen values, without behaviour that needs a sandbox or a
disk."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from toolsmith.proof.cases import Suite
from toolsmith.proof.challenges import Challenge
from toolsmith.requirements import PackageLock
from toolsmith.spec import Need, ToolSpec


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FunctionDoc(_Value):
    """A function of a tool's module, for the log."""

    name: str
    """`count_words`, or `Parser.feed` for a method."""
    signature: str
    doc: str
    """The first paragraph of its docstring, on one line; empty when it has none."""


class CaseResult(_Value):
    """What one case gave."""

    title: str
    passed: bool
    detail: str
    """Empty when passed; else expected against got, in words that are the same in every run."""
    seconds: float
    """Of the call itself."""
    memory_mb: float | None = None
    """The most that it held; unknown of tools that were tried before it was measured."""


class PropertyResult(_Value):
    """What one property gave."""

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


class MutantResult(_Value):
    """One small fault that was planted into a tool's module, to see whether it is noticed."""

    kind: str
    line: int
    told: str
    """What is wrong with such a tool, in words about behaviour."""
    caught_by: str = ""
    """Title of the first case or property that noticed it; empty when none did."""


class TrialReport(_Value):
    """What all cases gave, in their order: the examples of the specification first."""

    passed: bool
    """Whether all cases passed and all properties hold."""
    results: tuple[CaseResult, ...]
    properties: tuple[PropertyResult, ...] = ()
    mutants: tuple[MutantResult, ...] = ()
    """Empty where none could be made, of tools with network, and of those from before there were any."""
    challenges: tuple[Challenge, ...] = ()
    """What the writer of the code said against cases, and what came of it."""
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
        """All of it for people: a line for each case, property and challenge, and one for planted faults."""
        told = [("", result.title, result.passed, result.detail) for result in self.results]
        told += [
            ("property: ", held.title, held.passed, held.detail or held.weak) for held in self.properties
        ]
        lines = [
            f"{'passed' if passed else 'failed'}: {what}{title}" + (f": {detail}" if detail else "")
            for what, title, passed, detail in told
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


class Origin(_Value):
    """Where a tool comes from."""

    need: Need
    run: str | None = None
    """The run that needed it."""
    edit_of: int | None = None
    """The version whose files were edited by hand to make this one."""
    imported_from: str | None = None
    """The folder or file that it was taken in from; somebody else made it."""


class BuiltTool(_Value):
    """A tool of the library: its module passed every case."""

    name: str
    version: int
    spec: ToolSpec
    suite: Suite = Suite(cases=())
    source: str
    sha256: str
    """Of `source` in UTF-8."""
    functions: tuple[FunctionDoc, ...]
    trial: TrialReport
    origin: Origin
    created: datetime
    edited: bool = False
    """Its files were changed by hand since it was proved, so `trial` says nothing about `source`."""

    @property
    def lock(self) -> PackageLock:
        """The exact packages that it was proved with, and is used with."""
        return self.trial.lock
