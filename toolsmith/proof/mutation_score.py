"""The mutation score of a tool's cases: small faults are planted into its module, one at a time, and tried.

A mutant is caught when a case or a property that the module itself passes gives something else. Cases come
first; properties are tried on inputs that were generated once. Each call of a mutant has little time, since a
planted fault can run for ever.

At least half of the mutants have to be caught (NEEDED). Not all: some behave like the module itself, so that
nothing can notice them, and no program can tell which. docs/toolsmith.md has the measurements.

Tools with network are left out, because a planted fault would be tried on someone's server.

Not covered: faults that no small change makes, such as a requirement that the writer never read.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from toolsmith.built import MutantResult
from toolsmith.proof.calls import Bench, TrialCall, TrialSandboxes, case_fault
from toolsmith.proof.cases import Property, Suite
from toolsmith.proof.mutants import Mutant, mutants_of
from toolsmith.proof.trial import inputs_of, verdicts
from toolsmith.spec import Case, ToolSpec

NEEDED = 0.5
_FEWEST = 3
"""Below that many mutants, a share of them says nothing."""
_CALL_S = 0.5
_INPUTS = 20
_AT_ONCE = 2


@dataclass(frozen=True)
class Probe:
    """What is tried on every mutant."""

    cases: tuple[tuple[Case, TrialCall], ...]
    properties: tuple[tuple[Property, tuple[TrialCall, ...]], ...]


def try_mutants(
    spec: ToolSpec,
    suite: Suite,
    source: str,
    sandboxes: TrialSandboxes,
    earlier: Sequence[MutantResult] = (),
) -> tuple[MutantResult, ...]:
    """Every mutant of a module that passes `suite`, and what caught it.

    `earlier` are its results with a part of the suite: what was caught then is not tried again.
    """
    if spec.network:
        return ()
    mutants = mutants_of(source, spec.name)
    caught = dict(enumerate(result.caught_by for result in earlier if len(earlier) == len(mutants)))
    left = [at for at in range(len(mutants)) if not caught.get(at)]
    with sandboxes.bench(spec, wall_s=_CALL_S) as bench:
        probe = _probe(spec, suite, source, bench)

    def noticed(share: Sequence[int]) -> list[str]:
        if not share:
            return []
        with sandboxes.bench(spec, wall_s=_CALL_S) as bench:
            return [_noticed(spec, mutants[at], probe, bench) for at in share]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        shares = [left[at::_AT_ONCE] for at in range(_AT_ONCE)]
        found = pool.map(noticed, shares)
        for share, titles in zip(shares, found, strict=True):
            caught |= dict(zip(share, titles, strict=True))
    return tuple(
        MutantResult(kind=mutant.kind, line=mutant.line, told=mutant.told, caught_by=caught[at])
        for at, mutant in enumerate(mutants)
    )


def too_weak(results: Sequence[MutantResult]) -> bool:
    """Whether the cases notice too little to prove anything."""
    caught = sum(bool(result.caught_by) for result in results)
    return len(results) >= _FEWEST and caught < NEEDED * len(results)


def gaps(results: Sequence[MutantResult]) -> tuple[str, ...]:
    """What went unnoticed, in words about behaviour, each once."""
    return tuple(dict.fromkeys(result.told for result in results if not result.caught_by))


def _probe(spec: ToolSpec, suite: Suite, source: str, bench: Bench) -> Probe:
    """What the module itself passes here; a case that needs more than a bench gives is left out."""
    cases = [(case, TrialCall(case.arguments, case.files)) for case in suite.of(spec)]
    outcomes = bench.calls(source, [call for _, call in cases])
    sound = [
        (case, call)
        for (case, call), outcome in zip(cases, outcomes, strict=True)
        if not case_fault(spec, case, outcome)
    ]
    held = []
    for one in suite.properties:
        calls = inputs_of(one, _INPUTS)
        found = verdicts(spec, one, source, bench, calls)
        counting = [call for call, verdict in zip(calls, found, strict=True) if verdict.counts]
        if counting and not any(verdict.fault for verdict in found):
            held.append((one, tuple(counting)))
    return Probe(tuple(sound), tuple(held))


def _noticed(spec: ToolSpec, mutant: Mutant, probe: Probe, bench: Bench) -> str:
    """Title of the first case or property that notices a mutant; empty when none does."""
    outcomes = bench.calls(mutant.source, [call for _, call in probe.cases], stop=True)
    for (case, _), outcome in zip(probe.cases, outcomes, strict=True):
        if outcome.made and case_fault(spec, case, outcome):
            return case.title
    for held, calls in probe.properties:
        found = verdicts(spec, held, mutant.source, bench, calls, stop=True)
        if any(verdict.fault for verdict in found):
            return held.title
    return ""
