"""Small faults, planted into a tool's module to see whether its cases notice them. Pure.

A mutant is the module with one change that a hasty writer could have made: a boundary one off, a sign
turned, a condition negated, a step left out. Where the cases pass it, they do not prove what they seem to.
Which ones are made is settled by the module alone: no chance. They are spread over the kinds, and in each
kind over the lines. Mutants are run in the sandbox like any code; nothing is run here.

`told` says what is wrong with such a tool in words about behaviour, never code, because it goes to the
writer of the cases, who has not seen any.

Not covered: equivalent mutants, which behave like the module itself, so that nothing can notice them. That
is why not all have to be noticed (`toolsmith.proof.mutation_score`).
"""

import ast
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from toolsmith.parsing import parse_module

MOST = 12
Change = Callable[[ast.AST], ast.AST | None]


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
        text = _planted(tree, site)
        if text not in (same, None) and text not in made:
            made[text] = Mutant(site.kind, site.line, site.told, text)
    return tuple(sorted(made.values(), key=lambda mutant: (mutant.line, mutant.kind)))


def _planted(tree: ast.Module, site: _Site) -> str:
    changed = copy.deepcopy(tree)
    target = next(node for at, node in enumerate(ast.walk(changed)) if at == site.at)
    new = site.change(target)
    for parent in ast.walk(changed):
        for field, value in ast.iter_fields(parent):
            if value is target:
                setattr(parent, field, new)
            elif isinstance(value, list) and any(part is target for part in value):
                parts = [new if part is target else part for part in value]
                setattr(parent, field, [part for part in parts if part is not None] or [ast.Pass()])
    return ast.unparse(ast.fix_missing_locations(changed))


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
    yield from _constant_faults(node)
    yield from _branch_faults(node)
    yield from _step_faults(node)
    if isinstance(node, ast.Call):
        yield from _call_faults(node)


def _operator_faults(node: ast.AST) -> Iterator[tuple[str, str, Change]]:
    match node:
        case ast.Compare(ops=[op]):
            yield from _comparison_faults(op)
        case ast.BoolOp(op=op):
            other = ast.Or if isinstance(op, ast.And) else ast.And
            yield (
                "condition",
                "one of two conditions alone counts although both should, or the reverse",
                _op(other),
            )
        case ast.UnaryOp(op=ast.Not()):
            yield "negation", "a condition is taken for its opposite", _without_not
        case ast.BinOp(op=op) if type(op) in _ARITHMETIC and not _is_text_work(node):
            wrong = _op(_ARITHMETIC[type(op)])
            yield "arithmetic", "a calculation adds, subtracts, multiplies or divides wrongly", wrong
        case ast.AugAssign(op=op) if type(op) in _ARITHMETIC and not _is_text_work(node):
            yield "arithmetic", "a running count or total goes the wrong way", _op(_ARITHMETIC[type(op)])
        case ast.Slice(lower=lower, upper=upper) if lower is not None or upper is not None:
            yield "part", "a part of a list or text begins or ends one too early or too late", _shifted


def _constant_faults(node: ast.AST) -> Iterator[tuple[str, str, Change]]:
    match node:
        case ast.Constant(value=bool()):
            yield "choice", "a yes is taken for a no", _constant(lambda value: not value)
        case ast.Constant(value=int() | float()):
            yield "number", "a number is off by one", _constant(lambda value: value + 1)
        case ast.Constant(value=str() as text) if text:
            other = text[:-1] if len(text) > 1 else "\u00a4"
            told = "a separator, a prefix or another fixed text is not the right one"
            yield "text", told, _constant(lambda _: other)


def _branch_faults(node: ast.AST) -> Iterator[tuple[str, str, Change]]:
    match node:
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            if not isinstance(test, ast.Constant):
                yield "negation", "a case distinction goes the wrong way round", _negated
        case ast.comprehension(ifs=[_, *_]):
            yield "filter", "what should be left out is kept", _unfiltered
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield "result", "in some case nothing comes back instead of the result", _returns_nothing


