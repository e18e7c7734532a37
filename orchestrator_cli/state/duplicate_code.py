"""Whether agents write the same function again and again, where a tool would serve. Parsed, never run.

Two functions are the same when their trees are, once the names that they bind themselves (their own, their
parameters, their locals), docstrings and annotations are gone; comments and formatting are in no tree. One
of fewer than `STATEMENTS` statements says too little to be a tool. A step that defines the same function
twice has written it once.

Not covered: the same thing done by other statements, code outside functions, and methods that share a class
only in part.
"""

import ast
import copy
import hashlib
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from orchestrator_cli.events import CodeRan, Fact, FunctionRepeated
from orchestrator_cli.plan import whole_name
from orchestrator_cli.planning.reviser import Cause

TIMES = 3
STATEMENTS = 3
HINT = "wrote the same function"

_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Written(NamedTuple):
    """A function in a piece of code."""

    name: str
    mark: str
    """The same for two functions that are the same."""


class DuplicateCodeDetector:
    """What the agents of one run have written, in all its processes. Safe from any thread."""

    def __init__(self, past: Iterable[Fact] = ()) -> None:
        """`past`: what the run's earlier processes recorded."""
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._told: set[str] = set()
        for fact in past:
            if isinstance(fact, CodeRan):
                self._counts.update(written.mark for written in functions_in(fact.code))
            elif isinstance(fact, FunctionRepeated):
                self._told.add(fact.mark)

    def note(self, ran: CodeRan) -> tuple[FunctionRepeated, ...]:
        """What this code writes for the third time; of each function only once."""
        found = functions_in(ran.code)
        with self._lock:
            self._counts.update(written.mark for written in found)
            often = [w for w in found if self._counts[w.mark] >= TIMES and w.mark not in self._told]
            self._told.update(written.mark for written in often)
            return tuple(FunctionRepeated(subtask=ran.subtask, function=w.name, mark=w.mark) for w in often)


def cause_of(repeated: FunctionRepeated) -> Cause:
    """What the reviser reads about it."""
    text = (
        f"the same function was written three times in this run, here as {repeated.function}: a tool "
        "would serve those who are still to come and need it"
    )
    return Cause(subtask=whole_name(repeated.subtask), what=HINT, text=text)


def functions_in(code: str) -> tuple[Written, ...]:
    """The functions that code defines, without those within another; none where it is no Python."""
    try:
        tree = ast.parse(code)
        found = {_mark(one): one.name for one in _outermost(tree) if _statements(one) >= STATEMENTS}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    return tuple(Written(name, mark) for mark, name in found.items())


def _outermost(node: ast.AST) -> Iterator[_Function]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Function):
            yield child
        else:
            yield from _outermost(child)


def _statements(function: _Function) -> int:
    return sum(isinstance(node, ast.stmt) for part in _body(function) for node in ast.walk(part))


def _body(node: ast.AST) -> list[ast.stmt]:
    """The statements of a function or class, without its docstring."""
    body: list[ast.stmt] = getattr(node, "body", [])
    return body[1:] if ast.get_docstring(node, clean=False) is not None else body  # type: ignore[arg-type]


def _mark(function: _Function) -> str:
    """The hash of its source without what changes nothing, its own names numbered as they come."""
    bound, numbers = _bound(function), dict[str, str]()
    text = ast.unparse(_Bare().visit(copy.deepcopy(function)))

    def numbered(name: re.Match[str]) -> str:
        return numbers.setdefault(name[0], f"_{len(numbers)}") if name[0] in bound else name[0]

    plain = re.sub(r"(?<![\w.])[^\W\d]\w*", numbered, text)
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()


def _bound(function: _Function) -> frozenset[str]:
    """The names that a function gives: its own, those of its parameters and its locals."""
    found = set[str]()
    for node in ast.walk(function):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                found.add(name)
            case ast.alias(asname=str(name)):
                found.add(name)
    outer = {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
    return frozenset(found - outer)


class _Bare(ast.NodeTransformer):
    """Takes docstrings and annotations out."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, _Function | ast.ClassDef):
            node.body = _body(node) or [ast.Pass()]
        if isinstance(node, _Function):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        return super().generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return ast.Pass()
        plain = ast.Assign(targets=[node.target], value=node.value)
        return self.generic_visit(ast.copy_location(plain, node))
