"""What a tool's module may contain. Pure rules over the syntax tree, as `(line, what; remedy)`.

A module imports from a list of allowed modules, does nothing when it is imported, keeps nothing between
calls, and works the same at any time and place. Otherwise a passed trial would not say how the tool behaves
later. The clock and chance are allowed if the specification mentions them.

Not covered: code that evades the rules on purpose, for which Python offers countless ways. The sandbox is
the boundary. docs/experiments.md (2026-11-28) shows what each family of rules catches.
"""

import ast
import re
import sys
from collections.abc import Collection, Container, Iterable, Iterator

from orchestrator_cli.durable.text import truncate
from toolsmith.spec import ToolSpec

Fault = tuple[int, str]
"""A line of the module, and what is wrong there."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PLAIN = _words("""
    __future__ abc array ast base64 binascii bisect bz2 calendar cmath codecs collections colorsys
    configparser contextlib copy csv dataclasses datetime decimal difflib email encodings enum errno
    fnmatch fractions functools graphlib gzip hashlib heapq hmac html http.HTTPMethod http.HTTPStatus
    http.cookies io ipaddress itertools json keyword lzma math numbers operator os.PathLike os.altsep
    os.curdir os.extsep os.fsdecode os.fsencode os.fspath os.linesep os.pardir os.path os.pathsep os.sep
    os.strerror os.urandom pathlib.PurePath pathlib.PurePosixPath pathlib.PureWindowsPath plistlib pprint
    queue quopri random re reprlib secrets shlex statistics string stringprep struct textwrap time token
    tokenize tomllib types typing unicodedata urllib.error urllib.parse uuid warnings weakref xml zlib
    zoneinfo
    smolagents yaml jinja2 jsonschema
""")
"""What every tool may import. Of `os` and the like only these members; the last line is not in the standard
library."""
_READING = _words("""
    filecmp fileinput glob os.DirEntry os.F_OK os.R_OK os.W_OK os.X_OK os.access os.getcwd os.listdir os.lstat
    os.readlink os.scandir os.stat os.stat_result os.walk pathlib sqlite3 stat tarfile tempfile zipfile
""")
_WRITING = _words("""
    os.chmod os.makedirs os.mkdir os.remove os.removedirs os.rename os.renames os.replace os.rmdir os.truncate
    os.unlink os.utime shutil
""")
_CLIENTS = _words("http.client urllib.request requests httpx urllib3")
"""HTTP clients, which find the sandbox's proxy by themselves."""
_NAMES = _words("""
    __builtins__ __file__ __import__ __loader__ __spec__ compile delattr eval exec globals locals setattr
""")
_SPECIAL = _words("""
    __annotations__ __call__ __class__ __contains__ __dict__ __doc__ __enter__ __eq__ __exit__ __getitem__
    __hash__ __init__ __iter__ __len__ __lt__ __members__ __name__ __new__ __next__ __post_init__ __qualname__
    __repr__ __setattr__ __str__ __version__
""")
"""The double-underscore attributes that plain code uses."""
_FRAMES = re.compile(r"(f|tb|gi|cr|ag)_(back|builtins|code|frame|globals|locals)")
_QUIET = _words("""
    Decimal Fraction MappingProxyType NewType Path PurePosixPath TypeVar auto bool bytes chr compile date
    datetime dict enumerate field float fromkeys frozenset int len list log maketrans map max min namedtuple
    object ord range set sorted sqrt str sum timedelta timezone tuple zip
""")
"""What may be called at import, by the last part of its name."""
_DECORATORS = _words("""
    abstractmethod cached_property classmethod contextmanager dataclass getter overload property setter
    staticmethod tool total_ordering unique wraps
""")
_MUTATORS = _words("""
    __setitem__ add append appendleft clear discard extend extendleft insert pop popitem popleft remove
    reverse setdefault sort subtract update
""")
_WRITERS = _words("hardlink_to mkdir rmdir symlink_to touch unlink write_bytes write_text")
_OPENERS = _words("Path listdir open scandir walk")
_CLOCK = re.compile(
    r"datetime\.(datetime|date)\.(now|today|utcnow)"
    r"|time\.(monotonic|perf_counter|process_time|thread_time|time)(_ns)?"
)
_CLOCK_BY_DEFAULT = _words("time.asctime time.ctime time.gmtime time.localtime")
_CHANCE = re.compile(r"(random|secrets|numpy\.random)\..*|uuid\.uuid[14]|os\.urandom")
_SEEDED = _words("random.Random random.seed numpy.random.default_rng numpy.random.seed")
_MENTIONS_CLOCK = re.compile(
    r"\b(now|today|tomorrow|yesterday|clock|timestamp|elapsed|deadline)\b"
    r"|\b(current|present) (date|time|day|year)"
)
_MENTIONS_CHANCE = re.compile(
    r"\b(random\w*|chance|shuffl\w*|sampl\w*|uuid\w*|tokens?|passwords?|salt\w*|dice)\b"
)

