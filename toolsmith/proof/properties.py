"""Properties, tried on inputs that hypothesis generates: the tool runs in the sandbox, the rest here.

The same property gives the same inputs in every run: nothing is kept in a database, no file is written. All
inputs are generated first and tried together, each call in a process of its own. Where one does not hold,
hypothesis searches for the smallest input that fails too, which is the one that is told: `for text="aa": …`.

A call that raises a declared error does not count. One that raises anything else, takes too long, or returns
what is not of the declared type, is a failure whatever the property says.

Bounds: EXAMPLES inputs, BUDGET_S seconds of calls, and for the search SEARCH_S seconds. Where the time is
over, what was tried by then decides.

Not covered: a schema's own sense of what is likely; an input that matters once in ten thousand is not found.
"""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from toolsmith.built import PropertyResult
from toolsmith.proof.calls import (
    Bench,
    CallOutcome,
    TrialCall,
    TrialSandboxes,
    check_fault,
    is_declared,
    shortened,
    value_fault,
)
from toolsmith.proof.cases import EXAMPLES, Property
from toolsmith.proof.schemas import Fails, Strategy, generate, strategies, values_of
from toolsmith.spec import ToolSpec
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
    known = dict(zip(map(_key, calls), verdicts(spec, held, source, bench, calls), strict=True))
    counted = sum(verdict.counts for verdict in known.values())
    detail = ""
    if any(verdict.fault for verdict in known.values()):
        told = {_key(call): call for call in calls}
        _search(spec, held, source, bench, known, told)
        failing = [key for key, verdict in known.items() if verdict.fault]
        smallest = min(failing, key=lambda key: (len(key), key))
        detail = f"for {_shown(told[smallest])}: {known[smallest].fault}"
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


def _search(
    spec: ToolSpec,
    held: Property,
    source: str,
    bench: Bench,
    known: dict[str, InputVerdict],
    told: dict[str, TrialCall],
) -> None:
    """Have hypothesis look for smaller inputs that fail; they are added to what is known."""
    until = time.monotonic() + SEARCH_S

    def judge(call: TrialCall) -> None:
        key = _key(call)
        if key not in known and time.monotonic() < until:
            (known[key],) = verdicts(spec, held, source, bench, [call])
            told[key] = call
        if key in known and known[key].fault:
            raise Fails

    generate(_calls(held), judge, EXAMPLES)


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
        return TrialCall({**call.arguments, held.of: _reordered(call.arguments[held.of])}, call.files)
    given = spec.inputs[held.of]
    if not given.accepts(outcome.value):
        told = f"it returned {short_json(outcome.value)}, which cannot be given as {held.of} ({given.type})"
        return InputVerdict(True, told)
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
    told = f"it returned {short_json(first.value)}, and {_SECOND[held.kind]} {short_json(second.value)}"
    return InputVerdict(True, told)


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
        return "" if is_declared(spec, outcome) else f"it raised {shortened(outcome.error)}"
    return value_fault(spec, outcome.value) or ""


def _reordered(items: Any) -> list[Any]:
    """Another order, in which every item of three and more has another neighbour."""
    listed = list(items)
    return [*listed[::-2], *listed[-2::-2]]


def _key(call: TrialCall) -> str:
    return json.dumps([dict(call.arguments), dict(call.files)], sort_keys=True)


def _shown(call: TrialCall) -> str:
    told = [f"{name}={short_json(value)}" for name, value in call.arguments.items()]
    return ", ".join(
        [*told, *(f"the file {path!r} with {short_json(text)}" for path, text in call.files.items())]
    )
