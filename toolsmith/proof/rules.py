"""What a tool's module may contain and touch. Pure rules over the syntax tree, as `(line, what; remedy)`.

Three concerns: nothing happens at import; nothing is touched that the permissions of a tool (workspace,
network, secrets) do not cover; nothing is kept between calls and no failure is swallowed whole, so that a
passed trial means something.

Not covered: getting around the rules on purpose, for which Python has countless ways. The sandbox is the
boundary."""

import ast
import sys
from collections.abc import Collection, Container, Iterable, Iterator

from orchestrator_cli.durable.text import truncate
from toolsmith.spec import ToolSpec

Fault = tuple[int, str]

_NETWORK = "a tool has no network; take what it needs as an argument"
_PROGRAMS = "a tool starts no other programs, processes or threads; do the work in Python"
_UNSAFE = "it can run code that nobody has checked; use plain Python or json"
_INSIDE = "it reaches into the interpreter; use plain Python"
_FILES = "the specification says workspace 'none'; work on the arguments alone"
_MODULES = {
    **dict.fromkeys(("socket", "socketserver", "ssl", "ftplib", "smtplib", "poplib", "imaplib"), _NETWORK),
    **dict.fromkeys(
        ("telnetlib", "nntplib", "xmlrpc", "http.client", "http.server", "urllib.request"), _NETWORK
    ),
    **dict.fromkeys(
        ("requests", "httpx", "aiohttp", "urllib3", "websockets", "paramiko", "webbrowser"), _NETWORK
    ),
    **dict.fromkeys(
        ("subprocess", "multiprocessing", "threading", "concurrent", "asyncio", "pty"), _PROGRAMS
    ),
    **dict.fromkeys(("signal", "sched", "_thread", "atexit", "posix", "resource"), _PROGRAMS),
    **dict.fromkeys(("ctypes", "cffi", "_ctypes", "mmap", "pickle", "_pickle", "marshal", "shelve"), _UNSAFE),
    **dict.fromkeys(
        ("dill", "cloudpickle", "joblib", "importlib", "imp", "runpy", "code", "codeop"), _UNSAFE
    ),
    **dict.fromkeys(
        ("builtins", "gc", "inspect", "sys", "site", "pdb", "bdb", "pkgutil", "zipimport"), _UNSAFE
    ),
}
_CLIENTS = ("http.client", "urllib.request", "requests", "httpx", "urllib3")
"""What a tool with network may import: ordinary clients, which take the sandbox's way out by themselves."""
_BESIDE = ("smolagents", "yaml", "jinja2", "jsonschema")
"""What every tool may import besides the standard library."""
_FILE_MODULES = ("shutil", "glob", "tempfile", "fileinput", "sqlite3", "zipfile", "tarfile")
_NAMES = {
    **dict.fromkeys(("eval", "exec", "compile", "__import__", "globals", "locals", "vars"), _UNSAFE),
    **dict.fromkeys(("setattr", "delattr", "breakpoint", "__builtins__", "__loader__"), _UNSAFE),
    **dict.fromkeys(
        ("input", "exit", "quit", "SystemExit"), "nobody answers; return a value or raise an error"
    ),
}
_PARAMETERS = {"input", "vars", "exit", "quit"}
"""Names of _NAMES that are good names for parameters and variables."""
_OS = {
    *(
        "system",
        "popen",
        "fork",
        "forkpty",
        "kill",
        "killpg",
        "abort",
        "_exit",
        "putenv",
        "unsetenv",
        "getenv",
    ),
    *(
        "environ",
        "environb",
        "getenvb",
        "setuid",
        "setgid",
        "chroot",
        "mknod",
        "mkfifo",
        "symlink",
        "link",
        "pipe",
    ),
    *("dup", "dup2", "ptsname", "openpty", "nice", "startfile", "register_at_fork"),
}
_OS_STARTS = ("exec", "spawn", "posix_spawn", "sched_", "set", "wait", "pidfd")
_DUNDERS = {
    *("__globals__", "__builtins__", "__subclasses__", "__code__", "__closure__", "__mro__", "__bases__"),
    *("__loader__", "__spec__", "__getattribute__", "__reduce__", "__reduce_ex__", "__import__"),
}
_DECORATORS = {
    *(
        "tool",
        "dataclass",
        "dataclasses.dataclass",
        "staticmethod",
        "classmethod",
        "property",
        "wraps",
        "unique",
    ),
    *("functools.wraps", "enum.unique", "total_ordering", "functools.total_ordering", "contextmanager"),
    *("contextlib.contextmanager", "overload", "typing.overload", "abstractmethod", "cached_property"),
}
_QUIET_CALLS = {
    *(
        "re.compile",
        "frozenset",
        "set",
        "tuple",
        "list",
        "dict",
        "range",
        "sorted",
        "len",
        "min",
        "max",
        "sum",
    ),
    *("str", "int", "float", "bool", "bytes", "Decimal", "decimal.Decimal", "Fraction", "fractions.Fraction"),
    *("timedelta", "datetime.timedelta", "date", "datetime.date", "namedtuple", "collections.namedtuple"),
    *("TypeVar", "typing.TypeVar", "NewType", "str.maketrans", "field", "dataclasses.field", "object", "zip"),
    *("enumerate", "map", "chr", "ord", "math.sqrt", "math.log", "auto", "enum.auto", "MappingProxyType"),
    *("PurePosixPath", "Path", "pathlib.Path", "timezone", "datetime.timezone", "dict.fromkeys"),
}


