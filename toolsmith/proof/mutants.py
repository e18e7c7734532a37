"""The mutation score of a tool's cases: small faults are planted into its module, one at a time, and tried.

A mutant is the module with one change that a hasty writer could have made: a boundary one off, a sign
turned, a condition negated, a step left out. Where the cases pass it, they do not prove what they seem to.
Which ones are made is settled by the module alone: no chance. They are spread over the kinds, and in each
kind over the lines. `told` says what is wrong with such a tool in words about behaviour, never code, because
it goes to the writer of the cases, who has not seen any.

A mutant is caught when a case or a property that the module itself passes gives something else. Cases come
first; properties are tried on inputs that were generated once. Each call of a mutant has little time, since a
planted fault can run for ever.

At least half of the mutants have to be caught (NEEDED). Not all: some behave like the module itself, so that
nothing can notice them, and no program can tell which. docs/toolsmith.md has the measurements.

Tools with network are left out, because a planted fault would be tried on someone's server.

Not covered: faults that no small change makes, such as a requirement that the writer never read.
"""

import ast
import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from orchestrator_cli.durable.python_text import parse_module
from toolsmith.built import MutantResult
from toolsmith.proof.calls import Bench, TrialCall, TrialSandboxes, case_fault
from toolsmith.proof.cases import Property, Suite
from toolsmith.proof.trial import inputs_of, verdicts
from toolsmith.spec import Case, ToolSpec

MOST = 12
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
            return [_noticed(spec, mutants[at].source, probe, bench) for at in share]

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


def _noticed(spec: ToolSpec, source: str, probe: Probe, bench: Bench) -> str:
    """Title of the first case or property that notices a mutant; empty when none does."""
    outcomes = bench.calls(source, [call for _, call in probe.cases], stop=True)
    for (case, _), outcome in zip(probe.cases, outcomes, strict=True):
        if outcome.made and case_fault(spec, case, outcome):
            return case.title
    for held, calls in probe.properties:
        found = verdicts(spec, held, source, bench, calls, stop=True)
        if any(verdict.fault for verdict in found):
            return held.title
    return ""


# --- planting; nothing is run

Change = Callable[[Any], ast.AST]
"""Changes a node of a copy of the module, or gives another in its place."""


@dataclass(frozen=True)
class Mutant:
    """A module with one planted fault."""

    kind: str
    line: int
    told: str
    source: str


@dataclass(frozen=True)
class _Site:
    """A place where a fault can be planted: the node's place in the walk over the module, and the change."""

    kind: str
    line: int
    told: str
    at: int
    change: Change


def mutants_of(source: str, function: str, most: int = MOST) -> tuple[Mutant, ...]:
    """Up to `most` modules, each with one planted fault, that differ from `source` and from each other.

    Raises:
        SyntaxError: the source is not Python.
    """
    tree, _ = parse_module(source)
    same, made = ast.unparse(tree), dict[str, Mutant]()
    for site in _spread(list(_sites(tree, function))):
        if len(made) == most:
            break
        changed = copy.deepcopy(tree)
        target = next(node for at, node in enumerate(ast.walk(changed)) if at == site.at)
        text = ast.unparse(ast.fix_missing_locations(_Planter(target, site.change).visit(changed)))
        if text != same:
            made.setdefault(text, Mutant(site.kind, site.line, site.told, text))
    return tuple(sorted(made.values(), key=lambda mutant: (mutant.line, mutant.kind)))


@dataclass
class _Planter(ast.NodeTransformer):
    target: ast.AST
    change: Change

    def visit(self, node: ast.AST) -> ast.AST:
        return self.change(node) if node is self.target else self.generic_visit(node)


def _spread(sites: Sequence[_Site]) -> Iterator[_Site]:
    """One of each kind in turn; of a kind, those first that lie farthest from those already taken."""
    kinds: dict[str, list[_Site]] = {}
    for site in sites:
        kinds.setdefault(site.kind, []).append(site)
    queues = [_scattered(group) for group in kinds.values()]
    for turn in range(max((len(queue) for queue in queues), default=0)):
        yield from (queue[turn] for queue in queues if turn < len(queue))


