"""What happens while a tool is built, as frozen values that `emit` is told."""

from collections.abc import Callable
from dataclasses import dataclass

from toolsmith.built import MutantResult, TrialReport
from toolsmith.proof.cases import Suite
from toolsmith.proof.challenges import Challenge
from toolsmith.search import Decision
from toolsmith.spec import ToolSpec


@dataclass(frozen=True)
class SpecWritten:
    """There is a specification without faults."""

    spec: ToolSpec


@dataclass(frozen=True)
class CasesWritten:
    """There are cases for it, without faults; again when there are more of them."""

    name: str
    suite: Suite


@dataclass(frozen=True)
class CodeWritten:
    """There is a module, not yet looked at. Rounds count from 1."""

    name: str
    round: int
    source: str


@dataclass(frozen=True)
class CodeFaulty:
    """The module, or the reply that should hold one, breaks rules; it was not run."""

    name: str
    round: int
    faults: tuple[str, ...]


@dataclass(frozen=True)
class TrialRan:
    """All cases were run on the module, and the properties where they passed."""

    name: str
    round: int
    report: TrialReport


@dataclass(frozen=True)
class Challenged:
    """The writer of the code said that a case is wrong, and somebody else ruled."""

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
    decision: Decision


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


def silent(_: BuildStep) -> None:
    """For callers that do not watch."""