_STATE = "it is kept between calls; make it inside the function and pass it along"
_OUTSIDE = "a tool may not depend on where it runs; work on the arguments and the workspace"
_UNCHECKED = "it can run code that no rule has checked; use plain Python"
_NO_FILES = "the specification says workspace 'none'; work on the arguments alone"
_READ_ONLY = "the specification says workspace 'read'; change no file"
_NO_NETWORK = "a tool has no network; take what it needs as an argument"
_NO_ENVIRONMENT = "a tool has no environment variables; take what it needs as an argument"
_NOT_ALLOWED = "a tool works on its arguments and the workspace alone, in this process; do without it"


def module_faults(
    tree: ast.Module, spec: ToolSpec, prose: str, modules: Collection[str] = ()
) -> Iterator[Fault]:
    """All breaches in a module, in no particular order; the same one may come twice.

    `prose` is the specification's text in lower case; `modules` are the import names of its packages.
    """
    aliases = import_aliases(tree)
    imports = _Imports(spec, modules)
    secret_reads = set(_secret_reads(tree, aliases, spec.secrets))
    yield from _import_time_faults(tree.body)
    yield from _state_faults(tree)
    if not _MENTIONS_CLOCK.search(prose):
        yield from _clock_faults(tree, aliases)
    if not _MENTIONS_CHANCE.search(prose):
        yield from _chance_faults(tree, aliases)
    for node in ast.walk(tree):
        yield from imports.statement_faults(node)
        if isinstance(node, ast.Attribute) and node not in secret_reads:
            yield from imports.attribute_faults(node, aliases)
        yield from _interpreter_faults(node)
        yield from _exception_faults(node)
        yield from _path_faults(node)
        if spec.workspace == "none" and isinstance(node, ast.Name) and node.id == "open":
            yield node.lineno, f"open is used: {_NO_FILES}"
        if spec.workspace == "read":
            yield from _writing_faults(node)


def import_aliases(tree: ast.Module) -> dict[str, str]:
    """Local name → imported name: `import os as o` gives o: os; `from os import path` gives path: os.path."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                found[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def dotted_name(node: ast.AST, aliases: dict[str, str]) -> str:
    """The imported name of an expression such as `dt.date.today`; empty if it is not made of names."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([aliases.get(node.id, node.id), *reversed(parts)]) if isinstance(node, ast.Name) else ""


# --- imports


class _Imports:
    """What one tool may import."""

    def __init__(self, spec: ToolSpec, modules: Collection[str]) -> None:
        self.spec = spec
        self.modules = modules
        brought = frozenset(modules) - sys.stdlib_module_names - _CLIENTS
        self.allowed = _PLAIN | brought | (_CLIENTS if spec.network else frozenset())
        if spec.workspace != "none":
            self.allowed |= _READING
        if spec.workspace == "write":
            self.allowed |= _WRITING

    def statement_faults(self, node: ast.AST) -> Iterator[Fault]:
        match node:
            case ast.Import(names=aliases):
                names = [alias.name for alias in aliases]
            case ast.ImportFrom(level=level) if level:
                yield node.lineno, "a relative import: a tool is one module; put the code here"
                return
            case ast.ImportFrom(module=module, names=[ast.alias(name="*")]):
                yield node.lineno, f"from {module} import *: name what is imported"
                names = [module or ""]
            case ast.ImportFrom(module=module, names=aliases):
                names = [f"{module}.{alias.name}" for alias in aliases]
            case _:
                return
        for name in names:
            if not self._allows(name):
                yield node.lineno, self._fault(name)

    def attribute_faults(self, node: ast.Attribute, aliases: dict[str, str]) -> Iterator[Fault]:
        """Of `import os`, what is used counts: `os.path`, `os.system`."""
        if isinstance(node.value, ast.Name) and node.value.id in aliases:
            name = f"{aliases[node.value.id]}.{node.attr}"
            if self._allows(aliases[node.value.id]) and not self._allows(name):
                yield node.lineno, self._fault(name)

    def _allows(self, name: str) -> bool:
        if any(prefix in self.allowed for prefix in _prefixes(name)):
            return True
        return "." not in name and any(member.startswith(f"{name}.") for member in self.allowed)

    def _fault(self, name: str) -> str:
        spec, prefixes = self.spec, set(_prefixes(name))
        short = min(prefixes & _CLIENTS, default=name)
        if prefixes & (_READING | _WRITING):
            reason = _NO_FILES if spec.workspace == "none" else _READ_ONLY
        elif prefixes & _CLIENTS or name.startswith("socket"):
            reason = _NO_NETWORK
        elif name.startswith(("os.environ", "os.getenv")):
            names = ", ".join(spec.secrets)
            only = f'of the environment only os.environ["NAME"] can be read, with NAME one of {names}'
            reason = only if spec.secrets else _NO_ENVIRONMENT
        elif name.partition(".")[0] in sys.stdlib_module_names:
            reason = _NOT_ALLOWED
        else:
            brought = f", which bring {', '.join(sorted(self.modules))}" if self.modules else ""
            short = name.partition(".")[0]
            reason = (
                "it is neither in the standard library nor in the packages of the specification "
                f"({', '.join(spec.packages) or 'none'}{brought}); do without it"
            )
        return f"{short} is imported: {reason}"


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, 1 + len(parts))]


