"""The trial: every case of a tool, run in the sandbox, and every property on generated inputs.

A case has a fresh folder and a fresh sandbox. Fresh on purpose: a tool that keeps something between calls,
in memory or on disk, must not pass because of it. The workspace can be changed only if the specification says
`write`. Domains and secrets are those that were permitted, and no others.

Every call is bounded: TIME_S seconds (of a tool with network, the sandbox's own limit) and MEMORY_MB of
memory; one that takes more has failed with that reason. A case that passed is run once more, in another
sandbox: if that gives something else, the tool is unreliable, and has failed. A tool with network
is not asked twice.

The inputs of properties come from hypothesis and are the same in every run: nothing is kept in a database, no
file is written. All inputs are generated first and tried together, each call in a process of its own. If one
fails, hypothesis searches for the smallest input that fails too, which is the one reported:
`for text="aa": …`. A call that raises a declared error does not count. One that raises anything else, takes
too long, or returns a value of another type is a failure whatever the property says.

Bounds for properties: EXAMPLES inputs, BUDGET_S seconds of calls, and for the search SEARCH_S seconds. When
the time is over, what was tried by then decides.

Not covered: results that differ from run to run rarely, or with the date; a schema's own sense of what is
likely; an input that matters once in ten thousand is not found.
"""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from toolsmith.built import CaseResult, PropertyResult, TrialReport
from toolsmith.permissions import NO_PERMISSIONS, Permissions
from toolsmith.proof.calls import (
    Bench,
    CallOutcome,
    TrialCall,
    TrialSandboxes,
    case_fault,
    check_fault,
    shortened,
    value_fault,
)
from toolsmith.proof.cases import EXAMPLES, TIME_S, Property, Suite
from toolsmith.proof.schemas import Fails, Strategy, generate, strategies, values_of
from toolsmith.sandbox import Backend, Limits, choose_backend
from toolsmith.sandbox.proxy import Dialer
from toolsmith.spec import Case, ToolSpec
from toolsmith.values import difference, short_json

BUDGET_S = 5.0
SEARCH_S = 4.0
_CALL_S = 2.0
_FEW = 0.2
"""Where less of the inputs than this count, a property says little."""


@dataclass(frozen=True)
class InputVerdict:
    """What one input gave."""

    counts: bool
    fault: str = ""


def try_properties(
    spec: ToolSpec, properties: Sequence[Property], source: str, sandboxes: TrialSandboxes
) -> tuple[PropertyResult, ...]:
    """What each property gave, in their order; each has a sandbox of its own."""

    def one(held: Property) -> PropertyResult:
        started = time.monotonic()
        with sandboxes.bench(spec, wall_s=min(_CALL_S, sandboxes.limits.wall_s)) as bench:
            return _try_one(spec, held, source, bench, started)

    with ThreadPoolExecutor(2) as pool:
        return tuple(pool.map(one, properties))


def inputs_of(held: Property, most: int = EXAMPLES) -> tuple[TrialCall, ...]:
    """Distinct inputs of a property, as calls; none if its schemas generate nothing."""
    found: dict[str, TrialCall] = {}

    def keep(call: TrialCall) -> None:
        found.setdefault(_key(call), call)

    generate(_calls(held), keep, EXAMPLES)
    return tuple(found.values())[:most]


def verdicts(
    spec: ToolSpec,
    held: Property,
    source: str,
    bench: Bench,
    calls: Sequence[TrialCall],
    *,
    budget_s: float = BUDGET_S,
    stop: bool = False,
) -> list[InputVerdict]:
    """What each input gave; with `stop`, those after one that never ends are not tried."""
    firsts = bench.calls(source, calls, budget_s=budget_s, stop=stop)
    found = [_first(spec, held, call, outcome) for call, outcome in zip(calls, firsts, strict=True)]
    second = [(at, one) for at, one in enumerate(found) if isinstance(one, TrialCall)]
    outcomes = bench.calls(source, [call for _, call in second], budget_s=budget_s, stop=stop)
    for (at, _), outcome in zip(second, outcomes, strict=True):
        found[at] = _second(spec, held, calls[at], firsts[at], outcome)
    return [verdict for verdict in found if isinstance(verdict, InputVerdict)]


def _try_one(spec: ToolSpec, held: Property, source: str, bench: Bench, started: float) -> PropertyResult:
    calls = inputs_of(held)
    found = zip(calls, verdicts(spec, held, source, bench, calls), strict=True)
    known = {_key(call): (call, verdict) for call, verdict in found}
    counted = sum(verdict.counts for _, verdict in known.values())
    until, detail = time.monotonic() + SEARCH_S, ""

    def judge(call: TrialCall) -> None:
        key = _key(call)
        if key not in known and time.monotonic() < until:
            (verdict,) = verdicts(spec, held, source, bench, [call])
            known[key] = (call, verdict)
        if key in known and known[key][1].fault:
            raise Fails

    if any(verdict.fault for _, verdict in known.values()):
        # hypothesis looks for smaller inputs that fail.
        generate(_calls(held), judge, EXAMPLES)
        failing = [key for key, (_, verdict) in known.items() if verdict.fault]
        call, verdict = known[min(failing, key=lambda key: (len(key), key))]
        detail = f"for {_shown(call)}: {verdict.fault}"
    weak = f"only {counted} of {len(calls)} inputs count" if counted <= _FEW * len(calls) else ""
    return PropertyResult(
        title=held.title,
        passed=not detail,
        detail=detail.encode(errors="backslashreplace").decode(),
        weak=weak,
        inputs=len(calls),
        counted=counted,
        seconds=round(time.monotonic() - started, 3),
    )


