"""The trial: every case of a tool, run in the sandbox, and every property on generated inputs.

A case has a fresh folder and a fresh sandbox. Fresh on purpose: a tool that keeps something between calls,
in memory or on disk, must not pass because of it. The workspace can be changed only if the specification says
`write`. Domains and secrets are those that were permitted, and no others.

Every call is bounded: TIME_S seconds (of a tool with network, the sandbox's own limit) and MEMORY_MB of
memory; one that takes more has failed with that reason. A case that passed is run once more, in another
sandbox: if that gives something else, the tool is unreliable, and has failed. A tool with network
is not asked twice.

Not covered: results that differ from run to run rarely, or with the date.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from toolsmith.built import CaseResult, PropertyResult, TrialReport
from toolsmith.permissions import NO_PERMISSIONS, Permissions
from toolsmith.proof.calls import CallOutcome, TrialCall, TrialSandboxes, case_fault, shortened
from toolsmith.proof.cases import TIME_S, Suite
from toolsmith.proof.properties import try_properties
from toolsmith.sandbox import Backend, Limits, choose_backend
from toolsmith.sandbox.proxy import Dialer
from toolsmith.spec import Case, ToolSpec
from toolsmith.values import difference, short_json

AT_ONCE = 2
"""Sandboxes at a time: most of a case is the start of its own, which two processors do for two."""


def try_tool(
    spec: ToolSpec,
    suite: Suite,
    source: str,
    *,
    backend: Backend | None = None,
    limits: Limits | None = None,
    permissions: Permissions = NO_PERMISSIONS,
    dialer: Dialer | None = None,
) -> TrialReport:
    """Run all cases on the module `source`, also after a failure, then the properties.

    Properties are tried only if all cases passed, because otherwise they would repeat the same faults.

    Raises:
        SandboxUnavailable: no sandbox works on this system, or it cannot be granted connections. What the
            tool itself does wrong is in the report.
    """
    sandboxes = sandboxes_for(spec, backend, limits, permissions, dialer)
    results = _try_cases(spec, suite.of(spec), source, sandboxes)
    held: tuple[PropertyResult, ...] = ()
    if suite.properties and all(result.passed for result in results):
        held = try_properties(spec, suite.properties, source, sandboxes)
    passed = all(result.passed for result in results) and all(one.passed for one in held)
    return TrialReport(passed=passed, results=results, properties=held, lock=permissions.lock)


def sandboxes_for(
    spec: ToolSpec,
    backend: Backend | None,
    limits: Limits | None,
    permissions: Permissions,
    dialer: Dialer | None,
) -> TrialSandboxes:
    """What the sandboxes of a tool's trial are made of. Raises SandboxUnavailable."""
    usual = Limits() if spec.network else replace(Limits(), wall_s=TIME_S)
    return TrialSandboxes(backend or choose_backend(), limits or usual, permissions, dialer or Dialer())


def _try_cases(
    spec: ToolSpec, cases: Sequence[Case], source: str, sandboxes: TrialSandboxes
) -> tuple[CaseResult, ...]:
    calls = [TrialCall(case.arguments, case.files) for case in cases]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(lambda call: sandboxes.fresh(spec, source, call), calls))
    faults = [case_fault(spec, case, outcome) for case, outcome in zip(cases, outcomes, strict=True)]
    if not spec.network:
        faults = _repeated(spec, source, sandboxes, calls, outcomes, faults)
    return tuple(
        CaseResult(
            title=case.title,
            passed=not fault,
            detail=fault,
            seconds=round(outcome.seconds, 3),
            memory_mb=outcome.memory_mb,
        )
        for case, outcome, fault in zip(cases, outcomes, faults, strict=True)
    )


def _repeated(
    spec: ToolSpec,
    source: str,
    sandboxes: TrialSandboxes,
    calls: Sequence[TrialCall],
    outcomes: Sequence[CallOutcome],
    faults: Sequence[str],
) -> list[str]:
    """The faults, and those of cases that passed and give something else the second time."""
    passed = [at for at, fault in enumerate(faults) if not fault]
    with sandboxes.bench(spec, wall_s=sandboxes.limits.wall_s) as bench:
        again = bench.calls(source, [calls[at] for at in passed])
    told = list(faults)
    for at, second in zip(passed, again, strict=True):
        if second.made and (differs := _difference(outcomes[at], second)):
            told[at] = f"the same call gave something else the second time: {differs}"
    return told


def _difference(first: CallOutcome, second: CallOutcome) -> str | None:
    if second.fault:
        return f"it {second.fault}"
    if first.error or second.error:
        kinds = [outcome.error.split(":", 1)[0] for outcome in (first, second)]
        what = shortened(second.error) if second.error else short_json(second.value)
        return (
            None
            if kinds[0] == kinds[1]
            else f"{shortened(first.error) or short_json(first.value)}, then {what}"
        )
    return difference(first.value, second.value) or difference(dict(first.files), dict(second.files), "files")