def _secret_reads(tree: ast.Module, aliases: dict[str, str], secrets: Container[object]) -> Iterator[ast.AST]:
    """Where a declared secret is read by its literal name, from `os.environ` or with `os.getenv`."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=reach, slice=ast.Constant(value=name), ctx=ast.Load()):
                wanted = "os.environ"
            case ast.Call(func=ast.Attribute(value=reach, attr="get"), args=[ast.Constant(value=name), *_]):
                wanted = "os.environ"
            case ast.Call(func=reach, args=[ast.Constant(value=name), *_]):
                wanted = "os.getenv"
            case _:
                continue
        if name in secrets and dotted_name(reach, aliases) == wanted:
            yield reach


# --- at import


def _import_time_faults(body: Iterable[ast.stmt]) -> Iterator[Fault]:
    for node in body:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.Expr(value=ast.Constant()):
                pass
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _call_faults([*node.args.defaults, *filter(None, node.args.kw_defaults)])
                yield from _decorator_faults(node.decorator_list)
            case ast.ClassDef():
                yield from _call_faults([*node.bases, *(keyword.value for keyword in node.keywords)])
                yield from _decorator_faults(node.decorator_list)
                yield from _import_time_faults(node.body)
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(
                    isinstance(part, ast.Attribute | ast.Subscript) for t in targets for part in ast.walk(t)
                ):
                    yield (
                        node.lineno,
                        f"'{_short(node)}' changes something at import; assign to plain names only",
                    )
                yield from _call_faults([node.value] if node.value else [])
            case ast.Try(handlers=handlers, orelse=orelse, finalbody=[]):
                inner = [*node.body, *orelse, *(part for handler in handlers for part in handler.body)]
                yield from _import_time_faults(inner)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from _import_time_faults([*node.body, *node.orelse])
            case _ if type(node).__name__ == "TypeAlias":
                pass
            case _:
                reason = "acts when the module is imported; put it into a function or take it away"
                yield node.lineno, f"'{_short(node)}' {reason}"


def _decorator_faults(decorators: Iterable[ast.expr]) -> Iterator[Fault]:
    for decorator in decorators:
        name = ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)
        if name.rpartition(".")[2] not in _DECORATORS:
            yield decorator.lineno, f"the decorator @{name} runs at import or keeps state; do without it"


def _call_faults(expressions: Iterable[ast.expr]) -> Iterator[Fault]:
    for call in (part for expression in expressions for part in _calls(expression)):
        if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Constant):
            continue  # a method of a literal, such as "a b".split()
        if (name := ast.unparse(call.func)).rpartition(".")[2] not in _QUIET:
            yield call.lineno, f"{name}() is called at import; call it inside a function"


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    """The calls that happen when an expression is evaluated, which leaves out the bodies of lambdas."""
    if isinstance(node, ast.Call):
        yield node
    if not isinstance(node, ast.Lambda):
        for part in ast.iter_child_nodes(node):
            yield from _calls(part)


# --- the interpreter


def _interpreter_faults(node: ast.AST) -> Iterator[Fault]:
    match node:
        case ast.Name(id=name) if name in _NAMES:
            yield node.lineno, f"{name} is used: {_UNCHECKED}"
        case ast.Attribute(attr=attr) if _reaches_inside(attr):
            yield node.lineno, f".{attr} is used: it reaches into the interpreter; use plain Python"
        case ast.Call(func=ast.Name(id="getattr"), args=[_, name, *_]):
            if not isinstance(name, ast.Constant) or _reaches_inside(str(name.value)):
                yield node.lineno, "getattr with a computed name, or into the interpreter: name the attribute"


def _reaches_inside(attr: str) -> bool:
    is_special = attr.startswith("__") and attr.endswith("__") and attr not in _SPECIAL
    return is_special or bool(_FRAMES.fullmatch(attr))


def _exception_faults(node: ast.AST) -> Iterator[Fault]:
    if isinstance(node, ast.ExceptHandler):
        if node.type is None:
            yield node.lineno, "a bare except hides every failure; name the exceptions you expect"
        elif any(isinstance(part, ast.Name) and part.id == "BaseException" for part in ast.walk(node.type)):
            yield node.lineno, "except BaseException hides every failure; name the exceptions you expect"


# --- state between calls


def _state_faults(tree: ast.Module) -> Iterator[Fault]:
    assigned = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    shared = {name for node in assigned for name in _stored(node)}
    named = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)} | {"cls"}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        given = function.args
        for default in filter(None, [*given.defaults, *given.kw_defaults]):
            if _is_mutable(default):
                yield default.lineno, f"a default of {function.name} is a list, dict or set: {_STATE}"
        own = {part.arg for part in ast.walk(given) if isinstance(part, ast.arg)} | _stored(function)
        for node in ast.walk(function):
            if isinstance(node, ast.Global):
                names = ", ".join(node.names)
                yield node.lineno, f"global {names}: keep no state between calls; pass it along"
            elif name := _changed(node, shared - own, named - (own - {"cls"})):
                yield getattr(node, "lineno", 1), f"{name} is changed: {_STATE}"


def _stored(node: ast.AST) -> set[str]:
    parts = (part for part in ast.walk(node) if isinstance(part, ast.Name))
    return {part.id for part in parts if isinstance(part.ctx, ast.Store)}


def _is_mutable(default: ast.expr) -> bool:
    match default:
        case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id="list" | "dict" | "set" | "defaultdict" | "Counter")):
            return True
    return False


def _changed(node: ast.AST, shared: set[str], named: set[str]) -> str | None:
    """The module's name that a node changes."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr)) if attr in _MUTATORS:
            return name if name in shared else None
        case ast.Call(func=ast.Name(id="next"), args=[ast.Name(id=name), *_]) if name in shared:
            return name
        case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()) if name in shared:
            return name
        case ast.Attribute(value=ast.Name(id=name), attr=attr, ctx=ast.Store() | ast.Del()):
            return f"{name}.{attr}" if name in shared | named else None
    return None