def module_faults(tree: ast.Module, spec: ToolSpec, modules: Collection[str] = ()) -> Iterator[Fault]:
    """All breaches in a module, in no certain order; some may come twice.

    `modules` are the names that the packages of the specification can be imported by.
    """
    yield from _import_time_faults(tree.body)
    aliases, own = aliases_of(tree), _own_names(tree)
    reads = set(_secret_reads(tree, aliases, spec.secrets))
    for node in ast.walk(tree):
        yield from _import_faults(node, spec)
        yield from _unknown_imports(node, spec, modules)
        if node not in reads:
            yield from _reach_faults(node, aliases, own, spec)
        yield from _habit_faults(node)


def _secret_reads(tree: ast.Module, aliases: dict[str, str], secrets: Container[object]) -> Iterator[ast.AST]:
    """The places that read a declared secret by its written name: `os.environ` or `os.getenv` of it."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(
                value=ast.Attribute(value=ast.Name(id=owner), attr="environ") as reach,
                slice=ast.Constant(value=name),
                ctx=ast.Load(),
            ):
                pass
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Attribute(value=ast.Name(id=owner), attr="environ") as reach, attr="get"
                ),
                args=[ast.Constant(value=name), *_],
            ):
                pass
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=owner), attr="getenv") as reach,
                args=[ast.Constant(value=name), *_],
            ):
                pass
            case _:
                continue
        if name in secrets and aliases.get(owner) == "os":
            yield reach


def _import_time_faults(body: Iterable[ast.stmt]) -> Iterator[Fault]:
    for node in body:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.Expr(value=ast.Constant()):
                pass
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                defaults = [*node.args.defaults, *(part for part in node.args.kw_defaults if part)]
                yield from _loud(defaults)
                yield from _decorator_faults(node.decorator_list)
            case ast.ClassDef():
                yield from _loud([*node.bases, *(keyword.value for keyword in node.keywords)])
                yield from _decorator_faults(node.decorator_list)
                yield from _import_time_faults(node.body)
            case ast.Assign() | ast.AnnAssign():
                yield from _target_faults(node)
                yield from _loud([node.value] if node.value else [])
            case ast.Try(handlers=handlers, orelse=orelse, finalbody=[]):
                inner = [*node.body, *orelse, *(part for handler in handlers for part in handler.body)]
                yield from _import_time_faults(inner)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from _import_time_faults([*node.body, *node.orelse])
            case _ if type(node).__name__ == "TypeAlias":
                pass
            case _:
                told = "acts when the module is imported; put it into a function or take it away"
                yield node.lineno, f"'{_short(node)}' {told}"


def _target_faults(node: ast.Assign | ast.AnnAssign) -> Iterator[Fault]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for target in targets:
        if any(isinstance(part, ast.Attribute | ast.Subscript) for part in ast.walk(target)):
            yield node.lineno, f"'{_short(node)}' changes something at import; assign to plain names only"


def _decorator_faults(decorators: Iterable[ast.expr]) -> Iterator[Fault]:
    for decorator in decorators:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if (name := ast.unparse(called)) not in _DECORATORS and not name.endswith((".setter", ".getter")):
            yield decorator.lineno, f"the decorator @{name} runs at import or keeps state; do without it"


def _loud(expressions: Iterable[ast.expr]) -> Iterator[Fault]:
    for call in (part for expression in expressions for part in _calls(expression)):
        if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Constant):
            continue  # a method of a literal, such as "a b".split()
        if (name := ast.unparse(call.func)) not in _QUIET_CALLS:
            yield call.lineno, f"{name}() is called at import; call it inside a function"


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    """The calls that happen when an expression is evaluated; the body of a lambda is not."""
    if isinstance(node, ast.Call):
        yield node
    if not isinstance(node, ast.Lambda):
        for part in ast.iter_child_nodes(node):
            yield from _calls(part)


def aliases_of(tree: ast.Module) -> dict[str, str]:
    """What an imported name stands for: `import os as o` → o: os, `from os import path` → path: os.path."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {
                alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names if alias.asname
            }
            found |= {
                alias.name.split(".")[0]: alias.name.split(".")[0] for alias in node.names if not alias.asname
            }
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _import_faults(node: ast.AST, spec: ToolSpec) -> Iterator[Fault]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        if node.level:
            yield node.lineno, "a relative import: a tool is one module; put the code here"
        if any(alias.name == "*" for alias in node.names):
            yield node.lineno, f"from {node.module} import *: name what is imported"
        names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    else:
        return
    for name in names:
        yield from ((node.lineno, told) for told in _module_faults(name, spec))


