"""Who may import whom, read from the source.

The rules keep each part understandable and replaceable without the others: rules do not know of
effects, a run does not know of the screen that shows it, `memory` and `toolsmith` can be used
without the orchestrator, and a large library has one home, so that changing it, or its version,
touches one place.

Imports within functions and those for type checkers count as well. What is not covered: a module
whose name is put together at run time (`house` warms Prefect and smolagents up that way).
"""

import ast
import importlib.util
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("orchestrator_cli", "memory", "toolsmith")

<<<<<<< ours
# The rooms of the house, floor by floor. A room imports rooms of the floors below it, and those to its right
# on its own floor. Names are those of orchestrator_cli, but for memory and toolsmith.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("__main__", "cli"),
    ("admin", "replay", "runs"),
    ("orchestrator", "runtime"),
    ("views",),
    ("execution",),
    ("recall",),
    ("mcp_client", "approvals", "engine", "workspace"),
    ("roles", "state", "journal"),
    ("planning", "models", "tools", "subprocesses"),
    ("events", "plan", "settings", "default_models", "prompts", "usage", "cancellation", "errors", ""),
    ("memory", "toolsmith"),
)

# What may import less than its floor allows: rules without effects, and parts that others may use alone.
NARROW: dict[str, tuple[str, ...]] = {
    "planning.validation": ("plan",),
    "planning.repair": ("plan", "planning.validation"),
    "planning.patching": ("plan", "planning.validation", "planning.repair"),
    "journal.hash_chain": (),
    "journal.blobs": (),
    "workspace": ("events", "errors", "tools.protected"),
    "tools": (),
    "memory": (),
    "toolsmith": (),
    "toolsmith.sandbox": (),
=======
# What every module of orchestrator_cli may use: values, errors and the signal that ends a run.
EVERYWHERE = ("settings", "errors", "events", "usage", "cancellation")

# The row of a module is the longest name that it is or lies below. Names are those of orchestrator_cli,
# unless they begin with memory or toolsmith.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    # values and rules
    "errors": (),
    "usage": (),
    "cancellation": (),
    "prompts": (),
    "settings": ("errors",),
    "events": ("planning.plan", "usage"),
    "planning": (*EVERYWHERE, "planning", "models.model", "prompts"),
    "planning.plan": ("usage",),
    "planning.validation": ("planning.plan",),
    "planning.repair": ("planning.plan", "planning.validation"),
    "planning.patching": ("planning.plan", "planning.validation", "planning.repair"),
    # the doors to models, to tools and to the screen
    "models": (*EVERYWHERE, "models"),
    "tools": ("tools",),
    "views": (*EVERYWHERE, "views", "planning.plan"),
    "views.checks": ("past.audit", "past.replaying", "views"),
    "views.reading": ("views", "ledger"),
    "views.memory": ("memory", "keeping.memory", "views"),
    "views.filelog": (*EVERYWHERE, "views", "planning.plan", "ledger", "execution.blobs"),
    "ledger": ("ledger",),
    # carrying a plan out
    "execution": (*EVERYWHERE, "execution", "planning", "models.model", "tools", "prompts", "toolsmith"),
    "execution.workspace": (*EVERYWHERE, "execution.workspace", "tools.protected"),
    "execution.blobs": (),
    "execution.journal": ("errors", "events", "execution.blobs"),
    "execution.meaning": (),
    "execution.desk": ("errors", "events", "cancellation", "execution.journal", "execution.meaning"),
    "execution.inbox": ("errors", "events", "cancellation", "execution.desk", "execution.journal"),
    "execution.prefect_server": ("errors", "cancellation", "settings"),
    # what was before a run, and what comes after it
    "past": (),
    "recall": (),
    "keeping": (),
    "recall.tool_index": ("memory", "toolsmith"),
    "recall.knowledge": (*EVERYWHERE, "memory", "tools.knowledge"),
    "recall.dense": (*EVERYWHERE, "models", "memory"),
    "keeping.conversion": (*EVERYWHERE, "memory", "toolsmith.sandbox"),
    "keeping.knowledge": (
        *(*EVERYWHERE, "keeping.conversion", "recall.dense", "recall.knowledge", "memory", "tools"),
    ),
    # the run as a whole
    "house": (
        *(*EVERYWHERE, "", "recall.dense", "recall.knowledge", "recall.sessions", "recall.tool_index"),
        "recall.remembering",
        *("execution", "models", "planning", "memory", "toolsmith"),
    ),
    "recall.remembering": (*EVERYWHERE, "", "planning", "execution", "memory"),
    "past.feedback": (*EVERYWHERE, "", "execution", "memory", "past.runs"),
    "orchestrator": (*EVERYWHERE, "house", "planning", "execution", "recall.remembering"),
    "keeping.tools": (*EVERYWHERE, "recall.tool_index", "house", "views", "execution", "memory", "toolsmith"),
    "recall.sessions": ("events", "errors", "planning.plan", "memory"),
    "recall.sitting": (*EVERYWHERE, "house", "recall.sessions", "models", "prompts", "memory"),
    "keeping.memory": (*EVERYWHERE, "house", "recall.dense", "recall.sessions", "memory"),
    # what the user meets
    "session": (
        *EVERYWHERE,
        *("orchestrator", "house", "past.runs", "past.feedback", "recall.sessions", "recall.sitting"),
        *("keeping.tools", "keeping.memory", "views", "execution", "planning", "editor", "listening"),
    ),
    "listening": (*EVERYWHERE, "execution.desk", "planning.plan_text", "views"),
    "editor": ("settings", "errors"),
    "past.runs": (*EVERYWHERE, "execution"),
    "past.replaying": (*EVERYWHERE, "execution", "past.runs", "toolsmith"),
    "past.audit": (
        *(*EVERYWHERE, "", "execution.journal", "ledger", "planning.plan", "past.runs", "views.entries"),
    ),
    "past.undo": (*EVERYWHERE, "execution", "past.runs"),
    "serving": (
        *(*EVERYWHERE, "", "serving", "orchestrator", "house", "execution", "models.model", "planning"),
        *("views", "toolsmith"),
    ),
    "past.fork": (*EVERYWHERE, "", "execution", "planning.plan", "house", "past.runs"),
    "unsafe": ("errors",),
    "repl": ("errors", "views"),
    "demo": ("errors", "models"),
    "doctor": (*EVERYWHERE, "house", "views", "execution", "planning.plan", "memory", "toolsmith.sandbox"),
    "commands": (
        *EVERYWHERE,
        *("", "commands", "orchestrator", "house", "past", "keeping", "recall", "serving", "unsafe", "demo"),
        *("views", "execution", "models.model", "planning.plan_text", "editor", "listening"),
    ),
    "app": (
        *EVERYWHERE,
        *("", "commands", "orchestrator", "house", "session", "unsafe", "repl", "demo", "doctor", "views"),
    ),
    "__main__": ("app",),
    "": (),
    # the two that know nothing of the orchestrator
    "memory": ("memory",),
    "toolsmith": ("toolsmith",),
    "toolsmith.sandbox": ("toolsmith.sandbox",),
>>>>>>> theirs
}