def _scattered(group: list[_Site]) -> list[_Site]:
    taken, left = [group[0]], group[1:]
    while left:
        best = max(left, key=lambda site: min(abs(site.line - other.line) for other in taken))
        left.remove(best)
        taken.append(best)
    return taken


def _sites(tree: ast.Module, function: str) -> Iterator[_Site]:
    """All places inside functions, without what only says something: docstrings, types, messages."""
    silent = set(_silent(tree, function))
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.Lambda)
        for part in ast.walk(node)
    }
    constants = {id(part) for node in tree.body if isinstance(node, ast.Assign) for part in ast.walk(node)}
    for at, node in enumerate(ast.walk(tree)):
        if id(node) in silent or id(node) not in inside | constants:
            continue
        for kind, told, change in _faults_of(node):
            yield _Site(kind, getattr(node, "lineno", 0), told, at, change)


def _silent(tree: ast.Module, function: str) -> Iterator[int]:
    for node in ast.walk(tree):
        spoken: list[ast.AST | None] = []
        match node:
            case ast.FunctionDef(args=args, returns=returns, decorator_list=decorators):
                given = [*args.args, *args.kwonlyargs, *args.posonlyargs]
                spoken = [returns, *decorators, *(arg.annotation for arg in given)]
                if node.name == function:
                    spoken += args.defaults  # which the rules compare with the specification
            case ast.AnnAssign(annotation=annotation):
                spoken = [annotation]
            case ast.Raise(exc=ast.Call(args=args)):
                spoken = [*args]
            case ast.Expr(value=ast.Constant()):
                spoken = [node]
            case ast.JoinedStr():
                spoken = [part for part in node.values if isinstance(part, ast.Constant)]
            case ast.FormattedValue(format_spec=form):
                spoken = [form]
            case ast.keyword(arg="encoding" | "errors" | "newline" | "ensure_ascii" | "timeout", value=value):
                spoken = [value]
        yield from (id(part) for one in spoken if one is not None for part in ast.walk(one))


def _faults_of(node: ast.AST) -> Iterator[tuple[str, str, Change]]:
    """What can go wrong at a node: kind, words, change."""
    yield from _operator_faults(node)
    yield from _value_faults(node)
    yield from _step_faults(node)
    if isinstance(node, ast.Call):
        yield from _call_faults(node)