# --- time, chance and place


def _clock_faults(tree: ast.Module, aliases: dict[str, str]) -> Iterator[Fault]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = dotted_name(node.func, aliases)
            if _CLOCK.fullmatch(name) or (name in _CLOCK_BY_DEFAULT and not node.args):
                reason = (
                    "the specification does not speak of the present; the same call must always give the same"
                )
                yield node.lineno, f"{name}() is called: {reason}"


def _chance_faults(tree: ast.Module, aliases: dict[str, str]) -> Iterator[Fault]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    if any(call.args and dotted_name(call.func, aliases) in _SEEDED for call in calls):
        return
    for call in calls:
        if _CHANCE.fullmatch(name := dotted_name(call.func, aliases)):
            reason = "the specification does not speak of chance; the same call must always give the same"
            yield call.lineno, f"{name}() is called: {reason}"


def _path_faults(node: ast.AST) -> Iterator[Fault]:
    match node:
        case ast.Call(
            func=ast.Name(id=opener) | ast.Attribute(attr=opener),
            args=[ast.Constant(value=str() as path), *_],
        ) if opener in _OPENERS:
            if path.startswith(("/", "~")) or ".." in path.split("/"):
                yield node.lineno, f"{path[:60]!r} is outside the workspace: {_OUTSIDE}"


def _writing_faults(node: ast.AST) -> Iterator[Fault]:
    """Writes under the workspace `read`; imports of what only writes are refused already."""
    match node:
        case ast.Call(func=ast.Attribute(attr=attr)) if attr in _WRITERS:
            yield node.lineno, f".{attr}() is called: {_READ_ONLY}"
        case ast.Call(
            func=ast.Name(id="open") | ast.Attribute(attr="open") as func, args=args, keywords=keywords
        ):
            # The mode comes second in open(path, mode), and first in Path(path).open(mode).
            modes = [
                *args[isinstance(func, ast.Name) : 2],
                *(keyword.value for keyword in keywords if keyword.arg == "mode"),
            ]
            texts = [m.value for m in modes if isinstance(m, ast.Constant) and isinstance(m.value, str)]
            if any(set(mode) & set("wax+") and set(mode) <= set("rwaxbt+") for mode in texts):
                yield node.lineno, f"a file is opened for writing: {_READ_ONLY}"


def _short(node: ast.AST) -> str:
    return truncate(ast.unparse(node).splitlines()[0], 60)
