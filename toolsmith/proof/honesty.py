"""What would defeat the proof of a tool: answers from a table, hidden state, clock, chance, a look around.

A tool that is tried on calls must not know them, must not remember, and must not behave otherwise at another
time or place; else what it did on trial says nothing of what it will do. Pure rules over the syntax tree, as
`(line, what; remedy)`, like those of `toolsmith.proof.rules`.

Special-casing is told by literals that are the inputs of cases: compared with a parameter, or the keys of a
table whose values are what the cases expect. What the specification names itself, short words and small
numbers, and large tables of which a few entries happen to be cases, are no such thing. The clock and chance
are allowed where the specification speaks of them.

Not covered: whoever hides it better, say in arithmetic. The cases' outcomes are not shown to the writer of
the code before it fails them, and the generated inputs of properties are shown to nobody.
"""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from toolsmith.proof.cases import Suite
from toolsmith.proof.rules import aliases_of
from toolsmith.spec import ToolSpec

Fault = tuple[int, str]

_KNOWN_INPUT = "is the input of a case; follow the specification instead of answering known inputs"
_STATE = "it is kept between calls; make it inside the function and pass it along"
_CLOCK = "the specification does not speak of the present; the same call must always give the same"
_CHANCE = "the specification does not speak of chance; the same call must always give the same"
_AROUND = "a tool has no business with where it runs; work on the arguments and the workspace"
_READ_ONLY = "the specification says workspace 'read'; change no file"
_CLOCKS = {
    *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"),
    *("time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter"),
    *("time.perf_counter_ns", "time.process_time", "time.process_time_ns", "time.thread_time"),
}
_CLOCKS_WITHOUT_ARGUMENTS = {"time.localtime", "time.gmtime", "time.ctime", "time.asctime"}
_CHANCES = ("random.", "secrets.", "uuid.uuid1", "uuid.uuid4", "os.urandom", "numpy.random.")
_SEEDED = {"random.Random", "random.seed", "numpy.random.default_rng", "numpy.random.seed"}
_OF_CLOCK = re.compile(
    r"\b(now|today|tomorrow|yesterday|clock|timestamp|elapsed|deadline)\b"
    r"|\b(current|present) (date|time|day|year)"
)
_OF_CHANCE = re.compile(r"\b(random\w*|chance|shuffl\w*|sampl\w*|uuid\w*|tokens?|passwords?|salt\w*|dice)\b")
_MUTATORS = {
    *("append", "add", "update", "pop", "popitem", "setdefault", "extend", "insert", "remove", "clear"),
    *("discard", "sort", "reverse", "appendleft", "extendleft", "popleft", "subtract", "__setitem__"),
}
_FRAMES = {
    *(
        "f_back",
        "f_globals",
        "f_locals",
        "f_code",
        "f_builtins",
        "tb_frame",
        "gi_frame",
        "cr_frame",
        "ag_frame",
    )
}
_PLACES = {
    *("platform", "getpass", "pwd", "grp", "linecache", "tracemalloc", "faulthandler", "sysconfig", "trace"),
    *("traceback.walk_stack", "traceback.extract_stack", "traceback.print_stack", "traceback.format_stack"),
    *("os.getpid", "os.getppid", "os.uname", "os.getlogin", "os.getloadavg", "os.times", "os.getuid"),
    *("os.getgid", "os.cpu_count", "os.getpgid", "os.getsid", "os.getgroups"),
}
_WRITERS = {"write_text", "write_bytes", "unlink", "mkdir", "touch", "rmdir", "symlink_to", "hardlink_to"}
_WRITING = {
    *(
        "os.remove",
        "os.unlink",
        "os.rename",
        "os.renames",
        "os.replace",
        "os.mkdir",
        "os.makedirs",
        "os.rmdir",
    ),
    *("os.removedirs", "os.truncate", "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree"),
    *("shutil.move", "shutil.rmtree"),
}
_OPENERS = {"open", "io.open", "codecs.open", "Path", "pathlib.Path", "os.listdir", "os.scandir", "os.walk"}
_HEX = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")
_LONG = 12
_LEAST_TEXT = 4
_LEAST_NUMBER = 100


def honesty_faults(tree: ast.Module, spec: ToolSpec, suite: Suite | None = None) -> Iterator[Fault]:
    """All breaches in a module, in no certain order; some may come twice."""
    called = _Called(aliases_of(tree))
    prose = _prose(spec)
    yield from _state_faults(tree)
    for node in ast.walk(tree):
        yield from _time_faults(node, called, prose, seeded=_is_seeded(tree, called))
        yield from _place_faults(node, called)
        if spec.workspace == "read":
            yield from _writing_faults(node, called)
    if suite is not None:
        yield from _table_faults(tree, _Answers.of(spec, suite, prose))


def _prose(spec: ToolSpec) -> str:
    """All that the specification says in words."""
    said = [spec.purpose, spec.output_description, *(error.when for error in spec.errors)]
    for name, given in spec.inputs.items():
        said += [name, given.description, json.dumps(given.default, ensure_ascii=False)]
    return "\n".join(said).lower()