HOMES = {
    "typer": ("orchestrator_cli.cli",),
    "rich": ("orchestrator_cli.views",),
    "prompt_toolkit": ("orchestrator_cli.cli.chat.repl", "orchestrator_cli.views.keyboard"),
    "prefect": (
        "orchestrator_cli.engine",
        "orchestrator_cli.execution.scheduler",
        "orchestrator_cli.execution.task_run",
    ),
    "uvicorn": ("orchestrator_cli.engine.server",),
    "fastapi": (),
    "mcp": ("orchestrator_cli.cli.mcp_server.server", "orchestrator_cli.mcp_client.connection"),
    "mcp_types": ("orchestrator_cli.cli.mcp_server.server", "orchestrator_cli.mcp_client.connection"),
    "litellm": ("orchestrator_cli.models.model",),
    "openai": (),
    # Modules named execution/agent*.py, the hand-written tools, and the toolsmith.
    "smolagents": ("orchestrator_cli.execution.agent", "orchestrator_cli.tools", "toolsmith"),
    "qdrant_edge": ("memory.edge", "memory.edge_folder", "memory.edge_points", "memory.embedder"),
    "qdrant_client": ("memory.server",),
}
"""The beginnings of the names of the modules that may import a large dependency."""


class Import(NamedTuple):
    module: str
    """Who imports."""
    name: str
    """What: a module of ours by its whole name, any other by its first."""
    place: str


def _module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_module_name(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}


def _imported_names(node: ast.AST, package: str) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            base = (
                importlib.util.resolve_name("." * level + (module or ""), package) if level else module or ""
            )
            for alias in names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in MODULES else base
        case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]):
            if ast.unparse(func) in {"importlib.import_module", "import_module", "__import__"}:
                yield name


def _imports() -> Iterator[Import]:
    for module, path in MODULES.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in _imported_names(node, package):
                ours = name.split(".")[0] in PACKAGES
                place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
                yield Import(module, name if ours else name.split(".")[0], place)


IMPORTS = list(_imports())
OURS = [found for found in IMPORTS if found.name.split(".")[0] in PACKAGES]


def _short(module: str) -> str:
    return module.removeprefix("orchestrator_cli").removeprefix(".")


def _lies_in(module: str, name: str) -> bool:
    return module == name or (name != "" and module.startswith(f"{name}."))


ORDER = {room: (floor, place) for floor, rooms in enumerate(FLOORS) for place, room in enumerate(rooms)}


def _room(module: str) -> str:
    return _short(module).split(".")[0]


def test_every_room_is_on_a_floor():
    assert {_room(module) for module in MODULES} == ORDER.keys()


def test_no_import_goes_up():
    breaches = [
        f"{found.place}: {found.module} may not import {found.name}"
        for found in OURS
        if ORDER[_room(found.name)] < ORDER[_room(found.module)]
    ]
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize("module", NARROW)
def test_a_narrow_part_imports_little(module: str):
    allowed = (module, *NARROW[module])
    breaches = [
        f"{found.place}: {module} may not import {found.name}"
        for found in OURS
        if _lies_in(_short(found.module), module)
        and not any(_lies_in(_short(found.name), one) for one in allowed)
    ]
    assert not breaches, "\n".join(breaches)


def test_no_modules_import_each_other_in_a_circle():
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for found in OURS:
        graph[found.module].add(found.name)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        raise AssertionError(" → ".join(circle.args[1])) from None


def test_every_large_dependency_stays_in_its_home():
    breaches = [
        f"{found.place}: {found.name} is at home in {', '.join(HOMES[found.name]) or 'no module'}"
        for found in IMPORTS
        if found.name in HOMES and not found.module.startswith(HOMES[found.name])
    ]
    assert not breaches, "\n".join(breaches)


def test_every_home_of_a_dependency_is_lived_in():
    used = {(found.name, found.module) for found in IMPORTS}
    empty = [
        (name, home)
        for name, homes in HOMES.items()
        for home in homes
        if home != "orchestrator_cli.tools"  # allowed, and not needed so far
        and not any(name == of and module.startswith(home) for of, module in used)
    ]
    assert not empty
