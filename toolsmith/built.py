"""What the chain makes: a tool with its proof. Frozen values, without behaviour that needs a sandbox or a
disk."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from toolsmith.cases import Suite
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


class TrialReport(_Value):
    """What all cases gave, in their order: the examples of the specification first."""

    passed: bool
    results: tuple[CaseResult, ...]
    lock: PackageLock = PackageLock()
    """The packages that it was tried with."""

    @property
    def failures(self) -> tuple[str, ...]:
        """The failed cases as `case 'title': detail`."""
        return tuple(
            f"case '{result.title}': {result.detail}" for result in self.results if not result.passed
        )


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