def _unknown_imports(node: ast.AST, spec: ToolSpec, modules: Collection[str]) -> Iterator[Fault]:
    """Imports of what is neither there for every tool nor brought by the packages of this one."""
    match node:
        case ast.Import(names=names):
            first = {alias.name.partition(".")[0] for alias in names}
        case ast.ImportFrom(module=str() as module, level=0):
            first = {module.partition(".")[0]}
        case _:
            return
    for name in first.difference(sys.stdlib_module_names, _BESIDE, modules, _MODULES):
        brought = f", which bring {', '.join(sorted(modules))}" if modules else ""
        yield (
            node.lineno,
            f"{name} is imported: it is neither in the standard library nor in the packages of the "
            f"specification ({', '.join(spec.packages) or 'none'}{brought}); do without it",
        )


def _module_faults(name: str, spec: ToolSpec) -> Iterator[str]:
    prefixes = [name.rsplit(".", cut)[0] if cut else name for cut in range(name.count(".") + 1)]
    allowed = bool(spec.network) and any(prefix in _CLIENTS for prefix in prefixes)
    if not allowed and (forbidden := next((prefix for prefix in prefixes if prefix in _MODULES), None)):
        yield f"{forbidden} is imported: {_MODULES[forbidden]}"
    if name.startswith("os.") and _is_os_reach(name.removeprefix("os.")):
        yield f"{name} is imported: {_os_rule(name, spec)}"
    if spec.workspace == "none" and (prefixes[-1] in _FILE_MODULES or name == "pathlib.Path"):
        yield f"{name} is imported: {_FILES}"


def _os_rule(name: str, spec: ToolSpec) -> str:
    if not spec.secrets or "env" not in name:
        return "a tool has no environment and no other programs; take it away"
    return (
        f'of the environment only os.environ["NAME"] can be read, with NAME one of {", ".join(spec.secrets)}'
    )


def _is_os_reach(member: str) -> bool:
    return member in _OS or member.startswith(_OS_STARTS)


def _own_names(tree: ast.Module) -> set[str]:
    """Names of _PARAMETERS that the module uses for something of its own."""
    nodes = list(ast.walk(tree))
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return _PARAMETERS & (stored | {node.arg for node in nodes if isinstance(node, ast.arg)})


def _reach_faults(node: ast.AST, aliases: dict[str, str], own: set[str], spec: ToolSpec) -> Iterator[Fault]:
    match node:
        case ast.Name(id=name) if name in _NAMES and name not in own:
            yield node.lineno, f"{name} is used: {_NAMES[name]}"
        case ast.Name(id="open") if spec.workspace == "none":
            yield node.lineno, f"open is used: {_FILES}"
        case ast.Attribute(attr=attr) if attr in _DUNDERS:
            yield node.lineno, f".{attr} is used: {_UNSAFE}"
        case ast.Attribute(value=ast.Name(id=owner), attr=attr) if owner in aliases:
            yield from ((node.lineno, told) for told in _module_faults(f"{aliases[owner]}.{attr}", spec))
        case ast.Call(func=ast.Name(id="getattr"), args=[_, name, *_]) if not isinstance(name, ast.Constant):
            yield node.lineno, "getattr with a computed name: name the attribute"
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str() as attr), *_]):
            if attr in _DUNDERS or _is_os_reach(attr):
                yield node.lineno, f"getattr of {attr}: {_UNSAFE}"


def _habit_faults(node: ast.AST) -> Iterator[Fault]:
    match node:
        case ast.Global():
            yield node.lineno, f"global {', '.join(node.names)}: keep no state between calls; pass it along"
        case ast.ExceptHandler(type=None):
            yield node.lineno, "a bare except hides every failure; name the exceptions you expect"
        case ast.ExceptHandler(type=caught) if caught and "BaseException" in _names(caught):
            yield node.lineno, "except BaseException hides every failure; name the exceptions you expect"


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _short(node: ast.AST) -> str:
    return truncate(ast.unparse(node).splitlines()[0], 60)
