"""The rounds in which a tool is specified, given cases, written and proved, each with its repairs.

A specification, cases and a ruling get REPAIRS repairs each, the code ROUNDS rounds (a round is: written or
rewritten, checked, tried). A module that passes is probed with planted faults; if the cases notice too few
of them, more cases are asked for, at most MORE times, and the module has to pass those too. The code's writer
may challenge one case of those that its code fails, once.

What is not proved by then is refused, with reasons.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from toolsmith.built import (
    BuiltTool,
    CasesWritten,
    Challenged,
    CodeFaulty,
    CodeWritten,
    Emit,
    MutantResult,
    MutantsTried,
    SpecWritten,
    TrialRan,
    TrialReport,
)
from toolsmith.errors import ReplyFaulty, ToolNotBuilt
from toolsmith.permissions import NO_PERMISSIONS, Permissions
from toolsmith.proof.calls import TrialSandboxes
from toolsmith.proof.cases import (
    Challenge,
    Objection,
    Ruling,
    Suite,
    apply_ruling,
    challenge_record,
    find_challenged,
)
from toolsmith.proof.checker import check
from toolsmith.proof.mutants import gaps, too_weak, try_mutants
from toolsmith.proof.trial import inputs_of, sandboxes_for, try_tool
from toolsmith.reuse import Duplicate, duplicate_of
from toolsmith.spec import Need, ToolSpec
from toolsmith.writer import Complete, write_cases, write_code, write_ruling, write_spec

if TYPE_CHECKING:
    from toolsmith.sandbox import Backend, Limits
    from toolsmith.sandbox.proxy import Dialer

_T = TypeVar("_T")
REPAIRS = 2
ROUNDS = 3
MORE = 2


@dataclass(frozen=True)
class Proved:
    """A module with all that proves it."""

    source: str
    suite: Suite
    report: TrialReport


@dataclass(frozen=True)
class ToolBuilder:
    """Specifies, writes and proves one tool; holds what its rounds share."""

    emit: Emit
    backend: "Backend | None"
    limits: "Limits | None"
    dialer: "Dialer | None" = None
    permissions: Permissions = NO_PERMISSIONS

    def specify(self, need: Need, complete: Complete, base: ToolSpec | None = None) -> ToolSpec:
        """A specification without faults. Raises ToolNotBuilt."""
        spec = _repaired(
            lambda faults, previous: write_spec(need, complete, faults, previous=previous, base=base),
            need.tool_name,
            "specification",
        )
        self.emit(SpecWritten(spec))
        return spec

    def write_cases(
        self,
        spec: ToolSpec,
        complete: Complete,
        *,
        known: Suite | None = None,
        gaps: Sequence[str] = (),
    ) -> Suite:
        """Cases without faults; with `known`, those and more that notice `gaps`. Raises ToolNotBuilt."""

        def write(faults: Sequence[str], previous: str) -> Suite:
            suite = write_cases(spec, complete, faults, previous=previous, known=known, gaps=gaps)
            if empty := _empty_properties(suite):
                raise ReplyFaulty(empty, suite.model_dump_json())
            return suite

        suite = _repaired(write, spec.name, "cases")
        suite = known.with_more(suite) if known else suite
        self.emit(CasesWritten(spec.name, suite))
        return suite

    def duplicate(self, spec: ToolSpec, suite: Suite, tools: Iterable[BuiltTool]) -> Duplicate | None:
        """A tool that does the same. The trials that find it are not reported."""

        def try_(asked: ToolSpec, part: Suite, source: str) -> TrialReport:
            return try_tool(asked, part, source, sandboxes_for(asked, self.backend, self.limits))

        return duplicate_of(spec, suite, tools, try_)

    def make(
        self,
        spec: ToolSpec,
        suite: Suite,
        complete: Complete,
        *,
        source: str | None = None,
        failures: Sequence[str] = (),
    ) -> Proved:
        """Code that is proved; with `source`, made of that, which lacks what `failures` say.

        Raises:
            ToolNotBuilt: the rounds are over, or the cases stay too weak.
        """
        return _Rounds(self, spec, complete, suite, source=source, failures=tuple(failures)).run()

    def prove(
        self, spec: ToolSpec, suite: Suite, source: str, number: int
    ) -> tuple[tuple[str, ...], TrialReport | None]:
        """Check and try a module: its faults (empty if there are none), and the report if it was run."""
        if faults := check(source, spec, self.permissions.modules, suite):
            self.emit(CodeFaulty(spec.name, number, faults))
            return faults, None
        report = try_tool(spec, suite, source, self._sandboxes(spec))
        self.emit(TrialRan(spec.name, number, report))
        return report.failures, report

    def probe(
        self, spec: ToolSpec, suite: Suite, source: str, earlier: Sequence[MutantResult]
    ) -> tuple[MutantResult, ...]:
        """What the cases notice of faults that are planted into a module that passed them."""
        return try_mutants(spec, suite, source, self._sandboxes(spec), earlier)

    def _sandboxes(self, spec: ToolSpec) -> TrialSandboxes:
        return sandboxes_for(spec, self.backend, self.limits, self.permissions, self.dialer)


@dataclass
class _Rounds:
    """The rounds of the code of one tool, and what has changed so far."""

    bench: ToolBuilder
    spec: ToolSpec
    complete: Complete
    suite: Suite
    source: str | None
    failures: tuple[str, ...]
    challenges: tuple[Challenge, ...] = ()
    asked_for_more: int = 0

    def run(self) -> Proved:
        for number in range(1, 1 + ROUNDS):
            report = self._round(number)
            if report is not None and report.passed:
                report = self._strengthened(report, number)
            if report is not None and report.passed and self.source is not None:
                report = report.model_copy(update={"challenges": self.challenges})
                return Proved(self.source, self.suite, report)
        raise ToolNotBuilt(self.spec.name, self.failures)

    def _round(self, number: int) -> TrialReport | None:
        """One module, written, checked and tried; None if there was nothing to try."""
        name = self.spec.name
        try:
            code = write_code(
                self.spec,
                self.suite,
                self.complete,
                previous=self.source,
                failures=self.failures,
                installed=self.bench.permissions.packages,
                may_challenge=bool(self.failures) and not self.challenges,
            )
        except ReplyFaulty as exc:
            self.failures = exc.faults
            self.bench.emit(CodeFaulty(name, number, exc.faults))
            return None
        self.source = code.source
        self.bench.emit(CodeWritten(name, number, code.source))
        self.failures, report = self.bench.prove(self.spec, self.suite, code.source, number)
        if report is None or report.passed or code.objection is None or self.challenges:
            return report
        return self._ruled(code.objection, code.source, report, number)

    def _ruled(
        self, objection: Objection, source: str, report: TrialReport, number: int
    ) -> TrialReport | None:
        """The report after a ruling on a case that the code fails."""
        failed = {result.title for result in report.results if not result.passed}
        failed |= {held.title for held in report.properties if not held.passed}
        old = find_challenged(self.suite, objection.case) if objection.case in failed else None
        if old is None:
            self.failures += (f"challenge: no failed case or property is called {objection.case!r}",)
            return report
        try:
            ruling = _repaired(
                lambda faults, previous: write_ruling(
                    self.spec, self.suite, old, objection, self.complete, faults, previous=previous
                ),
                self.spec.name,
                "ruling",
            )
        except ToolNotBuilt:
            ruling = Ruling(verdict="keep", reason="no ruling could be read, so it stays")
        challenge = challenge_record(old, objection, ruling)
        self.challenges = (challenge,)
        self.bench.emit(Challenged(self.spec.name, challenge))
        if ruling.verdict == "keep":
            self.failures += (f"the challenge of {old.title!r} was rejected: {ruling.reason}",)
            return report
        self.suite = apply_ruling(self.suite, old, ruling)
        self.failures, after = self.bench.prove(self.spec, self.suite, source, number)
        return after

    def _strengthened(self, report: TrialReport, number: int) -> TrialReport | None:
        """The report once the cases notice enough, or a failed one if the added cases fail the module."""
        assert self.source is not None
        mutants: tuple[MutantResult, ...] = ()
        while True:
            mutants = self.bench.probe(self.spec, self.suite, self.source, mutants)
            self.bench.emit(MutantsTried(self.spec.name, number, mutants))
            if not too_weak(mutants):
                return report.model_copy(update={"mutants": mutants})
            unnoticed = (*gaps(mutants), *_weak_properties(report))
            if self.asked_for_more == MORE:
                raise ToolNotBuilt(self.spec.name, _too_weak(mutants, unnoticed))
            self.asked_for_more += 1
            self.suite = self.bench.write_cases(self.spec, self.complete, known=self.suite, gaps=unnoticed)
            self.failures, after = self.bench.prove(self.spec, self.suite, self.source, number)
            if after is None or not after.passed:
                return after
            report = after


def _repaired(write: Callable[[Sequence[str], str], _T], name: str, what: str) -> _T:
    """What a model writes, with its faults given to it up to REPAIRS times. Raises ToolNotBuilt."""
    faults: tuple[str, ...] = ()
    previous = ""
    for _ in range(1 + REPAIRS):
        try:
            return write(faults, previous)
        except ReplyFaulty as exc:
            faults, previous = exc.faults, exc.reply
    raise ToolNotBuilt(name, [f"{what}: {fault}" for fault in faults])


def _empty_properties(suite: Suite) -> list[str]:
    if not suite.properties:
        return []
    return [
        f"properties[{at}].inputs: nothing could be generated; the schemas are too narrow"
        for at, held in enumerate(suite.properties)
        if not inputs_of(held)
    ]


def _weak_properties(report: TrialReport) -> list[str]:
    return [
        f"the property '{held.title}' says little: {held.weak}, for the others raise a declared error"
        for held in report.properties
        if held.weak
    ]


def _too_weak(mutants: Sequence[MutantResult], unnoticed: Sequence[str]) -> list[str]:
    caught = sum(bool(mutant.caught_by) for mutant in mutants)
    return [
        f"its cases prove too little: of {len(mutants)} small faults that were planted into its code they "
        f"noticed {caught}; say more exactly what the tool has to do",
        *(f"unnoticed: {behaviour}" for behaviour in unnoticed),
    ]