def _calls(held: Property) -> Strategy:
    st = strategies()

    arguments = {name: values_of(schema) for name, schema in held.inputs.items()}
    files = {
        path: values_of(text) if isinstance(text, dict) else st.just(text)
        for path, text in held.files.items()
    }
    made = st.tuples(st.fixed_dictionaries(arguments), st.fixed_dictionaries(files))
    return made.map(lambda parts: TrialCall({**held.arguments, **parts[0]}, parts[1]))


def _first(spec: ToolSpec, held: Property, call: TrialCall, outcome: CallOutcome) -> InputVerdict | TrialCall:
    """The verdict on the first call, or the second one that decides."""
    if not outcome.made:
        return InputVerdict(False)
    if fault := _broken(spec, outcome):
        return InputVerdict(True, fault)
    if outcome.error:
        return InputVerdict(False)
    if held.kind == "always":
        return InputVerdict(True, check_fault(held.check, outcome.value, outcome.files, call.arguments) or "")
    if held.kind == "order_free":
        items = list(call.arguments[held.of])
        # Every item of three and more has another neighbour.
        reordered = [*items[::-2], *items[-2::-2]]
        return TrialCall({**call.arguments, held.of: reordered}, call.files)
    given = spec.inputs[held.of]
    if not given.accepts(outcome.value):
        reason = f"it returned {short_json(outcome.value)}, which cannot be given as {held.of} ({given.type})"
        return InputVerdict(True, reason)
    return TrialCall({**call.arguments, **held.back, held.of: outcome.value}, call.files)


def _second(
    spec: ToolSpec, held: Property, call: TrialCall, first: CallOutcome, second: CallOutcome
) -> InputVerdict:
    if not second.made:
        return InputVerdict(False)
    if fault := _broken(spec, second):
        return InputVerdict(True, f"{_SECOND[held.kind]}, {fault}")
    if second.error:
        return InputVerdict(False)
    wanted = call.arguments[held.of] if held.kind == "round_trip" else first.value
    if not difference(wanted, second.value):
        return InputVerdict(True)
    reason = f"it returned {short_json(first.value)}, and {_SECOND[held.kind]} {short_json(second.value)}"
    return InputVerdict(True, reason)


_SECOND = {
    "idempotent": "given that again",
    "round_trip": "on the way back",
    "order_free": "in another order",
}


def _broken(spec: ToolSpec, outcome: CallOutcome) -> str:
    """What no call may do."""
    if outcome.fault:
        return f"it {outcome.fault}"
    if outcome.error:
        return "" if spec.declares(outcome.kinds) else f"it raised {shortened(outcome.error)}"
    return value_fault(spec, outcome.value) or ""


def _key(call: TrialCall) -> str:
    return json.dumps([dict(call.arguments), dict(call.files)], sort_keys=True)


def _shown(call: TrialCall) -> str:
    parts = [f"{name}={short_json(value)}" for name, value in call.arguments.items()]
    return ", ".join(
        [*parts, *(f"the file {path!r} with {short_json(text)}" for path, text in call.files.items())]
    )


AT_ONCE = 2
"""Sandboxes at a time: most of a case is the start of its own, which two processors do for two."""


def try_tool(
    spec: ToolSpec, suite: Suite, source: str, sandboxes: TrialSandboxes | None = None
) -> TrialReport:
    """Run all cases on the module `source`, also after a failure, then the properties.

    Properties are tried only if all cases passed, because otherwise they would repeat the same faults.

    Raises:
        SandboxUnavailable: no sandbox works on this system, or it cannot be granted connections. What the
            tool itself does wrong is in the report.
    """
    sandboxes = sandboxes or sandboxes_for(spec)
    results = _try_cases(spec, suite.of(spec), source, sandboxes)
    held: tuple[PropertyResult, ...] = ()
    if suite.properties and all(result.passed for result in results):
        held = try_properties(spec, suite.properties, source, sandboxes)
    passed = all(result.passed for result in results) and all(one.passed for one in held)
    return TrialReport(passed=passed, results=results, properties=held, lock=sandboxes.permissions.lock)


def sandboxes_for(
    spec: ToolSpec,
    backend: Backend | None = None,
    limits: Limits | None = None,
    permissions: Permissions = NO_PERMISSIONS,
    dialer: Dialer | None = None,
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
    result = list(faults)
    for at, second in zip(passed, again, strict=True):
        if second.made and (differs := _difference(outcomes[at], second)):
            result[at] = f"the same call gave something else the second time: {differs}"
    return result


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