def _step_faults(node: ast.AST) -> Iterator[tuple[str, str, Change]]:
    match node:
        case ast.Raise():
            yield "error", "a bad input is let through and raises no error", _left_out
        case ast.Continue() | ast.Break():
            yield "loop", "going through the items stops too late, or skips none", _left_out
        case ast.AugAssign() | ast.Expr(value=ast.Call()) | ast.Delete():
            yield "step", "a step is left out", _left_out
        case ast.Assign(targets=[ast.Subscript()]):
            yield "step", "something is not kept", _left_out


def _comparison_faults(op: ast.cmpop) -> Iterator[tuple[str, str, Change]]:
    if type(op) in _BOUNDARIES:
        yield (
            "boundary",
            "a value exactly at a boundary falls on the wrong side (off by one)",
            _compare(_BOUNDARIES[type(op)]),
        )
    if type(op) in _OPPOSITES:
        yield (
            "comparison",
            "equal is taken for different, or contained for not contained",
            _compare(_OPPOSITES[type(op)]),
        )


def _call_faults(node: ast.Call) -> Iterator[tuple[str, str, Change]]:
    match node.func:
        case ast.Attribute(attr=attr, value=value) if attr in _CLEANING and not node.args:
            yield "cleaning", _CLEANING[attr], lambda _: value
        case ast.Name(id="min" | "max" as name):
            other = "max" if name == "min" else "min"
            yield "extreme", "the smallest is taken for the largest, or the reverse", _called(other)
        case ast.Name(id="sorted" | "set" | "abs" | "round" | "reversed" as name) if len(node.args) == 1:
            kept = node.args[0]
            plain = kept if name in ("abs", "round") else ast.Call(ast.Name("list", ast.Load()), [kept], [])
            yield "order", _ARRANGING[name], lambda _: plain
        case ast.Name(id="any" | "all" as name):
            yield (
                "condition",
                "all is taken for any, or any for all",
                _called("all" if name == "any" else "any"),
            )


_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
}
_BOUNDARIES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
_OPPOSITES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
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


def _is_text_work(node: ast.BinOp | ast.AugAssign) -> bool:
    """Where + joins and % fills in, another operator would only raise TypeError at once."""
    parts = [node.left, node.right] if isinstance(node, ast.BinOp) else [node.value]
    return any(
        isinstance(part, ast.JoinedStr | ast.List | ast.ListComp)
        or (isinstance(part, ast.Constant) and isinstance(part.value, str))
        for part in parts
    )


def _op(other: type[ast.AST]) -> Change:
    def change(node: ast.AST) -> ast.AST:
        node.op = other()  # type: ignore[attr-defined]
        return node

    return change


def _compare(other: type[ast.cmpop]) -> Change:
    def change(node: ast.AST) -> ast.AST:
        node.ops = [other()]  # type: ignore[attr-defined]
        return node

    return change


def _constant(other: Callable[..., object]) -> Change:
    def change(node: ast.AST) -> ast.AST:
        node.value = other(node.value)  # type: ignore[attr-defined]
        return node

    return change


def _called(name: str) -> Change:
    def change(node: ast.AST) -> ast.AST:
        node.func = ast.Name(name, ast.Load())  # type: ignore[attr-defined]
        return node

    return change


def _negated(node: ast.AST) -> ast.AST:
    node.test = ast.UnaryOp(ast.Not(), node.test)  # type: ignore[attr-defined]
    return node


def _left_out(_: ast.AST) -> ast.AST:
    return ast.Pass()


def _without_not(node: ast.AST) -> ast.AST | None:
    return node.operand if isinstance(node, ast.UnaryOp) else None


def _unfiltered(node: ast.AST) -> ast.AST:
    node.ifs = node.ifs[1:]  # type: ignore[attr-defined]
    return node


def _shifted(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Slice)
    if node.upper is not None:
        node.upper = ast.BinOp(node.upper, ast.Sub(), ast.Constant(1))
    else:
        node.lower = ast.BinOp(node.lower or ast.Constant(0), ast.Add(), ast.Constant(1))
    return node


def _returns_nothing(node: ast.AST) -> ast.AST:
    node.value = ast.Constant(None)  # type: ignore[attr-defined]
    return node