# --- known inputs -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Answers:
    """The inputs of cases that the specification does not name itself."""

    inputs: frozenset[str]
    """Whole arguments, as JSON."""
    long_texts: frozenset[str]
    """Texts anywhere in arguments, files and outcomes that nobody writes by accident."""
    pairs: frozenset[tuple[str, str]]
    """An argument and what the case expects, as JSON."""
    prose: str

    @classmethod
    def of(cls, spec: ToolSpec, suite: Suite, prose: str) -> "_Answers":
        inputs, texts, pairs = set(), set(), set()
        for case in suite.of(spec):
            inputs |= {_json(value) for value in case.arguments.values()}
            texts |= {
                text for text in _leaves([case.arguments, case.expected, case.files]) if _is_telling(text)
            }
            pairs |= {(_json(value), _json(case.expected)) for value in case.arguments.values()}
        return cls(
            frozenset(inputs),
            frozenset(text for text in texts if text.lower() not in prose),
            frozenset(pairs),
            prose,
        )

    def gives_away(self, value: object) -> bool:
        """Whether a literal that is compared with a parameter can only be there for the sake of a case."""
        if isinstance(value, str):
            large = len(value.strip()) >= _LEAST_TEXT and value.strip().lower() not in self.prose
        elif isinstance(value, int | float) and not isinstance(value, bool):
            large = abs(value) >= _LEAST_NUMBER and value % 10 != 0 and str(value) not in self.prose
        else:
            large = isinstance(value, list | tuple | dict) and len(value) > 1
        return large and _json(value) in self.inputs


def _table_faults(tree: ast.Module, known: _Answers) -> Iterator[Fault]:
    parameters = {
        arg.arg
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for arg in (*node.args.args, *node.args.kwonlyargs)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, comparators=others):
                yield from _comparison_faults(node, [left, *others], parameters, known)
            case ast.Match(subject=subject, cases=cases) if _root(subject) in parameters:
                values = [
                    part.value
                    for one in cases
                    for part in ast.walk(one.pattern)
                    if isinstance(part, ast.MatchValue)
                ]
                yield from _literal_faults(values, known)
            case ast.Call(func=ast.Attribute(attr="startswith" | "endswith"), args=[first, *_]):
                yield from _long_faults([first], known)
            case ast.Dict(keys=keys, values=values):
                yield from _dict_faults(node, keys, values, known)
            case ast.Set(elts=elements) | ast.List(elts=elements) | ast.Tuple(elts=elements):
                yield from _collection_faults(node, elements, known)


def _comparison_faults(
    node: ast.Compare, parts: list[ast.expr], parameters: set[str], known: _Answers
) -> Iterator[Fault]:
    if not any(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops):
        return
    if any(_root(part) in parameters for part in parts):
        yield from _literal_faults(parts, known)
    yield from _long_faults(parts, known)
    for part in parts:
        value = _literal(part)
        if isinstance(value, str) and _HEX.fullmatch(value) and value.lower() not in known.prose:
            yield node.lineno, "something is compared with a fixed hash; say in plain code what is meant"


def _literal_faults(parts: list[ast.expr], known: _Answers) -> Iterator[Fault]:
    for part in parts:
        for one in [part, *(part.elts if isinstance(part, ast.Tuple | ast.List | ast.Set) else [])]:
            value = _literal(one)
            if value is not ... and known.gives_away(value):
                yield part.lineno, f"{_json(value)[:60]} {_KNOWN_INPUT}"


def _long_faults(parts: list[ast.expr], known: _Answers) -> Iterator[Fault]:
    for part in parts:
        value = _literal(part)
        if isinstance(value, str) and value in known.long_texts:
            yield part.lineno, f"{_json(value)[:60]} {_KNOWN_INPUT}"


def _dict_faults(
    node: ast.Dict, keys: list[ast.expr | None], values: list[ast.expr], known: _Answers
) -> Iterator[Fault]:
    pairs = [(_literal(key), _literal(value)) for key, value in zip(keys, values, strict=True) if key]
    told = [
        key for key, value in pairs if (_json(key), _json(value)) in known.pairs and known.gives_away(key)
    ]
    long = [key for key, _ in pairs if isinstance(key, str) and key in known.long_texts]
    if long or (len(told) > 1 and 2 * len(told) >= len(pairs)):
        yield node.lineno, f"a table has the key {_json((long or told)[0])[:60]}, which {_KNOWN_INPUT}"


def _collection_faults(node: ast.expr, elements: list[ast.expr], known: _Answers) -> Iterator[Fault]:
    told = [element for element in elements if known.gives_away(_literal(element))]
    if len(told) > 1 and 2 * len(told) >= len(elements):
        yield node.lineno, f"{_json(_literal(told[0]))[:60]} {_KNOWN_INPUT}"


def _is_telling(text: str) -> bool:
    return len(text) >= _LONG and not _WORD.fullmatch(text)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _leaves(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part)


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ...


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=repr)


def _root(node: ast.expr) -> str | None:
    """The variable at the bottom of `text`, `text.strip().lower()`; None of anything else."""
    while True:
        match node:
            case ast.Name(id=name):
                return name
            case ast.Call(func=ast.Attribute(value=inner), args=[]):
                node = inner
            case ast.NamedExpr(value=inner):
                node = inner
            case _:
                return None