def _operator_faults(node: ast.AST) -> Iterator[tuple[str, str, Change]]:
    match node:
        case ast.Compare(ops=[op]):
            for kind, told, others in _COMPARISONS:
                if type(op) in others:
                    yield kind, told, _with(ops=[others[type(op)]()])
        case ast.BoolOp(op=op):
            told = "one of two conditions alone counts although both should, or the reverse"
            yield "condition", told, _with(op=ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "negation", "a condition is taken for its opposite", lambda _: operand
        case ast.BinOp(op=op) if type(op) in _ARITHMETIC and not _is_text_work(node):
            told = "a calculation adds, subtracts, multiplies or divides wrongly"
            yield "arithmetic", told, _with(op=_ARITHMETIC[type(op)]())
        case ast.AugAssign(op=op) if type(op) in _ARITHMETIC and not _is_text_work(node):
            yield (
                "arithmetic",
                "a running count or total goes the wrong way",
                _with(op=_ARITHMETIC[type(op)]()),
            )
        case ast.Slice(upper=ast.expr() as upper):
            yield "part", _PART, _with(upper=ast.BinOp(upper, ast.Sub(), ast.Constant(1)))
        case ast.Slice(lower=ast.expr() as lower):
            yield "part", _PART, _with(lower=ast.BinOp(lower, ast.Add(), ast.Constant(1)))


def _value_faults(node: ast.AST) -> Iterator[tuple[str, str, Change]]:
    match node:
        case ast.Constant(value=bool() as value):
            yield "choice", "a yes is taken for a no", _with(value=not value)
        case ast.Constant(value=int() | float() as value):
            yield "number", "a number is off by one", _with(value=value + 1)
        case ast.Constant(value=str() as text) if text:
            told = "a separator, a prefix or another fixed text is not the right one"
            yield "text", told, _with(value=text[:-1] if len(text) > 1 else "\u00a4")
        case ast.comprehension(ifs=[_, *others]):
            yield "filter", "what should be left out is kept", _with(ifs=others)
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            told = "in some case nothing comes back instead of the result"
            yield "result", told, _with(value=ast.Constant(None))


def _step_faults(node: ast.AST) -> Iterator[tuple[str, str, Change]]:
    match node:
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            if not isinstance(test, ast.Constant):
                told = "a case distinction goes the wrong way round"
                yield "negation", told, _with(test=ast.UnaryOp(ast.Not(), test))
        case ast.Raise():
            yield "error", "a bad input is let through and raises no error", _left_out
        case ast.Continue() | ast.Break():
            yield "loop", "going through the items stops too late, or skips none", _left_out
        case ast.AugAssign() | ast.Expr(value=ast.Call()) | ast.Delete():
            yield "step", "a step is left out", _left_out
        case ast.Assign(targets=[ast.Subscript()]):
            yield "step", "something is not kept", _left_out


def _call_faults(node: ast.Call) -> Iterator[tuple[str, str, Change]]:
    match node.func:
        case ast.Attribute(attr=attr, value=value) if attr in _CLEANING and not node.args:
            yield "cleaning", _CLEANING[attr], lambda _: value
        case ast.Name(id=name) if name in _SWAPPED:
            kind, told, other = _SWAPPED[name]
            yield kind, told, _with(func=ast.Name(other))
        case ast.Name(id=name) if name in _ARRANGING and len(node.args) == 1:
            kept = node.args[0]
            plain = kept if name in ("abs", "round") else ast.Call(ast.Name("list"), [kept], [])
            yield "order", _ARRANGING[name], lambda _: plain


def _with(**fields: object) -> Change:
    def change(node: ast.AST) -> ast.AST:
        for name, value in fields.items():
            setattr(node, name, value)
        return node

    return change


def _left_out(_: ast.AST) -> ast.AST:
    return ast.Pass()


def _is_text_work(node: ast.BinOp | ast.AugAssign) -> bool:
    """Where + joins and % fills in, another operator would only raise TypeError at once."""
    parts = [node.left, node.right] if isinstance(node, ast.BinOp) else [node.value]
    return any(
        isinstance(part, ast.JoinedStr | ast.List | ast.ListComp)
        or (isinstance(part, ast.Constant) and isinstance(part.value, str))
        for part in parts
    )


_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
}
_BOUNDARIES = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
_OPPOSITES = {
    **{ast.Eq: ast.NotEq, ast.In: ast.NotIn, ast.Is: ast.IsNot},
    **{ast.NotEq: ast.Eq, ast.NotIn: ast.In, ast.IsNot: ast.Is},
}
_COMPARISONS: tuple[tuple[str, str, dict[Any, Any]], ...] = (
    ("boundary", "a value exactly at a boundary falls on the wrong side (off by one)", _BOUNDARIES),
    ("comparison", "equal is taken for different, or contained for not contained", _OPPOSITES),
)
_PART = "a part of a list or text begins or ends one too early or too late"
_EXTREME = "extreme", "the smallest is taken for the largest, or the reverse"
_QUANTITY = "condition", "all is taken for any, or any for all"
_SWAPPED = {
    **{"min": (*_EXTREME, "max"), "max": (*_EXTREME, "min")},
    **{"any": (*_QUANTITY, "all"), "all": (*_QUANTITY, "any")},
}
_CLEANING = {
    **dict.fromkeys(("strip", "lstrip", "rstrip"), "white space at the ends is not taken away"),
    **dict.fromkeys(("lower", "upper", "casefold"), "upper and lower case are not treated as they should be"),
}
_ARRANGING = {
    "sorted": "the result is not put in order",
    "reversed": "the order is not turned round",
    "set": "what stands twice is not noticed",
    "abs": "a sign is not dropped",
    "round": "a number is not rounded",
}
