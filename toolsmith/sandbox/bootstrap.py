"""How the interpreter and the worker's program get into a sandbox.

The checkout is not visible inside, so the worker's code travels: the interpreter starts with the source of
`load_worker` as `-c` and reads the compiled modules and the settings from its socket. This module also says
which folders of the host hold the interpreter, and what to call them in texts.
"""

import inspect
import marshal
import os
import sys
import types
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from toolsmith.sandbox.spec import SHOWN_READABLE, TOOL_PACKAGES, SandboxSpec, SandboxUnavailable

_PACKAGE = "toolsmith.sandbox"
_IN_IMPORT_ORDER = ("wire", "processes", "confinement", "interpreter", "removal", "worker")


def load_worker() -> None:
    """Runs in the worker, from its source alone. `argv`: the descriptors to read from and to write to."""
    import marshal
    import os
    import sys
    import types

    rx, tx = int(sys.argv[1]), int(sys.argv[2])

    def read(size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = os.read(rx, size - len(data))
            if not chunk:
                os._exit(0)
            data += chunk
        return data

    modules, settings = marshal.loads(read(int.from_bytes(read(4), "big")))
    for name, code in modules:
        module = types.ModuleType(name)
        package, _, leaf = name.rpartition(".")
        if package:
            setattr(sys.modules[package], leaf, module)
        sys.modules[name] = module
        exec(code, module.__dict__)
    module.main(rx, tx, settings)


def worker_argv(rx: int, tx: int) -> tuple[str, ...]:
    """The worker's command.

    Not `-I`: its environment is ours anyway, and the hash seed in it makes the order of sets repeatable.
    """
    return (interpreter(), "-s", "-P", "-B", "-c", _loader(), str(rx), str(tx))


def interpreter() -> str:
    """The interpreter's path. One with `..` in it leads through folders that do not exist inside."""
    path = Path(sys.executable)
    return str(path.parent.resolve() / path.name) if ".." in path.parts else sys.executable


def first_frame(settings: Mapping[str, Any]) -> bytes:
    """What `load_worker` reads: a length, then the worker's modules and settings, marshalled."""
    body = marshal.dumps((_worker_modules(), dict(settings)))
    return len(body).to_bytes(4, "big") + body


def source_of(name: str) -> str:
    """The source of the sandbox's module `name`."""
    return resources.files(_PACKAGE).joinpath(f"{name}.py").read_text(encoding="utf-8")


@cache
def _loader() -> str:
    return f"{inspect.getsource(load_worker)}\nload_worker()"


@cache
def _worker_modules() -> list[tuple[str, types.CodeType]]:
    sources = [("toolsmith", ""), (_PACKAGE, "")]
    sources += [(f"{_PACKAGE}.{name}", source_of(name)) for name in _IN_IMPORT_ORDER]
    return [(name, compile(source, f"<{name}>", "exec", dont_inherit=True)) for name, source in sources]


def python_folders() -> list[str]:
    """Folders outside /usr that hold the interpreter and the user's packages, outermost first.

    Each appears under its own path and, if that differs, under its real one. Raises SandboxUnavailable if
    one of them holds the user's home, which would then be readable inside.
    """
    try:
        home = Path.home().resolve()
    except RuntimeError:  # a user without a name, as in some containers
        home = None
    folders = _prefixes()
    for folder in folders:
        if home is not None and home.is_relative_to(folder):
            raise SandboxUnavailable(
                f"Python is in {folder}, which holds the home folder {home}: the sandbox would show it. "
                "Use a Python in a folder of its own, such as a virtual environment."
            )
    return sorted((folder for folder in folders if not Path(folder).is_relative_to("/usr")), key=len)


def _prefixes() -> set[str]:
    given = {path for prefix in (sys.prefix, sys.base_prefix) for path in (prefix, os.path.realpath(prefix))}
    return {path for path in given if ".." not in Path(path).parts}


def interpreter_links() -> dict[str, str]:
    """Links from `sys.executable` to the real program that are outside of `python_folders()`."""
    links: dict[str, str] = {}
    folders = [*python_folders(), "/usr"]
    current = Path(interpreter())
    while current.is_symlink():
        target = os.readlink(current)  # noqa: PTH115  (a path as text)
        if not any(current.is_relative_to(folder) for folder in folders):
            links[str(current)] = target
        current = Path(os.path.normpath(current.parent / target))
    return links


def path_aliases(spec: SandboxSpec) -> dict[str, str]:
    """Paths of the interpreter and of a tool's packages, and their names in texts on every system."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    aliases: dict[str, str] = {}
    for prefix in _prefixes():
        aliases[f"{prefix}/lib/{version}/site-packages"] = "<packages>"
        aliases[f"{prefix}/lib/{version}"] = "<python>"
        aliases[f"{prefix}/bin/{version}"] = aliases[f"{prefix}/bin/python3"] = "<python>"
        if prefix != "/usr":
            aliases[prefix] = "<python>"
    if spec.packages is not None:
        aliases |= {str(spec.packages): "<packages>", TOOL_PACKAGES: "<packages>"}
    if spec.readable is not None:
        aliases[str(spec.readable)] = SHOWN_READABLE
    return aliases