# --- state ------------------------------------------------------------------------------------------------


def _state_faults(tree: ast.Module) -> Iterator[Fault]:
    shared = {
        part.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
    }
    named = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _default_faults(function)
            own = _own_names(function)
            for node in ast.walk(function):
                if name := _changed(node, shared - own, (named | {"cls"}) - (own - {"cls"})):
                    yield getattr(node, "lineno", 1), f"{name} is changed: {_STATE}"


def _default_faults(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Fault]:
    for default in (*function.args.defaults, *(part for part in function.args.kw_defaults if part)):
        match default:
            case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp() | ast.SetComp():
                yield default.lineno, f"a default of {function.name} is a list, dict or set: {_STATE}"
            case ast.Call(func=ast.Name(id="list" | "dict" | "set" | "defaultdict" | "Counter")):
                yield default.lineno, f"a default of {function.name} is a list, dict or set: {_STATE}"


def _own_names(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    given = function.args
    named = [
        *given.args,
        *given.kwonlyargs,
        *given.posonlyargs,
        *(part for part in (given.vararg, given.kwarg) if part),
    ]
    stored = {
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return {arg.arg for arg in named} | stored


def _changed(node: ast.AST, shared: set[str], named: set[str]) -> str | None:
    """The name of the module that a node changes."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr)) if (
            name in shared and attr in _MUTATORS
        ):
            return name
        case ast.Call(func=ast.Name(id="next"), args=[ast.Name(id=name), *_]) if name in shared:
            return name
        case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()) if name in shared:
            return name
        case ast.Attribute(value=ast.Name(id=name), attr=attr, ctx=ast.Store() | ast.Del()):
            return f"{name}.{attr}" if name in shared | named else None
    return None


# --- time, chance, place ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Called:
    """Names as they were imported."""

    aliases: dict[str, str]

    def name(self, node: ast.AST) -> str:
        """The dotted name of an expression, by what its first part was imported as; else empty."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        return ".".join([self.aliases.get(node.id, node.id), *reversed(parts)])


def _is_seeded(tree: ast.Module, called: _Called) -> bool:
    return any(
        isinstance(node, ast.Call) and bool(node.args) and called.name(node.func) in _SEEDED
        for node in ast.walk(tree)
    )


def _time_faults(node: ast.AST, called: _Called, prose: str, *, seeded: bool) -> Iterator[Fault]:
    if not isinstance(node, ast.Call):
        return
    name = called.name(node.func)
    clock = name in _CLOCKS or (name in _CLOCKS_WITHOUT_ARGUMENTS and not node.args)
    if clock and not _OF_CLOCK.search(prose):
        yield node.lineno, f"{name}() is called: {_CLOCK}"
    if name.startswith(_CHANCES) and not seeded and not _OF_CHANCE.search(prose):
        yield node.lineno, f"{name}() is called: {_CHANCE}"


def _place_faults(node: ast.AST, called: _Called) -> Iterator[Fault]:
    match node:
        case ast.Import(names=names):
            yield from (
                (node.lineno, f"{one.name} is imported: {_AROUND}") for one in names if one.name in _PLACES
            )
        case ast.ImportFrom(module=str() as module, names=names):
            for one in names:
                if {module, f"{module}.{one.name}"} & _PLACES:
                    yield node.lineno, f"{module}.{one.name} is imported: {_AROUND}"
        case ast.Name(id="__file__" | "__spec__" as name):
            yield node.lineno, f"{name} is used: {_AROUND}"
        case ast.Attribute(attr=attr) if attr in _FRAMES or called.name(node) in _PLACES:
            yield node.lineno, f".{attr} is used: {_AROUND}"
        case ast.Call(func=func, args=[ast.Constant(value=str() as path), *_]) if (
            called.name(func) in _OPENERS
        ):
            if path.startswith(("/", "~")) or ".." in path.split("/"):
                yield node.lineno, f"{path[:60]!r} lies outside of the workspace: {_AROUND}"


def _writing_faults(node: ast.AST, called: _Called) -> Iterator[Fault]:
    match node:
        case ast.Call(func=ast.Attribute(attr=attr)) if attr in _WRITERS:
            yield node.lineno, f".{attr}() is called: {_READ_ONLY}"
        case ast.Call(func=func) if called.name(func) in _WRITING:
            yield node.lineno, f"{called.name(func)}() is called: {_READ_ONLY}"
        case ast.Call(func=func, args=args, keywords=keywords):
            first = 1 if called.name(func) in ("open", "io.open", "codecs.open") else 0
            if first or (isinstance(func, ast.Attribute) and func.attr == "open"):
                modes = [*args[first : first + 1], *(word.value for word in keywords if word.arg == "mode")]
                told = [
                    mode.value
                    for mode in modes
                    if isinstance(mode, ast.Constant) and isinstance(mode.value, str)
                ]
                if any(set(mode) & set("wax+") and set(mode) <= set("rwaxbt+") for mode in told):
                    yield node.lineno, f"a file is opened for writing: {_READ_ONLY}"
